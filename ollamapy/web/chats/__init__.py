"""The API of the conversations that the daemon keeps: its paths and its wire."""

"""Ollama's API: its paths, and its wire format. What the other dialects share with it is written here, too."""

"""Anthropic's API: its paths, and its wire format."""

"""Tokens in, tokens out: continuous batching over llama.cpp. Runs only inside a runner process."""

"""ollamapy runs language models on your own machine, with Ollama's commands and APIs."""

from __future__ import annotations

__version__ = "0.1.0"

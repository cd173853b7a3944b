"""The build that computes: what must be the same for the same numbers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from .library import ctypes_layer


def build() -> str:
    """The version of llama-cpp-python, and what its llama.cpp uses of this machine, as llama.cpp says it."""
    try:
        found = version("llama-cpp-python")
    except PackageNotFoundError:
        found = "?"
    uses: str = ctypes_layer().llama_print_system_info().decode(errors="replace")
    return f"llama-cpp-python {found}: {uses.strip(' |')}"

"""llama.cpp's functions, by the ctypes layer of llama-cpp-python alone.

The package's ``__init__`` would import numpy, jinja2 and a server (236 ms and 39 MB against 60-80 ms and 17 MB), so an empty package
is registered in its place. Here and in ``media.py`` alone llama_cpp is imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

from ..errors import LoadFailed


def ctypes_layer() -> Any:
    """``llama_cpp.llama_cpp`` without the package's ``__init__``."""
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or spec.submodule_search_locations is None:
            raise LoadFailed("llama-cpp-python is not installed, try: pip install ollamapy")
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
    import llama_cpp.llama_cpp as library

    return library

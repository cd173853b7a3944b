"""Write a GGUF anew in another type: llama.cpp's own quantizing, with its progress read from what it logs.

Runs in a child process of its own, as everything of llama.cpp: it takes minutes, all cores, and can only be stopped by the end
of its process. The names of the types are in formats/quantization.py.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import LoadFailed
from ..errors import reason as reason_of
from .cores import usable_cores
from .library import ctypes_layer

_LOG_ERROR = 4
_A_BLOCK = 64 * 1024  # bytes, more than what may be free on a disk that is full
_TENSOR = re.compile(r"\[ *(\d+)/ *(\d+)\]")
"""How a tensor's line begins: "[  12/ 291] blk.0.attn_q.weight ...", written before it is quantized."""


def quantize(source: Path, target: Path, number: int, progress: Callable[[float], None]) -> None:
    """Write `source` at `target` in the type with this number of llama.cpp's `llama_ftype`; `progress` gets 0 to 1.

    Raises LoadFailed with llama.cpp's reason; `target` may then be there in part.
    """
    lib = ctypes_layer()
    errors: list[str] = []

    def log(level: int, text: bytes, _: object) -> None:
        line = text.decode(errors="replace").strip()
        if match := _TENSOR.match(line):
            progress((int(match[1]) - 1) / max(int(match[2]), 1))
        elif level == _LOG_ERROR and line:
            errors.append(line)

    callback = lib.llama_log_callback(log)  # C calls it until the end
    lib.llama_log_set(callback, None)
    lib.llama_backend_init()
    params = lib.llama_model_quantize_default_params()
    params.ftype = number
    params.nthread = usable_cores()
    status = lib.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if status:
        reason = errors[-1].rpartition("failed to quantize: ")[2] if errors else f"status {status}"
        if (why := _cannot_write(target)) is not None:
            reason = f"the file cannot be written ({why}), make room or choose another place"
        raise LoadFailed(f"the model cannot be quantized: {reason}")
    progress(1.0)


def _cannot_write(target: Path) -> str | None:
    """Why nothing more can be written to a file; None if it can. llama.cpp does not say it: its error is that of a C++ stream."""
    try:
        with target.open("ab", buffering=0) as file:
            file.write(bytes(_A_BLOCK))
            os.fsync(file.fileno())
    except OSError as error:
        return reason_of(error)
    return None

"""Which of llama.cpp's fast kernels work on this machine: a small file in the state folder.

A compiler can miscompile ggml's kernels for repacked weights (gcc 12 does, for AMX): the first batch then faults. Whether it
does depends on the build, the processor and the types of the tensors; so a combination that is not known yet is warmed up
once, and the outcome remembered. This module only remembers; ``process.py`` tries and starts again.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import platform
import signal
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from ..digests import sha256_hex
from ..files import replace_file

log = logging.getLogger(__name__)

FAULTS = frozenset(
    -getattr(signal, name)
    for name in ("SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE")
    if hasattr(signal, name)
) | {0xC0000005, 0xC000001D, 0xC0000094}
"""Exit codes of wrong machine code: signals, and on Windows (not run there) access violation, illegal instruction, division by zero.
A SIGKILL comes from outside (out of memory, say), a SIGABRT from a check: neither proves it."""

MOST_REMEMBERED = 100

REBUILD = (
    "llama.cpp as it is built here faults on this processor, so it runs without its fastest kernels; rebuild it: "
    "CC=clang-19 CXX=clang++-19 pip install --force-reinstall --no-cache-dir --no-deps llama-cpp-python==0.3.36"
)


def is_fault(exit_code: int | None) -> bool:
    """Whether a process ended by a fault of its code. ``exit_code`` is negative for a signal."""
    return exit_code in FAULTS


class Kernels:
    """Which tensor types work on this build and processor with repacked weights ("extra buffer types"), which do not.

    ``machine`` names the build and the processor. A state folder that cannot be written costs a warm-up at each load.
    """

    def __init__(self, path: Path, machine: Callable[[], str] | None = None) -> None:
        self._path = path
        self._machine = cache(machine or build_and_processor)

    def work(self, tensor_types: Iterable[str]) -> bool | None:
        """True: seen to work. False: seen to fault. None: not tried yet."""
        return self._read().get(self._key(tensor_types))

    def remember(self, tensor_types: Iterable[str], works: bool) -> None:
        """Keep an outcome for the next load, also of a later daemon."""
        known = self._read()
        known.pop(key := self._key(tensor_types), None)
        known[key] = works
        self._write(dict(list(known.items())[-MOST_REMEMBERED:]))

    def forget(self, tensor_types: Iterable[str]) -> None:
        """It faulted after all: try again at the next load."""
        known = self._read()
        if known.pop(self._key(tensor_types), None):
            self._write(known)

    def _key(self, tensor_types: Iterable[str]) -> str:
        text = "\n".join([self._machine(), *sorted(set(tensor_types))])
        return sha256_hex(text.encode())[:32]

    def _read(self) -> dict[str, bool]:
        try:
            known = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}  # nothing remembered, or nothing to rely on: everything is tried again
        if not isinstance(known, dict):
            return {}
        return {key: works for key, works in known.items() if isinstance(works, bool)}

    def _write(self, known: dict[str, bool]) -> None:
        try:
            replace_file(self._path, json.dumps(known).encode())
        except OSError as error:
            log.debug("%s cannot be written: %s", self._path.name, error)


def build_and_processor() -> str:
    """A text that changes when llama.cpp is built anew, or when this disk is put into another machine."""
    spec = importlib.util.find_spec("llama_cpp")
    build = []
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder, "lib").glob("*ggml*")):
            status = file.stat()
            build.append(f"{file.name} {status.st_size} {status.st_mtime_ns}")
    return "\n".join([*build, platform.machine(), *_processor()])


def _processor() -> list[str]:
    """The model and the instructions of the first processor, as Linux lists them; elsewhere its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return [platform.processor()]
    return [line for line in lines if line.startswith(("model name", "flags", "Features"))]

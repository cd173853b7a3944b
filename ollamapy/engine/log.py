"""llama.cpp's log: warnings and errors are passed on, and the last ones explain what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_WARN = 3
_OTHER_POOLING = "model default pooling_type is"
"""llama.cpp's warning where a context's pooling differs from the file's; we choose it on purpose."""


class Log:
    """Takes llama.cpp's lines; all but warnings and errors are left out, which are over 100 kB a load.

    While ``is_aborted`` says so, nothing is taken: llama.cpp reports the abort itself.
    """

    def __init__(
        self, is_aborted: Callable[[], bool], forward: Callable[[str], None] | None
    ) -> None:
        self._is_aborted, self._forward = is_aborted, forward
        self._last: list[str] = []

    def write(self, level: int, text: bytes, _: Any) -> None:
        """The callback of ``llama_log_set``."""
        if not _WARN <= level <= _WARN + 1 or self._is_aborted():
            return
        line = text.decode(errors="replace").strip()
        if line and _OTHER_POOLING not in line:
            self._last = [*self._last[-3:], line]
            if self._forward is not None:
                self._forward(line)

    def why(self, what: str) -> str:
        """An error's text: what failed, and llama.cpp's last message without its function names."""
        messages = [
            line.partition(": ")[2] or line for line in self._last if "failed to load" not in line
        ]
        return f"{what}: {messages[-1]}" if messages else what

"""The daemon's log when it runs in the background: its stderr is the log file, and the daemon limits the file's size.

The command that starts the daemon opens the file as its stderr; the daemon detects this, without an option. Output past
logging (of a crash, of a child) goes to the same file.
"""

from __future__ import annotations

import os
from logging import Formatter, LogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from ..human import one_line

LIMIT = 4 * 2**20
"""Bytes of a log above which it is renamed."""
KEPT = 3
"""Number of old logs that are kept: .1 is the newest."""


def is_stderr(path: Path) -> bool:
    """Is this process's stderr that file?"""
    try:
        return os.path.samestat(os.fstat(2), path.stat())
    except OSError:
        return False


class OneLine(Formatter):
    """Writes a record as one line, with any message; a traceback follows in lines that begin with two spaces.

    Paths, headers and llama.cpp's warnings contain untrusted text: it can neither forge a line of the log nor control the
    terminal that shows it.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(f"  {one_line(line)}" for line in lines.split("\n"))


class RotatedLog(RotatingFileHandler):
    """Writes to a file, which is also stdout and stderr, and begins a new one when it has LIMIT bytes.

    Several daemons may share it: each writes to the newest.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=LIMIT, backupCount=KEPT, encoding="utf-8", errors="backslashreplace"
        )

    def shouldRollover(self, record: LogRecord) -> bool:
        if not is_stderr(Path(self.baseFilename)):  # another daemon has begun a new one
            self._begin()
        return bool(super().shouldRollover(record))

    def doRollover(self) -> None:
        try:
            super().doRollover()
        except (
            OSError
        ):  # the folder has become read-only, for example: a large log is better than none
            pass
        self._begin()

    def _begin(self) -> None:
        """Write to the file of that name from now on, and make it stdout and stderr."""
        if self.stream is not None:
            self.stream.close()
        try:
            self.stream = self._open()
        except OSError:  # the folder was removed with the log: its last file is still open
            self.stream = open(os.dup(2), "a", encoding="utf-8", errors="backslashreplace")
            return
        for descriptor in (1, 2):
            os.dup2(self.stream.fileno(), descriptor)

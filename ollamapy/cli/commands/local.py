"""Shared by the commands on the local store: the progress of long work, and a question to the user."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ...types import Progress, Report
from ..progress import Steps

_SILENT = 1.0
"""Seconds that work may take before its progress is shown."""


@contextmanager
def reporting(doing: str) -> Iterator[Report]:
    """Shows the progress of a job on stderr, once it takes longer than a moment."""
    began = time.monotonic()
    with Steps() as shown:

        def report(step: Progress) -> None:
            if time.monotonic() - began >= _SILENT:
                shown.show({"status": doing, "total": step.total, "completed": step.completed})

        yield report


def agrees(question: str) -> bool:
    """Whether the user answers yes; False where there is no terminal to ask on."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")

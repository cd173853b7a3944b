"""A child that writes one file and ends: for quantizing and for conversion. The caller gets its progress, then its result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunnerCrashed, RunnerError, reason
from .child import Child, Ending
from .frames import Frame
from .protocol import Converted, Failed, Quantized

MAX_WAITING = 128
"""Frames of progress that a slow reader may be behind; older ones are dropped."""


class Refusal(RunnerError):
    """The child did its work and refuses the file; ``kind`` is that of protocol.Failed."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


async def write_file(
    order: Frame,
    target: Path,
    *,
    command: Sequence[str],
    messages: Any,
    work: str,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Frame, None]:
    """Have a child write ``target``, and yield its frames of progress; it is whole when the iterator ends.

    Closing the iterator kills the child; it also ends when the daemon dies, for its stdin then ends. ``target`` stays only if
    it is whole. ``work`` is what the child does, for messages. Raises Refusal, RunnerCrashed, or RunnerError (no process).
    """
    reports = _Reports()
    child = Child(
        command,
        messages,
        reports.receive,
        name=f"process that {work}",
        environment=environment,
        log_level=logging.DEBUG,
    )
    child.when_ended(reports.settle)
    whole = False
    try:
        child.send(order)
        while (frame := await reports.progress()) is not None:
            yield frame
        _check(await reports.result, work)
        whole = True
    finally:
        child.kill()
        try:
            await child.wait()
        finally:
            if not whole:
                _remove(target)


class _Reports:
    """What comes from the child: frames of progress, and one result, which may be its ending."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Frame | Ending] = asyncio.get_running_loop().create_future()
        self._waiting: deque[Frame] = deque(maxlen=MAX_WAITING)
        self._news = asyncio.Event()

    def settle(self, outcome: Frame | Ending) -> None:
        """Take the result, unless there is one."""
        if not self.result.done():
            self.result.set_result(outcome)
        self._news.set()

    def receive(self, frame: Frame) -> None:
        if isinstance(frame, Quantized | Converted | Failed):
            self.settle(frame)
        else:
            self._waiting.append(frame)
            self._news.set()

    async def progress(self) -> Frame | None:
        """The next frame of progress; None once there is no more and the result is there."""
        while not self._waiting:
            if self.result.done():
                return None
            await self._news.wait()
            self._news.clear()
        return self._waiting.popleft()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # the next start sweeps work files
        path.unlink(missing_ok=True)


def _check(outcome: Frame | Ending, work: str) -> None:
    """Raise what went wrong."""
    if isinstance(outcome, Failed):
        raise Refusal(outcome.kind, outcome.message)
    if not isinstance(outcome, Ending):
        return
    if not outcome.spawned and outcome.error is not None:
        raise RunnerError(
            f"a process that {work} cannot be started: {reason(outcome.error)}"
        ) from outcome.error
    raise RunnerCrashed(
        f"the process that {work} ended {outcome.how}{outcome.last_line}",
        outcome.code,
        "\n".join(outcome.tail),
    )

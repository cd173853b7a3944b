"""Blocking work in a thread of its own, and the way from that thread back to the event loop.

Long disk work and transfers never run in asyncio's default pool: its few threads are needed for short reads, and the end of the
event loop waits for them. The end of the loop does not wait for the threads made here; they are daemon threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from ..errors import RequestCancelled

Result = TypeVar("Result")


async def in_own_thread(work: Callable[[], Result], name: str = "work") -> Result:
    """The result of blocking work. Raises what it raises.

    Cancelling the caller does not end the work: the caller needs a way of its own to reach it, see :class:`Bridge`.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if ended.cancelled():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True, name=name).start()
    return await ended


class Bridge:
    """The way from one thread back to the event loop that it was made on: coroutines are awaited there.

    ``cancelled`` is set by :meth:`cancel`, which also cancels the coroutine that the thread waits for.
    """

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None  # belongs to the loop

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await ``work`` on the loop, and return its result in this thread once it has ended. Raises what it raises, and
        RequestCancelled when it was cancelled or the loop is closed."""
        ended: Future[Result] = Future()
        try:
            self._loop.call_soon_threadsafe(self._start, work, ended)
        except RuntimeError:
            work.close()
            raise RequestCancelled("the daemon has ended") from None
        try:
            return ended.result()
        except asyncio.CancelledError:
            raise RequestCancelled("cancelled") from None

    def cancel(self) -> None:
        """End the work at its next look at ``cancelled``, or at its coroutine; call it on the loop."""
        self.cancelled.set()
        if self._task is not None:
            self._task.cancel()

    def _start(self, work: Coroutine[Any, Any, Result], ended: Future[Result]) -> None:
        if self.cancelled.is_set():
            work.close()
            ended.set_exception(asyncio.CancelledError())
            return
        task = self._loop.create_task(work)
        # Not in the coroutine: one that is cancelled before its first step runs none of its lines
        task.add_done_callback(lambda _: _settle(task, ended))
        self._task = task


def _settle(task: asyncio.Task[Result], ended: Future[Result]) -> None:
    """Hand the task's end on to the thread that waits."""
    if task.cancelled():
        ended.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())

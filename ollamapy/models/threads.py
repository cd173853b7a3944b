"""Blocking work that may take hours, in threads of its own, and the steps that it reports meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ..errors import RequestCancelled
from ..types import Progress

SHOWN_SECONDS = 0.1
"""Between two words about how far a file is."""

Report = Callable[[Progress], None]

Result = TypeVar("Result")


async def in_own_thread(work: Callable[[], Result]) -> Result:
    """Do blocking work that may take hours: not in the pool, whose few threads others need at once.

    Cancelling does not end the work: whoever starts it has a way of his own to tell it.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()

    def set_result(result: Result | None, error: BaseException | None) -> None:
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
        with suppress(RuntimeError):  # the loop is gone: the process ends
            loop.call_soon_threadsafe(set_result, result, error)

    threading.Thread(target=run, daemon=True, name="transfer").start()
    return await ended


async def followed(
    work: Callable[[Report], None], cancelled: threading.Event
) -> AsyncGenerator[Progress, None]:
    """Do ``work(report)`` in a thread, and give what it reports: the last of each blob, ten times a second.

    Closing this sets ``cancelled``, which ends the work with RequestCancelled at its next report, and returns when it has
    ended. Raises what the work raises.
    """
    loop = asyncio.get_running_loop()
    news = asyncio.Event()
    now: dict[str, Progress] = {}  # what is not told yet, by digest

    def report(step: Progress) -> None:
        if cancelled.is_set():
            raise RequestCancelled("the client left")
        loop.call_soon_threadsafe(put, step)

    def put(step: Progress) -> None:
        now[step.digest] = step
        news.set()

    working = asyncio.ensure_future(in_own_thread(partial(work, report)))
    try:
        while not working.done():
            said = asyncio.ensure_future(news.wait())
            await asyncio.wait((working, said), return_when=asyncio.FIRST_COMPLETED)
            said.cancel()
            news.clear()
            for digest in list(now):
                yield now.pop(digest)
            await asyncio.wait((working,), timeout=SHOWN_SECONDS)
        await working
        for step in now.values():
            yield step
    finally:
        cancelled.set()
        await asyncio.wait((working,))
        working.exception()  # raised above, unless nobody is there to hear it

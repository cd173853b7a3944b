"""Answers that tasks of the daemon write, so that no client's leaving ends them: how they begin, are stored, and end.

What has come is stored every FLUSH_SECONDS, together for all answers; how one ended, as soon as the disk has room for it. What an
answer is and where it is stored is its owner's part (chats/answers.py, responses/responses.py). Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from ..errors import OllamapyError
from ..types import Chunk

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
"""How often what has come is stored: so much is lost at most when the process is killed, and the time of storing."""

RETRY_SECONDS = 5.0
"""How often it is tried to store how an answer ended, while the disk has no room for it."""

Work = asyncio.Task[None]
"""Takes the chunks of an answer; it ends with the error that the answer ended with."""
Finish = Callable[[Work], Awaitable[None]]
"""Ends an answer whose work has ended, or was cancelled."""

Result = TypeVar("Result")


class Background:
    """The answers of one owner that are being written.

    ``save`` stores what has come of all of them, and raises OllamapyError where it cannot; ``noun`` names one of them in the log.
    """

    def __init__(self, noun: str, save: Callable[[], Awaitable[None]]) -> None:
        self._noun = noun
        self._save = save
        self._work: dict[str, Work] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Task[None] | None = None
        self.is_closing = False

    def start(
        self,
        id: str,
        chunks: AsyncGenerator[Chunk, None],
        take: Callable[[Chunk], None],
        finish: Finish,
    ) -> None:
        """Take the chunks of an answer as they come; then ``finish`` it, whatever ended it."""
        work = self._work[id] = asyncio.create_task(_take_all(chunks, take))
        # What may be cancelled is the work; this task ends it in order, also if the work never began
        task = asyncio.create_task(self._see_through(id, work, finish))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    def cancel(self, id: str) -> None:
        """Cancel the work on an answer; it is finished then."""
        self._work[id].cancel()

    async def close(self) -> None:
        """Cancel all work, and return when everything is finished: the daemon stops."""
        self.is_closing = True
        for work in self._work.values():
            work.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._flushing is not None:
            self._flushing.cancel()

    async def stored(self, store: Callable[[], Awaitable[Result]]) -> Result | None:
        """What ``store`` returns, tried until it succeeds; None if the daemon stops before."""
        while True:
            try:
                return await store()
            except OllamapyError as error:
                log.error("%s cannot be stored: %s", self._noun, error)
                if self.is_closing:
                    return None
            await asyncio.sleep(RETRY_SECONDS)

    async def _see_through(self, id: str, work: Work, finish: Finish) -> None:
        await asyncio.wait([work])
        await finish(work)
        del self._work[id]

    async def _flush(self) -> None:
        failing = False
        while self._work:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self._save()
                failing = False
            except OllamapyError as error:
                if not failing:
                    log.error("what came of %s cannot be stored for now: %s", self._noun, error)
                failing = True


async def _take_all(chunks: AsyncGenerator[Chunk, None], take: Callable[[Chunk], None]) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            take(chunk)

"""Several answers at once to one request, each with its index. Knows no dialect and no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..types import Caller, Chunk, Request
from . import answer as generate
from .services import Services

AT_ONCE = 16
"""Answers to one request that run at the same time: a hundred choices must not hold up other requests."""


async def answers(
    services: Services, requests: Sequence[Request], caller: Caller
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """The chunks of all answers as they come, each with the place of its request.

    When one fails, the others are cancelled and its error is raised; closing the generator ends them all. A consumer that
    takes the chunks slowly slows the answers down.
    """
    if len(requests) == 1:
        async with aclosing(generate.answer(services, requests[0], caller)) as chunks:
            async for chunk in chunks:
                yield 0, chunk
        return
    queue: asyncio.Queue[tuple[int, Chunk] | Exception | None] = asyncio.Queue(AT_ONCE)
    room = asyncio.Semaphore(AT_ONCE)

    async def answer(place: int, request: Request) -> None:
        async with room, aclosing(generate.answer(services, request, caller)) as chunks:
            async for chunk in chunks:
                await queue.put((place, chunk))

    async def answer_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for place, request in enumerate(requests):
                    group.create_task(answer(place, request))
        except ExceptionGroup as errors:
            await queue.put(errors.exceptions[0])
        else:
            await queue.put(None)

    working = asyncio.create_task(answer_all())
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

"""Several answers at once to what one request asks, told apart by their place. Knows no dialect and no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..types import Chunk
from . import answer as generate
from .answer import Services
from .prompting import Request

AT_ONCE = 16
"""Answers to one request that are in work together: others shall not wait behind a hundred of them."""


async def answers(
    services: Services, requests: Sequence[Request]
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """The chunks of all answers as they come, each with the place of its request.

    When one fails, the others are broken off and its error is raised; closing the generator ends them all. Who takes the
    chunks slowly holds the answers up.
    """
    if len(requests) == 1:
        async with aclosing(generate.answer(services, requests[0])) as chunks:
            async for chunk in chunks:
                yield 0, chunk
        return
    heard: asyncio.Queue[tuple[int, Chunk] | Exception | None] = asyncio.Queue(AT_ONCE)
    room = asyncio.Semaphore(AT_ONCE)

    async def answer(place: int, request: Request) -> None:
        async with room, aclosing(generate.answer(services, request)) as chunks:
            async for chunk in chunks:
                await heard.put((place, chunk))

    async def answer_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for place, request in enumerate(requests):
                    group.create_task(answer(place, request))
        except ExceptionGroup as errors:
            await heard.put(errors.exceptions[0])
        else:
            await heard.put(None)

    working = asyncio.create_task(answer_all())
    try:
        while (said := await heard.get()) is not None:
            if isinstance(said, Exception):
                raise said
            yield said
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

"""Several answers to one request at once, each with its index. Independent of dialects and HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..request import Caller, Request
from ..types import Chunk
from .answer import answer
from .services import Services

AT_ONCE = 16
"""Answers to one request that run at the same time: a hundred choices must not delay other requests."""


async def answers(
    services: Services, requests: Sequence[Request], caller: Caller
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """The chunks of all answers as they come, each with the index of its request.

    When one fails, the others are cancelled and its error is raised; closing the generator ends them all. A slow consumer
    slows the answers down.
    """
    if len(requests) == 1:
        async with aclosing(answer(services, requests[0], caller)) as chunks:
            async for chunk in chunks:
                yield 0, chunk
        return
    queue: asyncio.Queue[tuple[int, Chunk] | Exception | None] = asyncio.Queue(AT_ONCE)
    running = asyncio.Semaphore(AT_ONCE)

    async def answer_one(index: int, request: Request) -> None:
        async with running, aclosing(answer(services, request, caller)) as chunks:
            async for chunk in chunks:
                await queue.put((index, chunk))

    async def answer_all() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for index, request in enumerate(requests):
                    group.create_task(answer_one(index, request))
        except ExceptionGroup as errors:
            await queue.put(errors.exceptions[0])
        else:
            await queue.put(None)

    task = asyncio.create_task(answer_all())
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

"""A response that is written in the background, and those that follow it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from ollamapy.serving.responses.running import BEGUN, Running
from ollamapy.serving.responses.values import Response
from ollamapy.types import Chunk, Loading, Queued, Usage

LAST = Chunk(finish_reason="stop", usage=Usage(prompt_tokens=3), context=(1, 2))


def queued() -> Running:
    return Running("me", Response(id="resp_1", status="queued", created_at=1, head=b"{}"))


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(inside())


def end(running: Running) -> None:
    running.end(msgspec.structs.replace(running.response, status="completed"))


async def read(chunks: AsyncGenerator[Chunk, None]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


def test_a_place_in_the_queue_is_not_the_beginning() -> None:
    running = queued()
    states = []
    for wait in (Queued(2), Queued(1), Loading("weights", 0.1), Loading("weights", 0.9)):
        running.take(Chunk(waiting=wait))
        states.append((running.response.status, running.chunks))
    # It begins once, and what it waits for is not kept
    assert states == [("queued", []), ("queued", []), *[("in_progress", [BEGUN])] * 2]


def test_the_chunk_that_ends_it_is_kept_apart_until_it_is_stored() -> None:
    running = queued()
    running.take(Chunk("a"))
    running.take(LAST)
    assert running.chunks == [BEGUN, Chunk("a")]
    assert running.last == msgspec.structs.replace(LAST, context=())
    end(running)
    assert running.chunks[-1] == running.last and running.ended.is_set()


def test_what_is_saved_is_not_given_again() -> None:
    running = queued()
    running.take(Chunk("a"))
    assert running.unsaved() == [BEGUN, Chunk("a")]
    running.saved(2)
    running.take(Chunk("b"))
    assert running.unsaved() == [Chunk("b")]


def test_a_follower_gets_everything_whenever_it_comes() -> None:
    async def test() -> None:
        running = queued()
        early = asyncio.create_task(read(running.follow()))
        await asyncio.sleep(0)
        running.take(Chunk("a"))
        late = asyncio.create_task(read(running.follow()))
        await asyncio.sleep(0)
        running.take(Chunk("b"))
        running.take(LAST)
        end(running)
        expected = [BEGUN, Chunk("a"), Chunk("b"), msgspec.structs.replace(LAST, context=())]
        assert await early == await late == expected
        assert await read(running.follow()) == expected

    run(test)


def test_chunks_that_come_while_one_is_being_sent_are_not_missed() -> None:
    async def test() -> None:
        running = queued()
        running.take(Chunk("a"))
        followed = running.follow()
        assert await anext(followed) == BEGUN
        running.take(Chunk("b"))
        end(running)
        assert [chunk.text for chunk in await read(followed)] == ["a", "b"]

    run(test)


def test_a_response_that_failed_has_no_last_chunk() -> None:
    running = queued()
    running.take(Chunk("half"))
    running.end(msgspec.structs.replace(running.response, status="failed"))
    assert running.chunks == [BEGUN, Chunk("half")] and running.last is None

"""Answers in the background: each gets one ending, whatever ends its work, and is stored however often that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from ollamapy.errors import ChatsFull, OllamapyError
from ollamapy.serving import background as module
from ollamapy.serving.background import Background, Work
from ollamapy.types import Chunk


class Store:
    """Counts what is saved and how answers end; ``errors`` are raised first, one at a time."""

    def __init__(self) -> None:
        self.saves = 0
        self.saved = asyncio.Event()
        self.endings: list[str] = []
        self.ended = asyncio.Event()
        self.errors: list[OllamapyError] = []

    async def save(self) -> None:
        if self.errors:
            raise self.errors.pop()
        self.saves += 1
        self.saved.set()

    async def finish(self, work: Work) -> None:
        error = None if work.cancelled() else work.exception()
        self.endings.append("cancelled" if work.cancelled() else str(error or "whole"))
        self.ended.set()


async def endless() -> AsyncGenerator[Chunk, None]:
    yield Chunk("a")
    await asyncio.Event().wait()


async def of(*chunks: Chunk | Exception) -> AsyncGenerator[Chunk, None]:
    for each in chunks:
        if isinstance(each, Exception):
            raise each
        yield each


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)


def run(test: Callable[[Background, Store], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20):
            store = Store()
            background = Background("an answer", store.save)
            await test(background, store)
            await background.close()

    asyncio.run(inside())


def test_chunks_are_taken_in_order_until_the_end() -> None:
    async def test(background: Background, store: Store) -> None:
        taken: list[str] = []
        chunks = of(Chunk("a"), Chunk("b"))
        background.start("x", chunks, lambda chunk: taken.append(chunk.text), store.finish)
        await store.ended.wait()
        assert taken == ["a", "b"] and store.endings == ["whole"]

    run(test)


def test_an_error_is_the_ending() -> None:
    async def test(background: Background, store: Store) -> None:
        background.start("x", of(Chunk("a"), OllamapyError("no room")), print, store.finish)
        await store.ended.wait()
        assert store.endings == ["no room"]

    run(test)


def test_work_that_is_cancelled_before_it_began_ends_all_the_same() -> None:
    """A task that is cancelled before its first step runs nothing, not even a handler of its own."""

    async def test(background: Background, store: Store) -> None:
        background.start("x", endless(), lambda chunk: None, store.finish)
        background.cancel("x")
        await store.ended.wait()
        assert store.endings == ["cancelled"]

    run(test)


def test_closing_cancels_everything_and_waits_for_every_ending() -> None:
    async def test(background: Background, store: Store) -> None:
        async def slowly(work: Work) -> None:
            await asyncio.sleep(0)
            await store.finish(work)

        for id in "abc":
            background.start(id, endless(), lambda chunk: None, slowly)
        await background.close()
        assert store.endings == ["cancelled"] * 3 and background.is_closing

    run(test)


def test_what_has_come_is_saved_as_long_as_answers_are_written() -> None:
    async def test(background: Background, store: Store) -> None:
        background.start("x", endless(), lambda chunk: None, store.finish)
        await store.saved.wait()
        background.cancel("x")
        await store.ended.wait()
        for _ in range(50):  # the timer ends with the last answer
            await asyncio.sleep(0.001)
        saves = store.saves
        await asyncio.sleep(0.01)
        assert store.saves == saves
        store.saved.clear()
        background.start("y", endless(), lambda chunk: None, store.finish)
        await store.saved.wait()  # and begins again with the next one

    run(test)


def test_of_several_failed_saves_only_the_first_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(background: Background, store: Store) -> None:
        store.errors = [ChatsFull("the disk is full") for _ in range(9)]
        with caplog.at_level(logging.ERROR):
            background.start("x", endless(), lambda chunk: None, store.finish)
            await store.saved.wait()
        assert [record.message for record in caplog.records] == [
            "what came of an answer cannot be stored for now: the disk is full"
        ]

    run(test)


def test_an_ending_is_stored_once_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    async def test(background: Background, store: Store) -> None:
        errors = [ChatsFull("the disk is full") for _ in range(3)]

        async def stored() -> str:
            if errors:
                raise errors.pop()
            return "title"

        with caplog.at_level(logging.ERROR):
            assert await background.stored(stored) == "title"
        assert [record.message for record in caplog.records] == [
            "an answer cannot be stored: the disk is full"
        ] * 3

    run(test)


def test_a_daemon_that_stops_tries_once_and_gives_up() -> None:
    async def test(background: Background, store: Store) -> None:
        tries: list[int] = []

        async def fails() -> str:
            tries.append(1)
            raise ChatsFull("the disk is full")

        await background.close()
        assert await background.stored(fails) is None and len(tries) == 1

    run(test)

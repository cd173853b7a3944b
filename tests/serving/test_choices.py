"""Several answers at once: each chunk has its index; one error ends all answers, and so does a disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from ollamapy.errors import OllamapyError
from ollamapy.request import Request
from ollamapy.serving.choices import AT_ONCE, answers
from tests.fakes import CALLER, FakeRunner, Made, made
from tests.requests_made import generate_request


def requests(count: int) -> list[Request]:
    return [generate_request("hello", f"prompt {i}", raw=True) for i in range(count)]


def run(
    store: Path,
    test: Callable[[Made], Awaitable[None]],
    prepare: Callable[[FakeRunner], None] = lambda runner: None,
) -> None:
    async def inside() -> None:
        async with made(store, prepare, NUM_PARALLEL="64") as services:
            async with asyncio.timeout(20):
                await test(services)
            await services.idle()

    asyncio.run(inside())


@pytest.mark.parametrize("count", [1, 3, AT_ONCE + 4])
def test_each_chunk_has_its_index(model_store: Path, count: int) -> None:
    async def test(services: Made) -> None:
        texts = [""] * count
        ends = []
        async for place, chunk in answers(services.services, requests(count), CALLER):
            texts[place] += chunk.text
            ends += [place] if chunk.finish_reason else []
        assert texts == ["one two three"] * count and sorted(ends) == list(range(count))

    run(model_store, test)


def test_answers_run_together_up_to_a_limit(model_store: Path) -> None:
    async def test(services: Made) -> None:
        work = asyncio.create_task(anext(answers(services.services, requests(3 * AT_ONCE), CALLER)))
        runner = await services.runner()
        await runner.has(lambda runner: len(runner.generations) == AT_ONCE)
        for _ in range(50):  # time enough for more to come
            await asyncio.sleep(0)
        assert len(runner.generations) == AT_ONCE
        runner.prefilled.set()
        await work

    run(model_store, test, lambda runner: runner.prefilled.clear())


def test_an_error_of_one_ends_all(model_store: Path) -> None:
    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 1

    async def test(services: Made) -> None:
        with pytest.raises(OllamapyError, match="the runner broke"):
            async for _ in answers(services.services, requests(4), CALLER):
                pass
        runner = await services.runner()
        assert len(runner.endings) == len(runner.generations)

    run(model_store, test, prepare)


def test_closing_ends_all(model_store: Path) -> None:
    async def test(services: Made) -> None:
        async with aclosing(answers(services.services, requests(4), CALLER)) as chunks:
            await anext(chunks)
        runner = await services.runner()
        assert set(runner.endings) == {"cancelled"} and len(runner.endings) == len(
            runner.generations
        )

    run(model_store, test)

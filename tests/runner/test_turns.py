"""Who renders next: models' templates before those of requests, and what ran out of time last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ollamapy.runner.turns import Place, Rank, next_turn

MODEL, REQUEST, TIMED_OUT = Rank


@pytest.mark.parametrize(
    ("waiting", "room", "index"),
    [
        ([], 2, None),
        ([REQUEST, MODEL, REQUEST], 2, 1),
        ([TIMED_OUT, REQUEST, REQUEST], 2, 1),
        ([MODEL, MODEL], 2, 0),
        ([TIMED_OUT], 1, 0),
        ([REQUEST, TIMED_OUT], 0, None),
        ([REQUEST, MODEL], 0, 1),
    ],
)
def test_whose_turn_it_is(waiting: list[Rank], room: int, index: int | None) -> None:
    assert next_turn(waiting, room) == index


def test_models_go_before_requests_that_came_earlier() -> None:
    """Twenty requests with templates of their own, all slow; a model's template, the last to come, waits for one of them."""

    async def scenario() -> None:
        place, order = Place(2), list[str]()
        asides: list[Callable[[], None]] = []
        end = asyncio.Event()

        async def work(name: str, rank: Rank) -> None:
            async with place.turn(rank) as give_away:
                order.append(name)
                if rank is Rank.REQUEST:
                    asides.append(give_away)
                    await end.wait()

        tasks = [asyncio.create_task(work(f"own {n}", REQUEST)) for n in range(20)]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(work("model", MODEL)))
        await asyncio.sleep(0)
        assert order == ["own 0"]
        asides[0]()  # slow
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["own 0", "model", "own 1"], (
            "it gave the place back, and the next one took it"
        )
        asides[1]()
        for _ in range(5):
            await asyncio.sleep(0)
        assert order == ["own 0", "model", "own 1"], (
            "no third one takes the place: it could not leave it"
        )
        tasks.append(asyncio.create_task(work("model again", MODEL)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert order[-1] == "model again"
        end.set()
        await asyncio.gather(*tasks)
        assert len(order) == 22 and order[3:] == [
            "model again",
            *(f"own {n}" for n in range(2, 20)),
        ]

    asyncio.run(scenario())


def test_a_turn_that_is_cancelled_when_it_comes_goes_to_the_next() -> None:
    async def scenario() -> None:
        place = Place(0)
        release = asyncio.Event()
        had: list[str] = []

        async def work(name: str) -> None:
            async with place.turn(MODEL):
                had.append(name)
                await release.wait()

        first, second, third, fourth = (asyncio.create_task(work(n)) for n in "abcd")
        await asyncio.sleep(0)
        third.cancel()
        release.set()
        await first
        second.cancel()  # the place was given to it, and it has not run yet
        await asyncio.gather(second, third, fourth, return_exceptions=True)
        assert had[-1] == "d" and "c" not in had
        async with place.turn(MODEL):
            pass

    asyncio.run(scenario())

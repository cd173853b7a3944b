"""What requests learn of their wait: the decision as a table, then a request in the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ollamapy.fleet import wait as waiting
from ollamapy.fleet.fit import best
from ollamapy.fleet.state import Resident, State, Status, Ticket
from ollamapy.fleet.wait import Wait, waits
from ollamapy.types import Loading, Queued, Waiting
from tests.fleet.machine import Machine, quiet, run
from tests.fleet.requests import GB, request, settings


def resident(status: Status, in_flight: int = 0, **more: object) -> Resident:
    """A runner of model "a", which computes one request at once."""
    wanted = request("a")
    plan = best(wanted, settings(), 100 * GB)
    made = Resident(wanted, plan, GB, 300.0, 0.0, 0.0, status, in_flight)
    for name, value in more.items():
        setattr(made, name, value)
    return made


LOADING = resident(Status.STARTING, stage="weights", fraction=0.4)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, [Queued(1), Queued(2)]),  # there is no room for the model yet
        (LOADING, [Loading("weights", 0.4), Loading("weights", 0.4)]),
        (resident(Status.READY, 1), [Queued(1), Queued(2)]),
        (resident(Status.READY, 2), [Queued(2), Queued(3)]),  # one of the two is in the engine's queue
        (resident(Status.STOPPING), [Queued(1), Queued(2)]),
    ],
)  # fmt: skip
def test_what_a_queue_waits_for(found: Resident | None, expected: list[Waiting]) -> None:
    state = State(settings(), residents={"a": found} if found else {})
    for number in (7, 9):
        state.enqueue(Ticket(number, replace(request("a"), progress=True)))
    state.enqueue(Ticket(10, request("a")))
    assert list(waits(state)) == list(zip((7, 9), expected, strict=True))


def test_a_load_with_other_options_is_not_the_one_that_is_waited_for() -> None:
    state = State(settings(), residents={"a": LOADING})
    state.enqueue(Ticket(1, replace(request("a", num_gpu=3), progress=True)))
    assert list(waits(state)) == [(1, Queued(1))]


def test_each_queue_counts_its_own() -> None:
    state = State(settings())
    for number, key in enumerate(["a", "a", "b"], 1):
        state.enqueue(Ticket(number, replace(request(key), progress=True)))
    assert dict(waits(state)) == {1: Queued(1), 2: Queued(2), 3: Queued(1)}


@asynccontextmanager
async def reporting(machine: Machine, key: str = "a") -> AsyncIterator[tuple[Wait, list[Waiting]]]:
    """A request that wants to know, and the reports that it got; they are taken in a task of their own."""
    got: list[Waiting] = []
    async with machine.scheduler.queue(replace(request(key), progress=True)) as wait:

        async def take() -> None:
            while report := await wait.next_report():
                got.append(report)

        task = asyncio.create_task(take())
        await quiet()
        yield wait, got
        task.cancel()


def test_a_request_learns_of_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PACE", 0.0)

    async def scenario() -> None:
        machine = Machine()
        async with reporting(machine) as (wait, got):
            (runner,) = machine.runners
            for fraction in (0.25, 0.25, 0.5):
                runner.progress(fraction)
                await quiet()
            runner.become_ready()
            async with asyncio.timeout(60):
                assert (await wait.lease).runner is runner
            assert got == [
                Loading("starting", 0.0),
                Loading("weights", 0.25),
                Loading("weights", 0.5),
            ]
        await machine.scheduler.close()

    run(scenario())


def test_reports_come_at_a_pace_and_the_lease_at_once() -> None:
    async def scenario() -> None:
        machine = Machine()
        async with reporting(machine) as (wait, got):
            (runner,) = machine.runners
            for hundredth in range(100):
                runner.progress(hundredth / 100)
                await quiet()
            runner.become_ready()
            async with asyncio.timeout(60):
                await wait.lease
            await quiet()
            assert got == [Loading("starting", 0.0)]
        await machine.scheduler.close()

    run(scenario())


def test_a_request_that_gets_its_lease_at_once_learns_nothing() -> None:
    async def scenario() -> None:
        machine = Machine()
        await machine.load("a")
        async with reporting(machine) as (wait, got):
            assert wait.lease.done() and got == []
        await machine.scheduler.close()

    run(scenario())


def test_places_move_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot: two leases are granted, and the second of them waits in the engine."""
    monkeypatch.setattr(waiting, "PACE", 0.0)

    async def scenario() -> None:
        machine = Machine()
        await machine.load("a")
        first, second, third = (machine.ask("a") for _ in range(3))
        await quiet()
        async with reporting(machine) as (wait, got):
            third.cancel()
            await quiet()
            first.leave()
            async with asyncio.timeout(60):
                await wait.lease
            assert got == [Queued(3), Queued(2)]
        second.leave()
        await quiet()
        assert machine.scheduler.busy == 0
        await machine.scheduler.close()

    run(scenario())


def test_who_leaves_while_it_waits_gives_its_place_up() -> None:
    async def scenario() -> None:
        machine = Machine()
        async with reporting(machine):
            pass
        await quiet()
        assert machine.scheduler.busy == 0
        machine.runners[0].become_ready()
        await quiet()
        assert machine.loaded().in_flight == 0
        await machine.scheduler.close()

    run(scenario())

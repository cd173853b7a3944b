"""The owner of the runners: many requests, requests that go away, draining, closing, and random lives."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from ollamapy.errors import LoadFailed, ServerBusy
from ollamapy.fleet.state import LEASES_PER_SLOT
from tests.fleet.machine import Client, FakeRunner, Machine, quiet, run, served, size
from tests.fleet.requests import GB, request
from tests.plans import plan

# ---- many, gone, closed --------------------------------------------------------------------------


MANY = pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])


@MANY
def test_many_requests_with_a_bounded_queue(count: int) -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_NUM_PARALLEL=4)
        await machine.load("b")
        for number in range(count):
            machine.ask("ab"[number % 2])
        await quiet()
        machine.runners[1].become_ready()
        await quiet()
        assert (
            machine.statuses().count("served") == 16
            and machine.statuses().count("waiting") == 512 - 8
        )
        assert machine.statuses().count("ServerBusy") == count - 16 - (512 - 8)
        refused = machine.clients[-1].task.exception()
        assert isinstance(refused, ServerBusy) and refused.retry_after == 1
        assert str(refused).startswith("server busy, please try again.")
        while served := [client for client in machine.clients if client.status == "served"]:
            for client in served:
                client.leave()
            await quiet()
        assert machine.statuses().count("waiting") == 0 and machine.scheduler.busy == 0
        await machine.scheduler.close()

    run(main())


@MANY
def test_many_requests_in_a_long_queue(count: int) -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_MAX_QUEUE=20_000)
        await machine.load("a")
        clients = [machine.ask("a") for _ in range(count)]
        await quiet()
        for client in clients[1::2]:  # every other client goes away
            client.cancel()
        for client in clients[::2]:
            await served(client)
            client.leave()
        await quiet()
        assert [client.status for client in clients] == ["done", "cancelled"] * (count // 2)
        assert machine.scheduler.busy == 0 and len(machine.runners) == 1
        await machine.scheduler.close()

    run(main())


STAGES = ["posted", "queued", "loading", "granted", "served", "full", "other options"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_client_that_goes_away_leaves_nothing_behind(stage: str) -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_MAX_LOADED_MODELS=1)
        others: list[Client] = []
        if stage in ("full", "other options"):
            await machine.load("a")
            others = [machine.ask("a"), machine.ask("a")]
            await quiet()
        elif stage == "queued":
            await machine.load("b")
            others = [machine.ask("b")]
            await quiet()
        client = machine.ask("a", num_gpu=1 if stage == "other options" else None)
        behind = machine.ask("a") if stage != "posted" else None
        if stage != "posted":
            await quiet()
        if stage in ("granted", "served"):
            machine.runners[-1].become_ready()
            for _ in range(99):  # up to the grant, which the client has not seen yet
                if machine.loaded().in_flight == 0:
                    await asyncio.sleep(0)
            assert client.status == "waiting"
            if stage == "served":
                await quiet()
                assert client.status == "served"
        client.cancel()
        await quiet()
        assert client.status == "cancelled"
        for other in others:
            other.leave()
        await quiet()
        if machine.runners and machine.runners[-1].loading:
            machine.runners[-1].become_ready()
            await quiet()
        if behind:
            assert behind.status == "served"
            behind.leave()
            await quiet()
        assert machine.scheduler.busy == 0
        assert all(shown.in_flight == 0 for shown in machine.scheduler.loaded())
        await machine.time.advance(300)
        assert machine.alive == []
        await machine.scheduler.close()

    run(main())


def test_drain_waits_for_leases_and_rejects_others() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        served, waiting = machine.ask("a"), machine.ask("b")
        await quiet()
        drained = asyncio.create_task(machine.scheduler.drain())
        await quiet()
        late = machine.ask("a")
        await quiet()
        assert (served.status, waiting.status) == ("served", "ServerBusy")
        assert late.status == "ServerBusy" and not drained.done()
        served.leave()
        await quiet()
        assert drained.done()
        await machine.scheduler.close()

    run(main())


def test_drain_loses_its_patience() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        served = machine.ask("a")
        await quiet()
        drained = asyncio.create_task(machine.scheduler.drain(10))
        await machine.time.advance(9)
        assert not drained.done()
        await machine.time.advance(1)
        assert drained.done() and served.status == "served"
        await machine.scheduler.close()

    run(main())


def test_close_stops_all_runners_at_once() -> None:
    async def main() -> None:
        machine = Machine()
        for key in "abc":
            await machine.load(key)
        waiting = machine.ask("d", num_gpu=1)
        for runner in machine.runners:
            runner.obedient = False
        adopted = FakeRunner(plan("e", 4096), obedient=False)
        machine.scheduler.adopt(request("e"), adopted.plan, adopted)
        closed = asyncio.create_task(machine.scheduler.close())
        await quiet()
        everyone = [*machine.runners, adopted]
        assert all(len(runner.stops) == 1 for runner in everyone) and not closed.done()
        for runner in everyone:
            runner.die(0)
        await quiet()
        assert closed.done() and waiting.status == "ServerBusy"
        assert machine.scheduler.loaded() == []
        late = machine.ask("a")
        await quiet()
        assert late.status == "ServerBusy"
        await machine.scheduler.close()
        await machine.scheduler.unload("a")
        await machine.scheduler.drain()

    run(main())


def test_a_defect_fails_the_waiting_requests_but_not_the_scheduler() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        machine.memory_error = ZeroDivisionError("defect")
        client = machine.ask("b")
        await quiet()
        assert client.status == "RunnerError"
        machine.memory_error = None
        again = machine.ask("a")
        await quiet()
        assert again.status == "served"
        await machine.scheduler.close()

    run(main())


# ---- whatever happens ----------------------------------------------------------------------------

KEYS = ["a", "b", "c", "d", "big"]


async def live(seed: int, n_events: int) -> None:
    """A random life, with what must always hold checked after every event, and a good end."""
    chance = random.Random(seed)
    machine = Machine(
        memory_size=chance.choice([1.2, 3.3, 6.5, 8, 100]),
        OLLAMA_MAX_LOADED_MODELS=chance.randint(1, 4),
        OLLAMA_NUM_PARALLEL=chance.randint(1, 2),
        OLLAMA_MAX_QUEUE=chance.choice([1, 5, 512]),
        OLLAMA_LOAD_TIMEOUT=50,
    )
    most = machine.settings.max_loaded_models

    def pick(status: str) -> Client | None:
        found = [client for client in machine.clients if client.status == status]
        return chance.choice(found) if found else None

    def ask() -> None:
        options = {"num_gpu": chance.choice([1, 2])} if chance.random() < 0.3 else {}
        keep_alives: list[float | UnsetType] = [UNSET, UNSET, 0.0, 5.0, 60.0]
        keep_alive = chance.choice(keep_alives)
        machine.ask(chance.choice(KEYS), keep_alive, **options)

    async def event() -> None:
        loading = [runner for runner in machine.alive if runner.loading and not runner.stops]
        stubborn = [runner for runner in machine.alive if runner.stops]
        dice = chance.random()
        if dice < 0.35:
            ask()
        elif dice < 0.55 and loading:
            chance.choice(loading).become_ready()
        elif dice < 0.60 and loading:
            runner = chance.choice(loading)
            runner.progress(chance.uniform(runner.fraction, 1))
        elif dice < 0.75 and (client := pick("served")):
            client.leave()
        elif dice < 0.82 and (client := pick(chance.choice(["served", "waiting"]))):
            client.cancel()
        elif dice < 0.85 and loading:
            chance.choice(loading).fail(LoadFailed("bad luck"))
        elif dice < 0.88 and machine.alive:
            chance.choice(machine.alive).die()
        elif dice < 0.93 and stubborn:
            chance.choice(stubborn).die(0)
        elif dice < 0.96:
            machine.obedient = chance.random() < 0.7
        else:
            await machine.time.advance(chance.choice([0.5, 5, 30, 60]))

    def check() -> None:
        assert most is not None and len(machine.alive) <= most
        # One that is killed while it loads takes no more than it has.
        will_take = (
            size(runner) * (runner.fraction if runner.stops and runner.loading else 1)
            for runner in machine.alive
        )
        assert sum(will_take) <= machine.memory_size * GB
        for runner in machine.alive:
            assert runner.leases <= runner.plan.n_slots * LEASES_PER_SLOT
            assert len(runner.stops) <= 1
            assert not (runner.stops and runner.leases), "a busy runner was stopped"
        for client in machine.clients:
            # A lease ends only by its holder, whatever becomes of the runner.
            assert client.status != "served" or client.runner is not None
        waiting, served = machine.statuses().count("waiting"), machine.statuses().count("served")
        assert machine.scheduler.busy == waiting + served

    for _ in range(n_events):
        await event()
        if chance.random() < 0.7:  # else the next event comes before this one is handled
            await quiet()
            check()

    # All clients leave, all loads succeed, all runners stop when asked: no client may be left waiting.
    await quiet()
    machine.obedient = True
    while machine.scheduler.busy or machine.alive:
        before = (machine.statuses(), len(machine.alive), len(machine.runners))
        for runner in machine.alive:
            runner.obedient = True
            if runner.stops:
                runner.die(0)
            elif runner.loading:
                runner.become_ready()
        await quiet()
        check()
        for client in machine.clients:
            client.leave()
        await machine.time.advance(1)
        after = (machine.statuses(), len(machine.alive), len(machine.runners))
        if before == after:
            await machine.time.advance(300)
            after = (machine.statuses(), len(machine.alive), len(machine.runners))
        assert before != after, "a wake-up was lost"
    endings = {"done", "cancelled", "LoadFailed", "RunnerCrashed", "RunnerError", "ServerBusy"}
    assert set(machine.statuses()) <= endings | {"NotEnoughMemory"}
    await machine.scheduler.close()


@given(st.integers(0, 2**32))
@hypothesis_settings(max_examples=30, deadline=None)
def test_any_life_keeps_the_rules(seed: int) -> None:
    run(live(seed, 80))

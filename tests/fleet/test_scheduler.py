"""The owner of the runners: loading, leases, keep-alive, room."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from msgspec import UNSET, UnsetType

from ollamapy.errors import LoadFailed, NotEnoughMemory, RunnerCrashed, RunnerError
from ollamapy.fleet import fit
from ollamapy.fleet.request import LeaseRequest
from ollamapy.fleet.state import LEASES_PER_SLOT, Status
from ollamapy.loading import File, Files
from ollamapy.names import Name
from tests.fleet.machine import Client, FakeRunner, Machine, quiet, run, size
from tests.fleet.requests import GB, model, request, settings
from tests.plans import plan

# ---- loading -------------------------------------------------------------------------------------


def test_many_waiters_share_one_load() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_NUM_PARALLEL=2)
        for _ in range(9):
            machine.ask("a")
        await quiet()
        assert machine.statuses() == ["waiting"] * 9
        (runner,) = machine.runners
        runner.become_ready()
        await quiet()
        most = 2 * LEASES_PER_SLOT
        assert machine.statuses() == ["served"] * most + ["waiting"] * (9 - most)
        assert machine.scheduler.busy == 9
        for client in machine.clients:  # first come, first served
            assert client.status == "served"
            client.leave()
            await quiet()
        assert machine.statuses() == ["done"] * 9
        assert len(machine.runners) == 1 and machine.scheduler.busy == 0
        await machine.scheduler.close()

    run(main())


def test_a_load_does_not_hold_up_other_models() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        machine.ask("b")
        await quiet()
        again = machine.ask("a")
        third = machine.ask("c")
        await quiet()
        assert again.status == "served"
        assert [runner.key for runner in machine.alive] == ["a", "b", "c"]
        machine.runners[2].become_ready()
        await quiet()
        assert third.status == "served" and machine.clients[1].status == "waiting"
        assert machine.loaded("b").status is Status.STARTING
        await machine.scheduler.close()

    run(main())


def test_a_failed_load_fails_its_waiting_requests_and_the_next_one_loads_again() -> None:
    async def main() -> None:
        machine = Machine()
        machine.ask("a"), machine.ask("a"), machine.ask("a", num_gpu=1), machine.ask("a")
        await quiet()
        machine.runners[0].fail(LoadFailed("bad magic"))
        await quiet()
        assert machine.statuses() == ["LoadFailed", "LoadFailed", "waiting", "LoadFailed"]
        error = machine.clients[0].task.exception()
        assert str(error) == "model 'a:latest': bad magic; see the log: ollamapy daemon logs"
        assert machine.runners[0].stops, "what is left of it is stopped"
        assert [runner.plan.gpu_layers for runner in machine.alive] == [1]
        machine.runners[1].become_ready()
        await quiet()
        assert machine.clients[2].status == "served"
        await machine.scheduler.close()

    run(main())


def test_each_waiter_gets_an_exception_of_its_own() -> None:
    async def main() -> None:
        machine = Machine()
        clients = [machine.ask("a"), machine.ask("a")]
        await quiet()
        machine.runners[0].die(-11)
        await quiet()
        first, second = (client.task.exception() for client in clients)
        assert isinstance(first, RunnerCrashed) and isinstance(second, RunnerCrashed)
        assert first is not second and first.exit_code == second.exit_code == -11
        await machine.scheduler.close()

    run(main())


@pytest.mark.parametrize(
    "error, status",
    [(RunnerError("no processes left"), "RunnerError"), (OSError("fork"), "RunnerError")],
)
def test_a_runner_that_cannot_be_started(error: Exception, status: str) -> None:
    async def main() -> None:
        machine = Machine()
        machine.start_error = error
        machine.ask("a"), machine.ask("a")
        await quiet()
        assert machine.statuses() == [status, status]
        machine.start_error = None
        client = machine.ask("a")
        await quiet()
        machine.runners[0].become_ready()
        await quiet()
        assert client.status == "served"
        await machine.scheduler.close()

    run(main())


def test_a_load_that_stands_still_is_killed() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_LOAD_TIMEOUT=60)
        client = machine.ask("a")
        await quiet()
        for fraction in (0.1, 0.2, 0.3):
            await machine.time.advance(59)
            machine.runners[0].progress(fraction)
            await quiet()
        await machine.time.advance(59)
        assert client.status == "waiting"
        await machine.time.advance(1)
        assert client.status == "RunnerError" and machine.runners[0].stops == [0.0]
        assert str(client.task.exception()) == (
            "timed out waiting for a:latest to load: no progress for 1m0s,"
            " see the daemon's log or raise OLLAMAPY_LOAD_TIMEOUT"
        )
        assert machine.scheduler.loaded() == []
        await machine.scheduler.close()

    run(main())


def test_a_runner_that_dies_while_it_serves_is_forgotten_and_loaded_again() -> None:
    async def main() -> None:
        machine = Machine()
        client = machine.ask("a")
        await quiet()
        machine.runners[0].become_ready()
        await quiet()
        machine.runners[0].die()
        await quiet()
        assert machine.scheduler.loaded() == []
        again = machine.ask("a")
        await quiet()
        machine.runners[1].become_ready()
        await quiet()
        assert again.runner is machine.runners[1]
        client.leave()  # its lease was of the dead runner, not of the new one
        await quiet()
        assert machine.loaded().in_flight == 1 and machine.scheduler.busy == 1
        await machine.scheduler.close()

    run(main())


def test_a_runner_started_before_is_adopted() -> None:
    async def main() -> None:
        machine = Machine()
        wanted = request("a")
        early, late = FakeRunner(plan("a", 4096)), FakeRunner(plan("a", 4096))
        machine.scheduler.adopt(wanted, early.plan, early)
        machine.scheduler.adopt(wanted, late.plan, late)
        client = machine.ask("a")
        await quiet()
        assert machine.runners == [] and late.stops and not early.stops
        early.become_ready()
        await quiet()
        assert client.runner is early
        client.leave()
        await machine.time.advance(300)
        assert early.stops and machine.scheduler.loaded() == []
        await machine.scheduler.close()

    run(main())


# ---- keep-alive ----------------------------------------------------------------------------------

# keep_alive of successive requests; seconds after the last one's end that the model stays.
KEEP_ALIVES = [
    ([UNSET], 300.0),
    ([60.0], 60.0),
    ([0.0], 0.0),
    ([60.0, UNSET, UNSET], 60.0),
    ([60.0, 5.0], 5.0),
    ([5.0, 600.0, UNSET], 600.0),
    ([60.0, None], None),
    ([math.inf, UNSET], None),
    ([-1.0], None),
    ([None, 7.0], 7.0),
]


@pytest.mark.parametrize("keep_alives, stays", KEEP_ALIVES)
def test_keep_alive(keep_alives: list[float | None | UnsetType], stays: float | None) -> None:
    async def main() -> None:
        machine = Machine()
        clients = [machine.ask("a", keep_alives[0])]
        await quiet()
        runner = machine.runners[0]
        runner.become_ready()
        await quiet()
        for keep_alive in keep_alives[1:]:
            clients[-1].leave()
            clients.append(machine.ask("a", keep_alive))
            await quiet()
        # The timer stands still while a request runs, and `ps` never shows a time that is over.
        await machine.time.advance(1e6)
        assert runner.alive and machine.loaded().expires_in == stays
        clients[-1].leave()
        await quiet()
        if stays is None:
            await machine.time.advance(1e9)
            assert runner.alive and machine.loaded().expires_in is None
        else:
            if stays:
                await machine.time.advance(stays - 1)
                assert runner.alive and machine.loaded().expires_in == 1
                await machine.time.advance(1)
            assert not runner.alive and machine.scheduler.loaded() == []
        await machine.scheduler.close()

    run(main())


def test_a_load_without_waiting_requests_is_finished_and_kept() -> None:
    async def main() -> None:
        machine = Machine()
        client = machine.ask("a", 60.0)
        await quiet()
        client.cancel()
        await quiet()
        assert client.status == "cancelled" and machine.scheduler.busy == 0
        await machine.time.advance(50)
        machine.runners[0].become_ready()
        await quiet()
        await machine.time.advance(59)
        assert machine.loaded().status is Status.READY
        await machine.time.advance(1)
        assert machine.scheduler.loaded() == []
        await machine.scheduler.close()

    run(main())


@pytest.mark.parametrize("used", [False, True])
def test_unload(used: bool) -> None:
    async def main() -> None:
        machine = Machine()
        runner = await machine.load("a", None)
        client = machine.ask("a") if used else None
        await quiet()
        await machine.scheduler.unload("not loaded")
        await machine.scheduler.unload("a")
        assert runner.alive is used
        if client:
            assert machine.loaded().expires_in == 0
            client.leave()
            await quiet()
        assert not runner.alive and machine.scheduler.loaded() == []
        await machine.scheduler.close()

    run(main())


def test_loaded_models_as_ps_shows_them() -> None:
    async def main() -> None:
        machine = Machine()
        machine.ask("a", 60.0, num_ctx=300)
        await quiet()
        assert (machine.loaded().status, machine.loaded().n_ctx) == (Status.STARTING, 300)
        machine.runners[0].become_ready(gpu_layers=1)
        machine.ask("a")
        await quiet()
        shown = machine.loaded()
        whole = size(machine.runners[0])
        assert (shown.name.display, shown.digest) == ("a:latest", "manifest a")
        assert (shown.status, shown.in_flight, shown.n_ctx) == (Status.READY, 2, 512)
        assert (shown.size, shown.size_vram, shown.expires_in) == (whole, round(whole / 4), 60.0)
        machine.runners[0].obedient = False
        for client in machine.clients:
            client.leave()
        await machine.time.advance(60)
        assert (machine.loaded().status, machine.loaded().expires_in) == (Status.STOPPING, 0.0)
        machine.runners[0].die()
        await machine.scheduler.close()

    run(main())


def test_another_manifest_of_the_same_blob_is_served_and_shown_by_the_name_used_last() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        other = LeaseRequest(Name.parse("copy"), "other", Files(File(Path("a"), "a")), model(1))
        async with machine.scheduler.lease(other) as lease:
            assert lease.runner is machine.runners[0]
            assert machine.loaded().name.display == "copy:latest"
        await machine.scheduler.close()

    run(main())


# ---- room ----------------------------------------------------------------------------------------


def test_the_least_recently_used_idle_runner_makes_room() -> None:
    async def main() -> None:
        machine = Machine()
        for key in "abc":
            await machine.load(key)
            await machine.time.advance(1)
        busy = machine.ask("a")
        await quiet()
        machine.ask("d")
        await quiet()
        assert [runner.key for runner in machine.alive] == ["a", "c", "d"]
        assert busy.status == "served" and machine.most_alive == 3
        await machine.scheduler.close()

    run(main())


def test_memory_is_not_spent_twice() -> None:
    async def main() -> None:
        machine = Machine(memory_size=6.5)  # for one large model and one small one
        idle = await machine.load("a")
        machine.ask("big")
        await quiet()
        small = machine.ask("b")  # nothing of the large one is in memory yet
        await quiet()
        assert [runner.key for runner in machine.alive] == ["big", "b"] and idle.stops
        machine.runners[1].progress(0.5)
        machine.runners[1].become_ready()
        machine.runners[2].become_ready()
        await quiet()
        assert small.status == "served" and machine.free() > 0
        await machine.scheduler.close()

    run(main())


def test_what_stops_is_waited_for_before_its_memory_is_used() -> None:
    async def main() -> None:
        machine = Machine(memory_size=6)
        machine.obedient = False
        first = await machine.load("a")
        machine.ask("big")
        await quiet()
        assert first.stops and machine.alive == [first]
        first.die(0)
        await quiet()
        assert [runner.key for runner in machine.alive] == ["big"]
        machine.runners[-1].obedient = True
        await machine.scheduler.close()

    run(main())


def test_too_large_a_model_is_refused_and_nothing_is_unloaded_for_it() -> None:
    async def main() -> None:
        machine = Machine(memory_size=4)
        kept = await machine.load("a")
        client = machine.ask("big")
        await quiet()
        error = client.task.exception()
        assert isinstance(error, NotEnoughMemory) and kept.alive
        assert str(error).startswith("big:latest needs 5.1 GB of memory and 4 GB are free")
        await machine.scheduler.close()

    run(main())


def test_embeddings_leave_what_a_load_will_still_take() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        machine.ask("big")
        await quiet()
        loading = machine.runners[-1]
        promised = size(loading) + loading.plan.saved_size
        machine.memory_size -= (machine.free() - promised - 10**7) / GB
        embedding = Client(machine.scheduler, request("a", embeds=True))
        await quiet()
        assert embedding.status == "NotEnoughMemory"
        assert str(embedding.task.exception()).endswith(
            "10 MB are free, close other programs or unload a model"
        )
        await machine.scheduler.close()

    run(main())


def test_embeddings_leave_what_other_embeddings_will_still_take() -> None:
    async def main() -> None:
        growth = fit.embedding_size(model(1), fit.preferred(request("a"), settings(), 99 * GB))
        machine = Machine(memory_size=99)
        await machine.load("a")
        await machine.load("b")
        machine.memory_size -= (machine.free() - 1.5 * growth) / GB
        first = Client(machine.scheduler, request("a", embeds=True))
        await quiet()
        second = Client(machine.scheduler, request("b", embeds=True))
        await quiet()
        assert (first.status, second.status) == ("served", "NotEnoughMemory")
        first.leave()  # its context is made by now, and the memory that is measured says so
        await quiet()
        third = Client(machine.scheduler, request("b", embeds=True))
        await quiet()
        assert third.status == "served"
        await machine.scheduler.close()

    run(main())


def test_clients_with_different_options_take_turns() -> None:
    async def main() -> None:
        machine = Machine()
        for number in range(6):
            machine.ask("a", num_gpu=number % 2)
        await quiet()
        for client in machine.clients:
            machine.runners[-1].become_ready()
            await quiet()
            assert client.status == "served"
            assert machine.statuses().count("served") == 1
            client.leave()
            await quiet()
        assert [runner.plan.gpu_layers for runner in machine.runners] == [0, 1] * 3
        await machine.scheduler.close()

    run(main())


def test_a_busy_model_cannot_starve_another() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_MAX_LOADED_MODELS=1)
        await machine.load("a")
        first = machine.ask("a")
        await quiet()
        other = machine.ask("b")
        await quiet()
        later = machine.ask("a")
        await quiet()
        assert later.status == "waiting"  # though its runner has room
        first.leave()
        await quiet()
        machine.runners[-1].become_ready()
        await quiet()
        assert other.status == "served"
        other.leave()
        await quiet()
        machine.runners[-1].become_ready()
        await quiet()
        assert later.status == "served"
        assert [runner.key for runner in machine.runners] == ["a", "b", "a"]
        await machine.scheduler.close()

    run(main())


# ---- sizes ---------------------------------------------------------------------------------------


def test_a_runner_grows_for_its_requests_and_rests_again() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_NUM_PARALLEL=8)
        runner = await machine.load("wide")
        at_rest = machine.loaded("wide").size
        clients = [machine.ask("wide") for _ in range(3)]
        await quiet()
        assert machine.statuses()[1:] == ["served"] * 3
        assert runner.resizes == ["4 x 4096"]
        clients += [machine.ask("wide") for _ in range(9)]
        await quiet()
        assert runner.resizes == ["4 x 4096", "8 x 4096"]
        assert all(client.status == "served" for client in clients)
        assert machine.loaded("wide").size > at_rest + 6 * 4 * 10**8
        for client in clients:
            client.leave()
        await machine.time.advance(119)
        assert len(runner.resizes) == 2
        await machine.time.advance(1)
        assert runner.resizes[2:] == ["1 x 4096"] and machine.loaded("wide").size == at_rest
        assert machine.runners == [runner] and runner.alive
        await machine.scheduler.close()

    run(main())


def test_a_longer_context_without_a_reload() -> None:
    """While a request with the shorter one runs; the first request after it learns of it, and those behind it wait for it."""

    async def main() -> None:
        machine = Machine(OLLAMA_CONTEXT_LENGTH=4096)
        first = machine.ask("wide")
        await quiet()
        runner = machine.runners[0]
        runner.become_ready()
        await quiet()
        runner.may_resize.clear()
        second, third = machine.ask("wide", num_ctx=8192), machine.ask("wide")
        await quiet()
        assert machine.statuses() == ["served", "waiting", "waiting"]
        runner.may_resize.set()
        await quiet()
        assert machine.statuses() == ["served", "served", "waiting"], "two for the only slot"
        first.leave()
        await quiet()
        assert (second.grown_from, third.grown_from) == (4096, 0) and third.status == "served"
        assert machine.loaded("wide").n_ctx == 8192 and machine.runners == [runner]
        second.leave()
        third.leave()
        await machine.time.advance(120)
        assert machine.loaded("wide").n_ctx == 4096
        await machine.scheduler.close()

    run(main())


def test_a_request_that_needs_more_cells() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_CONTEXT_LENGTH=16384)
        runner = await machine.load("wide")
        at_rest = machine.loaded("wide").size
        assert runner.plan.held == 4096 and machine.loaded("wide").n_ctx == 16384
        client = machine.ask("wide")
        await quiet()
        runner.on_outgrown(4352)
        await quiet()
        assert runner.plan.held == 8192 and machine.loaded("wide").size > at_rest + 4 * 10**8
        runner.on_outgrown(4400)
        await quiet()
        assert len(runner.resizes) == 1 and machine.loaded("wide").n_ctx == 16384
        client.leave()
        await machine.time.advance(120)
        assert runner.plan.held == 4096 and machine.loaded("wide").size == at_rest
        await machine.scheduler.close()

    run(main())


def test_cells_that_cannot_be_had() -> None:
    """The runner must hear that its context ends where its cells do: a request waits for that."""

    async def main() -> None:
        machine = Machine(OLLAMA_CONTEXT_LENGTH=16384)
        runner = await machine.load("wide")
        machine.ask("wide")
        await quiet()
        runner.resize_error = RunnerError("no context of 1 x 8192 tokens can be made")
        runner.on_outgrown(4352)
        await quiet()
        assert runner.resizes == ["1 x 16384", "1 x 4096"]
        assert runner.plan.held == machine.loaded("wide").n_ctx == 4096
        await machine.scheduler.close()

    run(main())


def test_a_size_that_cannot_be_had() -> None:
    """Requests go on with what there is; a longer context is a reload."""

    async def main() -> None:
        machine = Machine(OLLAMA_NUM_PARALLEL=8)
        runner = await machine.load("wide")
        runner.resize_error = RunnerError("no context of 2 x 4096 tokens can be made")
        clients = [machine.ask("wide") for _ in range(3)]
        await quiet()
        assert [client.status for client in clients] == ["served", "served", "waiting"]
        clients[0].leave()
        await quiet()
        assert clients[2].status == "served" and len(runner.resizes) == 1
        longer = machine.ask("wide", num_ctx=8192)
        clients[1].leave()
        clients[2].leave()
        await quiet()
        assert runner.stops and len(runner.resizes) == 1
        machine.runners[1].become_ready()
        await quiet()
        assert (longer.status, longer.grown_from) == ("served", 4096)
        await machine.scheduler.close()

    run(main())


def test_a_context_that_is_being_made_is_not_free() -> None:
    async def main() -> None:
        machine = Machine(memory_size=5.7, OLLAMA_NUM_PARALLEL=2)
        first = await machine.load("wide")
        second = await machine.load("wider")
        first.may_resize.clear()
        for key in ("wide", "wide", "wider", "wider"):
            machine.ask(key)
        await quiet()
        assert (first.resizes, second.resizes) == (["2 x 4096"], []), (
            "there is room for one of them"
        )
        first.may_resize.set()
        await quiet()
        assert second.resizes == ["2 x 4096"]
        await machine.scheduler.close()

    run(main())


def test_a_model_that_has_grown_makes_room_and_stays() -> None:
    async def main() -> None:
        machine = Machine(memory_size=9.5, OLLAMA_NUM_PARALLEL=4)
        runner = await machine.load("wide")
        clients = [machine.ask("wide") for _ in range(4)]
        await quiet()
        assert runner.resizes == ["4 x 4096"]
        for client in clients:
            client.leave()
        await quiet()
        machine.memory_size -= 2
        other = machine.ask("big")
        await quiet()
        assert runner.resizes == ["4 x 4096", "1 x 4096"]
        machine.runners[1].become_ready()
        await quiet()
        assert other.status == "served" and machine.alive == machine.runners
        await machine.scheduler.close()

    run(main())


def test_a_runner_that_dies_while_it_is_resized() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_NUM_PARALLEL=8)
        runner = await machine.load("wide")
        runner.may_resize.clear()
        runner.resize_error = RunnerCrashed("the model runner ended by signal SIGKILL", -9)
        client = machine.ask("wide", num_ctx=8192)
        await quiet()
        runner.die(-9)
        runner.may_resize.set()
        await quiet()
        machine.runners[1].become_ready()
        await quiet()
        assert client.status == "served" and machine.loaded("wide").n_ctx == 8192
        await machine.scheduler.close()

    run(main())

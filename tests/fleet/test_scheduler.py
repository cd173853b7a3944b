"""The decision as tables of examples; then its owner, with runners, memory and time made here."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from ollamapy.config import Settings
from ollamapy.errors import (
    LoadFailed,
    NotEnoughMemory,
    RunnerCrashed,
    RunnerError,
    ServerBusy,
)
from ollamapy.fleet import fit as memory
from ollamapy.fleet.request import LeaseRequest
from ollamapy.fleet.scheduler import (
    LEASES_PER_SLOT,
    Grant,
    Loaded,
    Reject,
    Resident,
    Runner,
    Scheduler,
    Start,
    State,
    Status,
    Stop,
    Ticket,
    decide,
    next_deadline,
)
from ollamapy.formats.gguf import Header, Tensor
from ollamapy.loading import File, Files, LoadPlan
from ollamapy.names import Name
from ollamapy.runner.protocol import Done, Embedded, Piece, Ready
from ollamapy.types import Embedding, Generation, Options
from tests.plans import plan

GB = 10**9


def model(size: float, kv_length: int = 0) -> Header:
    """A model of `size` GB of weights; a runner takes 35 MB more, and its cache.

    `kv_length` is of the only head of the only layer: 6,000 make 98 MB for 4,096 tokens.
    """
    n = round(size * GB) // 4
    metadata = {
        "general.architecture": "llama",
        "llama.context_length": 65_536,
        "llama.block_count": 1,
        "llama.attention.head_count": 1,
        "llama.attention.key_length": kv_length,
        "llama.attention.value_length": kv_length,
    }
    return Header(3, metadata, (Tensor("t", "F32", (n,), 4 * n, 0),), 0, 4 * n)


def settings(**values: Any) -> Settings:
    environ = {"OLLAMAPY_HOME": "/nowhere", "OLLAMA_NUM_PARALLEL": "1"}
    return Settings.from_env(environ | {k: str(v) for k, v in values.items()})


def request(key: str, keep_alive: float | None | UnsetType = UNSET, **options: Any) -> LeaseRequest:
    """A request for model "a", "b"... of 1 GB; "big" has 5."""
    header = model(5, 6000) if key == "big" else model(1)
    files = Files(File(Path(key), key))

    return LeaseRequest(
        Name.parse(key), f"manifest {key}", files, header, Options(**options), keep_alive=keep_alive
    )


# ---- the decision --------------------------------------------------------------------------------


@dataclass
class Case:
    """One row: what is loaded, who waits, what is free; and what is done about it.

    `loaded`: "a", "a busy=2", "a starting", "a stopping", and used=, ctx=, keep=, heard= numbers.
    `waiting`: "a", "a ctx=512", in order of arrival: their numbers are 1, 2, 3...
    """

    why: str
    loaded: list[str]
    waiting: list[str]
    then: list[str]
    free: float = 10
    now: float = 100
    environ: dict[str, Any] = field(default_factory=dict)
    closing: bool = False


CASES = [
    Case("nothing to do", [], [], []),
    Case("a first request starts a runner", [], ["a"], ["start a"]),
    Case("and only one, however many wait", [], ["a", "a", "a"], ["start a"]),
    Case("who waits for a load waits", ["a starting"], ["a", "a"], []),
    Case("a loaded model serves at once", ["a"], ["a"], ["grant 1"]),
    Case("two for each slot", ["a busy=1"], ["a", "a"], ["grant 1"]),
    Case("more slots", ["a"], ["a"] * 9, [f"grant {n}" for n in range(1, 7)], environ={
        "OLLAMA_NUM_PARALLEL": 3}),
    Case("a full runner grants nothing", ["a busy=2"], ["a"], []),
    Case("a load does not hold up another model", ["a starting", "b"], ["a", "b"], ["grant 2"]),
    Case("nor another model's load", ["a starting"], ["a", "b"], ["start b"]),
    Case("a stopping runner is started again when gone", ["a stopping"], ["a"], []),
    # Options
    Case("options that were not given match", ["a ctx=512"], ["a"], ["grant 1"]),
    Case("the same options match", ["a ctx=512"], ["a ctx=512"], ["grant 1"]),
    Case("the default, asked for, matches", ["a"], ["a ctx=4096"], ["grant 1"]),
    Case("automatic values match", ["a gpu=7"], ["a gpu=-1", "a thread=0"], ["grant 1", "grant 2"]),
    Case("a smaller context is there", ["a"], ["a ctx=512"], ["grant 1"]),
    Case("one that rounds up to as many cells", ["a ctx=900"], ["a ctx=1000"], ["grant 1"]),
    Case("a larger one: load anew", ["a"], ["a ctx=8192"], ["stop a"]),
    Case("other options too", ["a"], ["a gpu=3"], ["stop a"]),
    Case("but not while it is used", ["a busy=1"], ["a ctx=8192"], []),
    Case("and nobody passes", ["a busy=1"], ["a ctx=8192", "a"], []),
    Case("those before are served", ["a"], ["a", "a ctx=8192", "a"], ["grant 1"]),
    Case("a context is cut to the model's", ["a ctx=65536"], ["a ctx=99999"], ["grant 1"]),
    # How many
    Case("the least recently used makes room", ["a used=3", "b used=1", "c used=2"], ["d"],
         ["stop b"]),
    Case("at most as many as the setting says", ["a"], ["b"], ["stop a"], environ={
        "OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("never a busy one", ["a used=3", "b used=1 busy=1", "c used=2"], ["d"], ["stop c"]),
    Case("all are busy: wait", ["a busy=1", "b busy=1", "c busy=1"], ["d"], []),
    Case("rather one that nobody waits for", ["a used=1", "b used=2", "c used=3"], ["d", "a"],
         ["grant 2"]),
    Case("a place is coming free: wait", ["a", "b", "c stopping"], ["d"], []),
    Case("all are loading: wait", ["a starting", "b starting", "c starting"], ["d"], []),
    # Fairness between models
    Case("the last used is held for who came first", ["a busy=1"], ["b", "a"], [], environ={
        "OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("who came before is served", ["a busy=1"], ["a", "b", "a"], ["grant 1"], environ={
        "OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("only one is held", ["a busy=1 used=1", "b busy=1 used=2", "c busy=1 used=3"],
         ["d", "a", "b", "c"], ["grant 3", "grant 4"]),
    Case("an idle one leaves though newer ones wait for it", ["a"], ["b", "a"], ["stop a"],
         environ={"OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("the oldest starts first", ["a starting"], ["c", "b"], ["start c"]),
    # Memory
    Case("it fits beside the others", ["a"], ["big"], ["start big"], free=6),
    Case("it does not: the idle one goes", ["a"], ["big"], ["stop a"], free=4.5),
    Case("one at a time", ["a used=2", "b used=1"], ["big"], ["stop b"], free=3.5),
    Case("what stops is not free yet", ["a", "b stopping"], ["big"], [], free=4.5),
    Case("what loads cannot go", ["a starting"], ["big"], [], free=4.5),
    Case("the busy one is waited for", ["a busy=1"], ["big"], [], free=4.5),
    Case("a small one does not pass the large one", ["a busy=1"], ["big", "b"], [], free=4.5),
    Case("it fits alone, with less", [], ["big"], ["start big slots=4 ctx=4096"], free=5.6,
         environ={"OLLAMA_NUM_PARALLEL": 8}),
    Case("it does not fit alone", [], ["big", "a"], ["reject 1 NotEnoughMemory"], free=4),
    Case("it never will: nobody has to go", ["a", "b"], ["big"], ["reject 1 NotEnoughMemory"],
         free=2.5),
    # Keep-alive
    Case("before its time is over", ["a used=90 keep=11"], [], []),
    Case("after its time", ["a used=90 keep=10"], [], ["stop a"]),
    Case("for ever", ["a used=0 keep=inf"], [], [], now=1e12),
    Case("at once", ["a used=100 keep=0"], [], ["stop a"]),
    Case("not while it is used", ["a used=0 keep=0 busy=1"], [], []),
    Case("not when it is wanted", ["a used=0 keep=0"], ["a"], ["grant 1"]),
    Case("not while it loads", ["a used=0 keep=0 starting"], [], []),
    # Loads that stand still
    Case("a slow load", ["a starting heard=51"], ["a"], [], environ={"OLLAMA_LOAD_TIMEOUT": 50}),
    Case("no sign of life", ["a starting heard=50"], ["a"], ["stop a RunnerError"], environ={
        "OLLAMA_LOAD_TIMEOUT": 50}),
    Case("patience without end", ["a starting heard=0"], ["a"], [], now=1e12, environ={
        "OLLAMA_LOAD_TIMEOUT": 0}),
    # Too many
    Case("as many as may", ["a busy=2"], ["a"] * 3, [], environ={"OLLAMA_MAX_QUEUE": 3}),
    Case("the newest are turned away", ["a busy=2", "b starting"], ["a", "b", "a", "b", "a"],
         ["reject 5 ServerBusy", "reject 4 ServerBusy"], environ={"OLLAMA_MAX_QUEUE": 3}),
    Case("who is served at once was never in the queue", ["a"], ["a"] * 3, ["grant 1", "grant 2"],
         environ={"OLLAMA_MAX_QUEUE": 1}),
    # The end
    Case("closing turns all away", ["a"], ["a", "b"],
         ["reject 1 ServerBusy", "reject 2 ServerBusy"], closing=True),
]  # fmt: skip


def parse(text: str) -> tuple[str, set[str], dict[str, float]]:
    """ "a starting used=3" -> ("a", {"starting"}, {"used": 3.0})"""
    key, *words = text.split()
    pairs = dict(word.split("=") for word in words if "=" in word)
    return key, set(words), {name: float(value) for name, value in pairs.items()}


def load_request(key: str, numbers: dict[str, float]) -> LeaseRequest:
    names = {"ctx": "num_ctx", "gpu": "num_gpu", "thread": "num_thread"}
    return request(key, **{names[n]: int(v) for n, v in numbers.items() if n in names})


def state_of(case: Case) -> State:
    state = State(settings(**case.environ), free=round(case.free * GB), closing=case.closing)
    for text in case.loaded:
        key, words, numbers = parse(text)
        wanted = load_request(key, numbers)
        load = memory.preferred(wanted, state.settings, 99 * GB)
        keep = numbers.get("keep", 300)
        state.residents[key] = Resident(
            request=wanted,
            load=load,
            size=memory.estimate_load(wanted.header, load).total,
            keep_alive=None if math.isinf(keep) else keep,
            used_at=numbers.get("used", 100),
            heard_at=numbers.get("heard", 100),
            in_flight=int(numbers.get("busy", 0)),
            status=next((s for s in Status if s.value in words), Status.READY),
        )
    for number, text in enumerate(case.waiting, 1):
        key, _, numbers = parse(text)
        wanted = load_request(key, numbers)
        ticket = Ticket(number, wanted)
        state.waiting.setdefault(key, OrderedDict())[number] = ticket
    return state


def written(action: Grant | Reject | Start | Stop) -> str:
    match action:
        case Grant(ticket):
            return f"grant {ticket.number}"
        case Reject(ticket, error):
            return f"reject {ticket.number} {type(error).__name__}"
        case Start(ticket, load):
            return f"start {ticket.request.key} slots={load.n_slots} ctx={load.n_ctx}"
        case Stop(key, error):
            return f"stop {key}" + (f" {type(error).__name__}" if error else "")


@pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])
def test_decide(case: Case) -> None:
    state = state_of(case)
    decided = [written(action) for action in decide(state, case.now)]
    # A row says no more of a load than matters to it.
    assert len(decided) == len(case.then) and all(
        did == then or did.startswith(f"{then} ")
        for did, then in zip(decided, case.then, strict=True)
    ), decided
    assert [written(action) for action in decide(state, case.now)] == decided, "not pure"


DEADLINES = [
    ([], None),
    (["a used=10 keep=20", "b used=5 keep=20"], 25),
    (["a used=10 keep=20 busy=1", "b keep=inf"], None),
    (["a used=10 keep=1 stopping"], None),
    (["a heard=30 starting keep=1", "b used=90 keep=300"], 330),
]


@pytest.mark.parametrize("loaded, deadline", DEADLINES)
def test_next_deadline(loaded: list[str], deadline: float | None) -> None:
    assert next_deadline(state_of(Case("", loaded, [], []))) == deadline


WAYS = {"starting": "ready stopping gone", "ready": "stopping gone", "stopping": "gone", "gone": ""}


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("after", Status)
def test_a_status_goes_only_where_the_table_says(before: Status, after: Status) -> None:
    resident = state_of(Case("", ["a"], [], [])).residents["a"]
    resident.status = before
    if after.value in WAYS[before.value].split():
        resident.become(after)
        assert resident.status is after
    else:
        with pytest.raises(RuntimeError):
            resident.become(after)


# ---- the owner: a machine of the test's own ------------------------------------------------------


class FakeTime:
    """A clock that stands still until the test advances it, and the timers that hang on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = itertools.count()

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        await quiet()
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()
                await quiet()
        self.now = end
        await quiet()


@dataclass
class FakeTimer:
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeRunner:
    """A runner that loads, fails, dies and stops when the test says so; `leases` are its users."""

    pid = 4711

    def __init__(self, load: LoadPlan, obedient: bool = True) -> None:
        self.load = load
        self.obedient = obedient
        self.on_progress: Callable[[float], None] | None = None
        self.stops: list[float] = []
        self.leases = 0
        self.fraction = 0.0
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def key(self) -> str:
        return self.load.files.key

    @property
    def loading(self) -> bool:
        return not self._ready.done()

    @property
    def alive(self) -> bool:
        return not self._exit.done()

    def progress(self, fraction: float) -> None:
        self.fraction = fraction
        assert self.on_progress is not None
        self.on_progress(fraction)

    def become_ready(self, gpu_layers: int = 0) -> None:
        n_ctx = -(-self.load.n_ctx // 256) * 256  # as llama.cpp does
        self._ready.set_result(Ready(n_ctx, self.load.n_slots, 1, gpu_layers, 4))

    def fail(self, error: Exception) -> None:
        self._ready.set_exception(error)

    def die(self, code: int = -11) -> None:
        if self.alive:
            self._exit.set_result(code)
            if self.loading:
                self.fail(RunnerCrashed("the model runner ended by signal SIGSEGV", code))
            self._ready.exception()

    async def ready(self) -> Ready:
        return await asyncio.shield(self._ready)

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def stop(self, grace: float = 5.0) -> None:
        self.stops.append(grace)
        if self.obedient:
            self.die(0)
        await self.wait()

    async def generate(self, job: Generation) -> AsyncGenerator[Piece | Done, None]:
        yield Done(1, "stop")

    async def embed(self, job: Embedding) -> Embedded:
        raise NotImplementedError

    async def rerank(self, query: str, documents: object) -> Embedded:
        raise NotImplementedError

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]:
        return ()

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        return ""


class Client:
    """One request: it holds its lease until the test lets it `leave`."""

    def __init__(self, scheduler: Scheduler, wanted: LeaseRequest) -> None:
        self.runner: FakeRunner | None = None
        self.grown_from = 0
        self._scheduler = scheduler
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._run(wanted))
        self.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _run(self, wanted: LeaseRequest) -> None:
        async with self._scheduler.lease(wanted) as lease:
            runner = lease.runner
            assert isinstance(runner, FakeRunner)
            self.runner, self.grown_from = runner, lease.grown_from
            runner.leases += 1
            try:
                await self._leave.wait()
            finally:
                runner.leases -= 1

    @property
    def status(self) -> str:
        """waiting, served, done, cancelled, or the name of its error."""
        if not self.task.done():
            return "served" if self.runner else "waiting"
        if self.task.cancelled():
            return "cancelled"
        error = self.task.exception()
        return type(error).__name__ if error else "done"

    def leave(self) -> None:
        self._leave.set()

    def cancel(self) -> None:
        self.task.cancel()


class Machine:
    """A scheduler, the runners that it has started, and the memory that they share."""

    def __init__(self, memory_size: float = 100, **environ: Any) -> None:
        self.time = FakeTime()
        self.runners: list[FakeRunner] = []
        self.clients: list[Client] = []
        self.memory_size = memory_size
        self.start_error: Exception | None = None
        self.memory_error: Exception | None = None
        self.obedient = True
        self.most_alive = 0
        self.scheduler = Scheduler(
            start_runner=self._start,
            free_memory=self._free,
            settings=settings(**environ),
            clock=lambda: self.time.now,
            call_later=self.time.call_later,
        )

    def _start(self, load: LoadPlan) -> Runner:
        if self.start_error:
            raise self.start_error
        runner = FakeRunner(load, self.obedient)
        self.runners.append(runner)
        self.most_alive = max(self.most_alive, len(self.alive))
        return runner

    def _free(self) -> int:
        if self.memory_error:
            raise self.memory_error
        return round(self.memory_size * GB) - sum(
            round(size(runner) * (runner.fraction if runner.loading else 1))
            for runner in self.alive
        )

    @property
    def alive(self) -> list[FakeRunner]:
        return [runner for runner in self.runners if runner.alive]

    def ask(self, key: str, keep_alive: float | None | UnsetType = UNSET, **options: Any) -> Client:
        client = Client(self.scheduler, request(key, keep_alive, **options))
        self.clients.append(client)
        return client

    async def load(self, key: str, keep_alive: float | None | UnsetType = UNSET) -> FakeRunner:
        """Load a model and leave it idle."""
        client = self.ask(key, keep_alive)
        await quiet()
        runner = self.runners[-1]
        assert runner.key == key and runner.loading
        runner.become_ready()
        await quiet()
        client.leave()
        await quiet()
        return runner

    def loaded(self, key: str = "a") -> Loaded:
        (found,) = [each for each in self.scheduler.loaded() if each.request.key == key]
        return found

    def statuses(self) -> list[str]:
        return [client.status for client in self.clients]


def size(runner: FakeRunner) -> int:
    return memory.estimate_load(request(runner.key).header, runner.load).total


async def quiet() -> None:
    """Let everything that can happen now happen."""
    for _ in range(12):
        await asyncio.sleep(0)


async def served(client: Client) -> None:
    for _ in range(99):
        if client.status == "waiting":
            await asyncio.sleep(0)
    assert client.status == "served"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test, debug=False)


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


def test_a_failed_load_fails_all_who_wait_for_it_and_the_next_request_loads_again() -> None:
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
        assert [runner.load.gpu_layers for runner in machine.alive] == [1]
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
        machine.scheduler.adopt(wanted, early.load, early)
        machine.scheduler.adopt(wanted, late.load, late)
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


def test_a_load_that_nobody_waits_for_any_more_is_finished_and_kept() -> None:
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
        await machine.scheduler.unload("nobody")
        await machine.scheduler.unload("a")
        assert runner.alive is used
        if client:
            assert machine.loaded().expires_in == 0
            client.leave()
            await quiet()
        assert not runner.alive and machine.scheduler.loaded() == []
        await machine.scheduler.close()

    run(main())


def test_loaded_tells_what_ps_shows() -> None:
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


def test_another_manifest_of_the_same_blob_is_served_under_the_loaders_name() -> None:
    async def main() -> None:
        machine = Machine()
        await machine.load("a")
        other = LeaseRequest(Name.parse("copy"), "other", Files(File(Path("a"), "a")), model(1))
        async with machine.scheduler.lease(other) as lease:
            assert lease.runner is machine.runners[0]
            assert machine.loaded().name.display == "a:latest"
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
        assert small.status == "served" and machine._free() > 0
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
        assert [runner.load.gpu_layers for runner in machine.runners] == [0, 1] * 3
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


# ---- many, gone, closed --------------------------------------------------------------------------


def test_ten_thousand_requests_with_a_bounded_queue() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_NUM_PARALLEL=4)
        await machine.load("b")
        for number in range(10_000):
            machine.ask("ab"[number % 2])
        await quiet()
        machine.runners[1].become_ready()
        await quiet()
        assert (
            machine.statuses().count("served") == 16
            and machine.statuses().count("waiting") == 512 - 8
        )
        assert machine.statuses().count("ServerBusy") == 10_000 - 16 - (512 - 8)
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


def test_ten_thousand_requests_in_a_long_queue() -> None:
    async def main() -> None:
        machine = Machine(OLLAMA_MAX_QUEUE=20_000)
        await machine.load("a")
        clients = [machine.ask("a") for _ in range(10_000)]
        await quiet()
        for client in clients[1::2]:  # every other client goes away
            client.cancel()
        for client in clients[::2]:
            await served(client)
            client.leave()
        await quiet()
        assert [client.status for client in clients] == ["done", "cancelled"] * 5_000
        assert machine.scheduler.busy == 0 and len(machine.runners) == 1
        await machine.scheduler.close()

    run(main())


STAGES = ["asked", "queued", "loading", "granted", "served", "full", "other options"]


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
        behind = machine.ask("a") if stage != "asked" else None
        if stage != "asked":
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


def test_drain_waits_for_leases_and_turns_others_away() -> None:
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
        machine.scheduler.adopt(request("e"), adopted.load, adopted)
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


def test_a_defect_ends_who_waits_but_not_the_scheduler() -> None:
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
    most = machine.scheduler._state.settings.max_loaded_models

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
            assert runner.leases <= runner.load.n_slots * LEASES_PER_SLOT
            assert len(runner.stops) <= 1
            assert not (runner.stops and runner.leases), "a busy runner was stopped"
        for client in machine.clients:
            # A lease ends only by its holder, whatever becomes of the runner.
            assert client.status != "served" or client.runner is not None
        waiting, served = machine.statuses().count("waiting"), machine.statuses().count("served")
        assert machine.scheduler.busy == waiting + served

    for _ in range(n_events):
        await event()
        if chance.random() < 0.7:  # else the next event comes before anybody has seen this one
            await quiet()
            check()

    # Everybody leaves, every load succeeds, who is told to stop stops: nobody may be left waiting.
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
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_life_keeps_the_rules(seed: int) -> None:
    run(live(seed, 80))

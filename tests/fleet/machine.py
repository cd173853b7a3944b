"""A scheduler with runners, clients, memory and time that the test controls."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from ollamapy.errors import RunnerCrashed
from ollamapy.fleet import fit
from ollamapy.fleet.lease import Runner
from ollamapy.fleet.loaded import LoadedModel
from ollamapy.fleet.request import LeaseRequest
from ollamapy.fleet.scheduler import Scheduler
from ollamapy.loading import LoadPlan
from ollamapy.runner.protocol import Done, Embedded, Piece, Ready
from ollamapy.types import EmbedInputs, Generation, LoadStage
from tests.fleet.requests import GB, request, settings


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

    pid = 1
    held = 0

    def __init__(self, plan: LoadPlan, obedient: bool = True) -> None:
        self.plan = plan
        self.obedient = obedient
        self.on_progress: Callable[[LoadStage, float], None] | None = None
        self.on_outgrown: Callable[[int], None] = lambda n_cells: None
        self.stops: list[float] = []
        self.resizes: list[str] = []
        self.resize_error: Exception | None = None
        self.may_resize = asyncio.Event()
        self.may_resize.set()
        self.leases = 0
        self.fraction = 0.0
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def key(self) -> str:
        return self.plan.files.key

    @property
    def loading(self) -> bool:
        return not self._ready.done()

    @property
    def alive(self) -> bool:
        return not self._exit.done()

    def progress(self, fraction: float) -> None:
        self.fraction = fraction
        assert self.on_progress is not None
        self.on_progress("weights", fraction)

    def become_ready(self, gpu_layers: int = 0) -> None:
        n_ctx = -(-self.plan.n_ctx // 256) * 256  # as llama.cpp does
        self._ready.set_result(Ready(n_ctx, self.plan.n_slots, 1, gpu_layers, 4))

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

    async def resize(self, plan: LoadPlan) -> Ready:
        self.resizes.append(f"{plan.n_slots} x {plan.n_ctx}")
        await self.may_resize.wait()
        is_new = (plan.n_slots, plan.held) != (self.plan.n_slots, self.plan.held)
        if self.resize_error and is_new:
            raise self.resize_error
        self.plan = plan
        return Ready(-(-plan.n_ctx // 256) * 256, plan.n_slots, 1, 0, 4)

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    async def stop(self, grace: float = 5.0) -> None:
        self.stops.append(grace)
        if self.obedient:
            self.die(0)
        await self.wait()

    async def generate(self, generation: Generation) -> AsyncGenerator[Piece | Done, None]:
        yield Done(1, "stop")

    async def embed(self, inputs: EmbedInputs) -> Embedded:
        raise NotImplementedError

    async def rerank(self, query: str, documents: object) -> Embedded:
        raise NotImplementedError

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]:
        return ()

    async def tokens_within(
        self, text: str, most: int, add_special: bool = True
    ) -> tuple[tuple[int, ...], int]:
        return (), 0

    async def forget(self) -> None:
        raise NotImplementedError

    async def count_tokens(self, prompt: object) -> int:
        return 0

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
        self.settings = settings(**environ)
        self.scheduler = Scheduler(
            start_runner=self._start,
            free_memory=self.free,
            settings=self.settings,
            clock=lambda: self.time.now,
            call_later=self.time.call_later,
        )

    def _start(self, plan: LoadPlan) -> Runner:
        if self.start_error:
            raise self.start_error
        runner = FakeRunner(plan, self.obedient)
        self.runners.append(runner)
        self.most_alive = max(self.most_alive, len(self.alive))
        return runner

    def free(self) -> int:
        """Bytes that no runner has taken."""
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

    def loaded(self, key: str = "a") -> LoadedModel:
        (found,) = [each for each in self.scheduler.loaded() if each.request.key == key]
        return found

    def statuses(self) -> list[str]:
        return [client.status for client in self.clients]


def size(runner: FakeRunner) -> int:
    total = fit.estimate_load(request(runner.key).header, runner.plan).total
    return total - runner.plan.saved_size


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

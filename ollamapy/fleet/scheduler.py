"""Which models are loaded, and which request may use them when.

Two halves. :func:`decide` is pure: from the state and the time to the next actions.
:class:`Scheduler` owns the state: one task takes events from an inbox, changes the state, asks
``decide`` until nothing is left to do, and performs. Nobody else writes the state, so there are no
locks. What a granted request does with its runner is not known here; the queue for the runner's
slots is the engine's.

    lease() -------> Requested  -+                       +-> Grant(ticket): lease() goes on
    lease() ends --> Left       -|                       |-> Reject(ticket, error): lease() raises
    a runner ------> Progress   -+-> inbox -> decide() --+-> Start(ticket, load): a new process
                     Loaded ... -|     state             |-> Stop(key, error): a process ends
    a timer -------> Tick       -+

The rules, as ``decide`` has them:

1. Each model has a queue, first come first served. A loaded runner serves a request when the load
   options that it gave equal those that the runner was loaded with. If the first in the queue does
   not fit the runner, all behind it wait too, and the runner is loaded anew once it is idle: two
   clients with different options take turns. A context is a minimum: a longer one serves as well,
   and who needs more than is loaded is told that the model was loaded anew.
2. A runner has at most ``LEASES_PER_SLOT`` requests for each of its slots, so that the engine
   always finds its next one; the others wait here. More than ``max_queue`` waiting requests, over
   all models, and the newest are turned away.
3. Only the oldest request without a runner may start one, so that a large model is not passed by
   small ones for ever; but it waits for room, not for another model's load.
4. Room is made by stopping idle runners, the least recently used first; never a busy one. If all
   are busy, the least recently used gets no newer requests than the one that waits for its place,
   until it is idle.
5. What a starting runner has not yet taken is not free; what a stopping one will return is not
   free before it is gone.
6. With nothing else loaded a load may shrink (fit.py) before it is refused. What would not fit
   even with everything unloaded is refused at once.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import msgspec
from msgspec import UnsetType

from ..config import Settings
from ..context import padded
from ..errors import (
    LoadFailed,
    NotEnoughMemory,
    OllamapyError,
    RunnerCrashed,
    RunnerError,
    ServerBusy,
)
from ..human import format_bytes, format_duration
from ..loading import LoadPlan
from ..names import Name
from ..runner.protocol import Done, Embedded, Piece, Ready
from ..types import Embedding, Generation, Options
from . import fit
from .request import LeaseRequest

log = logging.getLogger(__name__)

DEFAULT_MAX_LOADED = 3
LEASES_PER_SLOT = 2

BUSY = "server busy, please try again.  maximum pending requests exceeded"
CLOSING = "the server is shutting down, try again in a moment"


class Runner(Protocol):
    """A model in a process of its own: what the scheduler and a lease use of RunnerProcess."""

    on_progress: Callable[[float], None] | None

    async def ready(self) -> Ready: ...

    def generate(self, job: Generation) -> AsyncGenerator[Piece | Done, None]: ...

    async def embed(self, job: Embedding) -> Embedded: ...

    async def rerank(self, query: str, documents: tuple[str, ...]) -> Embedded: ...

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]: ...

    async def detokenize(self, tokens: tuple[int, ...]) -> str: ...

    async def wait(self) -> int | None: ...

    async def stop(self, grace: float = 5.0) -> None: ...


# ---- the state -----------------------------------------------------------------------------------


class Status(Enum):
    """Where a runner is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    GONE = "gone"


_NEXT: Mapping[Status, frozenset[Status]] = {
    Status.STARTING: frozenset({Status.READY, Status.STOPPING, Status.GONE}),
    Status.READY: frozenset({Status.STOPPING, Status.GONE}),
    Status.STOPPING: frozenset({Status.GONE}),
    Status.GONE: frozenset(),
}


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One request for a runner; ``number`` is the order of arrival."""

    number: int
    request: LeaseRequest


@dataclass(slots=True, eq=False)
class Resident:
    """One runner and its model. Times are of the monotonic clock, ``size`` is estimated bytes.

    ``request`` is the loader's, ``used_at`` the last time that a request came or went, ``heard_at``
    the last sign that a load goes on. The timer of ``keep_alive`` (seconds, None for ever) runs
    only while no request is in flight. ``grown_from``: tokens of the shorter context that it was
    loaded with before, until the first request was told; 0 else.
    """

    request: LeaseRequest
    load: LoadPlan
    size: int
    keep_alive: float | None
    used_at: float
    heard_at: float
    status: Status = Status.STARTING
    in_flight: int = 0
    fraction: float = 0.0
    ready: Ready | None = None
    runner: Runner | None = None
    grown_from: int = 0

    @property
    def n_ctx(self) -> int:
        """Tokens of context for each request; llama.cpp rounds them up, so they are known for sure once it is loaded."""
        return self.ready.n_ctx if self.ready else self.load.n_ctx

    def become(self, status: Status) -> None:
        """Go on to the next status; raises RuntimeError where the table has no such way."""
        if status not in _NEXT[self.status]:
            raise RuntimeError(f"a runner cannot be {status.value} after {self.status.value}")
        self.status = status

    def serves(self, ticket: Ticket) -> bool:
        """Was the model loaded with all load options that the ticket asks for?

        What the loader did not ask for either is compared with what it got. A context that is larger than asked for
        serves as well: the engine lets a request use as much of it as it asked for. It is one of whole steps of cells.
        """
        load = self.load
        got = Options(
            num_ctx=load.n_ctx,
            num_batch=load.n_batch,
            num_gpu=load.gpu_layers,
            main_gpu=load.main_gpu,
            use_mmap=load.use_mmap,
            num_thread=load.threads,
        )
        has = self.request.load_options.over(got)
        wants = ticket.request.load_options.over(has)
        if (wants.num_ctx or 0) <= padded(load.n_ctx):
            wants = msgspec.structs.replace(wants, num_ctx=has.num_ctx)
        return wants == has

    @property
    def idle(self) -> bool:
        """Ready, and nobody uses it."""
        return self.status is Status.READY and not self.in_flight

    @property
    def room(self) -> int:
        """How many more requests may use it now."""
        n_slots = self.ready.n_slots if self.ready else self.load.n_slots
        usable = self.status is Status.READY
        return max(n_slots * LEASES_PER_SLOT - self.in_flight, 0) if usable else 0

    @property
    def expires_at(self) -> float | None:
        """When it is to be unloaded, if nothing happens; None while that is not known."""
        return None if self.keep_alive is None or not self.idle else self.used_at + self.keep_alive


@dataclass(slots=True)
class State:
    """All that decisions depend on.

    ``free`` is in bytes, already without what starting runners will still take. ``waiting`` has a
    queue for each model, by the ticket's number; no empty ones.
    """

    settings: Settings
    free: int = 0
    residents: dict[str, Resident] = field(default_factory=dict)
    waiting: dict[str, OrderedDict[int, Ticket]] = field(default_factory=dict)
    closing: bool = False

    def head(self, key: str) -> Ticket | None:
        """The oldest ticket in a model's queue."""
        queue = self.waiting.get(key)
        return next(iter(queue.values())) if queue else None

    def next_start(self) -> Ticket | None:
        """The oldest ticket whose model has no runner in any status."""
        heads = (self.head(key) for key in self.waiting if key not in self.residents)
        return min((head for head in heads if head), key=lambda head: head.number, default=None)


@dataclass(frozen=True, slots=True)
class Grant:
    """The ticket's holder may use the runner of its model."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class Reject:
    """The ticket's holder gets an error."""

    ticket: Ticket
    error: OllamapyError


@dataclass(frozen=True, slots=True)
class Start:
    """Start a runner for the ticket's model; the ticket goes on waiting."""

    ticket: Ticket
    load: LoadPlan


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a model's runner; with an error kill it, and those who waited for this load get that."""

    key: str
    error: OllamapyError | None = None


Action = Grant | Reject | Start | Stop


@dataclass(frozen=True, slots=True)
class _Hold:
    """No action: the runner ``key`` gets no ticket newer than ``number``, which needs its place."""

    key: str
    number: int


# ---- the decision --------------------------------------------------------------------------------


def decide(state: State, now: float) -> list[Action]:
    """The next actions. Perform them, enter what they change, and ask again until there are none.

    Grants come first: a runner that is about to be used is not idle. At most one runner is started
    at a time, since the next decision needs to know what is free after it.
    """
    if state.closing:
        return _reject((t for queue in state.waiting.values() for t in queue.values()), CLOSING)
    start = state.next_start()
    step = _make_room(state, start) if start else None
    held = _Hold(step.key, start.number) if start and isinstance(step, Stop) else step
    if grants := _grants(state, held if isinstance(held, _Hold) else None):
        return grants
    if stops := _stops(state, now):
        return stops
    if step is not None and not isinstance(step, _Hold):
        return [step]
    return _overflow(state)


def _grants(state: State, held: _Hold | None) -> list[Action]:
    """The front of each queue: as many as its runner has room for and can serve."""
    grants: list[Action] = []
    for key, queue in state.waiting.items():
        resident = state.residents.get(key)
        if resident is None or not resident.room:
            continue
        limit = held.number if held and held.key == key else None
        for ticket in itertools.islice(queue.values(), resident.room):
            if not resident.serves(ticket) or (limit is not None and ticket.number > limit):
                break
            grants.append(Grant(ticket))
    return grants


def _stops(state: State, now: float) -> list[Action]:
    """Idle runners that have expired or do not serve who is next; loads that stand still."""
    stops: list[Action] = []
    limit = state.settings.load_timeout
    for key, resident in state.residents.items():
        head = state.head(key)
        if resident.idle and head is not None and not resident.serves(head):
            stops.append(Stop(key))
        elif head is None and resident.expires_at is not None and now >= resident.expires_at:
            stops.append(Stop(key))
        elif resident.status is Status.STARTING and limit is not None:
            if now >= resident.heard_at + limit:
                stops.append(Stop(key, _timed_out(resident.request.name, limit)))
    return stops


def _make_room(state: State, ticket: Ticket) -> Start | Stop | Reject | _Hold | None:
    """The next step towards a runner for the ticket; None: wait for what is under way."""
    settings, free, residents = state.settings, state.free, state.residents
    request = ticket.request

    # 1) There is room for all that was wished.
    load = fit.preferred(request, settings, free)
    most = settings.max_loaded_models or DEFAULT_MAX_LOADED
    if len(residents) < most and fit.estimate_load(request.header, load).total <= free:
        return Start(ticket, load)

    # 2) There is room for less, and nothing that could be unloaded; or there never will be.
    if not residents:
        try:
            return Start(ticket, fit.best(request, settings, free))
        except NotEnoughMemory as error:
            return Reject(ticket, error)
    smallest = fit.smallest(load, request, settings)
    most_free = free + sum(resident.size for resident in residents.values())
    if fit.estimate_load(request.header, smallest).total > most_free:
        return Reject(ticket, fit.not_enough(request, smallest, most_free))

    # 3) Make room: one runner at a time, and look again when it is gone.
    ready = [key for key, resident in residents.items() if resident.status is Status.READY]
    if not ready or any(resident.status is Status.STOPPING for resident in residents.values()):
        return None
    victim = min(
        ready,
        key=lambda key: (
            residents[key].in_flight > 0,
            key in state.waiting,
            residents[key].used_at,
        ),
    )
    return Stop(victim) if residents[victim].idle else _Hold(victim, ticket.number)


def _overflow(state: State) -> list[Action]:
    """Turn the newest away when more wait than may."""
    excess = sum(len(queue) for queue in state.waiting.values()) - state.settings.max_queue
    if excess <= 0:
        return []
    newest_first = (reversed(queue.values()) for queue in state.waiting.values())
    newest = heapq.merge(*newest_first, key=lambda ticket: ticket.number, reverse=True)
    return _reject(itertools.islice(newest, excess), BUSY)


def _reject(tickets: Iterable[Ticket], message: str) -> list[Action]:
    return [Reject(ticket, ServerBusy(message)) for ticket in tickets]


def _timed_out(name: Name, limit: float) -> RunnerError:
    waited = format_duration(round(limit * 1e9))
    return RunnerError(
        f"timed out waiting for {name.display} to load: no progress for {waited},"
        " see the daemon's log or raise OLLAMAPY_LOAD_TIMEOUT"
    )


def next_deadline(state: State) -> float | None:
    """The earliest time at which ``decide`` may answer differently though nothing happened."""
    limit = state.settings.load_timeout
    times = [
        resident.heard_at + limit
        for resident in state.residents.values()
        if limit is not None and resident.status is Status.STARTING
    ]
    expiries = (resident.expires_at for resident in state.residents.values())
    times += [expiry for expiry in expiries if expiry is not None]
    return min(times, default=None)


# ---- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Requested:
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class _Left:
    """The holder of a ticket has gone, whether it waited, was granted or was rejected."""

    number: int
    key: str


@dataclass(frozen=True, slots=True)
class _Adopted:
    request: LeaseRequest
    load: LoadPlan
    runner: Runner


@dataclass(frozen=True, slots=True)
class _Progress:
    resident: Resident
    fraction: float


@dataclass(frozen=True, slots=True)
class _Loaded:
    resident: Resident
    ready: Ready


@dataclass(frozen=True, slots=True)
class _LoadBroke:
    resident: Resident
    error: Exception


@dataclass(frozen=True, slots=True)
class _Exited:
    resident: Resident


@dataclass(frozen=True, slots=True)
class _Unload:
    key: str
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Drain:
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Tick:
    pass


_Event = (
    _Requested | _Left | _Adopted | _Progress | _Loaded
    | _LoadBroke | _Exited | _Unload | _Drain | _Tick
)  # fmt: skip


# ---- the owner -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """A runner for a request. ``grown_from``: the tokens of context that the model had before it was loaded anew with more for
    this request; 0 if it was not.
    """

    runner: Runner
    grown_from: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """A runner as ``ps`` shows it. Sizes in bytes, estimated; ``n_ctx`` tokens for each request.

    ``expires_in`` is seconds, None for never, the whole keep-alive while it is used or loading, 0
    while it stops.
    """

    request: LeaseRequest
    status: Status
    size: int
    size_vram: int
    n_ctx: int
    expires_in: float | None
    in_flight: int

    @property
    def name(self) -> Name:
        """The name by which it was loaded."""
        return self.request.name

    @property
    def digest(self) -> str:
        """The digest of the manifest by which it was loaded."""
        return self.request.digest


class Timer(Protocol):
    """What ``call_later`` gives back."""

    def cancel(self) -> None: ...


def _loop_call_later(delay: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay, callback)


class Scheduler:
    """Owns all runners of the daemon. Use it inside one running event loop, and ``close`` it there.

    ``start_runner`` spawns and returns at once; ``free_memory`` gives bytes; ``clock`` and
    ``call_later`` (seconds, callback) are for tests.
    """

    def __init__(
        self,
        *,
        start_runner: Callable[[LoadPlan], Runner],
        free_memory: Callable[[], int],
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], Timer] = _loop_call_later,
    ) -> None:
        self._start_runner = start_runner
        self._free_memory = free_memory
        self._clock = clock
        self._call_later = call_later
        self._state = State(settings)
        self._inbox: asyncio.Queue[_Event] = asyncio.Queue()
        self._owner: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._futures: dict[int, asyncio.Future[Lease]] = {}  # of waiting tickets
        self._replaced: dict[str, int] = {}  # contexts of runners that are loaded anew, by key
        self._granted: dict[int, Resident] = {}
        self._unloads: list[tuple[Resident, asyncio.Future[None]]] = []
        self._drains: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self._attending: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._closed = False

    # ---- use -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, request: LeaseRequest) -> AsyncIterator[Lease]:
        """A loaded runner for as long as the block runs; waits for a place, memory and the load.

        Cancelling while it waits gives the place up at once; a load that was begun goes on. Raises
        ServerBusy, NotEnoughMemory, and what the load failed with (LoadFailed, RunnerCrashed,
        RunnerError).
        """
        if self._closed:
            raise ServerBusy(CLOSING)
        ticket = Ticket(next(self._numbers), request)
        future = self._futures[ticket.number] = asyncio.get_running_loop().create_future()
        self._post(_Requested(ticket))
        try:
            yield await future
        except RunnerCrashed:
            # Told here too, in order: whoever asks again at once must not be given the dead one.
            if (resident := self._granted.get(ticket.number)) is not None:
                self._post(_Exited(resident))
            raise
        finally:
            self._post(_Left(ticket.number, request.key))

    def adopt(self, request: LeaseRequest, load: LoadPlan, runner: Runner) -> None:
        """Take over a runner that was started before, as if a request had started it."""
        self._post(_Adopted(request, load, runner))

    def loaded(self) -> list[Loaded]:
        """What is loaded, loading or stopping now. Never waits."""
        now = self._clock()
        return [_shown(resident, now) for resident in self._state.residents.values()]

    def context_of(self, request: LeaseRequest) -> int:
        """Tokens of context that such a request has: of what is loaded, or would be loaded now. Never waits."""
        wanted = request.load_options.num_ctx
        resident = self._state.residents.get(request.key)
        if resident is not None and resident.serves(Ticket(0, request)):
            return min(padded(wanted), resident.n_ctx) if wanted else resident.n_ctx
        return padded(fit.preferred(request, self._state.settings, self._measure()).n_ctx)

    @property
    def busy(self) -> int:
        """How many requests hold a lease or wait for one."""
        return len(self._futures) + len(self._granted)

    async def unload(self, key: str) -> None:
        """Unload a model: now and until it is gone; if it is in use, as soon as it no longer is."""
        await self._ask(_Unload, key)

    async def drain(self, patience: float | None = None) -> None:
        """Turn away who comes and who waits; return when the last lease ends, or after ``patience``
        seconds."""
        if self._closed:
            return
        done = asyncio.get_running_loop().create_future()
        timer = self._call_later(patience, lambda: _resolve(done)) if patience is not None else None
        self._post(_Drain(done))
        try:
            await done
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Stop all runners at once and return when they are gone; who waits gets ServerBusy."""
        if self._closed:
            return
        self._closed = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        while not self._inbox.empty():  # what had not been looked at, an adopted runner above all
            self._receive(self._inbox.get_nowait())
        if self._timer is not None:
            self._timer.cancel()
        self._refuse_all(ServerBusy(CLOSING))
        for resident in list(self._state.residents.values()):
            if resident.status in (Status.STARTING, Status.READY):
                self._stop(resident)
        while self._stopping:
            await asyncio.wait(self._stopping)
        for task in self._attending:
            task.cancel()
        for done in [*self._drains, *(done for _, done in self._unloads)]:
            _resolve(done)
        self._state.residents.clear()

    async def _ask(self, event: Callable[[str, asyncio.Future[None]], _Event], key: str) -> None:
        if not self._closed:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._post(event(key, done))
            await done

    # ---- the task --------------------------------------------------------------------------------

    def _post(self, event: _Event) -> None:
        """Put an event into the inbox; the first one starts the owner."""
        if self._closed:
            return
        self._inbox.put_nowait(event)
        if self._owner is None:
            self._owner = asyncio.get_running_loop().create_task(self._run(), name="scheduler")

    async def _run(self) -> None:
        """Events that arrive together are decided on together: thousands at once stay cheap."""
        while True:
            event = await self._inbox.get()
            try:
                self._receive(event)
                while not self._inbox.empty():
                    self._receive(self._inbox.get_nowait())
                self._settle()
            except Exception as error:
                # A defect. Whoever waits must not wait for ever; the next event finds the owner
                # alive.
                log.exception("the scheduler failed")
                self._refuse_all(
                    RunnerError(f"the scheduler failed, see the daemon's log: {error}")
                )

    def _receive(self, event: _Event) -> None:
        """Put an event into the state. Decides nothing."""
        now = self._clock()
        match event:
            case _Requested(ticket):
                self._state.waiting.setdefault(ticket.request.key, OrderedDict())[ticket.number] = (
                    ticket
                )
            case _Left(number, key):
                self._take_from_queue(number, key)
                self._futures.pop(number, None)
                if holder := self._granted.pop(number, None):
                    holder.in_flight -= 1
                    holder.used_at = now
            case _Adopted(request, load, runner):
                self._adopt(request, load, runner)
            case _Progress(resident, fraction):
                resident.heard_at, resident.fraction = now, min(max(fraction, 0.0), 1.0)
            case _Loaded(resident, ready):
                if resident.status is Status.STARTING:
                    resident.become(Status.READY)
                    resident.ready, resident.used_at = ready, now
            case _LoadBroke(resident, error):
                if resident.status is Status.STARTING:
                    self._fail_waiters(resident, error)
                    self._stop(resident)
            case _Exited(resident):
                self._gone(resident)
            case _Unload(key, done):
                self._unload(key, done)
            case _Drain(done):
                self._state.closing = True
                self._drains.append(done)
            case _Tick():
                self._timer = self._timer_at = None

    def _settle(self) -> None:
        """Decide and perform until nothing is left to do; set the timer for when something is."""
        state = self._state
        while True:
            if state.next_start() is not None:
                state.free = self._measure()
            actions = decide(state, self._clock())
            if not actions:
                break
            for action in actions:
                self._perform(action)
        if state.closing and not self._granted:
            while self._drains:
                _resolve(self._drains.pop())
        self._set_timer()

    def _measure(self) -> int:
        """Free bytes now, without those that starting runners will still take."""
        starting = (r for r in self._state.residents.values() if r.status is Status.STARTING)
        return self._free_memory() - sum(round(r.size * (1 - r.fraction)) for r in starting)

    def _set_timer(self) -> None:
        deadline = next_deadline(self._state)
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, deadline
        if deadline is not None:
            delay = max(deadline - self._clock(), 0)
            self._timer = self._call_later(delay, lambda: self._post(_Tick()))

    # ---- performing ------------------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Grant(ticket):
                self._grant(ticket)
            case Reject(ticket, error):
                self._refuse(ticket, error)
            case Start(ticket, load):
                self._start(ticket, load)
            case Stop(key, error):
                resident = self._state.residents[key]
                if error is not None:
                    log.warning("%s", error)
                    self._fail_waiters(resident, error)
                self._note_replacement(key, resident)
                self._stop(resident, grace=5.0 if error is None else 0.0)

    def _note_replacement(self, key: str, resident: Resident) -> None:
        """Remember the context of a runner that ends because the next request needs another; whoever asks is told."""
        head = self._state.head(key)
        if head is not None and resident.status is Status.READY and not resident.serves(head):
            self._replaced[key] = resident.n_ctx

    def _grant(self, ticket: Ticket) -> None:
        resident = self._state.residents[ticket.request.key]
        if ticket.request.embeds and not resident.load.embeds:
            if error := self._no_room_to_embed(resident):
                self._refuse(ticket, error)
                return
        self._take_from_queue(ticket.number, ticket.request.key)
        resident.in_flight += 1
        resident.used_at = self._clock()
        resident.keep_alive = _keep_alive(ticket.request, resident.keep_alive)
        self._granted[ticket.number] = resident
        future = self._futures.pop(ticket.number, None)
        # Cancelled a moment ago: its Left is on the way and gives the lease back.
        if future is not None and not future.done():
            assert resident.runner is not None
            future.set_result(Lease(resident.runner, resident.grown_from))
            resident.grown_from = 0

    def _no_room_to_embed(self, resident: Resident) -> NotEnoughMemory | None:
        """A model that was loaded to generate grows when it is first asked for embeddings, if it can."""
        header, load = resident.request.header, resident.load
        more, free = fit.embedding_size(header, load), self._free_memory()
        if more > free:
            name = resident.request.name.display
            return NotEnoughMemory(
                f"embeddings of {name} need {format_bytes(more)} more of memory and"
                f" {format_bytes(max(free, 0))} are free, close other programs or unload a model"
            )
        resident.load = msgspec.structs.replace(load, embeds=True)
        resident.size += more
        return None

    def _refuse(self, ticket: Ticket, error: Exception) -> None:
        self._take_from_queue(ticket.number, ticket.request.key)
        future = self._futures.pop(ticket.number, None)
        if future is not None and not future.done():
            # A copy each: an exception that many tasks raise collects all their tracebacks.
            future.set_exception(copy.copy(error))
            future.exception()  # looked at: a holder that is cancelled right now never does

    def _fail_waiters(self, resident: Resident, error: Exception) -> None:
        """All who waited for this load get its error; who needs other options gets another load."""
        for ticket in list(self._state.waiting.get(resident.request.key, {}).values()):
            if resident.serves(ticket):
                self._refuse(ticket, _named(error, ticket.request.name))

    def _refuse_all(self, error: Exception) -> None:
        for queue in list(self._state.waiting.values()):
            for ticket in list(queue.values()):
                self._refuse(ticket, error)

    def _take_from_queue(self, number: int, key: str) -> None:
        queue = self._state.waiting.get(key)
        if queue is not None:
            queue.pop(number, None)
            if not queue:
                del self._state.waiting[key]
                self._replaced.pop(key, None)

    # ---- runners ---------------------------------------------------------------------------------

    def _start(self, ticket: Ticket, load: LoadPlan) -> None:
        resident = self._resident(ticket.request, load)
        resident.keep_alive = _keep_alive(ticket.request, resident.keep_alive)
        before = self._replaced.pop(ticket.request.key, 0)
        if 0 < before < load.n_ctx:
            resident.grown_from = before
            name = resident.request.name.display
            log.info(
                "%s is loaded anew: its context grows from %d to %d tokens",
                name, before, load.n_ctx,
            )  # fmt: skip
        try:
            runner = self._start_runner(load)
        except Exception as error:
            known = isinstance(error, OllamapyError)
            if not known:
                log.exception("a runner could not be started")
            self._fail_waiters(
                resident, error if known else RunnerError(f"a runner could not be started: {error}")
            )
            return
        self._enter(resident, runner)

    def _adopt(self, request: LeaseRequest, load: LoadPlan, runner: Runner) -> None:
        resident = self._resident(request, load)
        if request.key in self._state.residents:  # a request was faster
            resident.runner = runner
            self._stop(resident)
        else:
            self._enter(resident, runner)

    def _resident(self, request: LeaseRequest, load: LoadPlan) -> Resident:
        now = self._clock()
        return Resident(
            request=request,
            load=load,
            size=fit.estimate_load(request.header, load).total,
            keep_alive=self._state.settings.keep_alive,
            used_at=now,
            heard_at=now,
        )

    def _enter(self, resident: Resident, runner: Runner) -> None:
        """From now on the runner is one of ours; watch it."""
        name, load = resident.request.name.display, resident.load
        log.info("loading %s: %d x %d tokens", name, load.n_slots, load.n_ctx)
        resident.runner = runner
        runner.on_progress = lambda fraction: self._post(_Progress(resident, fraction))
        self._state.residents[resident.request.key] = resident
        _spawn(self._attend(resident, runner), self._attending)

    async def _attend(self, resident: Resident, runner: Runner) -> None:
        """Tell the owner what becomes of a runner."""
        try:
            ready = await runner.ready()
        except Exception as error:
            self._post(_LoadBroke(resident, error))
            return
        self._post(_Loaded(resident, ready))
        try:
            await runner.wait()
        except Exception:
            log.exception("the runner of %s was lost", resident.request.name.display)
        self._post(_Exited(resident))

    def _stop(self, resident: Resident, grace: float = 5.0) -> None:
        resident.become(Status.STOPPING)
        log.info("stopping %s", resident.request.name.display)
        _spawn(self._end(resident, grace), self._stopping)

    async def _end(self, resident: Resident, grace: float) -> None:
        assert resident.runner is not None
        try:
            await resident.runner.stop(grace)
        except Exception:
            log.exception("the runner of %s could not be stopped", resident.request.name.display)
        self._post(_Exited(resident))

    def _gone(self, resident: Resident) -> None:
        """Forget a runner that was stopped (this is told twice) or died while it served."""
        if resident.status is Status.GONE:
            return
        if resident.status is Status.READY:
            log.warning("the runner of %s ended by itself", resident.request.name.display)
        resident.become(Status.GONE)
        key = resident.request.key
        if self._state.residents.get(key) is resident:
            del self._state.residents[key]
        for waiting_for, done in self._unloads:
            if waiting_for is resident:
                _resolve(done)
        self._unloads = [pair for pair in self._unloads if pair[0] is not resident]

    def _unload(self, key: str, done: asyncio.Future[None]) -> None:
        resident = self._state.residents.get(key)
        if resident is not None:
            resident.keep_alive = 0.0
            if resident.status is Status.STOPPING or (
                resident.idle and key not in self._state.waiting
            ):
                self._unloads.append((resident, done))
                return
        _resolve(done)


def _shown(resident: Resident, now: float) -> Loaded:
    expires_in = resident.keep_alive
    if resident.status is Status.STOPPING:
        expires_in = 0.0
    elif resident.expires_at is not None:
        expires_in = max(resident.expires_at - now, 0.0)
    ready = resident.ready
    on_gpu = min(ready.gpu_layers / ready.n_layers, 1.0) if ready and ready.n_layers else 0.0
    return Loaded(
        request=resident.request,
        status=resident.status,
        size=resident.size,
        size_vram=round(resident.size * on_gpu),
        n_ctx=resident.n_ctx,
        expires_in=expires_in,
        in_flight=resident.in_flight,
    )


def _keep_alive(request: LeaseRequest, before: float | None) -> float | None:
    """Seconds that a model stays after a request; None for ever."""
    given = request.keep_alive
    if isinstance(given, UnsetType):
        return before
    return given if given is not None and 0 <= given < float("inf") else None


def _named(error: Exception, name: Name) -> Exception:
    """llama.cpp's own error does not know what the model is called."""
    if not isinstance(error, LoadFailed):
        return error
    return LoadFailed(f"model '{name.display}': {error}; see the log: ollamapy daemon logs")


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _spawn(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
    """Run in the background; the set keeps the task alive until it has ended."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)

"""The owner of all runners: it takes events, calls ``decide``, and performs the actions.

One task takes events from an inbox, enters them into the state, calls ``decide`` until nothing is left to do, and performs.
Only this task writes the state, so there are no locks. It does not know what a lease is used for; the queue for a runner's
slots is the engine's.

    lease() begins -> LeaseRequested -+                       +-> GrantLease: lease() goes on
    lease() ends ---> LeaseEnded     -|                       |-> RejectTicket: lease() raises
    a runner -------> LoadProgressed -+-> inbox -> decide() --+-> StartRunner: a new process
                      LoadFinished.. -|     state             |-> ResizeRunner, StopRunner
    a timer --------> TimerFired     -+

The rules are in ``decide.py``.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ..config import Settings
from ..errors import OllamapyError, RunnerCrashed, RunnerError, ServerBusy
from ..loading import LoadPlan
from ..runner.protocol import Ready
from . import fit
from .decide import CLOSING, context_of, decide, next_deadline
from .events import (
    DrainRequested,
    Event,
    LeaseEnded,
    LeaseRequested,
    LoadFailed,
    LoadFinished,
    LoadProgressed,
    Outgrown,
    Resized,
    RunnerAdopted,
    RunnerExited,
    TimerFired,
    UnloadRequested,
)
from .lease import Lease, Runner
from .loaded import LoadedModel, loaded_model
from .request import LeaseRequest
from .state import (
    Action,
    GrantLease,
    RejectTicket,
    Resident,
    ResizeRunner,
    StartRunner,
    State,
    Status,
    StopRunner,
    Ticket,
)
from .wait import Wait, waits

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that a runner has to exit by itself before it is killed."""


# ---- the owner -----------------------------------------------------------------------------------


class Timer(Protocol):
    """What ``call_later`` returns."""

    def cancel(self) -> None: ...


def _loop_call_later(delay: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(delay, callback)


@dataclass(frozen=True, slots=True)
class _Granted:
    """A lease in use, and the bytes that its resident was let grow by for it."""

    resident: Resident
    growth: int


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
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._owner: asyncio.Task[None] | None = None
        self._numbers = itertools.count(1)
        self._waits: dict[int, Wait] = {}  # of waiting tickets
        self._granted: dict[int, _Granted] = {}
        self._unloads: list[tuple[Resident, asyncio.Future[None]]] = []
        self._drains: list[asyncio.Future[None]] = []
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self._watching: set[asyncio.Task[None]] = set()
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
        async with self.queue(request) as wait:
            yield await wait.lease

    @asynccontextmanager
    async def queue(self, request: LeaseRequest) -> AsyncIterator[Wait]:
        """The wait for a lease, which begins at once; the place or the lease is given up with the end of the block.

        Raises as :meth:`lease`, which is the same without reports of what it waits for.
        """
        if self._closed:
            raise ServerBusy(CLOSING)
        ticket = Ticket(next(self._numbers), request)
        wait = self._waits[ticket.number] = Wait(asyncio.get_running_loop().create_future())
        self._post(LeaseRequested(ticket))
        try:
            yield wait
        except RunnerCrashed:
            # Posted here too, so that it comes before the next request of the same caller: that one
            # must not get the dead runner.
            if (granted := self._granted.get(ticket.number)) is not None:
                self._post(RunnerExited(granted.resident))
            raise
        finally:
            wait.lease.cancel()  # without effect on one that was granted or refused
            self._post(LeaseEnded(ticket.number, request.key))

    def adopt(self, request: LeaseRequest, plan: LoadPlan, runner: Runner) -> None:
        """Take over a runner that was started before, as if the request had started it."""
        self._post(RunnerAdopted(request, plan, runner))

    def loaded(self) -> list[LoadedModel]:
        """What is loaded, loading or stopping now. Never waits."""
        now = self._clock()
        return [loaded_model(resident, now) for resident in self._state.residents.values()]

    def runners(self, digest: str = "") -> list[Runner]:
        """The runners of loaded models: of weights with this digest, or all."""
        return [
            resident.runner
            for resident in self._state.residents.values()
            if resident.runner is not None
            and resident.status is Status.READY
            and digest in ("", resident.plan.files.weights.digest)
        ]

    def context_of(self, request: LeaseRequest) -> int:
        """Tokens of context that such a request has: of the model as it is loaded, or would be loaded now. Never waits."""
        return context_of(self._state, request, self._measure())

    @property
    def busy(self) -> int:
        """How many requests have a lease or wait for one."""
        return len(self._waits) + len(self._granted)

    async def unload(self, key: str) -> None:
        """Unload a model: now, and return when it is gone; if it is in use, as soon as it no longer is."""
        if not self._closed:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._post(UnloadRequested(key, done))
            await done

    async def drain(self, patience: float | None = None) -> None:
        """Reject new and waiting requests; return when the last lease ends, or after ``patience``
        seconds."""
        if self._closed:
            return
        done = asyncio.get_running_loop().create_future()
        timer = self._call_later(patience, lambda: _resolve(done)) if patience is not None else None
        self._post(DrainRequested(done))
        try:
            await done
        finally:
            if timer is not None:
                timer.cancel()

    async def close(self) -> None:
        """Stop all runners at once and return when they are gone; waiting requests get ServerBusy."""
        if self._closed:
            return
        self._closed = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner])
        while not self._inbox.empty():  # an adopted runner may be among them
            self._receive(self._inbox.get_nowait())
        if self._timer is not None:
            self._timer.cancel()
        self._reject_all(ServerBusy(CLOSING))
        for resident in list(self._state.residents.values()):
            if resident.status in (Status.STARTING, Status.READY):
                self._stop(resident)
        while self._stopping:
            await asyncio.wait(self._stopping)
        for task in self._watching:
            task.cancel()
        for done in [*self._drains, *(done for _, done in self._unloads)]:
            _resolve(done)
        self._state.residents.clear()

    # ---- the task --------------------------------------------------------------------------------

    def _post(self, event: Event) -> None:
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
                # A defect. Requests must not wait for ever; the owner goes on with the next event.
                log.exception("the scheduler failed")
                self._reject_all(
                    RunnerError(f"the scheduler failed, see the daemon's log: {error}")
                )

    def _receive(self, event: Event) -> None:
        """Enter an event into the state."""
        match event:
            case LeaseRequested(ticket):
                self._state.enqueue(ticket)
            case LeaseEnded(number, key):
                self._end_lease(number, key)
            case RunnerAdopted(request, plan, runner):
                self._adopt(request, plan, runner)
            case LoadProgressed(resident, stage, fraction):
                resident.progress_at = self._clock()
                resident.stage = stage
                resident.fraction = min(max(fraction, 0.0), 1.0)
            case LoadFinished(resident, ready):
                if resident.status is Status.STARTING:
                    resident.become(Status.READY)
                    resident.ready, resident.used_at = ready, self._clock()
            case LoadFailed(resident, error):
                resident.failure = error
            case Resized(resident, resize, ready):
                self._resized(resident, resize, ready)
            case Outgrown(resident, n_cells):
                resident.outgrown = n_cells
            case RunnerExited(resident):
                self._forget(resident)
            case UnloadRequested(key, done):
                self._unload(key, done)
            case DrainRequested(done):
                self._state.closing = True
                self._drains.append(done)
            case TimerFired():
                self._timer = self._timer_at = None

    def _settle(self) -> None:
        """Decide and perform until nothing is left to do; set the timer for when something is."""
        state = self._state
        while True:
            if state.needs_memory:
                state.free = self._measure()
            actions = decide(state, self._clock())
            if not actions:
                break
            for action in actions:
                self._perform(action)
        for number, waiting in waits(state):
            self._waits[number].report(waiting)
        if state.closing and not self._granted:
            while self._drains:
                _resolve(self._drains.pop())
        self._set_timer()

    def _measure(self) -> int:
        """Bytes that are free and not promised to a resident."""
        return self._free_memory() - self._state.untaken

    def _set_timer(self) -> None:
        deadline = next_deadline(self._state)
        if deadline == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, deadline
        if deadline is not None:
            delay = max(deadline - self._clock(), 0)
            self._timer = self._call_later(delay, lambda: self._post(TimerFired()))

    def _perform(self, action: Action) -> None:
        match action:
            case GrantLease():
                self._grant(action)
            case RejectTicket(ticket, error):
                self._reject(ticket, error)
            case StartRunner():
                self._start(action)
            case ResizeRunner():
                self._resize(action)
            case StopRunner(key, reload, error):
                resident = self._state.residents[key]
                if error is not None:
                    log.warning("%s", error)
                if reload:
                    self._state.replaced[key] = resident.n_ctx
                self._stop(resident, grace=GRACE if error is None else 0.0)

    # ---- leases ----------------------------------------------------------------------------------

    def _grant(self, grant: GrantLease) -> None:
        ticket = grant.ticket
        resident = self._state.residents[ticket.request.key]
        self._state.dequeue(ticket.number, ticket.request.key)
        resident.in_flight += 1
        resident.latest = ticket.request
        resident.used_at = self._clock()
        resident.keep_alive = grant.keep_alive
        if grant.growth:
            resident.plan = msgspec.structs.replace(resident.plan, embeds=True)
            resident.size += grant.growth
            resident.growth += grant.growth
        self._granted[ticket.number] = _Granted(resident, grant.growth)
        wait = self._waits.pop(ticket.number, None)
        # Cancelled a moment ago: its LeaseEnded is on the way and gives the lease back.
        if wait is not None and not wait.lease.done():
            assert resident.runner is not None
            wait.lease.set_result(Lease(resident.runner, resident.grown_from))
            resident.grown_from = 0

    def _end_lease(self, number: int, key: str) -> None:
        self._state.dequeue(number, key)
        self._waits.pop(number, None)
        if granted := self._granted.pop(number, None):
            resident = granted.resident
            resident.in_flight -= 1
            resident.used_at = self._clock()
            resident.growth -= granted.growth

    def _reject(self, ticket: Ticket, error: Exception) -> None:
        self._state.dequeue(ticket.number, ticket.request.key)
        wait = self._waits.pop(ticket.number, None)
        if wait is not None and not wait.lease.done():
            # A copy each: an exception that many tasks raise collects all their tracebacks.
            wait.lease.set_exception(copy.copy(error))
            wait.lease.exception()  # retrieved: a holder that is cancelled right now never does it

    def _reject_all(self, error: Exception) -> None:
        for ticket in list(self._state.tickets()):
            self._reject(ticket, error)

    # ---- runners ---------------------------------------------------------------------------------

    def _start(self, start: StartRunner) -> None:
        resident = self._resident(start.ticket.request, start.plan, start.keep_alive)
        self._state.replaced.pop(resident.request.key, None)
        self._state.residents[resident.request.key] = resident
        if start.grown_from:
            resident.grown_from = start.grown_from
            log.info(
                "%s is loaded anew: its context grows from %d to %d tokens",
                resident.request.name.display, start.grown_from, start.plan.n_ctx,
            )  # fmt: skip
        try:
            runner = self._start_runner(start.plan)
        except OllamapyError as error:
            resident.failure = error
        except Exception as error:
            log.exception("a runner could not be started")
            resident.failure = RunnerError(f"a runner could not be started: {error}")
        else:
            self._watch(resident, runner)

    def _adopt(self, request: LeaseRequest, plan: LoadPlan, runner: Runner) -> None:
        resident = self._resident(request, plan, self._state.settings.keep_alive)
        if request.key in self._state.residents:  # a request was faster
            resident.runner = runner
            self._stop(resident)
        else:
            self._state.residents[request.key] = resident
            self._watch(resident, runner)

    def _resident(
        self, request: LeaseRequest, plan: LoadPlan, keep_alive: float | None
    ) -> Resident:
        now = self._clock()
        return Resident(
            request=request,
            plan=plan,
            size=fit.estimate_load(request.header, plan).total,
            keep_alive=keep_alive,
            used_at=now,
            progress_at=now,
        )

    def _watch(self, resident: Resident, runner: Runner) -> None:
        """Post what becomes of a resident's runner."""
        name, plan = resident.request.name.display, resident.plan
        id = resident.request.caller.id
        reason = f", for request {id}" if id else ""
        log.info("loading %s: %s%s", name, _size(plan), reason)
        resident.runner = runner
        runner.on_progress = lambda stage, fraction: self._post(
            LoadProgressed(resident, stage, fraction)
        )
        runner.on_outgrown = lambda n_cells: self._post(Outgrown(resident, n_cells))
        _spawn(self._attend(resident, runner), self._watching)

    async def _attend(self, resident: Resident, runner: Runner) -> None:
        try:
            ready = await runner.ready()
        except Exception as error:
            self._post(LoadFailed(resident, error))
            return
        self._post(LoadFinished(resident, ready))
        try:
            await runner.wait()
        except Exception:
            log.exception("the runner of %s was lost", resident.request.name.display)
        self._post(RunnerExited(resident))

    def _resize(self, resize: ResizeRunner) -> None:
        resident = self._state.residents[resize.key]
        assert resident.runner is not None
        before, plan = resident.plan, resize.plan
        name = resident.request.name.display
        log.info(
            "resizing %s: %s instead of %s", name, _size(plan), _size(before),
        )  # fmt: skip
        resident.resizing = plan
        resident.growth += resize.growth
        _spawn(self._await_size(resident, resident.runner, resize), self._watching)

    async def _await_size(self, resident: Resident, runner: Runner, resize: ResizeRunner) -> None:
        ready = None
        try:
            ready = await runner.resize(resize.plan)
        except Exception as error:
            log.warning("%s keeps its size: %s", resident.request.name.display, error)
        self._post(Resized(resident, resize, ready))

    def _resized(self, resident: Resident, resize: ResizeRunner, ready: Ready | None) -> None:
        """Enter the new size of a runner, or that it cannot have it."""
        resident.resizing = None
        resident.growth -= resize.growth
        has_others = ready is not None and resize.plan.held != resident.plan.held
        ends_here = resize.plan.n_ctx == resident.plan.held
        if has_others or ends_here:
            resident.outgrown = 0
        if ready is None:
            resident.is_fixed = True
            return
        if ready.n_ctx > resident.n_ctx:
            resident.grown_from = resident.n_ctx
        resident.ready = ready
        resident.plan = msgspec.structs.replace(resize.plan, embeds=resident.plan.embeds)
        resident.size = fit.estimate_load(resident.request.header, resident.plan).total

    def _stop(self, resident: Resident, grace: float = GRACE) -> None:
        if resident.runner is None:  # it could not be started
            self._forget(resident)
            return
        resident.become(Status.STOPPING)
        log.info("stopping %s", resident.request.name.display)
        _spawn(self._end(resident, resident.runner, grace), self._stopping)

    async def _end(self, resident: Resident, runner: Runner, grace: float) -> None:
        try:
            await runner.stop(grace)
        except Exception:
            log.exception("the runner of %s could not be stopped", resident.request.name.display)
        self._post(RunnerExited(resident))

    def _forget(self, resident: Resident) -> None:
        """Remove a resident whose runner is gone: it was stopped, or died by itself."""
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
        """End a model's keep-alive; the caller waits only for a runner that stops now."""
        resident = self._state.residents.get(key)
        if resident is not None:
            resident.keep_alive = 0.0
            if resident.status is Status.STOPPING or (
                resident.idle and key not in self._state.waiting
            ):
                self._unloads.append((resident, done))
                return
        _resolve(done)


def _size(plan: LoadPlan) -> str:
    held = f"{plan.held} of " if plan.n_cells else ""
    return f"{plan.n_slots} x {held}{plan.n_ctx} tokens"


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _spawn(work: Coroutine[None, None, None], tasks: set[asyncio.Task[None]]) -> None:
    """Run in the background; the set keeps the task alive until it has ended."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)

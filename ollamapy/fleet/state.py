"""What the scheduler's decisions depend on: residents, waiting tickets, free memory; and the actions that change them.

Holds values and what follows from them. It decides nothing (``decide.py``) and does nothing (``scheduler.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice, takewhile

import msgspec

from ..config import Settings
from ..context import padded
from ..errors import OllamapyError
from ..loading import LoadPlan
from ..runner.protocol import Ready
from ..types import LoadStage, Options
from .fit import AUTOMATIC_SLOTS
from .lease import Runner
from .request import LeaseRequest

LEASES_PER_SLOT = 2


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
    """One request that waits for a runner; ``number`` is the order of arrival."""

    number: int
    request: LeaseRequest


@dataclass(slots=True, eq=False)
class Resident:
    """One runner and its model. Times are of the monotonic clock, ``size`` is estimated bytes.

    ``request`` is the one that it was loaded for, ``latest`` the one that it was used for last, ``used_at`` the last time that a
    lease began or ended, ``progress_at`` the last time that the load made progress, ``stage`` and ``fraction`` (of the weights, 0
    to 1) how far it is. The timer of ``keep_alive`` (seconds, None for ever) runs only while there are no leases. ``failure`` is why
    the load failed. ``growth`` is bytes that were granted after the load and may not be taken yet. ``grown_from``: tokens of the
    shorter context that the model had before, until the first lease has reported it; else 0. ``first`` is the plan that it was
    loaded with, ``resizing`` the one that it changes to. ``is_fixed``: llama.cpp could not change its size. ``outgrown``: cells that
    a request needs in its slot.
    """

    request: LeaseRequest
    plan: LoadPlan
    size: int
    keep_alive: float | None
    used_at: float
    progress_at: float
    status: Status = Status.STARTING
    in_flight: int = 0
    stage: LoadStage = "starting"
    fraction: float = 0.0
    growth: int = 0
    ready: Ready | None = None
    runner: Runner | None = None
    failure: Exception | None = None
    grown_from: int = 0
    resizing: LoadPlan | None = None
    is_fixed: bool = False
    outgrown: int = 0
    latest: LeaseRequest = field(init=False)
    first: LoadPlan = field(init=False)

    def __post_init__(self) -> None:
        self.latest, self.first = self.request, self.plan

    @property
    def can_resize(self) -> bool:
        """May its context be made anew now?"""
        can = self.plan.is_elastic and not self.is_fixed
        return can and self.status is Status.READY and self.resizing is None

    @property
    def lacks_cells(self) -> bool:
        """Does a request wait for cells that its context has no memory for yet?"""
        lacks = self.plan.held < min(self.outgrown, self.plan.n_ctx)
        return lacks and self.status is Status.READY and self.resizing is None

    @property
    def taken(self) -> int:
        """Bytes without what saved prefixes may still come to take: so many are free once it is gone."""
        held = self.runner.held if self.runner is not None else 0
        return max(self.size - max(self.plan.saved_size - held, 0), 0)

    @property
    def n_ctx(self) -> int:
        """Tokens of context for each request. llama.cpp rounds them up: the number is exact once the model is loaded."""
        return self.ready.n_ctx if self.ready else self.plan.n_ctx

    def become(self, status: Status) -> None:
        """Go on to the next status; raises RuntimeError where the table has no such way."""
        if status not in _NEXT[self.status]:
            raise RuntimeError(f"a runner cannot be {status.value} after {self.status.value}")
        self.status = status

    def serves(self, request: LeaseRequest) -> bool:
        """Whether the model was loaded with all load options that the request gives.

        A longer context serves a shorter one too: the engine lets each request use as much as it needs. Contexts are compared in
        whole steps of cells.
        """
        n_ctx = request.load_options.num_ctx or 0
        return n_ctx <= padded(self.plan.n_ctx) and self.has_options(request)

    def has_options(self, request: LeaseRequest) -> bool:
        """Whether the model was loaded with the request's load options, but for the context. Options that neither of the two gave
        count as those that the model got."""
        plan = self.plan
        planned = Options(
            num_batch=plan.n_batch,
            num_gpu=plan.gpu_layers,
            main_gpu=plan.main_gpu,
            use_mmap=plan.use_mmap,
            num_thread=plan.threads,
            deterministic=plan.deterministic,
        )
        has = self.request.load_options.over(planned)
        wants = request.load_options.over(has)
        return msgspec.structs.replace(wants, num_ctx=has.num_ctx) == has

    @property
    def idle(self) -> bool:
        """Ready, without leases, and not about to change its size."""
        return self.status is Status.READY and not self.in_flight and self.resizing is None

    @property
    def n_slots(self) -> int:
        """How many requests it computes at once."""
        return self.ready.n_slots if self.ready else self.plan.n_slots

    @property
    def room(self) -> int:
        """How many more leases it may have now; none while it gets smaller."""
        to = self.resizing
        shrinks = to is not None and (to.n_slots < self.plan.n_slots or to.held < self.plan.held)
        usable = self.status is Status.READY and not shrinks
        return max(self.n_slots * LEASES_PER_SLOT - self.in_flight, 0) if usable else 0

    @property
    def expires_at(self) -> float | None:
        """When it is unloaded if nothing happens; None if that is not known."""
        return None if self.keep_alive is None or not self.idle else self.used_at + self.keep_alive

    @property
    def untaken(self) -> int:
        """Bytes that are promised to it but that it may not have taken yet."""
        loading = self.status is Status.STARTING
        return self.growth + (round(self.size * (1 - self.fraction)) if loading else 0)


@dataclass(slots=True)
class State:
    """All that decisions depend on.

    ``free`` is bytes, already without what residents have not taken yet; it is measured where ``needs_memory`` is true.
    ``waiting`` has a queue for each model, by the ticket's number; no empty ones. ``replaced`` has the tokens of context of
    models that were stopped to be loaded with other options, by key, while requests wait for them.
    """

    settings: Settings
    free: int = 0
    residents: dict[str, Resident] = field(default_factory=dict)
    waiting: dict[str, OrderedDict[int, Ticket]] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    closing: bool = False

    def queue(self, key: str) -> Iterator[Ticket]:
        """The tickets that wait for a model, the oldest first."""
        return iter(self.waiting.get(key, {}).values())

    def head(self, key: str) -> Ticket | None:
        """The oldest ticket in a model's queue."""
        return next(self.queue(key), None)

    def tickets(self) -> Iterator[Ticket]:
        """All waiting tickets, a model after the other."""
        for queue in self.waiting.values():
            yield from queue.values()

    def front(self, resident: Resident) -> Iterator[Ticket]:
        """The oldest tickets in a resident's queue, as many as it has room for."""
        return islice(self.queue(resident.request.key), resident.room)

    def next_start(self) -> Ticket | None:
        """The oldest ticket whose model has no runner in any status."""
        heads = (self.head(key) for key in self.waiting if key not in self.residents)
        return min((head for head in heads if head), key=lambda head: head.number, default=None)

    def n_wanted(self, resident: Resident, most: int) -> int:
        """How many slots its requests want, at ``most``: one for each that has a lease, or waits for one and can be served."""
        n_more = max(most - resident.in_flight, 0)
        waiting = islice(self.queue(resident.request.key), n_more)
        served = takewhile(lambda ticket: resident.serves(ticket.request), waiting)
        return min(resident.in_flight, most) + sum(1 for _ in served)

    @property
    def needs_memory(self) -> bool:
        """Whether the next decision depends on ``free``: a model is to be loaded, or a loaded one to grow."""
        if self.next_start() is not None:
            return True
        return any(self._may_grow(resident) for resident in self.residents.values())

    def _may_grow(self, resident: Resident) -> bool:
        """Is a loaded model used for embeddings for the first time, or has it too few slots or too short a context?"""
        if resident.lacks_cells:
            return True
        if not resident.plan.embeds and any(each.request.embeds for each in self.front(resident)):
            return True
        if not resident.can_resize:
            return False
        head = self.head(resident.request.key)
        lacks = head is not None and not resident.serves(head.request)
        most = self.settings.num_parallel or AUTOMATIC_SLOTS
        return lacks or self.n_wanted(resident, most) > resident.n_slots

    @property
    def untaken(self) -> int:
        """Bytes that residents have not taken yet of what is free."""
        return sum(resident.untaken for resident in self.residents.values())

    def enqueue(self, ticket: Ticket) -> None:
        """Let a ticket wait, behind those of its model."""
        queue = self.waiting.setdefault(ticket.request.key, OrderedDict())
        queue[ticket.number] = ticket

    def dequeue(self, number: int, key: str) -> None:
        """Remove a ticket that may wait for a model."""
        queue = self.waiting.get(key)
        if queue is not None:
            queue.pop(number, None)
            if not queue:
                del self.waiting[key]
                self.replaced.pop(key, None)


# ---- actions -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GrantLease:
    """The ticket's request may use the runner of its model.

    ``keep_alive`` is the resident's from now on. ``growth``: bytes that the model takes more, because it is used for
    embeddings for the first time.
    """

    ticket: Ticket
    keep_alive: float | None
    growth: int = 0


@dataclass(frozen=True, slots=True)
class RejectTicket:
    """The ticket's request gets an error."""

    ticket: Ticket
    error: Exception


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Start a runner for the ticket's model; the ticket goes on waiting.

    ``grown_from``: tokens of the shorter context that the model was stopped with; else 0.
    """

    ticket: Ticket
    plan: LoadPlan
    keep_alive: float | None
    grown_from: int = 0


@dataclass(frozen=True, slots=True)
class ResizeRunner:
    """Make the context of a model's runner anew for a plan with another size, while requests go on; ``growth``: bytes that this
    takes for a moment."""

    key: str
    plan: LoadPlan
    growth: int


@dataclass(frozen=True, slots=True)
class StopRunner:
    """Stop a model's runner. ``reload``: because the next request needs other options; ``error``: it hangs, so kill it."""

    key: str
    reload: bool = False
    error: OllamapyError | None = None


Action = GrantLease | RejectTicket | StartRunner | ResizeRunner | StopRunner

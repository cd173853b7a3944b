"""The decision: from the state and the time to the next actions. Pure, does not log.

The rules:

1. Each model has a queue, first come first served. A loaded model serves a request when the load
   options that the request gives equal those that the model was loaded with. If the first request
   in the queue does not fit, all behind it wait too, and the model is reloaded once it is idle: two
   clients with different options take turns. A context is a minimum: a longer one serves as well,
   and the first lease after the context grew reports it.
2. A runner has at most ``LEASES_PER_SLOT`` leases for each of its slots, so that the engine always
   finds its next request; the others wait here. If more than ``max_queue`` requests wait, over all
   models, the newest are rejected.
3. Only the oldest request without a runner may start one, so that small models cannot overtake a
   large one for ever; but it waits for room, not for another model's load.
4. Room is made by making idle runners smaller if that is enough, else by stopping them, the least
   recently used first; never a busy one. If all are busy, the least recently used gets no newer
   requests than the one that waits for its place, until it is idle.
5. What was promised to a runner and is not taken yet is not free: the rest of a load, a context that
   is made anew, or the room for embeddings of a model that was loaded to generate. What a stopping
   runner will return is not free before it is gone.
6. With nothing else loaded a load may shrink (``fit.py``) before it is rejected. What would not fit
   even with everything unloaded is rejected at once.
7. A load that fails, or makes no progress for ``load_timeout``, is stopped, and the requests that
   it would have served get its error; those with other options get another load.
8. The last request decides how long a model stays (``keep_alive``); the timer runs while it is idle.
9. A runner begins with few slots. Its context is made anew, while its requests go on, with twice as
   many slots when more requests want one, and longer when a request gives a larger num_ctx: as far
   as it fits into the free memory beside the context before. A longer context that does not fit is
   a reload. No runner grows while a request waits for another runner. After REST_SECONDS without
   requests it has its first size again.
10. Of a long context only the first tokens have memory with the load. When a request comes near their
   end, its runner gets more cells, before anything else that wants memory and with the room of
   idle runners; it waits for them. Where there is no room the context ends there.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec import UnsetType

from ..config import Settings
from ..context import padded, usable
from ..errors import LoadFailed, NotEnoughMemory, RunnerError, ServerBusy
from ..human import format_bytes, format_duration
from ..loading import LoadPlan
from ..names import Name
from . import fit
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

DEFAULT_MAX_LOADED = 3

REST_SECONDS = 120.0
"""How long a runner without requests keeps the size that it has grown to."""

BUSY = "server busy, please try again.  maximum pending requests exceeded"
CLOSING = "the server is shutting down, try again in a moment"


@dataclass(frozen=True, slots=True)
class _Hold:
    """No action: the runner ``key`` gets no ticket newer than ``number``, which needs its place."""

    key: str
    number: int


def decide(state: State, now: float) -> list[Action]:
    """The next actions. Perform them, enter what they change, and ask again until there are none.

    Grants come before stops: a runner that is about to be used is not idle. At most one runner is
    started at a time, since the next decision needs to know what is free after it.
    """
    if failed := _failed_loads(state, now):
        return failed
    if state.closing and state.waiting:
        return _reject(state.tickets(), CLOSING)
    start = state.next_start()
    step = _make_room(state, start) if start else None
    held = step
    if start and isinstance(step, StopRunner | ResizeRunner):
        held = _Hold(step.key, start.number)
    if grants := _grants(state, held if isinstance(held, _Hold) else None):
        return grants
    if cells := _cells(state):
        return [cells]
    if start is None and (growth := _growth(state)):
        return [growth]
    if stops := _stops(state, now):
        return stops
    if rests := _rests(state, now):
        return rests
    if step is not None and not isinstance(step, _Hold):
        return [step]
    return _overflow(state)


def next_deadline(state: State) -> float | None:
    """The earliest time at which ``decide`` may answer differently though nothing happened."""
    limit = state.settings.load_timeout
    times = [
        resident.progress_at + limit
        for resident in state.residents.values()
        if limit is not None and resident.status is Status.STARTING
    ]
    expiries = (resident.expires_at for resident in state.residents.values())
    times += [expiry for expiry in expiries if expiry is not None]
    times += [
        resident.used_at + REST_SECONDS
        for resident in state.residents.values()
        if _smaller(resident) is not None
    ]
    return min(times, default=None)


def context_of(state: State, request: LeaseRequest, free: int) -> int:
    """Tokens of context that such a request has: of the model as it is loaded, or would be into ``free`` bytes."""
    resident = state.residents.get(request.key)
    if resident is not None and resident.serves(request):
        return usable(request.options.num_ctx, resident.n_ctx)
    return padded(fit.preferred(request, state.settings, free).n_ctx)


# ---- loads that fail ---------------------------------------------------------------------------------------------------


def _failed_loads(state: State, now: float) -> list[Action]:
    """Runners that cannot load their model, and the requests that wait for this load."""
    actions: list[Action] = []
    for key, resident in state.residents.items():
        if resident.status is not Status.STARTING:
            continue
        stalled = _stalled(resident, state.settings, now)
        error = resident.failure or stalled
        if error is None:
            continue
        actions += [
            RejectTicket(ticket, _with_name(error, ticket.request.name))
            for ticket in state.queue(key)
            if resident.serves(ticket.request)
        ]
        actions.append(StopRunner(key, error=None if resident.failure else stalled))
    return actions


def _stalled(resident: Resident, settings: Settings, now: float) -> RunnerError | None:
    """The error of a load without progress for as long as the setting allows."""
    limit = settings.load_timeout
    if limit is None or now < resident.progress_at + limit:
        return None
    waited = format_duration(round(limit * 1e9))
    return RunnerError(
        f"timed out waiting for {resident.request.name.display} to load: no progress for {waited},"
        " see the daemon's log or raise OLLAMAPY_LOAD_TIMEOUT"
    )


def _with_name(error: Exception, name: Name) -> Exception:
    """llama.cpp's errors do not have the model's name."""
    if not isinstance(error, LoadFailed):
        return error
    return LoadFailed(f"model '{name.display}': {error}; see the log: ollamapy daemon logs")


# ---- leases ------------------------------------------------------------------------------------------------------------


def _grants(state: State, held: _Hold | None) -> list[Action]:
    """The front of each queue: as many as its runner has room for and can serve."""
    actions: list[Action] = []
    free = state.free
    for key in state.waiting:
        resident = state.residents.get(key)
        if resident is None:
            continue
        limit = held.number if held and held.key == key else None
        keep_alive, embeds = resident.keep_alive, resident.plan.embeds
        for ticket in state.front(resident):
            if not resident.serves(ticket.request) or (limit is not None and ticket.number > limit):
                break
            grows = ticket.request.embeds and not embeds
            growth = fit.embedding_size(resident.request.header, resident.plan) if grows else 0
            if growth > free:
                actions.append(RejectTicket(ticket, _no_room_to_embed(resident, growth, free)))
                continue
            free, embeds = free - growth, embeds or grows
            keep_alive = _keep_alive(ticket.request, keep_alive)
            actions.append(GrantLease(ticket, keep_alive, growth))
    return actions


def _no_room_to_embed(resident: Resident, growth: int, free: int) -> NotEnoughMemory:
    return NotEnoughMemory(
        f"embeddings of {resident.request.name.display} need {format_bytes(growth)} more of memory and"
        f" {format_bytes(max(free, 0))} are free, close other programs or unload a model"
    )


def _keep_alive(request: LeaseRequest, current: float | None) -> float | None:
    """Seconds that a model stays after a request; None for ever."""
    given = request.keep_alive
    if isinstance(given, UnsetType):
        return current
    return given if given is not None and 0 <= given < float("inf") else None


# ---- sizes -------------------------------------------------------------------------------------------------------------


def _growth(state: State) -> ResizeRunner | None:
    """The first runner that can grow for its next requests."""
    for resident in state.residents.values():
        if not resident.can_resize:
            continue
        head = state.head(resident.request.key)
        if head is None or resident.serves(head.request):
            found = _with_slots(state, resident)
        else:
            found = _with_context(state, resident, head.request)
        if found is not None:
            return found
    return None


def _cells(state: State) -> ResizeRunner | StopRunner | None:
    """The first step towards cells for a request that comes near the end of those that its slot has."""
    steps = (_with_cells(state, each) for each in state.residents.values() if each.lacks_cells)
    return next((step for step in steps if step is not None), None)


def _with_cells(state: State, resident: Resident) -> ResizeRunner | StopRunner | None:
    """Twice the cells, or as few as will do, with the room of idle runners where it is needed. If even that is too little, the
    context ends where the cells do."""
    plan, needed = resident.plan, padded(resident.outgrown)
    ends_here = msgspec.structs.replace(plan, n_ctx=plan.held, n_cells=0)
    if resident.is_fixed:
        return _resize(resident, ends_here)
    sizes = (max(2 * plan.held, needed), needed)
    found = [_resize(resident, fit.with_cells(plan, n_cells)) for n_cells in sizes]
    for each in found:
        if each.growth <= state.free:
            return each
    others = [each for each in state.residents.values() if each is not resident]
    if any(each.status is Status.STOPPING or each.resizing is not None for each in others):
        return None
    idle = [each for each in others if each.idle and each.request.key not in state.waiting]
    if found[-1].growth > state.free + sum(each.taken for each in idle):
        return _resize(resident, ends_here)
    return _shrink_for(state, found[-1].growth) or StopRunner(
        min(idle, key=lambda each: each.used_at).request.key
    )


def _with_slots(state: State, resident: Resident) -> ResizeRunner | None:
    """More slots: twice as many until there are enough, or as many as fit."""
    plan, request = resident.plan, resident.request
    most = state.settings.num_parallel or fit.AUTOMATIC_SLOTS
    if state.n_wanted(resident, most) <= plan.n_slots:
        return None
    most = fit.most_slots(request, plan, state.settings, state.free, plan.n_ctx)
    wanted, n_slots = state.n_wanted(resident, most), plan.n_slots
    while n_slots < wanted:
        n_slots *= 2
    n_slots = min(n_slots, most)
    while n_slots > plan.n_slots:
        found = _resize(resident, fit.resized(plan, request, n_slots, plan.n_ctx))
        if found.growth <= state.free:
            return found
        n_slots = (n_slots + plan.n_slots) // 2
    return None


def _with_context(state: State, resident: Resident, wanted: LeaseRequest) -> ResizeRunner | None:
    """The context that a request wants, with as many slots as there are, or may be with this context."""
    plan, request = resident.plan, resident.request
    n_ctx = wanted.load_options.num_ctx or 0
    if not resident.has_options(wanted) or not fit.can_lengthen(plan, request.header):
        return None
    most = fit.most_slots(request, plan, state.settings, state.free, n_ctx)
    n_slots = max(min(plan.n_slots, most), min(resident.in_flight, plan.n_slots))
    found = _resize(resident, fit.resized(plan, request, n_slots, n_ctx))
    whole = fit.resizing_size(request.header, msgspec.structs.replace(found.plan, n_cells=0))
    return found if whole <= state.free else None


def _rests(state: State, now: float) -> list[Action]:
    """Runners that have grown and had no requests for a while."""
    return [
        _resize(resident, plan)
        for resident in state.residents.values()
        if now >= resident.used_at + REST_SECONDS and (plan := _smaller(resident)) is not None
    ]


def _smaller(resident: Resident) -> LoadPlan | None:
    """The plan with the size at rest, for an idle runner that is larger."""
    if not (resident.idle and resident.can_resize):
        return None
    plan = resident.plan
    n_ctx = plan.n_ctx if plan.embeds else resident.first.n_ctx
    if plan.n_slots == 1 and plan.held <= fit.REST_CELLS and plan.n_ctx == n_ctx:
        return None  # nothing is less, and an estimate takes its time after every request
    wide = fit.resized(plan, resident.request, plan.n_slots, n_ctx)
    found = fit.begun(fit.at_rest(wide, resident.request), resident.request.header)
    is_other = found.n_slots < plan.n_slots or found.held < plan.held or found.n_ctx != plan.n_ctx
    return found if is_other else None


def _resize(resident: Resident, plan: LoadPlan) -> ResizeRunner:
    """Another size; it takes memory only where a context is made anew for it."""
    before = resident.plan
    is_new = (plan.n_slots, padded(plan.held)) != (before.n_slots, padded(before.held))
    growth = fit.resizing_size(resident.request.header, plan) if is_new else 0
    return ResizeRunner(resident.request.key, plan, growth)


# ---- runners -----------------------------------------------------------------------------------------------------------


def _stops(state: State, now: float) -> list[Action]:
    """Idle runners that have expired, or do not serve the next request of their model."""
    stops: list[Action] = []
    for key, resident in state.residents.items():
        head = state.head(key)
        if resident.idle and head is not None and not resident.serves(head.request):
            stops.append(StopRunner(key, reload=True))
        elif head is None and resident.expires_at is not None and now >= resident.expires_at:
            stops.append(StopRunner(key))
    return stops


def _make_room(
    state: State, ticket: Ticket
) -> StartRunner | ResizeRunner | StopRunner | RejectTicket | _Hold | None:
    """The next step towards a runner for the ticket; None: wait for what is under way."""
    settings, free, residents = state.settings, state.free, state.residents
    request = ticket.request
    n_wanted = len(state.waiting[request.key])

    # 1) There is room for the preferred plan.
    preferred = fit.at_rest(fit.preferred(request, settings, free), request, n_wanted)
    need = fit.estimate_load(request.header, preferred).total
    most = settings.max_loaded_models or DEFAULT_MAX_LOADED
    if len(residents) < most and need <= free:
        return _start(state, ticket, preferred)

    # 2) There is room for less, and nothing that could be unloaded; or there never will be.
    if not residents:
        try:
            return _start(state, ticket, fit.best(request, settings, free, n_wanted))
        except NotEnoughMemory as error:
            return RejectTicket(ticket, error)
    smallest = fit.smallest(preferred, request, settings)
    most_free = free + sum(resident.taken for resident in residents.values())
    if fit.estimate_load(request.header, smallest).total > most_free:
        return RejectTicket(ticket, fit.not_enough(request, smallest, most_free))

    # 3) Make room: one runner at a time, and look again when it is gone.
    ready = [key for key, resident in residents.items() if resident.status is Status.READY]
    if not ready or any(
        resident.status is Status.STOPPING or resident.resizing is not None
        for resident in residents.values()
    ):
        return None
    if len(residents) < most and (step := _shrink_for(state, need)) is not None:
        return step
    victim = min(
        ready,
        key=lambda key: (
            residents[key].in_flight > 0,
            key in state.waiting,
            residents[key].used_at,
        ),
    )
    return StopRunner(victim) if residents[victim].idle else _Hold(victim, ticket.number)


def _shrink_for(state: State, need: int) -> ResizeRunner | None:
    """The idle runner to make smaller, the least recently used first, if all that have grown leave enough together."""
    smaller = [(each, plan) for each in state.residents.values() if (plan := _smaller(each))]
    found = [(each, plan, gain) for each, plan in smaller if (gain := _gain(each, plan)) > 0]
    if not found or state.free + sum(gain for *_, gain in found) < need:
        return None
    resident, plan, _ = min(found, key=lambda each: each[0].used_at)
    step = _resize(resident, plan)
    return step if step.growth <= state.free else None


def _gain(resident: Resident, plan: LoadPlan) -> int:
    """Bytes that a runner gives back with a smaller plan."""
    header = resident.request.header
    return fit.context_size(header, resident.plan) - fit.context_size(header, plan)


def _start(state: State, ticket: Ticket, plan: LoadPlan) -> StartRunner:
    before = state.replaced.get(ticket.request.key, 0)
    return StartRunner(
        ticket,
        fit.begun(plan, ticket.request.header),
        keep_alive=_keep_alive(ticket.request, state.settings.keep_alive),
        grown_from=before if before < plan.n_ctx else 0,
    )


# ---- too many ----------------------------------------------------------------------------------------------------------


def _overflow(state: State) -> list[Action]:
    """Reject the newest requests when more wait than allowed."""
    excess = sum(len(queue) for queue in state.waiting.values()) - state.settings.max_queue
    if excess <= 0:
        return []
    newest_first = (reversed(queue.values()) for queue in state.waiting.values())
    newest = heapq.merge(*newest_first, key=lambda ticket: ticket.number, reverse=True)
    return _reject(itertools.islice(newest, excess), BUSY)


def _reject(tickets: Iterable[Ticket], message: str) -> list[Action]:
    return [RejectTicket(ticket, ServerBusy(message)) for ticket in tickets]

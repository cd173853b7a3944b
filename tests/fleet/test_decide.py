"""The decision as tables of examples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from ollamapy.errors import LoadFailed
from ollamapy.fleet import fit
from ollamapy.fleet.decide import context_of, decide, next_deadline
from ollamapy.fleet.request import LeaseRequest
from ollamapy.fleet.state import (
    Action,
    GrantLease,
    RejectTicket,
    Resident,
    StartRunner,
    State,
    Status,
    StopRunner,
    Ticket,
)
from tests.fleet.requests import GB, request, settings


@dataclass
class Case:
    """One row: what is loaded, which requests wait, how many GB are free; and what is done about it.

    `loaded`: "a", "a busy=2", "a starting", "a stopping", "a starting failed", "a embeds", and used=, ctx=, keep=, progress=
    numbers. `waiting`: "a", "a ctx=512", "a embeds", "a keep=60" in order of arrival: their numbers are 1, 2, 3...
    `replaced`: contexts of models that were stopped to be reloaded. `then`: the words of each action that matter.
    """

    why: str
    loaded: list[str]
    waiting: list[str]
    then: list[str]
    free: float = 10
    now: float = 100
    environ: dict[str, Any] = field(default_factory=dict)
    closing: bool = False
    replaced: dict[str, int] = field(default_factory=dict)


CASES = [
    Case("nothing to do", [], [], []),
    Case("a first request starts a runner", [], ["a"], ["start a"]),
    Case("and only one, however many wait", [], ["a", "a", "a"], ["start a"]),
    Case("a load that is under way is waited for", ["a starting"], ["a", "a"], []),
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
    Case("the default, given as a number, matches", ["a"], ["a ctx=4096"], ["grant 1"]),
    Case("automatic values match", ["a gpu=7"], ["a gpu=-1", "a thread=0"], ["grant 1", "grant 2"]),
    Case("a smaller context is there", ["a"], ["a ctx=512"], ["grant 1"]),
    Case("one that rounds up to as many cells", ["a ctx=900"], ["a ctx=1000"], ["grant 1"]),
    Case("a larger one: reload", ["a"], ["a ctx=8192"], ["stop a reload"]),
    Case("other options too", ["a"], ["a gpu=3"], ["stop a reload"]),
    Case("the context has grown", [], ["a ctx=8192"], ["start a from=4096"], replaced={"a": 4096}),
    Case("it is shorter than before", [], ["a ctx=512"], ["start a from=0"],
         replaced={"a": 4096}),
    Case("but not while it is used", ["a busy=1"], ["a ctx=8192"], []),
    Case("and later requests do not overtake", ["a busy=1"], ["a ctx=8192", "a"], []),
    Case("earlier requests are served", ["a"], ["a", "a ctx=8192", "a"], ["grant 1"]),
    Case("a context is cut to the model's", ["a ctx=65536"], ["a ctx=99999"], ["grant 1"]),
    # How many
    Case("the least recently used makes room", ["a used=3", "b used=1", "c used=2"], ["d"],
         ["stop b"]),
    Case("at most as many as the setting says", ["a"], ["b"], ["stop a"], environ={
        "OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("never a busy one", ["a used=3", "b used=1 busy=1", "c used=2"], ["d"], ["stop c"]),
    Case("all are busy: wait", ["a busy=1", "b busy=1", "c busy=1"], ["d"], []),
    Case("rather one that no request waits for", ["a used=1", "b used=2", "c used=3"], ["d", "a"],
         ["grant 2"]),
    Case("a place is coming free: wait", ["a", "b", "c stopping"], ["d"], []),
    Case("all are loading: wait", ["a starting", "b starting", "c starting"], ["d"], []),
    # Fairness between models
    Case("the least recently used is held for the older request", ["a busy=1"], ["b", "a"], [], environ={
        "OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("requests older than that are served", ["a busy=1"], ["a", "b", "a"], ["grant 1"], environ={
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
    Case("it never will: nothing is unloaded for it", ["a", "b"], ["big"], ["reject 1 NotEnoughMemory"],
         free=2.5),
    # Keep-alive
    Case("before its time is over", ["a used=90 keep=11"], [], []),
    Case("after its time", ["a used=90 keep=10"], [], ["stop a"]),
    Case("for ever", ["a used=0 keep=inf"], [], [], now=1e12),
    Case("at once", ["a used=100 keep=0"], [], ["stop a"]),
    Case("not while it is used", ["a used=0 keep=0 busy=1"], [], []),
    Case("not when it is wanted", ["a used=0 keep=0"], ["a"], ["grant 1"]),
    Case("not while it loads", ["a used=0 keep=0 starting"], [], []),
    Case("the setting's time", [], ["a"], ["start a keep=300"]),
    Case("the request's time", [], ["a keep=60"], ["start a keep=60"]),
    Case("a request that gives none changes nothing", ["a keep=7"], ["a"], ["grant 1 keep=7"]),
    Case("the last request decides", ["a"], ["a keep=60", "a keep=5"],
         ["grant 1 keep=60", "grant 2 keep=5"]),
    Case("what the one before gave stays", ["a"], ["a keep=60", "a"],
         ["grant 1 keep=60", "grant 2 keep=60"]),
    Case("negative and infinite are for ever", ["a"], ["a keep=-1", "a keep=inf"],
         ["grant 1 keep=None", "grant 2 keep=None"]),
    # Embeddings
    Case("a model grows for its first embeddings", ["a"], ["a embeds"], ["grant 1 grows"]),
    Case("only once", ["a"], ["a embeds", "a embeds"], ["grant 1 grows", "grant 2 stays"]),
    Case("it was loaded for them", ["a embeds"], ["a embeds"], ["grant 1 stays"], free=0),
    Case("there is no room to grow", ["a"], ["a embeds", "a"],
         ["reject 1 NotEnoughMemory", "grant 2 stays"], free=0.02),
    Case("two models do not grow into the same room", ["a", "b"], ["a embeds", "b embeds"],
         ["grant 1 grows", "reject 2 NotEnoughMemory"], free=0.04),
    # Loads that fail or make no progress
    Case("a slow load", ["a starting progress=51"], ["a"], [], environ={
        "OLLAMA_LOAD_TIMEOUT": 50}),
    Case("no progress", ["a starting progress=50"], ["a"],
         ["reject 1 RunnerError", "stop a RunnerError"], environ={"OLLAMA_LOAD_TIMEOUT": 50}),
    Case("no limit", ["a starting progress=0"], ["a"], [], now=1e12, environ={
        "OLLAMA_LOAD_TIMEOUT": 0}),
    Case("a failed load fails the requests that it would have served", ["a starting failed", "b"],
         ["a", "a gpu=3", "b", "a"], ["reject 1 LoadFailed", "reject 4 LoadFailed", "stop a"]),
    Case("a load that is stopped already", ["a stopping failed"], ["a"], []),
    # Too many
    Case("as many as may", ["a busy=2"], ["a"] * 3, [], environ={"OLLAMA_MAX_QUEUE": 3}),
    Case("the newest are turned away", ["a busy=2", "b starting"], ["a", "b", "a", "b", "a"],
         ["reject 5 ServerBusy", "reject 4 ServerBusy"], environ={"OLLAMA_MAX_QUEUE": 3}),
    Case("a request that is served at once was never in the queue", ["a"], ["a"] * 3, ["grant 1", "grant 2"],
         environ={"OLLAMA_MAX_QUEUE": 1}),
    # The end
    Case("closing rejects all", ["a"], ["a", "b"],
         ["reject 1 ServerBusy", "reject 2 ServerBusy"], closing=True),
    Case("closing still unloads what expires", ["a used=90 keep=10"], [], ["stop a"],
         closing=True),
    Case("and stops a load that failed", ["a starting failed"], [], ["stop a"], closing=True),
]  # fmt: skip


def parse(text: str) -> tuple[str, set[str], dict[str, float]]:
    """ "a starting used=3" -> ("a", {"starting"}, {"used": 3.0})"""
    key, *words = text.split()
    pairs = dict(word.split("=") for word in words if "=" in word)
    return key, set(words), {name: float(value) for name, value in pairs.items()}


def request_of(key: str, words: set[str], numbers: dict[str, float]) -> LeaseRequest:
    names = {"ctx": "num_ctx", "gpu": "num_gpu", "thread": "num_thread"}
    options = {names[n]: int(v) for n, v in numbers.items() if n in names}
    return request(key, embeds="embeds" in words, **options)


def resident_of(text: str, state: State) -> Resident:
    key, words, numbers = parse(text)
    wanted = request_of(key, words, numbers)
    plan = fit.preferred(wanted, state.settings, 99 * GB)
    keep = numbers.get("keep", 300)
    return Resident(
        request=wanted,
        plan=plan,
        size=fit.estimate_load(wanted.header, plan).total,
        keep_alive=None if math.isinf(keep) else keep,
        used_at=numbers.get("used", 100),
        progress_at=numbers.get("progress", 100),
        in_flight=int(numbers.get("busy", 0)),
        status=next((s for s in Status if s.value in words), Status.READY),
        failure=LoadFailed("bad magic") if "failed" in words else None,
    )


def state_of(case: Case) -> State:
    state = State(settings(**case.environ), free=round(case.free * GB), closing=case.closing)
    state.replaced |= case.replaced
    for text in case.loaded:
        resident = resident_of(text, state)
        state.residents[resident.request.key] = resident
    for number, text in enumerate(case.waiting, 1):
        key, words, numbers = parse(text)
        wanted = request_of(key, words, numbers)
        if "keep" in numbers:
            wanted = replace(wanted, keep_alive=numbers["keep"])
        state.enqueue(Ticket(number, wanted))
    return state


def written(action: Action) -> str:
    match action:
        case GrantLease(ticket, keep_alive, growth):
            keep = "None" if keep_alive is None else f"{keep_alive:g}"
            return f"grant {ticket.number} keep={keep} {'grows' if growth else 'stays'}"
        case RejectTicket(ticket, error):
            return f"reject {ticket.number} {type(error).__name__}"
        case StartRunner(ticket, plan, keep_alive, before):
            loaded = f"slots={plan.n_slots} ctx={plan.n_ctx} keep={keep_alive:g} from={before}"
            return f"start {ticket.request.key} {loaded}"
        case StopRunner(key, reload, failure):
            why = type(failure).__name__ if failure else "reload" if reload else ""
            return f"stop {key} {why}"


@pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])
def test_decide(case: Case) -> None:
    state = state_of(case)
    decided = [written(action) for action in decide(state, case.now)]
    # A row has only the words of an action that matter to it.
    assert len(decided) == len(case.then) and all(
        did.split()[:2] == then.split()[:2] and set(then.split()) <= set(did.split())
        for did, then in zip(decided, case.then, strict=True)
    ), decided
    assert [written(action) for action in decide(state, case.now)] == decided, "not pure"


@pytest.mark.parametrize("case", CASES, ids=[case.why for case in CASES])
def test_memory_is_measured_where_it_matters(case: Case) -> None:
    """Where it is not, no amount of free memory changes the decision."""
    state = state_of(case)
    if not state.needs_memory:
        before = [written(action) for action in decide(state, case.now)]
        state.free = 0
        assert [written(action) for action in decide(state, case.now)] == before


def test_what_a_resident_has_not_taken_yet() -> None:
    state = state_of(Case("", ["a starting", "b", "big starting"], [], []))
    a, b, big = state.residents.values()
    a.fraction, b.growth = 0.25, 7
    assert (a.untaken, b.untaken, big.untaken) == (round(a.size * 0.75), 7, big.size)
    assert state.untaken == a.untaken + 7 + big.size


def test_what_is_free_once_a_resident_is_gone() -> None:
    """What saved prefixes may come to take is not, until they have taken it."""
    resident = resident_of("a", State(settings()))
    promised = resident.plan.saved_size
    assert promised > 0 and resident.taken == resident.size - promised
    for held, missing in ((promised // 4, promised - promised // 4), (2 * promised, 0)):
        resident.runner = SimpleNamespace(held=held)
        assert resident.taken == resident.size - missing


@pytest.mark.parametrize(
    ("loaded", "wanted", "n_ctx"),
    [
        ([], "a", 4096),
        ([], "a ctx=300", 512),
        (["a ctx=8192"], "a", 8192),
        (["a ctx=8192"], "a ctx=300", 512),
        (["a ctx=512"], "a ctx=1024", 1024),
        (["a ctx=512"], "a gpu=1", 4096),
    ],
)
def test_the_context_that_a_request_will_have(loaded: list[str], wanted: str, n_ctx: int) -> None:
    state = state_of(Case("", loaded, [], []))
    assert context_of(state, request_of(*parse(wanted)), state.free) == n_ctx


DEADLINES = [
    ([], None),
    (["a used=10 keep=20", "b used=5 keep=20"], 25),
    (["a used=10 keep=20 busy=1", "b keep=inf"], None),
    (["a used=10 keep=1 stopping"], None),
    (["a progress=30 starting keep=1", "b used=90 keep=300"], 330),
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

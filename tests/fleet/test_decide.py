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
    ResizeRunner,
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
    numbers; slots= of its context, grown= tokens that it has now, to= slots that it is getting, "fixed": it cannot.
    `waiting`: "a", "a ctx=512", "a embeds", "a keep=60" in order of arrival: their numbers are 1, 2, 3...
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


EIGHT = {"OLLAMA_NUM_PARALLEL": 8}
LONG = {"OLLAMA_CONTEXT_LENGTH": 16384}
AUTOMATIC = {"OLLAMA_NUM_PARALLEL": 0, "OLLAMA_CONTEXT_LENGTH": 4096}

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
    Case("a larger one is made", ["a"], ["a ctx=8192"], ["resize a ctx=8192"]),
    Case("other options too", ["a"], ["a gpu=3"], ["stop a reload"]),
    Case("the context has grown", [], ["a ctx=8192"], ["start a from=4096"], replaced={"a": 4096}),
    Case("it is shorter than before", [], ["a ctx=512"], ["start a from=0"],
         replaced={"a": 4096}),
    Case("but not while it is used", ["a busy=1"], ["a gpu=3"], []),
    Case("and later requests do not overtake", ["a busy=1"], ["a gpu=3", "a"], []),
    Case("earlier requests are served", ["a"], ["a", "a gpu=3", "a"], ["grant 1"]),
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
    Case("it fits alone, with less", [], ["big"], ["start big slots=3 ctx=4096"], free=5.5,
         environ=EIGHT),
    Case("it does not fit alone", [], ["big", "a"], ["reject 1 NotEnoughMemory"], free=4),
    Case("it never will: nothing is unloaded for it", ["a", "b"], ["big"], ["reject 1 NotEnoughMemory"],
         free=2.5),
    # Sizes: "wide" has 492 MB of cache for each slot of 4,096 tokens
    Case("few slots to begin with", [], ["wide"], ["start wide slots=1"], environ=EIGHT),
    Case("as many as requests wait", [], ["wide"] * 3, ["start wide slots=3"], environ=EIGHT),
    Case("no more than the setting's number", [], ["wide"] * 3, ["start wide slots=2"], environ={
        "OLLAMA_NUM_PARALLEL": 2}),
    Case("all of them for answers that do not depend on others", [], ["wide deterministic=1"],
         ["start wide slots=8"], environ=EIGHT),
    Case("those that are cheap from the beginning", [], ["a"], ["start a slots=8"], environ=EIGHT),
    Case("the second request is granted first", ["wide slots=1 busy=1"], ["wide"], ["grant 1"],
         environ=EIGHT),
    Case("and then gets a slot", ["wide slots=1 busy=2"], [], ["resize wide slots=2 ctx=4096"],
         environ=EIGHT),
    Case("twice as many until there are enough", ["wide slots=1 busy=2"], ["wide"] * 3,
         ["resize wide slots=8"], environ=EIGHT),
    Case("one has a slot", ["wide slots=1 busy=1"], [], [], environ=EIGHT),
    Case("there are as many as may be", ["wide slots=2 busy=4"], ["wide"], [], environ={
        "OLLAMA_NUM_PARALLEL": 2}),
    Case("as many as fit", ["wide slots=1 busy=2"], ["wide"] * 6, ["resize wide slots=4"], free=3.1,
         environ=EIGHT),
    Case("none fits beside those of before", ["wide slots=1 busy=2"], ["wide"], [], free=0.9,
         environ=EIGHT),
    Case("it grows already", ["wide slots=1 busy=2 to=2"], ["wide"], [], environ=EIGHT),
    Case("it could not", ["wide slots=1 busy=2 fixed"], ["wide"], [], environ=EIGHT),
    Case("not while another model waits for a runner", ["wide slots=1 busy=2"], ["b"], [],
         environ=EIGHT | {"OLLAMA_MAX_LOADED_MODELS": 1}),
    Case("nor while it loads", ["wide slots=1 starting"], ["wide"] * 3, [], environ=EIGHT),
    Case("a longer context, while it is used", ["wide slots=1 busy=1"], ["wide ctx=8192"],
         ["resize wide slots=1 ctx=8192"], environ=EIGHT),
    Case("it does not fit beside the one of before", ["wide slots=1"], ["wide ctx=8192"],
         ["stop wide reload"], free=1.5, environ=EIGHT),
    Case("nor here, but a request is on its way", ["wide slots=1 busy=1"], ["wide ctx=8192"], [],
         free=1.5, environ=EIGHT),
    Case("it could not be made", ["wide slots=1 fixed"], ["wide ctx=8192"], ["stop wide reload"],
         environ=EIGHT),
    Case("other options are a reload", ["wide slots=1"], ["wide ctx=8192 gpu=3"],
         ["stop wide reload"], environ=EIGHT),
    Case("so is a context of a model that embeds too", ["wide slots=1 embeds"], ["wide ctx=8192"],
         ["stop wide reload"], environ=EIGHT),
    Case("fewer slots if they are long", ["wide slots=4 busy=1"], ["wide ctx=8192"],
         ["resize wide slots=2 ctx=8192"], environ=AUTOMATIC, free=6),
    Case("but one for each request", ["wide slots=4 busy=3"], ["wide ctx=8192"],
         ["resize wide slots=3 ctx=8192"], environ=AUTOMATIC, free=6),
    Case("a while after the last request", ["wide slots=8 used=1"], [], ["resize wide slots=1"],
         now=121, environ=EIGHT),
    Case("the context too", ["wide slots=1 ctx=4096 grown=8192 used=1"], [],
         ["resize wide slots=1 ctx=4096"], now=121, environ=EIGHT),
    Case("but not of a model that embeds", ["wide slots=1 grown=8192 used=1 embeds"], [], [], now=121,
         environ=EIGHT),
    Case("not before", ["wide slots=8 used=1"], [], [], now=120, environ=EIGHT),
    Case("not while it is used", ["wide slots=8 used=1 busy=1"], [], [], now=200, environ=EIGHT),
    Case("nothing to make smaller", ["wide slots=1 used=1"], [], [], now=200, environ=EIGHT),
    Case("what expires is stopped", ["wide slots=8 used=1 keep=100"], [], ["stop wide"], now=121,
         environ=EIGHT),
    Case("a smaller one makes room", ["wide slots=8 used=2", "a"], ["big"], ["resize wide slots=1"],
         free=4.9, environ=EIGHT),
    Case("the least recently used first", ["wide slots=8 used=2", "wider slots=8 used=1"], ["big"],
         ["resize wider slots=1"], free=4.9, environ=EIGHT),
    Case("one after the other", ["wide slots=8 used=2 to=1", "wider slots=8 used=1"], ["big"], [],
         free=4.9, environ=EIGHT),
    Case("it would not be enough", ["wide slots=2 used=1"], ["big"], ["stop wide"], free=4.6,
         environ={"OLLAMA_NUM_PARALLEL": 2, "OLLAMA_CONTEXT_LENGTH": 4096}),
    Case("nor can the smaller one be made", ["wide slots=8"], ["b"], ["stop wide"], free=0.9,
         environ=EIGHT),
    Case("a place is needed, too", ["wide slots=8"], ["b"], ["stop wide"],
         environ=EIGHT | {"OLLAMA_MAX_LOADED_MODELS": 1}),
    # Cells: memory for the first tokens of a long context
    Case("a long context has few cells", [], ["wide"], ["start wide ctx=16384 cells=4096"], environ=LONG),
    Case("a short one has all", [], ["wide ctx=4000"], ["start wide ctx=4000 cells=4000"], environ=LONG),
    Case("a request needs more", ["wide cells=4096 outgrown=4352 busy=1"], [],
         ["resize wide ctx=16384 cells=8192"], environ=LONG),
    Case("many more", ["wide cells=4096 outgrown=9000 busy=1"], [],
         ["resize wide ctx=16384 cells=9216"], environ=LONG),
    Case("as few as will do", ["wide cells=4096 outgrown=4352 busy=1"], [],
         ["resize wide ctx=16384 cells=4352"], environ=LONG, free=1.8),
    Case("all that there are", ["wide cells=9000 outgrown=9100 busy=1"], [],
         ["resize wide ctx=16384 cells=16384"], environ=LONG),
    Case("it has them", ["wide cells=8192 outgrown=4352 busy=1"], [], [], environ=LONG),
    Case("it has all", ["wide outgrown=20000 busy=1"], [], [], environ=LONG),
    Case("no room: the context ends", ["wide cells=4096 outgrown=4352 busy=1", "a busy=1"], [],
         ["resize wide ctx=4096 cells=4096"], environ=LONG, free=0.5),
    Case("it could not be had: the context ends", ["wide cells=4096 outgrown=4352 busy=1 fixed"], [],
         ["resize wide ctx=4096 cells=4096"], environ=LONG),
    Case("an idle model makes room", ["wide cells=4096 outgrown=4352 busy=1", "a used=90", "b used=80"], [],
         ["stop b"], environ=LONG, free=1),
    Case("it has made none yet", ["wide cells=4096 outgrown=4352 busy=1", "a used=90", "b stopping"], [],
         [], environ=LONG, free=1),
    Case("one that has grown gets smaller first", ["wide cells=4096 outgrown=4608 busy=1", "wider", "b cells=4096 used=80"], [],
         ["resize wider cells=4096"], environ=LONG, free=1.6),
    Case("before another model is loaded", ["wide cells=4096 outgrown=4352 busy=1"], ["a"],
         ["resize wide cells=8192"], environ=LONG),
    Case("a longer context has the cells that there are", ["wide cells=4096"], ["wide ctx=32768"],
         ["resize wide ctx=32768 cells=4096"], environ=LONG, free=20),
    Case("if it could have all", ["wide cells=4096 busy=1"], ["wide ctx=32768"],
         [], environ=LONG, free=3),
    Case("at rest it has few again", ["wide used=0"], [], ["resize wide ctx=16384 cells=4096"], environ=LONG, now=121),
    Case("and the context that was promised", ["wide cells=4096 ends=4096 used=0"], [],
         ["resize wide ctx=16384 cells=4096"], environ=LONG, now=121),
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
    options: dict[str, Any] = {names[n]: int(v) for n, v in numbers.items() if n in names}
    if "deterministic" in numbers:
        options["deterministic"] = True
    return request(key, embeds="embeds" in words, **options)


def resident_of(text: str, state: State) -> Resident:
    key, words, numbers = parse(text)
    wanted = request_of(key, words, numbers)
    plan = fit.preferred(wanted, state.settings, 99 * GB)
    if "slots" in numbers:
        plan = fit.resized(plan, wanted, int(numbers["slots"]), plan.n_ctx)
    keep = numbers.get("keep", 300)
    made = Resident(
        request=wanted,
        plan=plan,
        size=fit.estimate_load(wanted.header, plan).total,
        keep_alive=None if math.isinf(keep) else keep,
        used_at=numbers.get("used", 100),
        progress_at=numbers.get("progress", 100),
        in_flight=int(numbers.get("busy", 0)),
        status=next((s for s in Status if s.value in words), Status.READY),
        failure=LoadFailed("bad magic") if "failed" in words else None,
        is_fixed="fixed" in words,
        outgrown=int(numbers.get("outgrown", 0)),
    )
    if "grown" in numbers:
        made.plan = fit.resized(plan, wanted, plan.n_slots, int(numbers["grown"]))
    if "cells" in numbers:
        made.plan = fit.with_cells(made.plan, int(numbers["cells"]))
    if "ends" in numbers:
        made.plan = fit.resized(plan, wanted, plan.n_slots, int(numbers["ends"]))
    if "to" in numbers:
        made.resizing = fit.resized(plan, wanted, int(numbers["to"]), plan.n_ctx)
    return made


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
            loaded = f"slots={plan.n_slots} ctx={plan.n_ctx} cells={plan.held} keep={keep_alive:g} from={before}"
            return f"start {ticket.request.key} {loaded}"
        case ResizeRunner(key, plan):
            return f"resize {key} slots={plan.n_slots} ctx={plan.n_ctx} cells={plan.held}"
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
    (["wide slots=2 used=10 keep=300"], 130),
    (["wide slots=2 used=10 keep=300 busy=1", "b used=90 keep=300"], 390),
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

"""The engine over real llama.cpp, with a small random model (exactness) and scripted ones (texts)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, Refused, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.rows import Row
from ollamapy.engine.sequence import Sequence
from ollamapy.errors import InvalidRequest, LoadFailed
from ollamapy.types import Generation, Prompt, Sampling
from tests.plans import plan
from tests.small_models import random_model, scripted_model

pytestmark = pytest.mark.llama
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "random.gguf")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Model]:
    model = load(path)
    yield model
    model.close()


def load(path: Path, n_ctx: int = 512, n_slots: int = 8, n_batch: int = 64) -> Model:
    return Model(plan(path, n_ctx=n_ctx, n_slots=n_slots, n_batch=n_batch, threads=1))


def run(model: Model, *sequences: Sequence) -> list[Event]:
    """Run requests to their ends in one engine of their own."""
    for slot in range(model.n_slots):
        model.trim(slot, 0)
    return run_in(Engine(model, lambda _: None), *sequences)


def run_in(engine: Engine, *sequences: Sequence) -> list[Event]:
    events: list[Event] = []
    engine._emit = events.extend
    for sequence in sequences:
        engine.submit(sequence)
    while engine.step(wait=False):
        pass
    return events


def text(events: list[Event], id: int = 1) -> str:
    return "".join(event.text for event in events if isinstance(event, TextOut) and event.id == id)


def ending(events: list[Event], id: int = 1) -> Finished:
    (found,) = [event for event in events if isinstance(event, Finished) and event.id == id]
    return found


def request(model: Model, id: int, prompt: str, n: int = 30, **options: object) -> Sequence:
    options.setdefault("sampling", GREEDY)
    generation = Generation(Prompt((prompt,)), num_predict=n, **options)  # type: ignore[arg-type]
    return Sequence(id, model.tokenize(prompt), generation)


PROMPTS = {
    1: "ba ke li",
    2: "zu",
    3: "or an ti ba",
    4: "x",
    5: "mo mo mo mo",
    6: "ra",
    7: "is se",
    8: "el",
}


def test_a_request_gets_the_same_alone_and_among_seven_others(model: Model) -> None:
    together = run(model, *(request(model, id, prompt) for id, prompt in PROMPTS.items()))
    for id, prompt in PROMPTS.items():
        alone = run(model, request(model, id, prompt))
        assert text(alone, id) == text(together, id) != ""


def test_a_reused_prefix_changes_nothing(model: Model) -> None:
    first = request(model, 1, "ba ke li mo ra zu " * 5)
    second = request(model, 2, "ba ke li mo ra zu " * 5 + "is or")
    fresh = text(run(model, request(model, 2, "ba ke li mo ra zu " * 5 + "is or")), 2)
    engine = Engine(model, lambda _: None)
    run_in(engine, first)
    reused = run_in(engine, second)
    assert ending(reused, 2).n_cached > 30
    assert text(reused, 2) == fresh


def test_prefill_in_small_batches_changes_nothing(path: Path, model: Model) -> None:
    prompt = "ba ke li mo ra zu " * 10
    small = load(path, n_slots=1, n_batch=7)
    assert text(run(small, request(small, 1, prompt))) == text(
        run(model, request(model, 1, prompt))
    )
    small.close()


def test_a_preempted_sequence_goes_on_where_it_was(model: Model) -> None:
    """The fifth decode finds no room: the younger of two loses its cache and is computed again."""
    alone = {id: text(run(model, request(model, id, PROMPTS[id])), id) for id in (1, 2)}
    decode, calls = model.decode, 0

    def sometimes_full(spans: list[Row]) -> int:
        nonlocal calls
        calls += 1
        return 1 if calls == 5 else decode(spans)

    model.decode = sometimes_full  # type: ignore[method-assign]
    try:
        both = run(model, *(request(model, id, PROMPTS[id]) for id in (1, 2)))
    finally:
        model.decode = decode  # type: ignore[method-assign]
    assert calls > 5
    assert {id: text(both, id) for id in (1, 2)} == alone


def test_a_prefix_copied_from_another_slot_changes_nothing(model: Model) -> None:
    prefix = "ba ke li mo ra zu is or el an ti " * 4
    prompts = {id: prefix + word for id, word in enumerate(("ba", "zu", "or", "mo"), 1)}
    together = run(model, *(request(model, id, prompt) for id, prompt in prompts.items()))
    shared = [ending(together, id).n_cached for id in prompts]
    assert shared[0] == 0 and all(n > 60 for n in shared[1:])
    for id, prompt in prompts.items():
        assert text(run(model, request(model, id, prompt)), id) == text(together, id)


def test_padding_a_gap_changes_nothing(model: Model) -> None:
    """The second of three ends early: from then on its slot is a gap."""
    prompts = {1: "ba ke", 2: "zu", 3: "or an"}
    lengths = {1: 30, 2: 2, 3: 30}
    alone = {
        id: text(run(model, request(model, id, p, n=lengths[id])), id) for id, p in prompts.items()
    }
    engine = Engine(model, lambda _: None)
    for slot in range(model.n_slots):
        model.trim(slot, 0)
    together = run_in(engine, *(request(model, id, p, n=lengths[id]) for id, p in prompts.items()))
    assert {id: text(together, id) for id in prompts} == alone
    again = run_in(engine, request(model, 4, "zu" + alone[2], n=5))
    assert text(again, 4) == text(run(model, request(model, 4, "zu" + alone[2], n=5)), 4)


def test_a_shift_forgets_the_middle_and_the_other_slot_does_not_notice(path: Path) -> None:
    model = load(path, n_ctx=256, n_slots=2)
    prefix = "ba ke li mo ra zu is or el an ti " * 3
    other = request(model, 2, prefix + "zu", n=60)
    alone = text(run(model, request(model, 2, prefix + "zu", n=60)), 2)
    both = run(model, request(model, 1, prefix + "ba", n=400, shift=True), other)
    shifted = ending(both, 1)
    assert shifted.n_prompt + shifted.n_predicted > 256 and shifted.reason == "length"
    assert text(both, 2) == alone
    model.close()


def test_control_tokens_are_shown_where_they_are_asked_for(tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "marks.gguf", ["ba", "<|im_start|>", "ke"])
    model = load(path, n_slots=1)
    mark = model.control_token("<|im_start|>")
    assert mark is not None and model.control_token("ba") is model.control_token("zz") is None
    for shown, wanted in ((frozenset[int](), "bake"), (frozenset({mark}), "ba<|im_start|>ke")):
        sequence = Sequence(1, model.tokenize("x"), Generation(Prompt(("",)), GREEDY), shown=shown)
        assert text(run(model, sequence)) == wanted
    model.close()


def test_cancel_aborts_a_prefill_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    path = random_model(tmp_path / "big.gguf", n_layers=4, n_embd=256, n_ff=1024, n_ctx=4096)
    model = load(path, n_ctx=4096, n_slots=2, n_batch=4096)
    fresh = text(run(model, request(model, 2, "ba ke li", n=10)), 2)
    events: list[Event] = []
    engine = Engine(model, events.extend)
    engine._prefill_rate = 1e6  # so fast that all of the prompt is one batch
    engine.submit(Sequence(1, [5] * 4000, Generation(Prompt(("",)), GREEDY, num_predict=5)))
    decode, statuses = model.decode, []

    def watched(spans: list[Row]) -> int:
        canceller = threading.Timer(0.02, engine.cancel, (1,))
        canceller.start()
        statuses.append(decode(spans))
        canceller.join()
        return statuses[-1]

    model.decode = watched  # type: ignore[method-assign]
    engine.step(wait=False)
    model.decode = decode  # type: ignore[method-assign]
    assert statuses == [2], "aborted"
    after = run_in(engine, request(model, 2, "ba ke li", n=10))
    assert [e.reason for e in [*events, *after] if isinstance(e, Finished) and e.id == 1] == [
        "cancel"
    ]
    assert text(after, 2) == fresh
    model.close()


def test_the_same_seed_gives_the_same_text_and_another_another(model: Model) -> None:
    def sampled(seed: int) -> str:
        return text(run(model, request(model, 1, "ba", sampling=Sampling(seed=seed))))

    assert sampled(1) == sampled(1) != sampled(2)


def test_logprobs_are_those_of_the_raw_logits_sorted(model: Model) -> None:
    events = run(model, request(model, 1, "ba ke", n=4, logprobs=3))
    given = [p for event in events if isinstance(event, TextOut) for p in event.logprobs]
    assert len(given) == 4
    for logprob in given:
        top = [t.logprob for t in logprob.top_logprobs]
        assert len(top) == 3 and top == sorted(top, reverse=True) and top[0] <= 0
        assert logprob.token == logprob.top_logprobs[0].token, "greedy takes the likeliest"
        assert logprob.logprob == top[0]
        assert bytes(logprob.bytes).decode() == logprob.token


def test_a_whole_context_of_each_slot_can_be_used(path: Path) -> None:
    model = load(path, n_ctx=256, n_slots=2)
    events = run(model, request(model, 1, "ba ke", n=-1), request(model, 2, "zu", n=-1))
    for id in (1, 2):
        found = ending(events, id)
        assert found.reason in ("length", "stop")
        if found.reason == "length":
            assert found.n_prompt + found.n_predicted == 257
    model.close()


def test_tokenize_and_back(model: Model) -> None:
    tokens = model.tokenize("ba ke", add_special=False)
    assert model.tokenize("ba ke") == [model.bos, *tokens]
    assert model.detokenize(tokens).strip() == "ba ke"
    assert model.detokenize([]) == ""
    assert model.detokenize([model.bos, *tokens]).startswith("<s>"), "marks of an earlier prompt"
    with pytest.raises(InvalidRequest, match="not in the model's vocabulary"):
        model.detokenize([10**6])


@pytest.mark.parametrize("text_", ["", "\x00", "é👋", "\ud800", " " * 1000])
def test_any_text_can_be_tokenized(model: Model, text_: str) -> None:
    assert model.tokenize(text_)[0] == model.bos


def test_a_script_comes_out_at_any_temperature(tmp_path: Path) -> None:
    script: list[str | bytes] = ["It is ", "é👋".encode()[:3], "é👋".encode()[3:], " done."]
    path = scripted_model(tmp_path / "scripted.gguf", script)
    model = load(path, n_ctx=256, n_slots=2)
    for sampling in (GREEDY, Sampling(temperature=1.0, seed=3)):
        events = run(model, request(model, 1, "Hi", n=-1, sampling=sampling))
        assert text(events) == "It is é👋 done."
        assert ending(events).reason == "stop"
    stopped = run(model, request(model, 1, "Hi", n=-1, stop=("s é👋 d",)))
    assert text(stopped) == "It i" and ending(stopped).reason == "stop"
    model.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"GGUX" + data[4:],
        lambda data: data[:100],
        lambda data: data[:-5000],
        lambda data: b"",
        lambda data: data[:8] + b"\xff" * 8 + data[16:],
    ],
    ids=["magic", "header cut", "data cut", "empty", "huge count"],
)
def test_a_damaged_file_is_a_load_failure_with_a_reason(tmp_path: Path, path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(damage(path.read_bytes()))
    with pytest.raises(LoadFailed, match="cannot be loaded"):
        load(bad)


@pytest.mark.parametrize("kv_type", ["q8_0", "bf16", "f32"])
def test_other_cache_types_work(tmp_path: Path, kv_type: str) -> None:
    path = scripted_model(tmp_path / "scripted.gguf", "One two three.")
    model = Model(plan(path, n_ctx=256, n_slots=2, n_batch=32, kv_type=kv_type, threads=1))
    assert text(run(model, request(model, 1, "Hi", n=-1))) == "One two three."
    model.close()


def test_a_prompt_too_long_is_refused(model: Model) -> None:
    (event,) = run(model, Sequence(1, [5] * 512))
    assert isinstance(event, Refused) and event.kind == "too_long"

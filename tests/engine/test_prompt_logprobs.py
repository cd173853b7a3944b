"""The log probabilities of a prompt's tokens: each once, in order, whatever the cache holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ollamapy.engine.batch import MOST_SCORED
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, PromptRead, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Generation, Prompt, PromptToken, Sampling
from tests.engine.fake import FakeModel
from tests.plans import plan
from tests.small_models import random_model


def scoring(id: int, tokens: list[int], top: int = 0) -> Sequence:
    job = Generation(Prompt(("",)), Sampling(temperature=0), num_predict=2, prompt_logprobs=top)
    return Sequence(id, list(tokens), job)


def run(engine: Engine, events: list[Event], *sequences: Sequence) -> None:
    for sequence in sequences:
        engine.submit(sequence)
    while engine.step(wait=False):
        pass


def scored(events: list[Event], id: int) -> list[PromptToken]:
    return [t for e in events if isinstance(e, PromptRead) and e.id == id for t in e.tokens]


def test_every_token_of_the_prompt_is_reported_once_in_batches_that_are_bounded() -> None:
    model, events = FakeModel(n_ctx=400, n_batch=300), list[Event]()
    engine = Engine(model, events.extend)
    engine._prefill_rate = 1e6
    prompt = [1 + n % 200 for n in range(201)]
    run(engine, events, scoring(1, prompt))
    found = scored(events, 1)
    assert [token.id for token in found] == prompt
    assert found[0].logprob is None and all(token.logprob == -1.0 for token in found[1:])
    assert max(n for batch in model.decoded for _, _, n in batch) == MOST_SCORED
    last = [e for e in events if isinstance(e, PromptRead)][-1]
    assert (last.n_prompt, last.n_cached) == (201, 0)


def test_the_cache_does_not_hide_them_and_others_may_use_what_they_computed() -> None:
    model, events = FakeModel(), list[Event]()
    engine = Engine(model, events.extend)
    prompt = list(range(1, 41))
    plain = Sequence(1, list(prompt), Generation(Prompt(("",)), num_predict=2))
    run(engine, events, plain)
    run(engine, events, scoring(2, prompt))
    assert [token.id for token in scored(events, 2)] == prompt
    run(engine, events, Sequence(3, list(prompt), Generation(Prompt(("",)), num_predict=2)))
    counts = [(e.id, e.n_cached) for e in events if isinstance(e, Finished)]
    assert counts == [(1, 0), (2, 0), (3, 39)]


def test_a_preempted_prompt_reports_each_once() -> None:
    model, events = FakeModel(cells=60), list[Event]()
    engine = Engine(model, events.extend)
    first = Sequence(1, list(range(1, 31)), Generation(Prompt(("",)), num_predict=20))
    run(engine, events, first, scoring(2, list(range(101, 141))))
    assert [token.id for token in scored(events, 2)] == list(range(101, 141))
    assert sum(n for batch in model.decoded for _, start, n in batch if start == 0) > 2 * 16


def test_a_prompt_of_one_token_has_none() -> None:
    model, events = FakeModel(), list[Event]()
    run(Engine(model, events.extend), events, scoring(1, [5]))
    assert scored(events, 1) == [PromptToken(5, chr(5), None)]


def test_an_answer_that_ends_at_once_still_has_an_entry_for_its_first_token() -> None:
    """lm-evaluation-harness leaves out the last entry, whatever it is."""
    model, events = FakeModel(ends_at=3), list[Event]()
    sequence = scoring(1, [5, 6, 7])
    sequence.generation = replace(sequence.generation, logprobs=1)
    run(Engine(model, events.extend), events, sequence)
    assert [len(e.logprobs) for e in events if isinstance(e, TextOut)] == [1]


@pytest.mark.llama
def test_they_are_those_of_the_tokens_one_after_the_other(tmp_path: Path) -> None:
    model = Model(
        plan(random_model(tmp_path / "m.gguf"), n_ctx=256, n_slots=2, n_batch=64, threads=1)
    )
    tokens = model.tokenize("ba ke li mo zu " * 12)
    assert len(tokens) > 30
    expected = []
    for at in range(1, len(tokens)):
        assert model.decode([(0, at - 1, tokens[at - 1 : at], 1)]) == 0
        expected.append(model.logprobs(model.logits(0), tokens[at], 3))
    model.trim(0, 0)
    events: list[Event] = []
    run(Engine(model, events.extend), events, scoring(1, tokens, 3))
    found = scored(events, 1)
    assert [token.id for token in found] == tokens
    for one, other in zip(found[1:], expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=0.02)  # half floats in the cache
        tops = [(t.logprob, t.rank) for t in one.top]
        expected_tops = [(t.logprob, rank) for rank, t in enumerate(other.top_logprobs, 1)]
        assert tops == [pytest.approx(each, abs=0.02) for each in expected_tops]
    model.close()

"""The same tokens whatever the neighbours: the shapes of calls, with a model whose numbers depend on them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollamapy.engine.batch import MOST_SCORED, Span, aligned, calls, plan_alone
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Generation, Prompt
from tests.engine.fake import AlikeModel, ShapedModel
from tests.engine.test_engine import Bench

CUT, N_CTX = 8, 64


Kind = type[ShapedModel]


def alone(prompt: list[int], n: int, cut: int = CUT, kind: Kind = ShapedModel) -> str:
    """The text of a request that has the model for itself."""
    bench = Bench(kind(cut=cut, n_ctx=N_CTX))
    bench.submit(1, prompt, n)
    bench.run()
    return bench.text(1)


def beside(
    prompt: list[int],
    n: int,
    others: list[tuple[int, list[int], int]],
    cut: int = CUT,
    kind: Kind = ShapedModel,
) -> str:
    """The text of a request beside others, each with the step at which it comes, its prompt and its length."""
    bench = Bench(kind(cut=cut, n_ctx=N_CTX))
    waiting = sorted(enumerate(others, 2), key=lambda other: other[1][0])
    for step in range(10_000):
        while waiting and waiting[0][1][0] <= step:
            id, (_, other, length) = waiting.pop(0)
            bench.submit(id, other, length)
        if step == 5:
            bench.submit(1, prompt, n)
        if not bench.engine.step(wait=False) and step > 5 and not waiting:
            return bench.text(1)
    raise AssertionError("the engine does not come to an end")


PROMPTS = st.lists(st.integers(1, 3), min_size=1, max_size=40)
OTHERS = st.lists(st.tuples(st.integers(0, 30), PROMPTS, st.integers(1, 20)), max_size=9)


@pytest.mark.parametrize("kind", [ShapedModel, AlikeModel])
@given(prompt=PROMPTS, n=st.integers(1, 20), others=OTHERS, prefix=st.integers(0, 40))
@example(prompt=[1] * 20, n=9, others=[(0, [1] * 20, 9), (6, [1] * 20, 9)], prefix=20)
def test_a_request_gets_the_tokens_that_it_gets_alone(
    kind: Kind, prompt: list[int], n: int, others: list[tuple[int, list[int], int]], prefix: int
) -> None:
    """Also where others have the beginning of its prompt, before it and at the same time."""
    shared = [(at, prompt[:prefix] + other[: 40 - prefix], length) for at, other, length in others]
    assert beside(prompt, n, [*others, *shared], kind=kind) == alone(prompt, n, kind=kind)


def test_it_would_not_without_that() -> None:
    others = [(0, [2] * 9, 30), (6, [3] * 30, 9)]
    assert beside([1] * 20, 9, others, cut=0) != alone([1] * 20, 9, cut=0)


def test_an_earlier_answer_is_computed_again_as_a_prompt() -> None:
    """It was computed token by token, and the next prompt would have it in pieces."""
    bench = Bench(ShapedModel(cut=CUT, n_ctx=N_CTX))
    prompt = [1, 2] * 5
    bench.submit(1, prompt, 12)
    bench.run()
    longer = [*prompt, *map(ord, bench.text(1)), 3]
    bench.submit(2, longer, 9)
    bench.run()
    assert bench.text(2) == alone(longer, 9)
    assert bench.ending(2).n_cached == aligned(len(prompt), CUT)  # type: ignore[union-attr]


def test_what_a_shift_keeps_of_an_answer_is_not_shared() -> None:
    bench = Bench(ShapedModel(cut=CUT, n_ctx=N_CTX))
    bench.submit(1, [1] * 5, 100, shift=True, num_keep=20)
    bench.run()
    longer = [1] * 5 + [*map(ord, bench.text(1)[:12])]
    bench.submit(2, longer, 9)
    bench.run()
    assert bench.text(2) == alone(longer, 9)


def test_alike_tokens_are_computed_in_one_call() -> None:
    first, second = (Span(sequence(20, 20, 1), 20, 1, True) for _ in range(2))
    again = Span(sequence(3, 4, 3), 4, 1, False)
    prompts = [Span(sequence(20, 8), 8, 8, False), Span(sequence(9, 8), 8, 1, True)]
    spans = [first, *prompts, second, again]
    apart = [[prompts[0]], [prompts[1]]]
    assert calls(spans, alone=False, alike=3) == [spans]
    assert calls(spans, alone=True, alike=1) == [[first], [second], [again], *apart]
    assert calls(spans, alone=True, alike=2) == [[first, second], [again], *apart]
    assert calls(spans, alone=True, alike=8) == [[first, second, again], *apart]
    assert calls(prompts, alone=True, alike=8) == apart


def sequence(n_prompt: int, n_past: int, n_answer: int = 0, **more: object) -> Sequence:
    found = Sequence(1, [1] * n_prompt, Generation(Prompt(("",)), **more))  # type: ignore[arg-type]
    found.tokens += [2] * n_answer
    found.n_past = n_past
    return found


@pytest.mark.parametrize(
    ("given", "piece"),
    [
        (sequence(20, 0), (0, 8, False)),
        (sequence(20, 8), (8, 8, False)),
        (sequence(20, 16), (16, 4, True)),
        (sequence(16, 8), (8, 8, True)),
        (sequence(5, 0), (0, 5, True)),
        (sequence(20, 20, 1), (20, 1, True)),
        (sequence(20, 16, 3), (16, 4, False)),  # preempted: the answer's tokens one by one
        (sequence(20, 20, 3), (20, 1, False)),
    ],
)
def test_the_next_piece(given: Sequence, piece: tuple[int, int, bool]) -> None:
    assert plan_alone([given], CUT, shortest_first=True) == [Span(given, *piece)]


def test_a_prompt_whose_tokens_are_scored_has_pieces_of_its_own_size() -> None:
    scored = sequence(500, 0, prompt_logprobs=1)
    assert plan_alone([scored], 256, shortest_first=True)[0].n == MOST_SCORED


def test_one_prompt_a_step_in_turns() -> None:
    long, short, decoding = sequence(20, 0), sequence(9, 0), sequence(3, 3, 1)
    found = [plan_alone([long, decoding, short], CUT, shortest_first=s) for s in (True, False)]
    assert [[span.sequence for span in spans] for spans in found] == [[decoding, short], [decoding, long]]  # fmt: skip

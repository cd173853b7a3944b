"""Whose text is computed when: the engine over a pooling that notices gaps, overlaps and what is too much."""

from __future__ import annotations

import math
from array import array

import pytest

from ollamapy.engine.embed import EmbedTask, Unembedded, Vectors, finished
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, PromptRead, TextOut
from ollamapy.engine.rows import NO_SLOT, Row
from ollamapy.engine.sequence import Sequence
from ollamapy.errors import InvalidRequest
from ollamapy.types import Generation, Prompt

from .fake import FakeModel, FakePooling


class Bench:
    """An engine whose model pools with ``pooling``; ``events`` has what it said.

    Time is what the work takes: nanoseconds, ``decoding`` for a batch of tokens and ``embedding`` for one of texts.
    """

    def __init__(self, *, decoding: int = 1, embedding: int = 1, **pooling: int | bool) -> None:
        self.model = FakeModel()
        self.model.pooling = FakePooling(**pooling)  # type: ignore[arg-type]
        self.pooling = self.model.pooling
        self.pooling.aborted = lambda: self.model.aborted
        self.now = 0
        self.model.during_decode = lambda: self._takes(decoding)
        self.pooling.during_compute = lambda: self._takes(embedding)
        self.events: list[Event] = []
        self.engine = Engine(self.model, self.events.extend, clock=lambda: self.now)

    def _takes(self, time: int) -> None:
        self.now += time

    def embed(self, id: int, *lengths: int) -> list[list[int]]:
        inputs = [[id * 10 + n] * length for n, length in enumerate(lengths)]
        self.engine.submit(EmbedTask(id, inputs, normalize=False))
        return inputs

    def run(self) -> None:
        for _ in range(1000):
            if not self.engine.step(wait=False):
                return
        raise AssertionError("the engine does not come to an end")

    def ending(self, id: int) -> Event:
        (ending,) = [
            e for e in self.events if not isinstance(e, TextOut | PromptRead) and e.id == id
        ]
        return ending

    def has(self, id: int, inputs: list[list[int]]) -> None:
        """The task has ended well, with the vectors of these inputs."""
        ending = self.ending(id)
        assert isinstance(ending, Vectors), ending
        expected = [number for tokens in inputs for number in (sum(tokens), len(tokens))]
        assert list(array("f", ending.vectors)) == expected
        assert ending.n_tokens == tuple(len(tokens) for tokens in inputs)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("lengths", [(1,), (16,), (5, 1, 16, 3), (7,) * 50])
def test_every_text_gets_its_vector(whole: bool, lengths: tuple[int, ...]) -> None:
    bench = Bench(whole=whole)
    inputs = bench.embed(1, *lengths)
    bench.run()
    bench.has(1, inputs)
    assert not bench.pooling.held


def test_a_text_longer_than_a_batch_comes_in_pieces_or_alone() -> None:
    for whole, batches in ((False, [16, 16, 8]), (True, [40])):
        bench = Bench(whole=whole)
        inputs = bench.embed(1, 40)
        bench.run()
        bench.has(1, inputs)
        assert [sum(len(row[2]) for row in rows) for rows in bench.pooling.computed] == batches


def test_short_texts_of_many_requests_share_a_batch() -> None:
    bench = Bench(n_sequences=8)
    given = {id: bench.embed(id, 2) for id in range(1, 9)}
    bench.run()
    assert len(bench.pooling.computed) == 1
    for id, inputs in given.items():
        bench.has(id, inputs)


def test_one_text_need_not_wait_for_a_thousand() -> None:
    bench = Bench()
    many = bench.embed(1, *[4] * 1000)
    bench.engine.step(wait=False)
    one = bench.embed(2, 4)
    bench.engine.step(wait=False)
    bench.has(2, one)
    assert not [e for e in bench.events if e.id == 1]
    bench.run()
    bench.has(1, many)


def test_a_text_waits_for_no_chunk_of_a_prompt_but_the_one_in_work_and_the_next_ones_are_short() -> (
    None
):
    """A prompt of 5,000 tokens at 1,000 tokens a second."""
    now = 0
    order: list[tuple[str, int]] = []
    model = FakeModel(n_ctx=8192, n_batch=4096)
    decode, compute = model.decode, model.pooling.compute

    def decoding(spans: list[Row]) -> int:
        nonlocal now
        n = sum(len(tokens) for _, _, tokens, _ in spans)
        now += n * 1_000_000
        order.append(("prompt", n))
        return decode(spans)

    def embedding(rows: list[Row]) -> int:
        nonlocal now
        now += 1_000_000
        order.append(("text", sum(len(tokens) for _, _, tokens, _ in rows)))
        return compute(rows)

    model.decode, model.pooling.compute = decoding, embedding  # type: ignore[method-assign]
    engine = Engine(model, lambda _: None, clock=lambda: now)
    engine.submit(Sequence(1, list(range(5000)), Generation(Prompt(("",)), num_predict=1)))
    engine.step(wait=False)
    engine.step(wait=False)
    assert order == [("prompt", 130), ("prompt", 500)], "half a second at most, for what may come"
    for id in (2, 3):
        engine.submit(EmbedTask(id, [[5] * 4], normalize=False))
        engine.step(wait=False)
    assert order[2:] == [("text", 4), ("prompt", 250)] * 2
    while engine.step(wait=False):
        pass
    assert [n for _, n in order[6:]] == [250, 250, 250, 500, 500, 500, 500, 500, 500, 120]


def test_it_takes_turns_with_decoding() -> None:
    bench = Bench()
    inputs = bench.embed(1, *[8] * 20)
    bench.engine.submit(Sequence(2, [5, 6], Generation(Prompt(("",)), num_predict=8)))
    for _ in range(8):
        bench.engine.step(wait=False)
    ending = bench.ending(2)
    assert isinstance(ending, Finished) and ending.n_predicted == 8
    assert len(bench.pooling.computed) == 8, "a batch between any two tokens"
    bench.run()
    bench.has(1, inputs)


def test_decoding_gets_as_much_time() -> None:
    bench = Bench(decoding=1, embedding=10)
    inputs = bench.embed(1, *[8] * 20)
    bench.engine.submit(Sequence(2, [5, 6], Generation(Prompt(("",)), num_predict=50)))
    while not any(isinstance(event, Finished) for event in bench.events):
        bench.engine.step(wait=False)
    assert len(bench.pooling.computed) == 5, "a batch after every tenth token"
    bench.run()
    bench.has(1, inputs)


def test_no_inputs() -> None:
    bench = Bench()
    bench.embed(1)
    bench.run()
    assert bench.ending(1) == Vectors(1, b"", ())


@pytest.mark.parametrize("whole", [False, True])
def test_cancelled_while_it_computes(whole: bool) -> None:
    """Alone, its batch is aborted; with others, theirs is finished."""
    bench = Bench(whole=whole)
    bench.embed(1, 30, 30)
    bench.pooling.during_compute = lambda: bench.engine.cancel(1)
    bench.engine.step(wait=False)
    bench.pooling.during_compute = lambda: None
    assert not bench.pooling.computed
    inputs = bench.embed(2, 5)
    bench.run()
    bench.has(2, inputs)
    ending = bench.ending(1)
    assert isinstance(ending, Finished) and ending.reason == "cancel"
    assert not bench.pooling.held


def test_cancelled_beside_others_and_before_it_begins() -> None:
    bench = Bench()
    bench.embed(1, 6, 6)
    inputs = bench.embed(2, 6, 6)
    bench.engine.step(wait=False)
    bench.engine.cancel(1)
    bench.engine.cancel(99)
    bench.run()
    bench.has(2, inputs)
    bench.embed(3, 6)
    bench.engine.cancel(3)
    bench.run()
    assert [bench.ending(id).id for id in (1, 3)] == [1, 3]
    assert not bench.pooling.held


def test_no_room_in_the_cache_for_several() -> None:
    bench = Bench()
    bench.pooling.statuses = [0, NO_SLOT, NO_SLOT]
    inputs = bench.embed(1, 10, 20, 30, 4)
    bench.run()
    bench.has(1, inputs)


def test_a_fatal_status_ends_the_jobs_of_the_batch_only() -> None:
    bench = Bench(n_batch=4)
    bench.embed(1, 4)
    inputs = bench.embed(2, 4)
    bench.pooling.statuses = [-3]
    bench.run()
    ending = bench.ending(1)
    assert isinstance(ending, Unembedded) and ending.kind == "internal" and "-3" in ending.message
    bench.has(2, inputs)


def test_a_number_that_is_none_ends_its_job_once() -> None:
    bench = Bench()
    bench.pooling.vector = lambda id: [math.nan, 1.0]  # type: ignore[method-assign]
    bench.embed(1, 2, 2, 2)
    bench.run()
    ending = bench.ending(1)
    assert (
        isinstance(ending, Unembedded) and ending.message == "embedding contains NaN or Inf values"
    )
    assert not bench.pooling.held


@pytest.mark.parametrize(
    ("vector", "dimensions", "normalize", "expected"),
    [
        ([3, 4], 0, True, [0.6, 0.8]),
        ([3, 4], 0, False, [3, 4]),
        ([3, 4, 12], 2, True, [0.6, 0.8]),
        ([3, 4, 12], 2, False, [3, 4]),
        ([3, 4], 9, True, [0.6, 0.8]),
        ([-2, 0], 1, True, [-1]),
        ([0, 0], 0, True, [0, 0]),
    ],
)
def test_finished(
    vector: list[float], dimensions: int, normalize: bool, expected: list[float]
) -> None:
    assert list(array("f", finished(vector, dimensions, normalize))) == pytest.approx(expected)


def test_finished_refuses_infinity() -> None:
    with pytest.raises(InvalidRequest, match="NaN or Inf"):
        finished([1, math.inf], 0, False)

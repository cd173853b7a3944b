"""The engine's decisions, as tables."""

from __future__ import annotations

import pytest

from ollamapy.engine.batch import (
    chunk_tokens,
    common_prefix,
    halved,
    pick_slot,
    plan_batch,
    reusable,
)
from ollamapy.engine.sequence import Sequence, Slot


def sequences(*pending: tuple[int, int]) -> list[Sequence]:
    """Sequences with (tokens, n_past)."""
    made = []
    for id, (n, past) in enumerate(pending):
        sequence = Sequence(id, [1] * n)
        sequence.n_past = past
        made.append(sequence)
    return made


PLANS = [
    # running (tokens, committed), n_batch, chunk -> (id, start, count, last)
    ([], 8, 4, []),
    ([(5, 4), (9, 8)], 8, 4, [(0, 4, 1, True), (1, 8, 1, True)]),
    ([(5, 0)], 8, 1, [(0, 0, 5, True)]),
    ([(20, 0)], 8, 1, [(0, 0, 8, False)]),
    ([(20, 16)], 8, 1, [(0, 16, 4, True)]),
    ([(90, 0), (5, 4)], 64, 20, [(1, 4, 1, True), (0, 0, 20, False)]),
    ([(90, 0), (5, 4)], 64, 1, [(1, 4, 1, True), (0, 0, 16, False)]),
    ([(10, 0), (90, 0)], 64, 1, [(0, 0, 10, True), (1, 0, 54, False)]),
    ([(3, 2), (3, 2), (9, 0)], 2, 16, [(0, 2, 1, True), (2, 0, 1, False)]),
]


@pytest.mark.parametrize(("running", "n_batch", "chunk", "plan"), PLANS)
def test_plan_batch(
    running: list[tuple[int, int]],
    n_batch: int,
    chunk: int,
    plan: list[tuple[int, int, int, bool]],
) -> None:
    spans = plan_batch(sequences(*running), n_batch, chunk)
    assert [(s.sequence.id, s.start, s.n, s.last) for s in spans] == plan


def test_halved_keeps_the_first_half_and_ends_at_nothing() -> None:
    spans = plan_batch(sequences((5, 4), (40, 0)), 32, 31)
    while spans := halved(spans):
        assert spans[0].n >= 1
        total = sum(span.n for span in spans)
        assert not any(span.last and span.n != span.sequence.n_pending for span in spans)
    assert total == 1


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [([], [1], 0), ([1], [1], 1), ([1, 2], [1, 3], 1), ([1, 2, 3], [1, 2], 2), ([2], [1], 0)],
)
def test_common_prefix(a: list[int], b: list[int], n: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == n


def test_common_prefix_finds_every_place() -> None:
    a = list(range(50))
    for n in range(50):
        assert common_prefix(a, [*a[:n], -1, *a[n + 1 :]]) == n


def slots(*caches: tuple[int, int]) -> list[Slot]:
    """Slots with (cached tokens 1, 2, 3 ..., last used)."""
    return [Slot(i, list(range(1, n + 1)), None, used) for i, (n, used) in enumerate(caches)]


PICKS = [
    # (cached, last used) of each slot, prompt length -> slot
    ([(0, 0), (0, 0)], 5, 0),
    ([(30, 1), (20, 2)], 50, 0),
    ([(30, 2), (0, 0)], 5, 1),  # five shared of thirty: the other's cache is worth more
    ([(8, 2), (0, 0)], 5, 0),
    ([(30, 2), (30, 1)], 50, 0),
]


@pytest.mark.parametrize(("caches", "wanted", "slot"), PICKS)
def test_pick_slot(caches: list[tuple[int, int]], wanted: int, slot: int) -> None:
    picked = pick_slot(slots(*caches), list(range(1, wanted + 1)))
    assert picked is not None and picked.id == slot


def test_without_a_common_prefix_the_slot_unused_for_longest_is_taken() -> None:
    picked = pick_slot(slots((30, 3), (30, 1), (30, 2)), [99])
    assert picked is not None and picked.id == 1


def test_a_busy_slot_is_never_picked() -> None:
    (slot,) = slots((5, 1))
    slot.sequence = Sequence(1, [1])
    assert pick_slot([slot], [1]) is None


REUSE = [
    # shared, cached, wanted, recurrent, n_swa, pos_min -> kept
    (10, 10, 20, False, 0, 0, 10),
    (20, 20, 20, False, 0, 0, 19),
    (5, 10, 20, True, 0, 0, 0),
    (10, 10, 20, True, 0, 0, 10),
    (20, 20, 20, True, 0, 0, 0),
    (50, 100, 200, False, 8, 92, 0),
    (50, 100, 200, False, 8, 42, 50),
    (50, 100, 200, False, 8, 43, 0),
    (100, 100, 200, False, 8, 92, 100),
]


@pytest.mark.parametrize("row", REUSE)
def test_reusable(row: tuple[int, int, int, bool, int, int, int]) -> None:
    shared, cached, wanted, recurrent, n_swa, pos_min, kept = row
    assert (
        reusable(shared, cached, wanted, recurrent=recurrent, n_swa=n_swa, pos_min=pos_min) == kept
    )


def test_chunks_follow_the_measured_speed() -> None:
    assert chunk_tokens(0, 0.25, 64) == 64
    assert chunk_tokens(1000, 0.25, 64) == 250
    assert chunk_tokens(1, 0.25, 64) == 16

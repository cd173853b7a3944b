"""The engine's decisions, as tables."""

from __future__ import annotations

import pytest

from ollamapy.engine.batch import (
    best_donor,
    chunk_tokens,
    gaps,
    halved,
    place,
    plan_batch,
    reusable,
    shift_cut,
    truncated,
)
from ollamapy.engine.sequence import Sequence, Slot
from ollamapy.prefix import common_prefix


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
    ([(10, 0), (90, 0)], 64, 10, [(0, 0, 10, True)]),
    ([(90, 0), (90, 0)], 64, 64, [(0, 0, 64, False)]),
    # half for the one that lacks least
    ([(900, 0), (300, 0), (200, 0)], 512, 130, [(2, 0, 65, False), (0, 0, 65, False)]),
    ([(900, 0), (20, 0)], 512, 130, [(1, 0, 20, True), (0, 0, 110, False)]),
    # no piece of fewer than 65 beside another, unless it is the end of a prompt
    ([(90, 0), (20, 0)], 64, 64, [(1, 0, 20, True)]),
    ([(900, 0), (20, 0)], 512, 84, [(1, 0, 20, True)]),
    ([(900, 0), (20, 0)], 512, 85, [(1, 0, 20, True), (0, 0, 65, False)]),
    ([(90, 30), (30, 0), (70, 0)], 512, 94, [(1, 0, 30, True), (0, 30, 60, True)]),
    # room for one only goes to the one that lacks least
    ([(900, 0), (300, 0), (200, 0)], 512, 129, [(2, 0, 129, False)]),
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


def test_room_for_one_prompt_goes_to_the_first_where_it_is_its_turn() -> None:
    spans = plan_batch(sequences((900, 0), (300, 0), (5, 4)), 512, 65, shortest_first=False)
    assert [(span.sequence.id, span.n) for span in spans] == [(2, 1), (0, 65)]


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


PLACES = [
    # (cached, last used) of each free slot, prompt length -> slot, donor, shared
    ([(0, 0), (0, 0)], 5, (0, None, 0)),
    ([(30, 1), (20, 2)], 50, (0, 0, 30)),  # goes on where the conversation was
    ([(30, 2), (0, 0)], 5, (1, None, 0)),  # five shared of thirty: not worth a copy
    ([(8, 2), (0, 0)], 5, (0, 0, 5)),
    ([(30, 2), (30, 1)], 50, (0, 0, 30)),
    ([(90, 2), (0, 0)], 60, (1, 0, 59)),  # the other conversation keeps its tail
    ([(90, 2), (70, 1)], 60, (0, 0, 60)),  # no slot is unused: most of this one is the prefix
    ([(200, 2), (70, 1)], 60, (1, 1, 60)),
    ([(200, 2)], 60, (0, 0, 60)),
]


@pytest.mark.parametrize(("caches", "wanted", "expected"), PLACES)
def test_place(
    caches: list[tuple[int, int]], wanted: int, expected: tuple[int, int | None, int]
) -> None:
    placed = place(slots(*caches), list(range(1, wanted + 1)), shares=True)
    assert placed is not None
    donor = placed.donor.id if placed.donor else None
    assert (placed.slot.id, donor, placed.shared) == expected


def test_without_a_common_prefix_the_slot_unused_for_longest_is_taken() -> None:
    placed = place(slots((30, 3), (30, 1), (30, 2)), [99], shares=True)
    assert placed is not None and placed.slot.id == 1


def busy(slot: Slot, tokens: list[int]) -> Slot:
    """The slot with a sequence that has these tokens and none of them computed."""
    slot.sequence = Sequence(1, tokens)
    return slot


def test_a_busy_slot_is_never_taken() -> None:
    (slot,) = slots((5, 1))
    assert place([busy(slot, [1])], [1], shares=True) is None


def test_a_prefix_that_is_just_being_computed_is_shared() -> None:
    first, second = slots((0, 0), (0, 0))
    busy(first, list(range(1, 41)))
    placed = place([first, second], [*range(1, 31), 99], shares=True)
    assert placed is not None
    assert (placed.slot, placed.donor, placed.shared) == (second, first, 30)


def test_a_recurrent_state_is_never_copied() -> None:
    first, second = slots((0, 0), (0, 0))
    busy(first, list(range(1, 41)))
    placed = place([first, second], [*range(1, 31), 99], shares=False)
    assert placed is not None and placed.donor is None


def test_a_follower_holds_nothing_to_share_yet() -> None:
    first, second = slots((0, 0), (0, 0))
    busy(first, list(range(1, 41)))
    assert first.sequence is not None
    first.sequence.leader = Sequence(2, [1])
    assert best_donor([first, second], second, list(range(1, 41))) == (None, 0)


@pytest.mark.parametrize(
    ("slots_", "padding"),
    [
        ([], []),
        ([3], []),
        ([0, 1, 2], []),
        ([0, 1, 3], [2]),
        ([0, 5], [1, 2, 3, 4]),
        ([0, 6], []),
        ([1, 3, 9, 11], [2, 10]),
    ],
)
def test_gaps(slots_: list[int], padding: list[int]) -> None:
    assert gaps(slots_) == padding


CUTS = [
    # n_ctx, n_past, num_keep, n_prompt, adds_bos -> kept, discarded
    (64, 63, 4, 10, True, 5, 29),
    (64, 63, 0, 10, False, 0, 31),
    (64, 63, -1, 10, True, 11, 26),
    (64, 63, 999, 10, True, 60, 1),
]


@pytest.mark.parametrize("row", CUTS)
def test_shift_cut(row: tuple[int, int, int, int, bool, int, int]) -> None:
    n_ctx, n_past, num_keep, n_prompt, adds_bos, keep, discard = row
    assert shift_cut(n_ctx, n_past, num_keep, n_prompt, adds_bos) == (keep, discard)


@pytest.mark.parametrize(
    ("n", "n_ctx", "num_keep", "left"),
    [(12029, 2048, 4, 1027), (182, 64, 4, 35), (99, 64, 900, 62)],
)
def test_truncated_keeps_both_ends(n: int, n_ctx: int, num_keep: int, left: int) -> None:
    cut = truncated(list(range(n)), n_ctx, num_keep, True)
    assert len(cut) == left and cut[:5] == [0, 1, 2, 3, 4] and cut[-1] == n - 1


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
    assert chunk_tokens(1, 0.25, 64) == 65
    assert chunk_tokens(200, 0.25, 64) == 65, "50 would be in the slow kernel"

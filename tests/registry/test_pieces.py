"""The bookkeeping of pieces: nothing twice, nothing forgotten, whatever happens in between."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.registry.pieces import (
    MIB,
    Flow,
    Pieces,
    Ramp,
    Segment,
    laggards,
    piece_size,
    plan,
    tidy,
    usual_rate,
    widen,
)

sizes = st.integers(0, 500)
wild = st.lists(st.builds(Segment, st.integers(-5, 520), st.integers(-5, 520), st.just(0)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 8), (256 * MIB - 1, 8), (256 * MIB, 16), (2**31, 32), (2**34, 64), (2**40, 64)],
)
def test_large_files_have_large_pieces(size: int, expected: int) -> None:
    assert piece_size(size) == expected * MIB


@given(sizes, st.integers(1, 60), wild)
def test_the_plan_and_what_is_there_make_the_file(
    size: int, piece: int, segments: list[Segment]
) -> None:
    kept = tidy(segments, size)
    missing = plan(size, piece, kept)
    assert missing == sorted(missing)
    runs = sorted([*((each.start, each.end) for each in kept), *missing])
    assert [byte for start, end in runs for byte in range(start, end)] == list(range(size))
    assert all(0 < end - start <= piece for start, end in missing)
    assert all(start // piece == (end - 1) // piece for start, end in missing)


def test_of_segments_that_overlap_the_first_and_longest_is_kept() -> None:
    given_ = [Segment(5, 10, 1), Segment(0, 6, 2), Segment(0, 4, 3), Segment(90, 101, 4)]
    assert tidy(given_, 100) == [Segment(0, 6, 2)]


@given(
    sizes,
    st.integers(1, 60),
    wild,
    st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_any_life_of_a_download_ends_with_every_byte_once(
    size: int, piece: int, segments: list[Segment], chance: random.Random
) -> None:
    """Spans are taken, filled a little, given back, split and rejected, in any order."""
    pieces = Pieces(size, piece, segments)
    rejected: set[int] = set()
    for _ in range(5000):
        if pieces.complete:
            break
        active = pieces.active
        action = chance.random()
        if not active or action < 0.3:
            pieces.take(chance.choice([1, piece, size or 1]))
        elif action < 0.8:
            span = chance.choice(active)
            pieces.advance(span, chance.randint(0, span.left), 0)
        elif action < 0.95:
            pieces.release(chance.choice(active))
        else:
            done = [each.start for each in pieces.segments() if pieces.is_unchecked(each.start)]
            for start in done[:1]:
                rejected.add(start)
                pieces.reject(start)
        runs = [(each.start, each.end) for each in pieces.segments()]
        assert all(a[1] <= b[0] for a, b in zip(runs, runs[1:], strict=False))
        assert pieces.present == sum(end - start for start, end in runs)
    assert pieces.complete and pieces.present == size
    assert all(not pieces.is_unchecked(start) for start in rejected)
    position = 0
    while position < size:
        found = pieces.reach(position)
        assert found is not None and found[1] is not None
        position = found[0]


def test_the_lowest_bytes_come_first_and_neighbours_are_joined() -> None:
    pieces = Pieces(100, 10)
    first, second = pieces.take(10), pieces.take(10)
    assert first and second and (first.start, second.start) == (0, 10)
    pieces.advance(first, 4, 7)
    pieces.release(first)
    again = pieces.take(100)
    assert again and (again.start, again.end) == (4, 10)  # up to what another has
    pieces.release(second)
    rest = pieces.take(100)
    assert rest and (rest.start, rest.end) == (10, 100)


def test_an_idle_connection_gets_half_of_the_slowest_span() -> None:
    pieces = Pieces(64 * MIB, 32 * MIB)
    slow, fast = pieces.take(32 * MIB), pieces.take(32 * MIB)
    assert slow and fast
    pieces.advance(slow, 8 * MIB, 0)
    half = pieces.split({slow.start: 1e6, fast.start: 1e8})
    assert half and (half.start, half.end) == (20 * MIB, 32 * MIB)
    assert (slow.position, slow.end) == (8 * MIB, 20 * MIB)


@pytest.mark.parametrize(
    ("left", "rate", "splits"),
    [
        (4 * MIB, 1e9, True),  # large enough in any case
        (4 * MIB - 1, 1e9, False),
        (MIB, 1e5, True),  # small, but it would take ten seconds
        (MIB, 0.0, False),  # has not begun: nobody knows
        (200_000, 1e3, False),
    ],
)
def test_small_rests_are_split_only_when_they_would_take_long(
    left: int, rate: float, splits: bool
) -> None:
    pieces = Pieces(left, 8 * MIB)
    span = pieces.take(8 * MIB)
    assert span
    assert (pieces.split({0: rate}) is not None) == splits


@pytest.mark.parametrize(
    ("ramp", "rate", "expected"),
    [
        (Ramp(2, 0.0), 100.0, Ramp(4, 100.0)),
        (Ramp(4, 100.0), 190.0, Ramp(8, 190.0)),
        (Ramp(4, 100.0), 124.0, Ramp(4, 124.0, settled=True)),
        (Ramp(4, 100.0, settled=True), 900.0, Ramp(4, 900.0, settled=True)),
        (Ramp(8, 100.0), 190.0, Ramp(8, 190.0)),
    ],
)
def test_connections_double_while_that_pays(ramp: Ramp, rate: float, expected: Ramp) -> None:
    assert widen(ramp, rate, 8) == expected


USUAL = [Flow(1, 1000.0, 10_000)] * 4
SLOW = Flow(9, 50.0, 10_000)


@pytest.mark.parametrize(
    ("flows", "before", "cut"),
    [
        ([*USUAL, SLOW], 0, [4]),
        ([Flow(9, 0.0, 10_000), *USUAL], 0, [0]),
        ([*USUAL, Flow(9, 150.0, 10_000)], 0, []),  # slow, but not a tenth
        ([*USUAL, Flow(4, 50.0, 10_000)], 0, []),  # has only begun
        ([*USUAL, Flow(9, 50.0, 100)], 0, []),  # in nobody's way
        ([*USUAL[:1], SLOW], 0, []),  # nobody to compare with
        ([SLOW], 1000, [0]),  # but for those that are done
        ([Flow(9, 900.0, 10_000)], 1000, []),
    ],
)
def test_a_connection_is_replaced_when_it_holds_up_the_rest(
    flows: list[Flow], before: float, cut: list[int]
) -> None:
    left = 50_000 if len(flows) > 1 else 10_000
    assert laggards(flows, left, 5, usual_rate(flows, before)) == cut

"""Which bytes of a file are on the disk, which are being fetched and which are still missing.

    0                                                                                        size
    |== done, crc ==|== done, crc ==|== active ==>........|== done ==|== active =>....|  waiting |
    ^ hashed up to here             ^ start     ^ position ^ end

A *segment* is a finished run of bytes with its checksum, a *span* one that a connection fills.
Bytes are handed out in ascending order, so the hash of the whole file can follow close behind. Pure
bookkeeping and decisions: no clock, no disk, no threads; the caller holds a lock.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIB = 2**20
_SMALLEST_SPLIT = 2 * MIB
MAX_CUTS = 3
"""How often a span may get a new connection because its own was slow."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes [start, end) that are on the disk, and their crc32."""

    start: int
    end: int
    crc: int


@dataclass(slots=True, eq=False)
class Span:
    """Bytes [start, end) given to one connection; [start, position) are on the disk, with `crc`."""

    start: int
    end: int
    position: int
    crc: int = 0
    cuts: int = 0

    @property
    def left(self) -> int:
        return self.end - self.position


def piece_size(size: int) -> int:
    """Bytes to request at a time, for a file of that size."""
    for limit, piece in ((256 * MIB, 8 * MIB), (2**31, 16 * MIB), (2**34, 32 * MIB)):
        if size < limit:
            return piece
    return 64 * MIB


def tidy(segments: Iterable[Segment], size: int) -> list[Segment]:
    """The segments that are consistent, ascending: inside the file and without overlaps."""
    kept: list[Segment] = []
    for segment in sorted(segments, key=lambda each: (each.start, -each.end)):
        after = kept[-1].end if kept else 0
        if after <= segment.start < segment.end <= size:
            kept.append(segment)
    return kept


def plan(size: int, piece: int, segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """The missing ranges between tidy segments, ascending, cut at multiples of the piece size."""
    missing: list[tuple[int, int]] = []
    position = 0
    for start, end in [*((each.start, each.end) for each in segments), (size, size)]:
        while position < start:
            edge = min(start, (position // piece + 1) * piece)
            missing.append((position, edge))
            position = edge
        position = end
    return missing


class Pieces:
    """The state of one file of `size` bytes, begun with the `segments` of an earlier run."""

    def __init__(self, size: int, piece: int, segments: Iterable[Segment] = ()) -> None:
        kept = tidy(segments, size)
        self.size = size
        self.piece = piece
        self.present = sum(each.end - each.start for each in kept)
        self._done = {each.start: each for each in kept}
        self._unchecked = {each.start for each in kept}
        self._waiting = plan(size, piece, kept)  # ascending, hence a heap
        self._active: dict[int, Span] = {}

    @property
    def complete(self) -> bool:
        return not self._waiting and not self._active

    @property
    def active(self) -> list[Span]:
        return list(self._active.values())

    def take(self, longest: int) -> Span | None:
        """Take the lowest missing range, joined with its neighbours, of at most `longest` bytes; None if none."""
        if not self._waiting:
            return None
        start, end = heapq.heappop(self._waiting)
        while self._waiting and self._waiting[0][0] == end and end - start < longest:
            end = heapq.heappop(self._waiting)[1]
        if end - start > longest:
            heapq.heappush(self._waiting, (start + longest, end))
            end = start + longest
        return self._begin(start, end)

    def advance(self, span: Span, length: int, crc: int) -> None:
        """Record that `length` more bytes of a span are on the disk; `crc` is the checksum of all its bytes."""
        span.position += length
        span.crc = crc
        self.present += length

    def release(self, span: Span) -> None:
        """End a span: what was received becomes a segment, the rest is missing again."""
        del self._active[span.start]
        if span.position > span.start:
            self._done[span.start] = Segment(span.start, span.position, span.crc)
        if span.left:
            heapq.heappush(self._waiting, (span.position, span.end))

    def split(self, rates: dict[int, float]) -> Span | None:
        """Take the second half of the span that would take longest, for an idle connection.

        `rates` are bytes a second by a span's start. None if every half is too small.
        """
        slowest = max(self._active.values(), key=lambda each: _seconds(each, rates), default=None)
        if slowest is None:
            return None
        known = rates.get(slowest.start, 0.0) > 0  # a new connection may be fast
        long = known and slowest.left >= 256 * 1024 and _seconds(slowest, rates) > 3
        if slowest.left < 2 * _SMALLEST_SPLIT and not long:
            return None
        middle, end = slowest.position + slowest.left // 2, slowest.end
        slowest.end = middle
        return self._begin(middle, end)

    def reject(self, start: int) -> None:
        """Fetch the segment that begins there again: its checksum does not match."""
        segment = self._done.pop(start)
        self._unchecked.discard(start)
        self.present -= segment.end - segment.start
        heapq.heappush(self._waiting, (segment.start, segment.end))

    def reach(self, start: int) -> tuple[int, Segment | None] | None:
        """Where the bytes of the segment or span that begins there end: (end, segment if complete)."""
        if segment := self._done.get(start):
            return segment.end, segment
        if span := self._active.get(start):
            return span.position, None
        return None

    def is_unchecked(self, start: int) -> bool:
        """Whether a segment is from an earlier run and not verified yet."""
        return start in self._unchecked

    def segments(self) -> list[Segment]:
        """Everything on the disk, ascending; spans up to their position."""
        heads = [
            Segment(span.start, span.position, span.crc)
            for span in self._active.values()
            if span.position > span.start
        ]
        return sorted([*self._done.values(), *heads], key=lambda each: each.start)

    def _begin(self, start: int, end: int) -> Span:
        span = Span(start, end, start)
        self._active[start] = span
        return span


def _seconds(span: Span, rates: dict[int, float]) -> float:
    return span.left / max(rates.get(span.start, 0.0), 1.0)


# How many connections, and which to replace


@dataclass(frozen=True, slots=True)
class Ramp:
    """The number of connections, and their total speed (bytes a second) before the last change."""

    width: int = 1
    rate: float = 0.0
    settled: bool = False


def widen(ramp: Ramp, rate: float, most: int) -> Ramp:
    """Double the connections while the last doubling raised the speed by a quarter; else keep them.

    On a saturated line, more connections only take bandwidth from others.
    """
    if ramp.settled or ramp.width >= most:
        return Ramp(min(ramp.width, most), rate, ramp.settled)
    if ramp.rate and rate < 1.25 * ramp.rate:
        return Ramp(ramp.width, rate, settled=True)
    return Ramp(min(2 * ramp.width, most), rate)


@dataclass(frozen=True, slots=True)
class Flow:
    """One connection at work: seconds since it was opened, bytes a second, bytes still to come."""

    age: float
    rate: float
    left: int


def usual_rate(flows: Sequence[Flow], before: float) -> float:
    """The usual speed of a connection, bytes a second: the median of three or more, else as before."""
    known = [each.rate for each in flows if each.rate > 0]
    return statistics.median(known) if len(known) >= 3 else before


def laggards(flows: Sequence[Flow], left: int, slow_after: float, usual: float) -> list[int]:
    """The connections to replace, as indices: those at a tenth of the usual speed that delay the end.

    Such a connection needs three times as long as all together for the `left` bytes of the file, or, as
    the last one, as a usual connection. Connections younger than `slow_after` seconds are spared.
    """
    total = max(sum(each.rate for each in flows), usual)
    return [
        number
        for number, each in enumerate(flows)
        if each.age >= slow_after
        and each.rate < usual / 10
        and each.left * total > 3 * left * max(each.rate, 1.0)
    ]

"""The engine's decisions, as functions from values to values: which slot, which tokens next, how many at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .sequence import Sequence, Slot

MIN_REUSE = 16
"""A shorter common prefix (a BOS and a few words) is not worth destroying another conversation's cache for."""

MIN_CHUNK = 16
"""Tokens: prefill never goes on in smaller pieces than this, however slow the machine."""


class Span(NamedTuple):
    """Tokens [start, start + n) of a sequence go into the next batch; ``last``: the logits of the last one are wanted."""

    sequence: Sequence
    start: int
    n: int
    last: bool


def plan_batch(running: Iterable[Sequence], n_batch: int, chunk: int) -> list[Span]:
    """The next batch: every decoding sequence gets its one token, prompts fill the rest in order of admission.

    ``n_batch`` bounds the whole batch; ``chunk`` bounds the prompt tokens while others decode.
    """
    spans = []
    prefills = []
    for sequence in running:
        n = len(sequence.tokens) - sequence.n_past
        if n == 1:
            spans.append(Span(sequence, sequence.n_past, 1, True))
        else:
            prefills.append(sequence)
    if not prefills:
        return spans[:n_batch]
    spans = spans[: max(n_batch - 1, 0)]
    room = n_batch - len(spans)
    if spans:
        room = min(room, max(chunk, MIN_CHUNK))
    for sequence in prefills:
        if room <= 0:
            break
        n = min(sequence.n_pending, room)
        spans.append(Span(sequence, sequence.n_past, n, n == sequence.n_pending))
        room -= n
    return spans


def halved(spans: list[Span]) -> list[Span]:
    """The first half of a batch, for when the whole does not find room; empty when it is one token already."""
    total = sum(span.n for span in spans)
    if total <= 1:
        return []
    room, kept = total // 2, []
    for span in spans:
        n = min(span.n, room)
        if n == 0:
            break
        kept.append(span._replace(n=n, last=span.last and n == span.n))
        room -= n
    return kept


def chunk_tokens(rate: float, seconds: float, default: int) -> int:
    """How many prompt tokens fit in ``seconds`` at a measured ``rate`` (tokens a second; 0 = not measured yet)."""
    return max(int(rate * seconds), MIN_CHUNK) if rate else default


def common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the longest common prefix, compared in C by halves."""
    high = min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def pick_slot(slots: Iterable[Slot], tokens: list[int]) -> Slot | None:
    """The free slot whose cache has the longest prefix of ``tokens``, else the one unused for longest; None: all busy.

    A prefix counts when it is long, or when it is most of what the slot holds (then little is lost).
    """
    free = [slot for slot in slots if slot.sequence is None]
    if not free:
        return None
    best, best_shared = None, 0
    for slot in free:
        shared = common_prefix(slot.cached, tokens)
        worth = shared >= MIN_REUSE or shared * 2 > len(slot.cached)
        if worth and shared > best_shared:
            best, best_shared = slot, shared
    return best or min(free, key=lambda slot: (slot.last_used, slot.id))


def reusable(
    shared: int, cached: int, wanted: int, *, recurrent: bool, n_swa: int, pos_min: int
) -> int:
    """How many tokens of a slot's cache the next prompt may keep.

    ``shared``: common prefix; ``cached``: tokens in the slot; ``wanted``: length of the prompt, whose last token is always
    computed. A recurrent state cannot go back, so it is reused only at exactly the same end. A sliding window
    (``n_swa`` > 0) has forgotten what lies before ``pos_min``, though llama.cpp would trim it without complaint.
    """
    keep = min(shared, wanted - 1)
    if recurrent:
        return keep if keep == cached else 0
    if n_swa > 0 and keep < cached and pos_min > max(0, keep - n_swa):
        return 0
    return keep

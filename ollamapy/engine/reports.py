"""What requests wait for before their first token, as reports: their places in the queue, and how far their prompts are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..types import Prefill, Queued
from .events import Progressed
from .sequence import Sequence

REPORT_NS = 250_000_000
"""Nanoseconds between two reports about a request."""


def of_queue(waiting: Iterable[Sequence], now: int) -> Iterator[Progressed]:
    """The places of the sequences that wait for a slot; not those of preempted ones, which have begun."""
    for position, sequence in enumerate(waiting, 1):
        if sequence.generation.progress and not sequence.n_predicted:
            yield from _report(sequence, Queued(position), now)


def of_prefill(sequence: Sequence, running: Iterable[Sequence], now: int) -> Iterator[Progressed]:
    """How far the prompt of a sequence is, and those of its followers with it."""
    followers = [each for each in running if each.leader is sequence]
    for each in (sequence, *followers):
        if each.generation.progress and not each.n_predicted:
            n = each.n_prompt
            fraction = min(sequence.n_past / n, 1.0)
            yield from _report(each, Prefill(fraction, n, each.n_cached), now)


def _report(sequence: Sequence, waiting: Queued | Prefill, now: int) -> Iterator[Progressed]:
    """What a sequence waits for, if that is new and the last report is not of a moment ago."""
    if waiting == sequence.reported:
        return
    if sequence.reported is None or now - sequence.reported_at >= REPORT_NS:
        sequence.reported, sequence.reported_at = waiting, now
        yield Progressed(sequence.id, waiting)

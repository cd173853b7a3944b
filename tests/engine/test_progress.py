"""What the engine reports of a request before its first token: its place in the queue, and how far its prompt is."""

from __future__ import annotations

from ollamapy.engine.events import Progressed, TextOut
from ollamapy.engine.reports import REPORT_NS
from ollamapy.types import Prefill, Queued
from tests.engine.fake import FakeModel
from tests.engine.test_engine import Bench


class SlowBench(Bench):
    """Time moves a whole pause between reports a call, so that no report is left out for being too early."""

    def clock(self) -> int:
        self.now += REPORT_NS
        return self.now


def reports(bench: Bench, id: int) -> list[Queued | Prefill]:
    return [e.waiting for e in bench.events if isinstance(e, Progressed) and e.id == id]


def long(first: int, n: int = 100) -> list[int]:
    return [first, *range(1, n)]


def test_a_prompt_is_reported_after_each_of_its_batches_but_the_last() -> None:
    bench = SlowBench(FakeModel(n_ctx=256, n_batch=40))
    bench.submit(1, long(7), progress=True)
    bench.run()
    found = reports(bench, 1)
    fractions = [each.fraction for each in found if isinstance(each, Prefill)]
    assert len(fractions) == len(found) >= 2
    assert fractions == sorted(set(fractions)) and 0 < fractions[0] and fractions[-1] < 1
    assert all(
        (each.tokens, each.cached) == (100, 0) for each in found if isinstance(each, Prefill)
    )
    kinds = [type(event) for event in bench.events]
    assert Progressed not in kinds[kinds.index(TextOut) :]


def test_tokens_that_were_cached_count_as_computed() -> None:
    bench = SlowBench(FakeModel(n_ctx=256, n_batch=40))
    bench.submit(1, long(7, 50), n=1)
    bench.run()
    bench.submit(2, long(7), progress=True)
    bench.run()
    first = reports(bench, 2)[0]
    assert isinstance(first, Prefill) and first.cached == 50
    assert 0.5 < first.fraction < 1


def test_reports_come_at_a_pace() -> None:
    """The clock of a Bench moves a millisecond a call, so all of this takes a part of a pause."""
    bench = Bench(FakeModel(n_ctx=256, n_batch=8))
    bench.submit(1, long(7), progress=True)
    bench.run()
    assert bench.now < REPORT_NS and len(reports(bench, 1)) == 1


def test_who_does_not_ask_is_not_told() -> None:
    bench = SlowBench(FakeModel(n_slots=1, n_ctx=256, n_batch=8))
    bench.submit(1, long(7))
    bench.submit(2, long(8))
    bench.run()
    assert not [event for event in bench.events if isinstance(event, Progressed)]


def test_a_short_prompt_has_nothing_to_report() -> None:
    bench = SlowBench(FakeModel())
    bench.submit(1, [1, 2, 3], progress=True)
    bench.run()
    assert reports(bench, 1) == []


def test_the_places_of_those_that_wait_for_a_slot() -> None:
    bench = SlowBench(FakeModel(n_slots=1))
    for id in (1, 2, 3):
        bench.submit(id, [id, 9, 9], progress=True)
    bench.run()
    assert [reports(bench, id) for id in (1, 2, 3)] == [[], [Queued(1)], [Queued(2), Queued(1)]]


def test_a_place_is_that_of_the_caller_also_behind_those_that_do_not_ask() -> None:
    bench = SlowBench(FakeModel(n_slots=1))
    for id in (1, 2, 3):
        bench.submit(id, [id, 9, 9], progress=id == 3)
    bench.engine.step(wait=False)
    bench.engine.cancel(2)
    bench.run()
    assert reports(bench, 3) == [Queued(2), Queued(1)]


def test_who_follows_another_prompt_is_told_how_far_that_is() -> None:
    bench = SlowBench(FakeModel(n_slots=2, n_ctx=256, n_batch=40))
    bench.submit(1, [*long(7), 1])
    bench.submit(2, [*long(7), 2], progress=True)
    bench.run()
    found = reports(bench, 2)
    fractions = [each.fraction for each in found if isinstance(each, Prefill)]
    assert len(fractions) >= 2 and fractions == sorted(fractions)

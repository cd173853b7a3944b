"""A context of another size in the middle of the work, over a model whose next token is a function of the prefix."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ollamapy.engine.engine import ResizeTask
from ollamapy.engine.events import Finished, Outgrown, Refused, Resized
from tests.engine.fake import FakeModel
from tests.engine.test_engine import Bench, expected
from tests.plans import plan
from tests.served import PATIENCE

A, B, C = ([n, *range(20, 40), n] for n in (1, 2, 3))


def resize(bench: Bench, n_slots: int, n_ctx: int = 64, **more: Any) -> Resized | Refused:
    """Order another size, compute one step, and return what is reported."""
    bench.engine.submit(ResizeTask(99, plan("m", n_ctx, n_slots, n_batch=16, **more)))
    bench.engine.step(wait=False)
    found = [each for each in bench.events if isinstance(each, Resized | Refused) and each.id == 99]
    return found[-1]


def end(bench: Bench, id: int) -> Finished:
    found = bench.ending(id)
    assert isinstance(found, Finished)
    return found


@pytest.mark.parametrize("steps", range(8))
def test_running_requests_go_on_with_more_slots_and_waiting_ones_begin(steps: int) -> None:
    """After so many steps: in the middle of the prompt and of the answer."""
    bench = Bench(FakeModel(n_slots=1))
    for id, prompt in enumerate((A, B, C), 1):
        bench.submit(id, prompt, n=9)
    for _ in range(steps):
        bench.engine.step(wait=False)
    assert resize(bench, 3) == Resized(99, 64, 3)
    assert {slot for slot, _, _ in bench.model.decoded[-1]} >= {0}
    bench.run()
    assert [bench.text(id) for id in (1, 2, 3)] == [expected(prompt, 9) for prompt in (A, B, C)]
    assert bench.model.samplers == 0
    n_tokens = sum(n for batch in bench.model.decoded for _, _, n in batch)
    assert n_tokens <= 3 * (len(A) + 9), "nothing is computed twice"


def test_a_request_that_cannot_be_moved_is_prefilled_again() -> None:
    bench = Bench(FakeModel(n_slots=2))
    bench.submit(1, A, n=9)
    bench.submit(2, B, n=9)
    for _ in range(5):
        bench.engine.step(wait=False)
    bench.model.immovable = {0, 1}
    resize(bench, 4)
    bench.run()
    assert [bench.text(1), bench.text(2)] == [expected(A, 9), expected(B, 9)]
    assert end(bench, 1).n_predicted == 9


def test_more_requests_than_slots_wait_and_end_well() -> None:
    bench = Bench(FakeModel(n_slots=3))
    for id, prompt in enumerate((A, B, C), 1):
        bench.submit(id, prompt, n=9)
    for _ in range(6):
        bench.engine.step(wait=False)
    resize(bench, 1)
    bench.run()
    assert [bench.text(id) for id in (1, 2, 3)] == [expected(prompt, 9) for prompt in (A, B, C)]


def test_followers_of_a_prompt_that_is_moved() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=128))
    prompt = [*range(1, 61)]
    bench.submit(1, [*prompt, 7], n=4)
    bench.submit(2, [*prompt, 8], n=4)
    bench.engine.step(wait=False)
    resize(bench, 3, n_ctx=128)
    bench.run()
    assert [bench.text(1), bench.text(2)] == [expected([*prompt, 7], 4), expected([*prompt, 8], 4)]
    assert end(bench, 2).n_cached == 60


def test_the_slots_used_last_are_kept() -> None:
    bench = Bench(FakeModel(n_slots=3))
    for id, prompt in enumerate((A, B, C), 1):
        bench.submit(id, prompt)
        bench.run()
    resize(bench, 2)
    for id, prompt in enumerate((C, B, A), 4):
        bench.submit(id, [*prompt, 77])
        bench.run()
    assert [end(bench, id).n_cached for id in (4, 5, 6)] == [len(C), len(B), 0]
    assert [bench.text(id) for id in (4, 5, 6)] == [expected([*p, 77], 5) for p in (C, B, A)]


def test_a_longer_context_takes_a_longer_prompt() -> None:
    bench = Bench(FakeModel(n_slots=1))
    bench.submit(1, A, n=9)
    bench.engine.step(wait=False)
    resize(bench, 1, n_ctx=256)
    long = [*range(1, 101)]
    bench.submit(2, long)
    bench.run()
    assert (bench.text(1), bench.text(2)) == (expected(A, 9), expected(long, 5))


def test_a_context_that_cannot_be_made_changes_nothing() -> None:
    bench = Bench(FakeModel(n_slots=1))
    bench.submit(1, A, n=9)
    bench.submit(2, B, n=9)
    for _ in range(4):
        bench.engine.step(wait=False)
    bench.model.most_ctx = 64
    assert resize(bench, 2, n_ctx=512) == Refused(99, "internal", "no context can be made")
    bench.run()
    assert [bench.text(1), bench.text(2)] == [expected(A, 9), expected(B, 9)]


def test_a_context_does_not_get_shorter_than_its_requests_need() -> None:
    bench = Bench(FakeModel(n_slots=1, n_ctx=512))
    prompt = [*range(1, 251), *range(1, 51)]
    bench.submit(1, prompt, n=9)
    bench.engine.step(wait=False)
    assert isinstance(resize(bench, 1, n_ctx=256), Refused)
    bench.run()
    assert bench.text(1) == expected(prompt, 9)
    assert resize(bench, 1, n_ctx=256) == Resized(99, 256, 1)


# ---- cells: a context that has memory for its first tokens only -----------------------------------------------------------

LONG = [*range(1, 31)]


def few_cells(n_slots: int = 2, n_cells: int = 320) -> Bench:
    return Bench(FakeModel(n_slots=n_slots, n_ctx=4096, n_cells=n_cells))


def asked(bench: Bench) -> list[tuple[int, int]]:
    """Which requests asked for cells, and how many."""
    return [(each.id, each.n_cells) for each in bench.events if isinstance(each, Outgrown)]


def test_an_answer_that_needs_more_cells_waits_for_them() -> None:
    bench = few_cells()
    bench.submit(1, LONG, n=600)
    bench.submit(2, A, n=9)
    bench.run()
    assert asked(bench) == [(1, 321), (1, 577)], "while it has some still, and when it has none"
    assert bench.text(1) == expected(LONG, 291) and bench.text(2) == expected(A, 9)
    resize(bench, 2, n_ctx=4096, n_cells=640)
    bench.run()
    assert bench.text(1) == expected(LONG, 600)
    assert len(asked(bench)) == 2, "it does not need as many as are ahead"


@pytest.mark.parametrize("n", [319, 320, 321, 700])
def test_a_prompt_that_needs_more_cells_waits_for_them(n: int) -> None:
    bench = few_cells()
    prompt = [i % 200 + 1 for i in range(n)]
    bench.submit(1, prompt, n=4)
    bench.submit(2, A, n=9)
    bench.run()
    assert asked(bench) == [(1, n + 4)]
    assert bench.text(1) == (expected(prompt, 2) if n == 319 else "")
    resize(bench, 2, n_ctx=4096, n_cells=1024)
    bench.run()
    assert bench.text(1) == expected(prompt, 4) and bench.text(2) == expected(A, 9)


def test_another_size_with_too_few_cells_still_is_no_end_of_the_wait() -> None:
    bench = few_cells(n_slots=1)
    bench.submit(1, LONG, n=600)
    bench.run()
    resize(bench, 4, n_ctx=4096, n_cells=320)
    bench.run()
    assert bench.text(1) == expected(LONG, 291)
    resize(bench, 4, n_ctx=4096)
    bench.run()
    assert bench.text(1) == expected(LONG, 600)


def test_where_there_are_no_more_cells_the_context_ends() -> None:
    bench = few_cells()
    bench.submit(1, LONG, n=600, shift=False)
    bench.submit(2, [*LONG, 7], n=600, shift=True)
    bench.submit(3, [i % 200 + 1 for i in range(400)], n=4)
    bench.run()
    assert resize(bench, 2, n_ctx=320) == Resized(99, 320, 2)
    bench.run()
    assert bench.text(1) == expected(LONG, 291) and end(bench, 1).reason == "length"
    assert end(bench, 2).n_predicted == 600, "it forgets its older half"
    refused = bench.ending(3)
    assert isinstance(refused, Refused) and refused.kind == "too_long"


def test_a_cancelled_request_waits_no_more() -> None:
    bench = few_cells(n_slots=1)
    bench.submit(1, LONG, n=600)
    bench.run()
    bench.engine.cancel(1)
    bench.submit(2, A, n=9)
    bench.run()
    assert end(bench, 1).reason == "cancel" and bench.text(2) == expected(A, 9)


def test_who_waits_for_cells_does_not_keep_the_processor_busy() -> None:
    """A step with nothing to compute blocks until something arrives, as an idle engine's does."""
    bench = few_cells(n_slots=1)
    bench.submit(1, LONG, n=600)
    bench.run()
    stepped = threading.Event()

    def step() -> None:
        bench.engine.step()
        stepped.set()

    thread = threading.Thread(target=step)
    thread.start()
    assert not stepped.wait(0.2)
    bench.engine.submit(ResizeTask(99, plan("m", 4096, 1, n_batch=16)))
    thread.join(PATIENCE)
    assert stepped.is_set()
    bench.run()
    assert bench.text(1) == expected(LONG, 600)


@pytest.mark.parametrize("can_fit", [True, False])
def test_checkpoints_are_moved_too(can_fit: bool) -> None:
    """A window has forgotten what lies before it; only a checkpoint can go back to the end of the first words."""
    bench = Bench(FakeModel(n_slots=1, n_ctx=512, n_swa=8, checkpoint_size=10**6))
    words = [*range(1, 41)]
    bench.submit_with_stops(1, [*words, *range(50, 90)], stops=(40,))
    bench.run()
    bench.model.can_fit = can_fit
    resize(bench, 2, n_ctx=512, checkpoint_size=10**6)
    bench.submit_with_stops(2, [*words, *range(60, 90)], stops=())
    bench.run()
    assert bench.text(2) == expected([*words, *range(60, 90)], 5)
    assert end(bench, 2).n_cached == (40 if can_fit else 0)


def test_fewer_checkpoints_where_there_is_less_room() -> None:
    bench = Bench(FakeModel(n_slots=1, n_ctx=512, n_swa=8, checkpoint_size=10**6))
    bench.submit_with_stops(1, [*range(1, 81)], stops=(40,))
    bench.run()
    resize(bench, 1, n_ctx=512, checkpoint_size=10)
    bench.submit_with_stops(2, [*range(1, 41), *range(90, 120)], stops=())
    bench.run()
    assert end(bench, 2).n_cached == 0

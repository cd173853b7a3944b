"""The engine's loop over a model whose next token is a function of the prefix."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.engine.batch import TILED
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, Refused, TextOut
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Generation, Prompt
from tests.engine.fake import FakeModel, continuation


class Bench:
    """An engine with its events collected by request; time moves a millisecond a call."""

    def __init__(self, model: FakeModel) -> None:
        self.now = 0
        self.model = model
        self.events: list[Event] = []
        self.engine = Engine(model, self.events.extend, clock=self.clock)

    def clock(self) -> int:
        self.now += 1_000_000
        return self.now

    def submit(self, id: int, prompt: list[int], n: int = 5, **options: object) -> None:
        generation = Generation(Prompt(("",)), num_predict=n, **options)  # type: ignore[arg-type]
        self.engine.submit(Sequence(id, list(prompt), generation))

    def submit_with_stops(self, id: int, prompt: list[int], stops: tuple[int, ...]) -> None:
        """Five tokens after a prompt, with checkpoints on the way."""
        generation = Generation(Prompt(("",)), num_predict=5)
        self.engine.submit(Sequence(id, list(prompt), generation, stops=stops))

    def run(self, limit: int = 10_000) -> None:
        for _ in range(limit):
            if not self.engine.step(wait=False):
                return
        raise AssertionError("the engine does not come to an end")

    def text(self, id: int) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextOut) and e.id == id)

    def ending(self, id: int) -> Finished | Refused:
        (ending,) = [e for e in self.events if isinstance(e, Finished | Refused) and e.id == id]
        return ending


def expected(prompt: list[int], n: int) -> str:
    return "".join(map(chr, continuation(prompt, n)))


def shifted(prompt: list[int], n: int, n_ctx: int, num_keep: int) -> str:
    """The text of an answer whose context is shifted each time it is full."""
    tokens, text = list(prompt), ""
    for _ in range(n):
        text += chr(token := continuation(tokens, 1)[0])
        tokens.append(token)
        if len(tokens) == n_ctx:
            del tokens[num_keep : num_keep + (n_ctx - 1 - num_keep) // 2]
    return text


def test_one_request_gets_its_tokens() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2, 3], n=5)
    bench.run()
    assert bench.text(1) == expected([1, 2, 3], 5)
    ending = bench.ending(1)
    assert isinstance(ending, Finished)
    assert (ending.reason, ending.n_prompt, ending.n_cached, ending.n_predicted) == (
        "length", 3, 0, 5,
    )  # fmt: skip
    assert ending.prompt_ns > 0 and ending.predict_ns > 0
    assert bench.model.samplers == 0


def firsts(bench: Bench) -> list[bool]:
    return [event.first for event in bench.events if isinstance(event, TextOut)]


def test_the_first_text_is_marked() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2, 3], n=4)
    bench.run()
    assert firsts(bench) == [True, False, False, False]


def test_the_first_text_is_marked_after_a_token_without_text() -> None:
    bench = Bench(FakeModel())
    bench.model.silent = {continuation([1, 2, 3], 1)[0]}
    bench.submit(1, [1, 2, 3], n=4)
    bench.run()
    assert bench.text(1) == expected([1, 2, 3], 4)[1:]
    assert firsts(bench) == [True, False, False]


def test_the_first_text_is_marked_where_a_stop_string_held_it_back() -> None:
    bench = Bench(FakeModel())
    begin = expected([1, 2, 3], 2)
    bench.submit(1, [1, 2, 3], n=4, stop=(begin + "\0",))
    bench.run()
    assert bench.text(1) == expected([1, 2, 3], 4)
    assert firsts(bench) == [True, False]


def test_end_of_sequence_is_a_stop_and_counts_as_a_token() -> None:
    bench = Bench(FakeModel(ends_at=6))
    bench.submit(1, [1, 2, 3], n=-1)
    bench.run()
    assert bench.text(1) == expected([1, 2, 3], 3)
    ending = bench.ending(1)
    assert isinstance(ending, Finished)
    assert (ending.reason, ending.n_predicted) == ("stop", 4)


def test_eight_share_batches_and_get_what_they_would_get_alone() -> None:
    bench = Bench(FakeModel(n_slots=8))
    prompts = {id: [id, id + 1, *range(id)] for id in range(1, 9)}
    for id, prompt in prompts.items():
        bench.submit(id, prompt, n=20)
    bench.run()
    for id, prompt in prompts.items():
        assert bench.text(id) == expected(prompt, 20)
    assert max(len(batch) for batch in bench.model.decoded) == 8


def test_more_requests_than_slots_wait_their_turn() -> None:
    bench = Bench(FakeModel(n_slots=2))
    for id in range(1, 8):
        bench.submit(id, [id, 9, 9])
    bench.run()
    assert [bench.ending(id)[1] for id in range(1, 8)] == ["length"] * 7
    assert all(bench.text(id) == expected([id, 9, 9], 5) for id in range(1, 8))


def test_a_long_prompt_is_prefilled_in_chunks_beside_decoding() -> None:
    bench = Bench(FakeModel(n_ctx=400, n_batch=64))
    bench.submit(1, [1, 2], n=12)
    bench.engine.step(wait=False)
    bench.engine.step(wait=False)
    long = [5] * 300
    bench.submit(2, long, n=3)
    bench.run()
    assert bench.text(1) == expected([1, 2], 12) and bench.text(2) == expected(long, 3)
    mixed = [batch for batch in bench.model.decoded if len(batch) == 2]
    assert len(mixed) >= 4, "decoding went on while the prompt was prefilled"


def test_a_prompt_alone_is_not_cut_small_because_the_machine_was_busy() -> None:
    bench = Bench(FakeModel(n_ctx=1000, n_batch=200))
    bench.submit(1, [5] * 900, n=1)

    def hold_up() -> None:
        bench.now += 20_000_000_000

    bench.model.during_decode = hold_up
    bench.run()
    sizes = [sum(n for _, _, n in batch) for batch in bench.model.decoded]
    assert sum(sizes) == 900 and min(sizes[:-1]) >= TILED


def test_the_next_prompt_reuses_the_longest_common_prefix() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=200, n_batch=200))
    first, other = list(range(1, 61)), [9] * 50
    bench.submit(1, first)
    bench.submit(2, other)
    bench.run()
    second = first + continuation(first, 5) + [77, 78]
    bench.submit(3, second)
    bench.run()
    ending = bench.ending(3)
    assert isinstance(ending, Finished)
    assert ending.n_cached == 64, (
        "60 of the prompt, 4 of the answer; its last token was never computed"
    )
    assert bench.text(3) == expected(second, 5)


def test_the_last_prompt_token_is_always_computed() -> None:
    bench = Bench(FakeModel(n_slots=1))
    prompt = list(range(1, 31))
    for id in (1, 2):
        bench.submit(id, prompt)
        bench.run()
    ending = bench.ending(2)
    assert isinstance(ending, Finished) and ending.n_cached == 29
    assert bench.text(2) == bench.text(1) == expected(prompt, 5)


def test_a_recurrent_state_is_reused_only_at_its_very_end() -> None:
    bench = Bench(FakeModel(n_slots=1, n_ctx=200, n_batch=200, recurrent=True))
    prompt = list(range(1, 31))
    bench.submit(1, prompt)
    bench.run()
    branch = prompt + [200]
    bench.submit(2, branch)
    bench.run()
    follow = branch + continuation(branch, 5) + [9]
    bench.submit(3, follow)
    bench.run()
    cached = [e.n_cached for e in (bench.ending(2), bench.ending(3)) if isinstance(e, Finished)]
    assert cached == [0, 35]
    assert bench.text(2) == expected(branch, 5) and bench.text(3) == expected(follow, 5)


def test_a_sliding_window_that_moved_on_is_not_reused() -> None:
    bench = Bench(FakeModel(n_slots=1, n_ctx=200, n_batch=200, n_swa=8))
    prompt = list(range(1, 61))
    bench.submit(1, prompt)
    bench.run()
    back = prompt[:30] + [99]
    bench.submit(2, back)
    bench.run()
    ending = bench.ending(2)
    assert isinstance(ending, Finished) and ending.n_cached == 0
    assert bench.text(2) == expected(back, 5)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_cancel_ends_a_request_wherever_it_is(steps: int) -> None:
    bench = Bench(FakeModel(n_slots=1, n_batch=8))
    bench.submit(1, list(range(1, 31)), n=30)
    bench.submit(2, [4, 5], n=3)
    for _ in range(steps):
        bench.engine.step(wait=False)
    bench.engine.cancel(1)
    bench.engine.cancel(1)
    bench.engine.cancel(99)
    bench.run()
    ending = bench.ending(1)
    assert isinstance(ending, Finished) and ending.reason == "cancel"
    assert bench.text(2) == expected([4, 5], 3)
    assert bench.model.samplers == 0


def test_the_context_bounds_a_sequence() -> None:
    bench = Bench(FakeModel(n_ctx=32))
    bench.submit(1, [1, 2, 3], n=-1)
    bench.submit(2, [1] * 32, n=-1)
    bench.run()
    ending = bench.ending(1)
    assert isinstance(ending, Finished) and ending.reason == "length"
    assert bench.text(1) == expected([1, 2, 3], 30), "every cell of the context was used"
    refused = bench.ending(2)
    assert isinstance(refused, Refused) and refused.kind == "too_long"
    assert "32 tokens" in refused.message and "num_ctx" in refused.message


def test_a_stop_string_across_tokens_ends_the_answer_before_it() -> None:
    bench = Bench(FakeModel())
    whole = expected([1, 2], 10)
    bench.submit(1, [1, 2], n=10, stop=(whole[3:6],))
    bench.run()
    ending = bench.ending(1)
    assert isinstance(ending, Finished) and (ending.reason, ending.n_predicted) == ("stop", 6)
    assert bench.text(1) == whole[:3] and ending.stop_text == whole[3:6]


def test_logprobs_come_one_a_token() -> None:
    bench = Bench(FakeModel())
    bench.submit(1, [1, 2], n=4, logprobs=0)
    bench.run()
    given_ = [p for e in bench.events if isinstance(e, TextOut) for p in e.logprobs]
    assert [p.bytes[0] for p in given_] == continuation([1, 2], 4)


def test_when_cells_run_out_idle_caches_go_first() -> None:
    bench = Bench(FakeModel(n_slots=4, n_ctx=40, cells=45))
    bench.submit(1, [1] * 20, n=3)
    bench.run()
    bench.submit(2, [2] * 20, n=15)
    bench.run()
    assert bench.text(2) == expected([2] * 20, 15)
    assert sum(map(len, bench.model.held.values())) <= 45


def test_then_the_youngest_is_preempted_and_nobody_loses_a_token() -> None:
    bench = Bench(FakeModel(n_slots=4, n_ctx=40, cells=50))
    prompts = {id: [id] * 10 for id in (1, 2, 3, 4)}
    for id, prompt in prompts.items():
        bench.submit(id, prompt, n=25)
    bench.run()
    for id, prompt in prompts.items():
        assert bench.text(id) == expected(prompt, 25)
        assert bench.ending(id)[1] == "length"


def test_one_alone_without_room_ends_with_length() -> None:
    bench = Bench(FakeModel(n_slots=1, n_ctx=64, cells=20))
    bench.submit(1, [1, 2], n=-1)
    bench.run()
    assert bench.text(1) == expected([1, 2], 19)
    assert bench.ending(1)[1] == "length"


def test_a_fatal_decode_ends_its_requests_and_the_next_one_works() -> None:
    bench = Bench(FakeModel())
    bench.model.statuses = [0, -3]
    bench.submit(1, [1, 2], n=9)
    bench.submit(2, [3, 4], n=9)
    bench.run()
    endings = [bench.ending(id) for id in (1, 2)]
    assert all(isinstance(e, Refused) and e.kind == "internal" for e in endings)
    bench.submit(3, [1, 2], n=4)
    bench.run()
    assert bench.text(3) == expected([1, 2], 4)


def prefilled(bench: Bench) -> int:
    """Prompt and answer tokens computed so far, in all batches."""
    return sum(n for batch in bench.model.decoded for _, _, n in batch)


SYSTEM = list(range(1, 61))


def test_eight_with_the_same_system_prompt_compute_it_once() -> None:
    bench = Bench(FakeModel(n_slots=8, n_ctx=200, n_batch=32))
    prompts = {id: [*SYSTEM, 100 + id] for id in range(1, 9)}
    for id, prompt in prompts.items():
        bench.submit(id, prompt, n=3)
    bench.run()
    assert all(bench.text(id) == expected(prompt, 3) for id, prompt in prompts.items())
    assert prefilled(bench) == 60 + 8 * 3, (
        "the prefix once; each its last prompt token and two of its answer"
    )
    cached = [e.n_cached for e in map(bench.ending, prompts) if isinstance(e, Finished)]
    assert cached == [0] + [60] * 7


@pytest.mark.parametrize("how", ["cancel", "fail", "preempt"])
def test_when_the_leader_is_lost_a_follower_takes_over(how: str) -> None:
    bench = Bench(FakeModel(n_slots=4, n_ctx=200, n_batch=32))
    prompts = {id: [*SYSTEM, 100 + id] for id in range(1, 5)}
    for id, prompt in prompts.items():
        bench.submit(id, prompt, n=3)
    bench.engine.step(wait=False)
    assert prefilled(bench) == 32, "the leader is half way, the others wait"
    if how == "cancel":
        bench.engine.cancel(1)
    elif how == "fail":
        bench.model.statuses = [-3]
    else:
        bench.engine._preempt(bench.engine._running[0])
    bench.run()
    lost = {1} if how in ("cancel", "fail") else set()
    for id, prompt in prompts.items():
        if id not in lost:
            assert bench.text(id) == expected(prompt, 3)
    if how == "cancel":
        assert prefilled(bench) == 60 + 3 * 3, "what the leader had committed is not computed again"


def test_a_lost_leaders_slot_goes_to_its_followers_before_a_stranger() -> None:
    bench = Bench(FakeModel(n_slots=3, n_ctx=200, n_batch=32))
    for id in (1, 2, 3):
        bench.submit(id, [*SYSTEM, 100 + id], n=3)
    bench.submit(4, [200] * 10, n=3)
    bench.engine.step(wait=False)
    bench.engine.cancel(1)
    bench.run()
    cached = [e.n_cached for e in map(bench.ending, (2, 3)) if isinstance(e, Finished)]
    assert cached == [32, 60], "what the leader had committed, and the whole prefix from the next"


def test_nobody_waits_for_a_leader_that_has_shifted() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=100, n_batch=64))
    bench.submit(1, [1, 2, 3] * 10, n=300, n_ctx=40, shift=True, num_keep=4)
    while len(bench.text(1)) < 9:
        bench.engine.step(wait=False)
    prompt = [*[1, 2, 3] * 10, *continuation([1, 2, 3] * 10, 9), 9]
    bench.submit(2, prompt, n=5)
    for _ in range(8):
        bench.engine.step(wait=False)
    assert bench.text(2) == expected(prompt, 5)


def test_a_conversation_keeps_its_tail_when_another_begins_alike() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=200, n_batch=64))
    bench.submit(1, [*SYSTEM, *[7] * 30])
    bench.run()
    bench.submit(2, [*SYSTEM, 8])
    bench.run()
    again = [*SYSTEM, *[7] * 30, *continuation([*SYSTEM, *[7] * 30], 5), 9]
    bench.submit(3, again)
    bench.run()
    cached = [e.n_cached for e in map(bench.ending, (2, 3)) if isinstance(e, Finished)]
    assert cached == [60, 94]
    assert bench.text(3) == expected(again, 5)


def test_an_abort_ends_the_cancelled_and_loses_nothing_of_the_others() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=200, n_batch=64))
    bench.submit(1, [5] * 150, n=3)
    bench.model.during_decode = lambda: bench.engine.cancel(1)
    bench.engine.step(wait=False)
    assert bench.model.aborted
    bench.model.during_decode = lambda: None
    bench.submit(2, [5] * 40, n=3)
    bench.run()
    ending = bench.ending(1)
    assert isinstance(ending, Finished) and ending.reason == "cancel"
    assert bench.text(2) == expected([5] * 40, 3)


def test_a_step_that_others_need_is_not_aborted() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=200, n_batch=64))
    for id in (1, 2):
        bench.submit(id, [id] * 30, n=5)
    bench.model.during_decode = lambda: bench.engine.cancel(1)
    bench.run()
    assert bench.text(2) == expected([2] * 30, 5)
    ending = bench.ending(1)
    assert isinstance(ending, Finished) and ending.reason == "cancel"


def test_generation_past_the_context_shifts_and_goes_on() -> None:
    bench = Bench(FakeModel(n_slots=1, n_ctx=32))
    prompt = [1, 2, 3, 4, 5, 6]
    bench.submit(1, prompt, n=100, shift=True, num_keep=4)
    bench.run()
    assert bench.text(1) == shifted(prompt, 100, 32, 4)
    ending = bench.ending(1)
    assert isinstance(ending, Finished)
    assert (ending.reason, ending.n_predicted, ending.n_prompt) == ("length", 100, 6)
    bench.submit(2, prompt, n=2)
    bench.run()
    ending = bench.ending(2)
    assert isinstance(ending, Finished) and ending.n_cached == 4, "only what was never moved"


def test_one_of_two_that_share_a_prefix_shifts_and_the_other_does_not_notice() -> None:
    bench = Bench(FakeModel(n_slots=2, n_ctx=80, n_batch=80))
    bench.submit(1, [*SYSTEM, 7], n=60, shift=True)
    bench.submit(2, [*SYSTEM, 8], n=15)
    bench.run()
    assert bench.text(2) == expected([*SYSTEM, 8], 15)


def test_a_gap_between_slots_is_padded_and_what_lies_there_stays() -> None:
    bench = Bench(FakeModel(n_slots=4, n_ctx=100, n_batch=64))
    middle = [2] * 40
    bench.submit(1, [1] * 30, n=30)
    bench.submit(2, middle, n=2)
    bench.submit(3, [3] * 30, n=30)
    bench.run()
    assert bench.text(1) == expected([1] * 30, 30) and bench.text(3) == expected([3] * 30, 30)
    slots = [[slot for slot, _, _ in batch] for batch in bench.model.decoded]
    assert [0, 2] not in slots and slots.count([0, 1, 2]) > 20, "the slot of the second goes along"
    assert bench.model.held[1] == middle + continuation(middle, 2)[:1], "and is as it was"
    bench.submit(4, [*middle, 9], n=2)
    bench.run()
    ending = bench.ending(4)
    assert isinstance(ending, Finished) and ending.n_cached == 40
    assert bench.text(4) == expected([*middle, 9], 2)


def test_batches_are_in_the_order_of_the_slots() -> None:
    bench = Bench(FakeModel(n_slots=4, n_ctx=100, n_batch=64))
    for id in (1, 2, 3, 4):
        bench.submit(id, [id] * 30, n=3)
    bench.run()
    for id in (4, 2, 1, 3):
        bench.submit(10 + id, [id] * 30, n=3)
    bench.run()
    for batch in bench.model.decoded:
        slots = [slot for slot, _, _ in batch]
        assert slots == sorted(slots)


def test_a_gap_at_a_slot_whose_answer_was_shifted() -> None:
    bench = Bench(FakeModel(n_slots=3, n_ctx=64, n_batch=64))
    bench.submit(1, [1] * 30, n=30)
    bench.submit(2, [2] * 30, n=40, shift=True)
    bench.submit(3, [3] * 30, n=30)
    bench.run()
    for id, prompt in ((4, [1] * 30), (5, [3] * 30)):
        bench.submit(id, prompt, n=20)
    bench.run()
    assert bench.text(4) == expected([1] * 30, 20) and bench.text(5) == expected([3] * 30, 20)
    assert len(bench.model.decoded[-1]) == 3, "the slot between them goes along"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_comes_each_request_gets_its_tokens_and_one_ending(data: st.DataObject) -> None:
    cells = data.draw(st.sampled_from([None, 40, 60]))
    bench = Bench(FakeModel(n_slots=3, n_ctx=40, n_batch=8, cells=cells))
    prompts: dict[int, tuple[list[int], int]] = {}
    cancelled = set()
    for id in range(1, data.draw(st.integers(1, 10)) + 1):
        base = data.draw(st.sampled_from([[1] * 20, list(range(1, 25)), [7]]))
        prompt = base + data.draw(st.lists(st.integers(1, 9), max_size=5))
        shift = data.draw(st.booleans())
        n = data.draw(st.integers(1, 60 if shift else 10))
        prompts[id] = (prompt, n)
        bench.submit(id, prompt, n=n, shift=shift, num_keep=4)
        for _ in range(data.draw(st.integers(0, 4))):
            bench.engine.step(wait=False)
        if data.draw(st.booleans()) and data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(sorted(prompts)))
            bench.engine.cancel(victim)
            cancelled.add(victim)
    bench.run()
    for id, (prompt, n) in prompts.items():
        ending = bench.ending(id)
        assert isinstance(ending, Finished)
        if id not in cancelled:
            assert bench.text(id) == shifted(prompt, n, 40, 4)
        else:
            assert shifted(prompt, n, 40, 4).startswith(bench.text(id))
    assert bench.model.samplers == 0

"""Slots of the KV cache: what a prompt keeps of its own, copies from another and waits for. The fake model notices every gap."""

from __future__ import annotations

import pytest

from ollamapy.engine.rows import Row
from ollamapy.engine.sequence import Sequence
from ollamapy.engine.slots import Slots
from ollamapy.types import Generation, Prompt

from .fake import FakeModel

PREFIX = list(range(1, 31))  # longer than the shortest prefix that is worth a copy


class Cache:
    """A model, its slots, and prompts that are computed as the engine does it."""

    def __init__(self, **model: int | bool) -> None:
        self.model = FakeModel(**({"n_batch": 64} | model))  # type: ignore[arg-type]
        self.slots = Slots(self.model)
        self.running: list[Sequence] = []

    def admit(self, *tokens: int, prompt_logprobs: int | None = None, salt: str = "") -> Sequence:
        """Give a prompt its slot."""
        generation = Generation(Prompt((tokens,)), prompt_logprobs=prompt_logprobs, salt=salt)
        sequence = Sequence(len(self.running), list(tokens), generation)
        placement = self.slots.place(sequence)
        assert placement is not None, "all slots are taken"
        self.slots.give(sequence, placement)
        self.running.append(sequence)
        return sequence

    def compute(self, sequence: Sequence, n: int | None = None) -> None:
        """Compute the next ``n`` tokens of a prompt, else all of them."""
        assert sequence.slot is not None and sequence.leader is None
        tokens = sequence.tokens[sequence.n_past :][:n]
        row: Row = (sequence.slot.id, sequence.n_past, tokens, 1)
        assert self.model.decode([row]) == 0
        sequence.n_past += len(tokens)

    def end(self, sequence: Sequence) -> None:
        self.slots.free(sequence)
        self.running.remove(sequence)

    def run(self, *tokens: int, salt: str = "") -> Sequence:
        """Admit, compute and end a prompt."""
        sequence = self.admit(*tokens, salt=salt)
        self.compute(sequence)
        self.end(sequence)
        return sequence

    def held(self, sequence: Sequence) -> list[int]:
        assert sequence.slot is not None
        return self.model.held[sequence.slot.id]


@pytest.mark.parametrize("n_slots", [1, 3])
def test_what_one_computed_is_nobody_elses(n_slots: int) -> None:
    """Who can time an answer could else find out what others wrote."""
    cache = Cache(n_slots=n_slots)
    cache.run(*PREFIX, 90, salt="one")
    assert cache.slots.held(Sequence(9, [*PREFIX, 1])) == 0
    other = cache.admit(*PREFIX, 90, salt="two")
    assert other.n_past == other.n_cached == 0 and other.leader is None
    beside = [cache.admit(*PREFIX, 90, salt="") for _ in range(n_slots > 1)]
    assert [each.n_past for each in beside] == [0] * len(beside)
    cache.compute(other)
    cache.end(other)
    again = cache.admit(*PREFIX, 80, salt="two")
    assert again.n_cached == len(PREFIX)


def test_a_prompt_keeps_what_its_slot_holds_of_it() -> None:
    cache = Cache(n_slots=1)
    cache.run(*PREFIX, 90, 91)
    sequence = cache.admit(*PREFIX, 80)
    assert (sequence.n_past, sequence.n_cached) == (30, 30)
    assert cache.held(sequence) == PREFIX, "what is not of the prompt is cut off"
    cache.compute(sequence)


def test_the_last_token_is_always_computed() -> None:
    """Its logits are needed, and the cache has none."""
    cache = Cache(n_slots=1)
    cache.run(*PREFIX)
    assert cache.admit(*PREFIX).n_past == 29


def test_a_prefix_is_copied_from_another_slot() -> None:
    """From an idle one, and from one that runs and holds it already."""
    cache = Cache(n_slots=3)
    first = cache.admit(*PREFIX, 90)
    cache.compute(first)
    second = cache.admit(*PREFIX, 80)
    assert (second.leader, second.n_past, cache.held(second)) == (None, 30, PREFIX)
    cache.compute(second)
    cache.end(first)
    busy = cache.admit(70, 71)
    assert busy.slot is not None and busy.slot.id == 2, "the first one's cache is worth more"
    third = cache.admit(*PREFIX, 60)
    assert third.slot is not None and (third.slot.id, third.n_past) == (0, 30)


def test_a_follower_waits_until_its_leader_has_computed_the_prefix() -> None:
    cache = Cache(n_slots=2)
    leader, follower = cache.admit(*PREFIX, 90), cache.admit(*PREFIX, 80)
    assert follower.leader is leader and follower.shared == 30
    cache.compute(leader, 10)
    cache.slots.release_followers(cache.running)
    assert follower.leader is leader, "the prefix is not whole yet"
    cache.compute(leader, 20 - 4)
    cache.compute(leader, 4)
    cache.slots.release_followers(cache.running)
    assert follower.leader is None and follower.n_past == follower.n_cached == 30
    assert cache.held(follower) == PREFIX
    cache.compute(follower)


def test_what_a_leader_leaves_behind_is_what_its_follower_goes_on_from() -> None:
    cache = Cache(n_slots=2)
    leader, follower = cache.admit(*PREFIX, 90), cache.admit(*PREFIX, 80)
    cache.compute(leader, 16)
    cache.compute(leader, 4)
    cache.end(leader)
    cache.slots.release_followers(cache.running)
    assert follower.leader is None and follower.n_past == 20
    cache.compute(follower, 11)


def test_of_two_followers_of_a_leader_that_is_gone_one_leads_the_other() -> None:
    cache = Cache(n_slots=3)
    leader = cache.admit(*PREFIX, 90)
    one, two = cache.admit(*PREFIX, 80), cache.admit(*PREFIX, 70)
    cache.compute(leader, 16)
    cache.end(leader)
    cache.slots.release_followers(cache.running)
    assert one.leader is None and one.n_past == 16
    assert two.leader is one or two.n_past == 16
    for n in (14, 1):
        cache.compute(one, n)
    cache.slots.release_followers(cache.running)
    assert two.leader is None and two.n_past == 30


def test_a_leader_that_shifted_its_context_has_no_prefix_any_more() -> None:
    cache = Cache(n_slots=2)
    leader, follower = cache.admit(*PREFIX, 90), cache.admit(*PREFIX, 80)
    cache.compute(leader, 16)
    leader.n_pure = 4
    cache.slots.release_followers(cache.running)
    assert follower.leader is None and follower.n_past == 0


def test_prompts_whose_tokens_are_scored_keep_nothing() -> None:
    cache = Cache(n_slots=1)
    cache.run(*PREFIX)
    assert cache.admit(*PREFIX, 80, prompt_logprobs=0).n_past == 0


@pytest.mark.parametrize(
    ("prompt", "kept"), [((*PREFIX, 80), 30), ((*PREFIX[:20], 80), 0), (tuple(PREFIX), 0)]
)
def test_a_recurrent_state_is_kept_at_its_very_end_only(prompt: tuple[int, ...], kept: int) -> None:
    cache = Cache(n_slots=1, recurrent=True)
    cache.run(*PREFIX)
    assert cache.admit(*prompt).n_past == kept


def test_slots_between_those_of_a_batch_get_a_row_of_padding() -> None:
    cache = Cache(n_slots=4, n_batch=16)
    for start in (10, 20, 30, 40):
        cache.compute(cache.admit(start, start + 1))
    row_0: Row = (0, 2, [7], 1)
    row_3: Row = (3, 2, [8], 1)
    assert cache.slots.padding([row_0, row_3]) == [(1, 2, [7], False), (2, 2, [7], False)]
    assert cache.slots.padding([row_0]) == []
    full: Row = (3, 2, [8] * 14, 1)
    assert cache.slots.padding([row_0, full]) == [], "a batch has room for 16"


@pytest.mark.parametrize("model", [{"recurrent": True}, {"n_swa": 8}])
def test_a_state_that_cannot_go_back_gets_no_padding(model: dict[str, int | bool]) -> None:
    cache = Cache(n_slots=4, **model)
    assert cache.slots.padding([(0, 0, [7], 1), (2, 0, [8], 1)]) == []


def test_the_idle_slot_that_was_not_used_for_longest_is_dropped() -> None:
    cache = Cache(n_slots=3)
    running = cache.admit(5, 6)
    cache.compute(running)
    first, second = cache.admit(10, 11), cache.admit(20, 21)
    for sequence in (first, second):
        cache.compute(sequence)
    cache.end(second)
    cache.end(first)
    assert cache.slots.drop_idle() and cache.model.held[1] == []
    assert cache.slots.drop_idle() and cache.model.held[2] == []
    assert not cache.slots.drop_idle() and cache.model.held[0] == [5, 6], "it is running"


def test_a_slot_that_is_taken_away_is_empty_and_its_sequence_begins_anew() -> None:
    cache = Cache(n_slots=1)
    sequence = cache.admit(1, 2, 3)
    cache.compute(sequence)
    cache.slots.take(sequence)
    assert (sequence.slot, sequence.n_past) == (None, 0) and cache.model.held[0] == []
    again = cache.slots.place(sequence)
    assert again is not None
    cache.slots.give(sequence, again)
    cache.compute(sequence)


def test_only_what_no_shift_has_moved_stays_for_the_next() -> None:
    cache = Cache(n_slots=1)
    sequence = cache.admit(*PREFIX)
    cache.compute(sequence, 16)
    sequence.n_pure = 5
    cache.end(sequence)
    assert cache.model.held[0] == PREFIX[:5]
    cache.slots.free(sequence)  # it has none any more: nothing happens

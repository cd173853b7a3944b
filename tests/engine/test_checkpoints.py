"""Checkpoints: where they are taken, which are given up, and that prompts go on from them. The fake model notices a state of other
tokens, and one that is restored where the next decode would overwrite it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.engine.checkpoints import (
    EVERY,
    GAP,
    STRIDE,
    Checkpoint,
    Checkpoints,
    is_due,
    least_useful,
    packed,
    places,
    stops,
    until_stop,
)
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Generation, Prompt

from .fake import FakeModel, continuation


@pytest.mark.parametrize(
    ("n_prompt", "marks", "wanted"),
    [
        (20, (), ()),
        (1000, (), (996,)),
        (1000, (400,), (400, 996)),
        (1000, (400, 990), (400, 990)),
        (1000, (980, 990), (990,)),
        (1000, (10, 990), (990,)),
        (1000, (1000,), (996,)),
        (1000, (0, -3, 5000), (996,)),
        (2 * EVERY + 100, (), (EVERY, 2 * EVERY, 2 * EVERY + 96)),
        (2 * EVERY + 1, (), (EVERY, 2 * EVERY)),
    ],
)
def test_where_a_prompt_pauses(
    n_prompt: int, marks: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    assert stops(n_prompt, marks) == wanted


@given(st.integers(1, 50_000), st.lists(st.integers(-10, 60_000)))
def test_stops_are_apart_and_inside(n_prompt: int, marks: list[int]) -> None:
    found = (0, *stops(n_prompt, marks), n_prompt)
    assert all(after - before >= GAP for before, after in zip(found, found[1:-1], strict=False))
    assert list(found) == sorted(found) and (len(found) == 2 or found[-2] < n_prompt)


@pytest.mark.parametrize(
    ("n_past", "n_tokens", "wanted"), [(0, 90, 30), (29, 90, 1), (30, 90, 30), (60, 90, 30), (70, 75, 5)]
)  # fmt: skip
def test_a_batch_ends_at_a_stop(n_past: int, n_tokens: int, wanted: int) -> None:
    assert until_stop((30, 60), n_past, n_tokens) == wanted


def test_an_answer_has_checkpoints_too() -> None:
    assert is_due((30,), 30, 100, recurrent=False) and not is_due((30,), 31, 100, recurrent=False)
    assert is_due((), STRIDE, 100, recurrent=True) and not is_due((), STRIDE, 100, recurrent=False)
    assert is_due((), EVERY, 100, recurrent=False) and not is_due((), EVERY + 1, 9, recurrent=True)
    assert not is_due((), STRIDE, 2 * STRIDE, recurrent=True), "it is in the prompt"


def test_bytes_become_tokens() -> None:
    assert places([5, 1, 3], (0, 4, 5, 8, 9, 100)) == (0, 0, 1, 2, 3, 3)


def checkpoint(n: int, *, used: int = 0, last: int = 7, size: int = 100) -> Checkpoint:
    return Checkpoint(packed([*range(1, n), last]), bytearray(size), used)


def test_the_longest_prefix_is_found() -> None:
    kept = Checkpoints(10_000)
    for each in (checkpoint(3, last=3), checkpoint(5, last=5), checkpoint(6)):
        assert kept.make_room(each.size)
        kept.add(each)
    tokens = [1, 2, 3, 4, 5, 6, 7]
    assert [getattr(kept.find(tokens, most), "n", 0) for most in (2, 3, 4, 5, 7)] == [0, 3, 3, 5, 5]
    assert kept.find([2, 3], 2) is None


def test_what_spares_least_is_given_up_first() -> None:
    early, near, late = checkpoint(20, last=20), checkpoint(22, last=22), checkpoint(60, last=60)
    kept = [early, near, late]
    assert least_useful(kept, 0) is near, "it spares two tokens more than the one before"
    assert least_useful([early, late], 0) is early
    late.used, early.used = 0, 30
    assert least_useful([early, late], 30) is late, "it was not used for long"
    held = [late.prefix]
    other = checkpoint(59, last=1)
    assert least_useful([early, late, other], 30, held) is other, "no slot holds its tokens"


def test_the_budget_holds() -> None:
    kept = Checkpoints(1000)
    assert not kept.make_room(1001)
    for n in range(10, 40):
        each = checkpoint(n)
        assert kept.make_room(each.size)
        kept.add(each)
        assert 0 < kept.size <= 1000
    assert kept.size == sum(each.size for each in kept._all)


# ---- in the engine ---------------------------------------------------------------------------------------------------

SYSTEM = list(range(1, 41))
WINDOW: dict[str, Any] = {"n_swa": 12}
STATE: dict[str, Any] = {"recurrent": True}
PURE: dict[str, Any] = {"recurrent": True, "has_cells": False}
KINDS = pytest.mark.parametrize("kind", [WINDOW, STATE, PURE], ids=["window", "hybrid", "state"])


class Served:
    """An engine over a fake model; what each answer reused is checked, and its tokens."""

    def __init__(self, **model: Any) -> None:
        self.model = FakeModel(
            **({"n_ctx": 256, "n_batch": 16, "checkpoint_size": 100_000} | model)
        )
        self.events: list[Event] = []
        self.engine = Engine(self.model, self.events.extend)
        self.ids = 0

    def submit(self, prompt: list[int], *marks: int, n: int = 20) -> int:
        self.ids += 1
        generation = Generation(Prompt((tuple(prompt),)), num_predict=n)
        self.engine.submit(
            Sequence(self.ids, list(prompt), generation, stops=stops(len(prompt), marks))
        )
        return self.ids

    def finish(self, id: int, prompt: list[int], n: int = 20) -> int:
        """Run to the end; how many tokens the answer with this id reused."""
        while self.engine.step(wait=False):
            pass
        text = "".join(
            each.text for each in self.events if isinstance(each, TextOut) and each.id == id
        )
        assert [ord(c) for c in text] == continuation(prompt, n)
        (ending,) = [each for each in self.events if isinstance(each, Finished) and each.id == id]
        return ending.n_cached

    def ask(self, prompt: list[int], *marks: int, n: int = 20) -> int:
        return self.finish(self.submit(prompt, *marks, n=n), prompt, n)


@KINDS
def test_the_next_turn_goes_on_from_the_last_prompt(kind: dict[str, Any]) -> None:
    """The answer comes back written in another way, as without its thoughts."""
    served = Served(n_slots=1, **kind)
    first = [*SYSTEM, *range(100, 160)]
    served.ask(first, 40, 95)
    assert served.ask([*first, 9, 9, 9], 40, 100) == 95
    assert served.model.restored > 0


@KINDS
def test_without_checkpoints_it_is_computed_again(kind: dict[str, Any]) -> None:
    served = Served(n_slots=1, **(kind | {"checkpoint_size": 0}))
    first = [*SYSTEM, *range(100, 160)]
    served.ask(first, 40, 95)
    assert served.ask([*first, 9, 9, 9], 40, 100) == 0


@KINDS
def test_another_question_keeps_the_system_s_part(kind: dict[str, Any]) -> None:
    served = Served(n_slots=1, **kind)
    served.ask([*SYSTEM, *range(100, 160)], 40)
    assert served.ask([*SYSTEM, *range(200, 240)], 40) == 40


def test_a_window_is_put_back_in_another_slot() -> None:
    """Its cells come with a state, not with a copy, which would overwrite what is restored."""
    served = Served(n_slots=4, **WINDOW)
    long = [*SYSTEM, *range(100, 160)]
    served.ask(long, 40)
    served.ask([3] * 50)
    first, second = [*SYSTEM, *range(200, 240)], [*SYSTEM, *range(50, 90)]
    ids = served.submit(first, 40), served.submit(second, 40)
    assert served.finish(ids[0], first) == served.finish(ids[1], second) == 40
    assert served.ask([*long, *continuation(long, 19), 5], 40) == 119, "its slot is left alone"


def test_a_recurrent_answer_that_ends_in_another_way() -> None:
    """The end that is written in another way costs no more than a stride."""
    served = Served(n_slots=1, n_ctx=1024, **PURE)
    served.ask(SYSTEM, n=300)
    again = [*SYSTEM, *continuation(SYSTEM, 290), 9, 9]
    assert served.ask(again) == 2 * STRIDE


def test_a_state_needs_no_slot_that_holds_its_tokens() -> None:
    served = Served(n_slots=1, **PURE)
    first = [*SYSTEM, *range(100, 160)]
    served.ask(first, 95)
    served.ask([3] * 60)
    assert served.ask([*first, 9, 9], 100) == 95


@KINDS
def test_a_refused_state_is_computed_again(kind: dict[str, Any]) -> None:
    served = Served(n_slots=1, **kind)
    served.ask([*SYSTEM, *range(100, 160)], 40, 95)

    def refuse(slot: int, state: bytearray, *, partial: bool) -> bool:
        served.model.trim(slot, 0)
        return False

    served.model.restore = refuse  # type: ignore[method-assign]
    assert served.ask([*SYSTEM, *range(100, 160), 9, 9], 40) == 0


@KINDS
@given(data=st.data())
def test_whatever_is_reused_nothing_is_wrong(kind: dict[str, Any], data: st.DataObject) -> None:
    """Random chats that share beginnings, with little room for checkpoints: the fake model checks each decode."""
    served = Served(n_slots=2, **(kind | {"checkpoint_size": 1500}))
    prompts: list[list[int]] = [SYSTEM]
    for _ in range(data.draw(st.integers(1, 6))):
        before = data.draw(st.sampled_from(prompts))
        cut = data.draw(st.integers(1, len(before)))
        prompt = [*before[:cut], *data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=40))][
            :180
        ]
        marks = data.draw(st.lists(st.integers(1, len(prompt)), max_size=3))
        served.ask(prompt, *marks, n=10)
        prompts += [prompt, [*prompt, *continuation(prompt, 10)]]

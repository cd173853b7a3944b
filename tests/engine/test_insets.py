"""Images among the tokens of prompts, with the fake model: each is computed apart and whole, and what is reused ends beside it."""

from __future__ import annotations

import pytest

from ollamapy.engine.batch import plan_alone, plan_batch, plan_inset
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.media import Inset
from ollamapy.engine.prompt import Placed, Tokens
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Generation, Prompt

from .fake import FakeModel, continuation


def inset(name: str, n: int = 6, *, causal: bool = True) -> Inset:
    return Inset(name.encode(), n, n, causal)


def prompt(*parts: str | Inset) -> Tokens:
    ids: list[int] = []
    placed = []
    for part in parts:
        if isinstance(part, Inset):
            placed.append(Placed(len(ids), part))
            ids += part.tokens
        else:
            ids += [ord(letter) for letter in part]
    return Tokens(ids, tuple(placed))


def sequence(id: int, *parts: str | Inset, n: int = 8, **more: object) -> Sequence:
    found = prompt(*parts)
    generation = Generation(Prompt(("",)), num_predict=n, **more)  # type: ignore[arg-type]
    return Sequence(id, found.ids, generation, insets=found.insets)


class Served:
    def __init__(self, model: FakeModel) -> None:
        self.model, self.events = model, list[Event]()
        self.engine = Engine(model, self.events.extend)

    def run(self, *sequences: Sequence) -> None:
        for each in sequences:
            self.engine.submit(each)
        while self.engine.step(wait=False):
            pass

    def answer(self, id: int) -> list[int]:
        texts = [e.text for e in self.events if isinstance(e, TextOut) and e.id == id]
        return [ord(letter) for letter in "".join(texts)]

    def ending(self, id: int) -> Finished:
        return next(e for e in self.events if isinstance(e, Finished) and e.id == id)


@pytest.mark.parametrize("cut", [0, 4])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("n_swa", [0, 40])
def test_the_answer_is_that_of_the_whole_prompt(cut: int, causal: bool, n_swa: int) -> None:
    served = Served(FakeModel(cut=cut, n_swa=n_swa, checkpoint_size=10**6))
    cat, dog = inset("cat", causal=causal), inset("dog", 9, causal=causal)
    prompts: list[tuple[str | Inset, ...]] = [
        ("look at ", cat, " and ", dog, "?"), (cat, dog), ("a", cat), (cat, "b"), ("look at ", cat, " or ", dog),
        ("look at ", cat, " and ", dog, "!"), ("look at ", dog, " and ", cat, "?"),
    ]  # fmt: skip
    for id, parts in enumerate(prompts):
        served.run(sequence(id, *parts))

    for id, parts in enumerate(prompts):
        assert served.answer(id) == continuation(prompt(*parts).ids, 8)


def test_an_inset_longer_than_a_batch_is_computed_in_parts() -> None:
    served = Served(FakeModel(n_batch=4))
    served.run(sequence(1, "a", inset("cat", 10), "b"))

    assert served.answer(1) == continuation(prompt("a", inset("cat", 10), "b").ids, 8)
    assert [n for [(_, _, n)] in served.model.decoded[:5]] == [1, 4, 4, 2, 1]


def test_one_inset_a_step_and_a_token_for_the_others() -> None:
    served = Served(FakeModel())
    served.run(sequence(1, "hello", n=1))
    served.engine.submit(sequence(2, "hello there", n=30))
    served.engine.step(wait=False)
    served.engine.submit(sequence(3, inset("cat"), "?"))
    served.engine.submit(sequence(4, inset("dog"), "?"))
    while len(served.model.encoded) < 2:
        said, seen = len(served.answer(2)), len(served.model.encoded)
        served.engine.step(wait=False)
        assert len(served.model.encoded) <= seen + 1
        assert len(served.answer(2)) > said


def test_a_second_question_keeps_the_image_but_not_a_part_of_it() -> None:
    served = Served(FakeModel())
    served.run(sequence(1, "some words before ", inset("cat"), " what?"))
    served.run(sequence(2, "some words before ", inset("cat"), " who?"))
    served.run(sequence(3, "some words before ", inset("cat")))

    n_before, n_image = len("some words before "), 6
    assert served.ending(2).n_cached == n_before + n_image + len(" wh")
    assert served.ending(3).n_cached == n_before
    assert len(served.model.encoded) == 2


def test_followers_wait_for_the_image_and_do_not_encode_it() -> None:
    served = Served(FakeModel(n_slots=4))
    beginning = "some words that are long enough "
    served.run(*(sequence(id, beginning, inset("cat"), f"{id}?") for id in range(4)))

    assert len(served.model.encoded) == 1
    for id in range(4):
        wanted = prompt(beginning, inset("cat"), f"{id}?").ids
        assert served.answer(id) == continuation(wanted, 8)


def test_a_context_with_an_image_is_not_shifted() -> None:
    served = Served(FakeModel(n_ctx=32))
    served.run(sequence(1, "abc", inset("cat"), "d", n=100, shift=True))

    assert served.ending(1).reason == "length"
    assert served.ending(1).n_predicted == 32 - 10 + 1


def test_an_aborted_image_is_computed_again_from_its_beginning() -> None:
    model = FakeModel()
    served = Served(model)
    aborted: list[bool] = []

    def abort_once() -> None:
        if model.encoded and not aborted:
            aborted.append(True)
            model.abort()

    model.during_decode = abort_once
    served.run(sequence(1, "abc", inset("cat"), "d"))

    assert aborted and served.answer(1) == continuation(prompt("abc", inset("cat"), "d").ids, 8)


def test_spans_end_before_insets() -> None:
    ahead = sequence(1, "abcdef", inset("cat"), "gh")
    spans = plan_batch([ahead], 64, 64)
    assert [(span.n, span.last) for span in spans] == [(6, False)]
    assert [(span.n, span.last) for span in plan_alone([ahead], 4, shortest_first=True)] == [
        (4, False)
    ]
    assert plan_inset([ahead], 64) is None

    ahead.n_past = 6
    assert plan_inset([ahead], 64) == (ahead, 6, 6, False)
    assert plan_inset([ahead], 4) == (ahead, 6, 4, False)
    ahead.n_past = 10
    assert plan_inset([ahead], 4) == (ahead, 10, 2, False)


def test_an_inset_whose_rows_see_each_other_is_not_cut() -> None:
    span = plan_inset([sequence(1, inset("cat", 10, causal=False))], 4)

    assert span is not None and span[1:] == (0, 10, True)

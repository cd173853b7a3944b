"""Checkpoints over real llama.cpp: a prompt that goes on from one gets the tokens that it gets without any cache, computed in the
same batches. Small models with random weights: a sliding window, a recurrent state, and a hybrid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamapy.engine.checkpoints import stops
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.sequence import Sequence
from ollamapy.types import Generation, Prompt, Sampling
from tests.plans import plan
from tests.small_models import random_model, state_model
from tests.test_real_models import GEMMA, MISSING

pytestmark = pytest.mark.llama
KINDS = ("window", "mamba", "lfm2")


@pytest.fixture(scope="module", params=KINDS)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("models") / "m.gguf"
    if request.param == "window":
        random_model(path, window=32)
    else:
        state_model(path, request.param)
    model = Model(plan(path, n_ctx=1024, n_slots=2, n_batch=32, threads=1, checkpoint_size=10**7))
    yield model
    model.close()


class Served:
    """An engine of its own over the model, whose slots are empty."""

    def __init__(self, model: Model, **engine: Any) -> None:
        self.model = model
        for slot in range(model.n_slots):
            model.trim(slot, 0)
        self.events: list[Event] = []
        self.engine = Engine(model, self.events.extend, **engine)
        self.ids = 0

    def ask(self, *prompts: str, n: int = 24) -> list[tuple[str, int]]:
        """Text and reused tokens of each prompt, run together; checkpoints at the ends of words "zu" and near their ends."""
        first = self.ids + 1
        for prompt in prompts:
            self.ids += 1
            tokens = self.model.tokenize(prompt)
            marks = [len(self.model.tokenize(prompt[:at])) for at in _ends(prompt)]
            generation = Generation(Prompt((prompt,)), Sampling(temperature=0), num_predict=n)
            self.engine.submit(
                Sequence(self.ids, tokens, generation, stops=stops(len(tokens), marks))
            )
        while self.engine.step(wait=False):
            pass
        return [self._result(id) for id in range(first, self.ids + 1)]

    def _result(self, id: int) -> tuple[str, int]:
        texts = [each.text for each in self.events if isinstance(each, TextOut) and each.id == id]
        (end,) = [each for each in self.events if isinstance(each, Finished) and each.id == id]
        return "".join(texts), end.n_cached


def _ends(prompt: str) -> list[int]:
    return [at + 2 for at in range(len(prompt)) if prompt.startswith("zu", at)]


SYSTEM = "ba ke li mo ra " * 12 + "zu"
QUESTION = SYSTEM + " or an ti ba ke" * 14 + " zu"
LONG = 300
"""Tokens of an answer after which a window of 32 tokens, in its 256 cells, has forgotten the prompt."""


def test_a_second_turn_goes_on_from_the_first_prompt(model: Model) -> None:
    """What the model answered is written in another way, as thoughts are left out."""
    fresh = Served(model).ask(QUESTION + " is is ra ke mo")
    served = Served(model)
    served.ask(QUESTION, n=LONG)
    (text, reused), *_ = served.ask(QUESTION + " is is ra ke mo")
    assert text == fresh[0][0] != ""
    assert reused >= 0.9 * len(model.tokenize(QUESTION))


def test_chats_with_the_same_beginning_side_by_side(model: Model) -> None:
    """The second comes to a slot that has not computed it, where a window is put back with the cells."""
    others = [SYSTEM + " mo mo ra li el" * 9, SYSTEM + " is or an" * 9]
    fresh = [Served(model).ask(other)[0][0] for other in others]
    served = Served(model)
    served.ask(QUESTION, n=LONG)
    found = served.ask(*others)
    assert [text for text, _ in found] == fresh
    assert found[0][1] >= len(model.tokenize(SYSTEM)) - 1


def test_states_that_are_refused(model: Model) -> None:
    served = Served(model)
    served.ask(QUESTION, n=1)
    state = model.save(0, partial=True)
    assert state is not None and model.state_size(0, partial=True) == len(state)
    assert not model.restore(1, state[:-3], partial=True)
    assert not model.restore(1, bytearray(b"nothing at all" * 9), partial=True)
    assert not model.restore(1, bytearray(), partial=True)


@pytest.mark.real
@pytest.mark.long
@pytest.mark.skipif(bool(MISSING), reason=f"scripts/judges could not get {MISSING}")
def test_gemma_s_second_turn(tmp_path: Path) -> None:
    """The clock stands still, so that both prompts are computed in the same batches from the checkpoint on."""
    path = tmp_path / "gemma.gguf"
    path.write_bytes(b"".join(part.read_bytes() for part in GEMMA))
    model = Model(plan(path, n_ctx=4096, n_slots=1, n_batch=512, threads=1, checkpoint_size=10**8))
    days = "".join(f"On day {n} the traveller saw {n + 3} birds. zu " for n in range(60))
    second = days + "It was a long journey.\nOn day 61 the traveller saw"
    fresh = Served(model, clock=lambda: 0).ask(second, n=8)
    served = Served(model, clock=lambda: 0)
    served.ask(days, n=1)
    served.ask(
        days + "It rained all day. " * 150, n=1
    )  # a window and a batch: the days are out of sight
    again = served.ask(second, n=8)
    n_days = len(model.tokenize(days))
    model.close()
    assert again[0][0] == fresh[0][0] != ""
    assert again[0][1] >= 0.9 * n_days

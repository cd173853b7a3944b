"""A context of another size over real llama.cpp: the answers that run go on with the same tokens, and so does what idle slots hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamapy.engine.checkpoints import stops
from ollamapy.engine.engine import Engine, ResizeTask
from ollamapy.engine.events import Event, Finished, Outgrown, Refused, Resized, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.sequence import Sequence
from ollamapy.loading import LoadPlan
from ollamapy.types import Generation, Prompt, Sampling
from tests.plans import plan
from tests.small_models import random_model, state_model

pytestmark = pytest.mark.llama
FIRST, SECOND = "ba ke li mo ra " * 20, "or an ti ba ke zu " * 15
N = 120
Settings = dict[str, Any]


class Served:
    """A model with one slot, and an engine over it; the clock stands still, so that batches do not depend on the time."""

    def __init__(self, path: Path, n_slots: int = 1, n_ctx: int = 1024, **settings: Any) -> None:
        self.path, self.settings = path, {"n_batch": 64, "threads": 1, **settings}
        self.model = Model(self._plan(n_slots, n_ctx))
        self.events: list[Event] = []
        self.engine = Engine(self.model, self.events.extend, clock=lambda: 0)

    def _plan(self, n_slots: int, n_ctx: int) -> LoadPlan:
        settings = {"checkpoint_size": 10**7, **self.settings}
        return plan(self.path, n_ctx, n_slots, **settings)

    def submit(self, id: int, prompt: str, n: int = N) -> None:
        tokens = self.model.tokenize(prompt)
        generation = Generation(Prompt((prompt,)), Sampling(temperature=0), num_predict=n)
        self.engine.submit(Sequence(id, tokens, generation, stops=stops(len(tokens))))

    def resize(self, n_slots: int, n_ctx: int = 1024) -> Resized | Refused:
        self.engine.submit(ResizeTask(0, self._plan(n_slots, n_ctx)))
        self.step()
        found = [each for each in self.events if isinstance(each, Resized | Refused)]
        return found[-1]

    def step(self, n: int = 1) -> None:
        for _ in range(n):
            self.engine.step(wait=False)

    def run(self) -> None:
        while self.engine.step(wait=False):
            pass

    def text(self, id: int) -> str:
        self.run()
        assert self.end(id).reason == "length"
        return "".join(e.text for e in self.events if isinstance(e, TextOut) and e.id == id)

    def end(self, id: int) -> Finished:
        (found,) = [each for each in self.events if isinstance(each, Finished) and each.id == id]
        return found


@pytest.fixture(scope="module", params=["plain", "no flash", "q8_0", "window", "mamba", "lfm2"])
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Settings]:
    """A model's file, and how it is loaded."""
    path = tmp_path_factory.mktemp("models") / "m.gguf"
    match request.param:
        case "window":
            random_model(path, window=32, n_ctx=4096)
        case "mamba" | "lfm2":
            state_model(path, request.param)
        case _:
            random_model(path, n_ctx=4096, n_heads=2)  # a quantised cache needs 32 numbers a head
    more: dict[str, Settings] = {
        "no flash": {"flash_attention": False},
        "q8_0": {"kv_type": "q8_0"},
        # Once a window has gone round, moved cells lie in another order: sums of half floats would differ.
        "window": {"flash_attention": False},
    }
    return path, more.get(request.param, {})


@pytest.fixture
def served(kind: tuple[Path, Settings]) -> Iterator[Served]:
    path, settings = kind
    served = Served(path, **settings)
    yield served
    served.model.close()


@pytest.fixture(scope="module")
def alone(kind: tuple[Path, Settings]) -> tuple[str, str]:
    """Both answers, each alone in a context of its own size."""
    path, settings = kind
    served = Served(path, **settings)
    served.submit(1, FIRST)
    first = served.text(1)
    served.submit(2, SECOND)
    texts = first, served.text(2)
    served.model.close()
    return texts


def n_reused(served: Served, id: int, prompt: str) -> int:
    served.submit(id, prompt, n=4)
    served.run()
    return served.end(id).n_cached


@pytest.mark.parametrize("n_steps", [1, 3, 40])
def test_an_answer_goes_on_with_the_same_tokens(
    served: Served, alone: tuple[str, str], n_steps: int
) -> None:
    """Resized in its prompt and in its answer, to more slots, to a longer context, and back."""
    served.submit(1, FIRST)
    served.step(n_steps)
    assert served.resize(3) == Resized(0, 1024, 3)
    served.step(5)
    assert served.resize(2, 2048) == Resized(0, 2048, 2)
    served.step(5)
    assert served.resize(1, 1024) == Resized(0, 1024, 1)
    assert served.text(1) == alone[0]
    assert served.end(1).n_cached == 0


def test_a_second_one_runs_beside_it_in_the_slot_that_is_new(
    kind: tuple[Path, Settings], served: Served
) -> None:
    """As it does where there were slots enough from the beginning."""
    whole = Served(kind[0], 4, **kind[1])
    for each in (whole, served):
        each.submit(1, FIRST)
        each.step(30)
        each.submit(2, SECOND)
    served.resize(2)
    served.step(60)
    served.resize(4)
    assert (served.text(1), served.text(2)) == (whole.text(1), whole.text(2))
    whole.model.close()


def test_what_idle_slots_hold_is_there_afterwards(served: Served, alone: tuple[str, str]) -> None:
    served.submit(1, FIRST)
    first = served.text(1)
    served.resize(2, 2048)
    n_prompt = len(served.model.tokenize(FIRST))
    assert n_reused(served, 2, FIRST + first + " ba") > n_prompt - 40
    served.submit(3, SECOND)
    assert served.text(3) == alone[1]
    served.resize(1)
    assert n_reused(served, 4, SECOND + alone[1] + " ba") > 40, "the slot used last is kept"


def test_the_same_tokens_as_in_a_context_made_for_them(
    kind: tuple[Path, Settings], served: Served
) -> None:
    """A long prompt, after its context has grown."""
    served.resize(2, 4096)
    long = FIRST * 5
    served.submit(1, long)
    found = served.text(1)
    whole = Served(kind[0], 2, 4096, **kind[1])
    whole.submit(1, long)
    assert whole.text(1) == found
    whole.model.close()


def test_an_answer_that_waits_for_cells(kind: tuple[Path, Settings], served: Served) -> None:
    """Its context has 256 cells at first, which its prompt nearly fills."""
    few = Served(kind[0], n_cells=256, **kind[1])
    for each in (few, served):
        each.submit(1, FIRST * 2)
        each.run()
    asked = [each for each in few.events if isinstance(each, Outgrown)]
    assert asked and few.model.n_ctx == 1024 and few.model.n_cells == 256
    few.settings["n_cells"] = 512
    assert few.resize(1) == Resized(0, 1024, 1)
    assert few.text(1) == served.text(1)
    assert few.end(1).n_cached == 0
    few.model.close()


def test_a_context_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    served = Served(random_model(tmp_path / "m.gguf"))
    served.submit(1, FIRST)
    served.step(20)
    served.settings |= {
        "flash_attention": False,
        "kv_type": "q8_0",
    }  # llama.cpp has no such context
    refused = served.resize(1, 2048)
    assert isinstance(refused, Refused) and "1 x 2048 tokens" in refused.message
    found = served.text(1)
    other = Served(tmp_path / "m.gguf")
    other.submit(1, FIRST)
    assert other.text(1) == found

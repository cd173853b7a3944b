"""The same tokens whatever the neighbours, over real llama.cpp: log probabilities equal to the last bit beside seven noisy others.

Short by default: ``scripts/test tests/engine/test_deterministic_llama.py --soak 100`` compares 10,000 tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ollamapy.engine.alike import most_alike
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.quantize import quantize
from ollamapy.engine.sequence import Sequence
from ollamapy.formats.quantization import TYPES
from ollamapy.types import Generation, Prompt, Sampling
from tests.plans import plan
from tests.small_models import random_model

pytestmark = [pytest.mark.llama, pytest.mark.long, pytest.mark.soak, pytest.mark.timeout(7200)]

N_PROMPT, N_SHORT, N_SLOTS = 600, 100, 8


@pytest.fixture(scope="module", params=["F32", "Q4_0", "Q4_K_M"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in this type; wide enough for the types with blocks of 256."""
    folder = tmp_path_factory.mktemp("models")
    made = random_model(folder / "f32.gguf", n_embd=256, n_ff=512, n_ctx=16384)
    if request.param == "F32":
        return made
    quantize(made, folder / "small.gguf", TYPES[request.param], lambda _: None)
    return folder / "small.gguf"


def opened(path: Path, n_answer: int, *, deterministic: bool) -> Model:
    """As a runner has it: of quantised weights several answers' tokens in one call, without flash attention."""
    n_ctx = N_PROMPT + n_answer + 256
    made = plan(path, n_ctx, N_SLOTS, n_batch=512, threads=2, deterministic=deterministic)
    if deterministic and "small" in path.name:
        made = msgspec.structs.replace(made, flash_attention=False)
    model = Model(made)
    if deterministic:
        model.alike = most_alike(model, model.n_vocab)
    return model


class Measured:
    """An engine in which one request is measured."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.events: list[Event] = []
        self.engine = Engine(model, self.events.extend)
        self.found: list[float] = []
        self.ended: set[int] = set()

    def submit(self, id: int, tokens: list[int], n: int, seed: int) -> None:
        wanted = 0 if id == 1 else None
        sampling = Sampling(temperature=0.8, seed=seed)
        generation = Generation(Prompt(("",)), sampling, num_predict=n, logprobs=wanted)
        self.engine.submit(Sequence(id, tokens, generation))

    def step(self) -> None:
        self.engine.step(wait=False)
        for event in self.events:
            if isinstance(event, TextOut) and event.id == 1:
                self.found += [each.logprob for each in event.logprobs]
            elif isinstance(event, Finished):
                self.ended.add(event.id)
        self.events.clear()


def tokens(seed: int, n: int) -> list[int]:
    return random.Random(seed).choices(range(262, 660), k=n)


def alone(model: Model, n: int) -> list[float]:
    measured = Measured(model)
    measured.submit(1, tokens(1, N_PROMPT), n, 7)
    while 1 not in measured.ended:
        measured.step()
    return measured.found


def beside_others(model: Model, n: int) -> list[float]:
    """Others come and go all the time, some with the beginning of the same prompt; some were there before."""
    measured, noise = Measured(model), random.Random(2)
    id, running = 1, set[int]()
    while 1 not in measured.ended:
        running -= measured.ended
        while len(running) < N_SLOTS - 1:
            id += 1
            same = tokens(1, N_PROMPT)[: noise.choice((0, 0, 100, 300, N_PROMPT))]
            prompt = [*same, *tokens(id, noise.randint(1, 200))]
            measured.submit(id, prompt, noise.randint(1, 60), id)
            running.add(id)
        if id >= N_SLOTS + 3 and 1 not in running:
            measured.submit(1, tokens(1, N_PROMPT), n, 7)
            running.add(1)
        measured.step()
    return measured.found


@pytest.fixture
def model(path: Path, soak: int) -> Iterator[Model]:
    model = opened(path, N_SHORT * soak, deterministic=True)
    yield model
    model.close()


def test_neighbours_change_nothing(model: Model, soak: int) -> None:
    n = N_SHORT * soak
    print(f"{model.alike} tokens are alike")
    expected = alone(model, n)
    assert len(expected) >= n - 1
    assert beside_others(model, n) == expected


def test_without_it_they_do(path: Path) -> None:
    """So the test above sees what it looks for."""
    model = opened(path, N_SHORT, deterministic=False)
    expected = alone(model, N_SHORT)
    assert beside_others(model, N_SHORT) != expected
    model.close()

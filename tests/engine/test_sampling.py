"""Which samplers a request gets, in which order."""

from __future__ import annotations

import pytest

from ollamapy.engine.sampling import penalized_history, sampler_chain
from ollamapy.types import Sampling

CHAINS = [
    (Sampling(), ["top_k", "top_p", "temp", "dist"]),
    (Sampling(temperature=0), ["greedy"]),
    (Sampling(temperature=0, repeat_penalty=1.1), ["penalties", "greedy"]),
    (Sampling(temperature=1, top_k=0, top_p=1), ["dist"]),
    (
        Sampling(typical_p=0.5, min_p=0.1, presence_penalty=1),
        ["penalties", "top_k", "typical", "top_p", "min_p", "temp", "dist"],
    ),
    (Sampling(repeat_penalty=2, repeat_last_n=0, temperature=-1), ["greedy"]),
]


@pytest.mark.parametrize(("sampling", "kinds"), CHAINS)
def test_chain(sampling: Sampling, kinds: list[str]) -> None:
    assert [stage.kind for stage in sampler_chain(sampling, 4096)] == kinds


@pytest.mark.parametrize(("seed", "given"), [(-1, 0xFFFFFFFF), (0, 0), (42, 42), (2**32 + 7, 7)])
def test_seed(seed: int, given: int) -> None:
    assert sampler_chain(Sampling(seed=seed), 10)[-1].arguments == (given,)


@pytest.mark.parametrize(
    ("last_n", "seen"), [(2, [8, 9]), (0, []), (-1, [7, 8, 9]), (99, [7, 8, 9])]
)
def test_the_penalties_have_seen_the_prompt(last_n: int, seen: list[int]) -> None:
    sampling = Sampling(repeat_penalty=1.5, repeat_last_n=last_n)
    assert list(penalized_history(sampling, [7, 8, 9], 50)) == seen

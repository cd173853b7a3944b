"""What an answer depends on, and how two answers are compared."""

from __future__ import annotations

import msgspec
import pytest

from ollamapy.serving.provenance import Change, changes, first_difference, seeded
from ollamapy.types import Provenance, Sampling

THEN = Provenance("m:latest", "sha256:1", "build 1", 7, {"num_ctx": 4096, "top_k": 40})


@pytest.mark.parametrize(
    ("now", "found"),
    [
        (THEN, ()),
        (msgspec.structs.replace(THEN, model="copy:latest"), ()),
        (msgspec.structs.replace(THEN, digest="sha256:2"), (Change("digest", "sha256:1", "sha256:2"),)),
        (msgspec.structs.replace(THEN, build="build 2"), (Change("build", "build 1", "build 2"),)),
        (
            msgspec.structs.replace(THEN, settings={"num_ctx": 8192, "new": 1}),
            (Change("num_ctx", 4096, 8192), Change("top_k", 40, None), Change("new", None, 1)),
        ),
    ],
)  # fmt: skip
def test_what_is_not_as_it_was(now: Provenance, found: tuple[Change, ...]) -> None:
    assert changes(THEN, now) == found


@pytest.mark.parametrize(
    ("then", "now", "at"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((), (), None),
        ((1, 2, 3), (1, 9, 3), 1),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (1, 2), 2),
    ],
)
def test_the_first_token_that_differs(
    then: tuple[int, ...], now: tuple[int, ...], at: int | None
) -> None:
    assert first_difference(then, now) == at


def test_a_seed_is_chosen_where_there_is_none() -> None:
    assert seeded(Sampling(seed=0)).seed == 0
    found = {seeded(Sampling(seed=-1)).seed for _ in range(20)}
    assert len(found) > 1 and all(0 <= seed < 2**31 for seed in found)

"""How contexts are sized, and the setting of their type."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ollamapy.config import Settings
from ollamapy.context import KV_TYPES, padded, pooled_batch, usable
from ollamapy.errors import InvalidSetting


@pytest.mark.parametrize(("n_ctx", "cells"), [(1, 256), (256, 256), (257, 512), (4096, 4096)])
def test_cells_are_a_multiple_of_256(n_ctx: int, cells: int) -> None:
    assert padded(n_ctx) == cells


@pytest.mark.parametrize(
    ("num_ctx", "n_ctx", "tokens"),
    [(None, 4096, 4096), (0, 4096, 4096), (300, 4096, 512), (9999, 4096, 4096), (-5, 4096, 256)],
)
def test_a_request_uses_whole_steps_of_a_context(
    num_ctx: int | None, n_ctx: int, tokens: int
) -> None:
    assert usable(num_ctx, n_ctx) == tokens


@pytest.mark.parametrize(
    ("n_batch", "n_vocab", "pooled"),
    [(512, 32_000, 512), (512, 262_144, 128), (512, 10**9, 16), (8, 100, 16), (512, 0, 512)],
)
def test_a_large_vocabulary_makes_pooled_batches_small(
    n_batch: int, n_vocab: int, pooled: int
) -> None:
    assert pooled_batch(n_batch, n_vocab) == pooled


@pytest.mark.parametrize("name", ["OLLAMAPY_KV_CACHE_TYPE", "OLLAMA_KV_CACHE_TYPE"])
def test_an_unknown_type_of_cache_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name} is 'q3'.*f32, f16, .*iq4_nl"):
        Settings.from_env({name: "Q3"}).check()


@pytest.mark.parametrize("kv_type", ["", *KV_TYPES, "Q8_0"])
def test_known_types_are_taken(kv_type: str) -> None:
    Settings.from_env({"OLLAMAPY_KV_CACHE_TYPE": kv_type}).check()


def test_serve_does_not_start_with_an_unknown_type_of_cache(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ollamapy", "serve"],
        env={
            **os.environ,
            "OLLAMAPY_KV_CACHE_TYPE": "q3",
            "OLLAMAPY_HOST": "127.0.0.1:0",
            "OLLAMAPY_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "OLLAMAPY_KV_CACHE_TYPE" in run.stderr and "q8_0" in run.stderr

"""Requests for models that need nothing but a header."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import UNSET, UnsetType

from ollamapy.config import Settings
from ollamapy.fleet.request import LeaseRequest
from ollamapy.formats.gguf import Header, Tensor
from ollamapy.loading import File, Files
from ollamapy.names import Name
from ollamapy.types import Options

GB = 10**9


def model(size: float, kv_length: int = 0) -> Header:
    """A model of `size` GB of weights; a runner takes 35 MB more, and its cache.

    `kv_length` is of the only head of the only layer: 6,000 make 98 MB for 4,096 tokens.
    """
    n = round(size * GB) // 4
    metadata = {
        "general.architecture": "llama",
        "llama.context_length": 65_536,
        "llama.block_count": 1,
        "llama.attention.head_count": 1,
        "llama.attention.key_length": kv_length,
        "llama.attention.value_length": kv_length,
    }
    return Header(3, metadata, (Tensor("t", "F32", (n,), 4 * n, 0),), 0, 4 * n)


def settings(**values: Any) -> Settings:
    environ = {"OLLAMAPY_HOME": "/nowhere", "OLLAMA_NUM_PARALLEL": "1"}
    return Settings.from_env(environ | {k: str(v) for k, v in values.items()})


def request(
    key: str, keep_alive: float | None | UnsetType = UNSET, *, embeds: bool = False, **options: Any
) -> LeaseRequest:
    """A request for model "a", "b"... of 1 GB; "big" has 5. "wide" has half a GB of cache for 4,096 tokens."""
    headers = {"big": model(5, 6000), "wide": model(1, 30_000), "wider": model(1, 30_000)}
    header = headers.get(key) or model(1)
    return LeaseRequest(
        Name.parse(key),
        f"manifest {key}",
        Files(File(Path(key), key)),
        header,
        Options(**options),
        embeds,
        keep_alive,
    )

"""The sizes of llama.cpp's contexts, for the engine and for the estimate of memory. Pure."""

from __future__ import annotations

from types import MappingProxyType

DEFAULT_BATCH = 512
"""Tokens of a batch if no option sets it."""

CELL_STEP = 256
"""llama.cpp rounds the cells of a slot up to a multiple of this."""

KV_TYPES = MappingProxyType(
    {
        "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32,
        "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
    }
)  # fmt: skip
"""The types of a KV cache's cells, by ggml's names, and the bytes of one number; a block of the quantized types holds 32
numbers and their scale."""

POOLED_TEXTS, POOLED_STATES = 64, 4
"""Texts in a batch for vectors; fewer if each has a recurrent state of its own."""

_MOST_LOGITS = 32 * 1024 * 1024
"""Numbers: llama.cpp allocates the logits of every token of a batch, even if they are not needed."""

_FEWEST = 16
"""Tokens that are pooled at once, even with a large vocabulary."""


def padded(n_ctx: int) -> int:
    """The cells of a slot for ``n_ctx`` tokens."""
    return -(-n_ctx // CELL_STEP) * CELL_STEP


def usable(num_ctx: int | None, n_ctx: int) -> int:
    """Tokens that a request may use of a context of ``n_ctx`` tokens; ``num_ctx`` is its option."""
    return min(padded(max(num_ctx, 1)), n_ctx) if num_ctx else n_ctx


def pooled_batch(n_batch: int, n_vocab: int) -> int:
    """Tokens of a batch for vectors, of a model that generates in batches of ``n_batch``."""
    return max(min(n_batch, _MOST_LOGITS // max(n_vocab, 1)), _FEWEST)

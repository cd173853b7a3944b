"""How many bytes a loaded model takes, by purpose. All of it follows from the GGUF header. Pure.

The estimate is meant to be a little too high. Graphics memory is not counted: a model is assumed to be in main memory.

    total = mapped (file-backed) + weights + KV cache + compute buffers + overhead of the runner process

llama.cpp repacks quantised weights for faster kernels. A mapped file then stays in memory beside the
copy (measured on a 1.1B model in Q4_0: 1,144 MB against 637), so files are mapped only where nothing
is repacked: then their pages are shared with the system's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..context import KV_TYPES, POOLED_STATES, padded, pooled_batch
from .gguf import Header

_PROCESS, _TOKEN = 25_000_000, 300
"""Bytes of a runner before it loads (measured: 20 MB), of a token's entry (measured: 290)."""

POOLING_LIBRARY = 20_000_000
"""Bytes of the library that pools vectors (measured: 15 to 20 MB)."""

NEVER_REPACKED = frozenset({"F32", "F16", "BF16"})
"""Tensor types that llama.cpp computes with as they are in the file."""

_GLOBAL_EVERY = {"gemma2": 2, "gemma3": 6, "cohere2": 4, "gpt-oss": 2}
"""Here every n-th layer sees everything, the others a window (llama.cpp, ``set_swa_pattern``)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes that a load takes, by purpose; ``mapped`` are pages of the model's file, the rest is anonymous."""

    weights: int
    kv: int
    compute: int
    overhead: int
    mapped: int = 0

    @property
    def anonymous(self) -> int:
        """What only ends with the runner: the system can drop mapped pages, but not these."""
        return self.weights + self.kv + self.compute + self.overhead

    @property
    def total(self) -> int:
        """All of it."""
        return self.mapped + self.anonymous


def estimate(
    header: Header, *, n_ctx: int, n_slots: int, n_batch: int, kv_type: str, flash: bool = False
) -> Estimate:
    """What a load takes: ``n_ctx`` tokens for each of ``n_slots``, batches of ``n_batch`` tokens.

    Compute buffers hold, for each token of a batch, the largest of the stages of a pass (the logits; two feed-forward rows; without flash attention the scores of every head
    over all cells), a row of the mask and some ten rows of the model's width, in 4-byte floats.
    Against llama.cpp 0.3.36 on a CPU this was 0 to 45 % above the truth, never below.
    """
    cells = padded(n_ctx)
    width, vocabulary = header.embedding_length or 0, header.vocab_size
    stages = [vocabulary, 2 * _feed_forward(header)]
    if not flash:
        stages.append(header.head_count * cells)
    compute = 4 * n_batch * (max(stages) + cells + 10 * width) + 4 * n_slots * vocabulary
    return Estimate(
        weights=header.weights_size,
        kv=n_slots * slot_bytes(header, n_ctx, n_batch, kv_type),
        compute=compute,
        overhead=_PROCESS + _TOKEN * vocabulary,
    )


def embedding_context(
    header: Header, *, n_ctx: int, n_batch: int, kv_type: str, flash: bool
) -> tuple[int, int]:
    """Bytes of cache and of compute buffers of the context for embeddings (``engine/pooled.py``).

    It has an output for every token of a batch, with room for its logits even where the model has
    none. A causal model reads a text in batches, through a cache for the longest one; any other
    reads it at once and needs none.
    """
    width, vocabulary = header.embedding_length or 0, header.vocab_size
    n_batch = pooled_batch(n_batch, vocabulary)
    cells = padded(max(n_ctx, n_batch))
    stages = [2 * _feed_forward(header)]
    if header.value("attention.causal") is False:
        n_batch, kv = max(n_ctx, n_batch), 0
    else:
        stages.append(vocabulary)
        states = POOLED_STATES * header.block_count * _state_bytes(header)
        kv = slot_bytes(header, cells, n_batch, kv_type) + states
    if not flash:
        stages.append(header.head_count * cells)
    return kv, 4 * n_batch * (max(stages) + vocabulary + cells + 11 * width)


# ---- the KV cache --------------------------------------------------------------------------------


def slot_bytes(header: Header, n_ctx: int, n_batch: int, kv_type: str) -> int:
    """What a sequence's cache and recurrent state take over all layers.

    A windowed layer keeps its window and one batch, no more. ``kv_type`` is one of KV_TYPES.
    """
    cells = padded(n_ctx)
    windowed = min(cells, padded((header.sliding_window or n_ctx) + n_batch))
    head = (header.key_length + header.value_length) * KV_TYPES[kv_type]
    numbers = sum(
        heads * (windowed if is_windowed else cells)
        for heads, is_windowed in zip(header.head_count_kv, _windowed_layers(header), strict=False)
    )
    return round(numbers * head) + header.block_count * _state_bytes(header)


def partial_size(header: Header, n_ctx: int, kv_type: str) -> int:
    """Bytes of the part of a sequence's state that cannot be cut: the cells of its windows, and its recurrent state; 0 where all
    of it can be."""
    cells = min(padded(n_ctx), header.sliding_window or 0)
    heads = sum(
        heads
        for heads, is_windowed in zip(header.head_count_kv, _windowed_layers(header), strict=False)
        if is_windowed
    )
    head = (header.key_length + header.value_length) * KV_TYPES[kv_type]
    return round(cells * heads * head) + header.block_count * _state_bytes(header)


def _windowed_layers(header: Header) -> list[bool]:
    """Which layers see only a window; none if the header does not have it: the estimate is then too high."""
    layers = range(header.block_count)
    pattern = header.value("attention.sliding_window_pattern")
    if header.sliding_window and isinstance(pattern, tuple) and len(pattern) >= len(layers):
        return [bool(pattern[layer]) for layer in layers]
    every = _GLOBAL_EVERY.get(header.architecture) if header.sliding_window else None
    return [every is not None and layer % every < every - 1 for layer in layers]


def _state_bytes(header: Header) -> int:
    """Bytes of a layer's recurrent state for one sequence, in 4-byte floats; 0 for transformers.

    Mamba (1, 2 and hybrids): a convolution's last columns and inner x state numbers. RWKV: width x
    head numbers and the shifted tokens. Taken as if every layer were recurrent, which is too high
    for hybrids (llama.cpp, ``llama_hparams::n_embd_r/s``).
    """
    inner, state = header.number("ssm.inner_size") or 0, header.number("ssm.state_size") or 0
    groups, kernel = header.number("ssm.group_count") or 0, header.number("ssm.conv_kernel") or 1
    width, head = header.embedding_length or 0, header.number("wkv.head_size") or 0
    mamba = max(kernel - 1, 0) * (inner + 2 * groups * state) + inner * state
    rwkv = width * (head + (header.number("token_shift_count") or 2)) if head else 0
    short_convolution = width * max((header.number("shortconv.l_cache") or 1) - 1, 0)
    return 4 * (mamba + rwkv + short_convolution)


def _feed_forward(header: Header) -> int:
    """The width of the feed-forward part; the largest, where layers differ."""
    value = header.value("feed_forward_length")
    if isinstance(value, tuple):
        return max((each for each in value if isinstance(each, int)), default=0)
    return header.number("feed_forward_length") or 0

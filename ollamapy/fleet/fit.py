"""The largest load of a model that fits into what memory is free. Pure: what a load takes is estimated from its header
(``formats/footprint.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from ..config import Settings
from ..errors import NotEnoughMemory
from ..formats.footprint import (
    CELL_STEP,
    DEFAULT_BATCH,
    NEVER_REPACKED,
    POOLING_LIBRARY,
    Estimate,
    embedding_context,
    estimate,
    slot_bytes,
)
from ..formats.gguf import Header
from ..human import format_bytes
from ..runner.protocol import Load
from ..types import Options

CONTEXTS = (4096, 8192, 16384, 32768)
"""Tokens of context for each request when nobody asks for a number: the longest of these that :func:`default_context` can
justify. llama.cpp writes the whole cache at the load (measured: all of it is in memory then, 0.1 to 0.3 s for each GB), so that
a context is paid for whether it is used or not."""

_LONG_SLOTS = 4
"""Slots that a context longer than the first of these gets by itself."""

_CONTEXT_SHARE, _CHEAP = 8, 2 * 1024**3
"""What they take beyond the first is at most this part of the memory, and at most so many bytes or as many as the weights have."""

DEFAULT_WHOLE = 2048
"""The same for models that read a text at once, whose buffers grow with it: as much as Ollama gives them."""

LEAST_CONTEXT = 2048
"""How far a context that nobody asked for is lowered before a load is refused."""

MOST_SLOTS = 256
"""Sequences that one llama.cpp context can hold."""

_AUTOMATIC_SLOTS = 8


def estimate_load(header: Header, load: Load, adapters: int = 0) -> Estimate:
    """What this load takes, with ``adapters`` bytes of LoRAs, which are copied and never mapped."""
    found = estimate(
        header,
        n_ctx=load.n_ctx,
        n_slots=load.n_slots,
        n_batch=load.n_batch,
        kv_type=load.kv_type,
        flash=load.flash_attention is not False,
    )
    if not load.generates:
        found = replace(found, kv=0, compute=0)
    if load.embeds:
        kv, compute = _embedding_context(header, load)
        found = replace(
            found,
            kv=found.kv + kv,
            compute=found.compute + compute,
            overhead=found.overhead + POOLING_LIBRARY,
        )
    if not load.use_mmap:
        return replace(found, weights=found.weights + adapters)
    repacked = sum(t.n_bytes for t in header.tensors if t.type_name not in NEVER_REPACKED)
    copied = repacked if load.extra_bufts else 0
    return replace(found, weights=copied + adapters, mapped=found.weights)


def embedding_size(header: Header, load: Load) -> int:
    """What the context for embeddings adds to a load."""
    return POOLING_LIBRARY + sum(_embedding_context(header, load))


def _embedding_context(header: Header, load: Load) -> tuple[int, int]:
    return embedding_context(
        header,
        n_ctx=load.n_ctx,
        n_batch=load.n_batch,
        kv_type=load.kv_type,
        flash=load.flash_attention is not False,
    )


def plan(
    header: Header,
    path: Path,
    options: Options,
    settings: Settings,
    free: int,
    name: str = "the model",
    *,
    embeds: bool = False,
    adapters: int = 0,
) -> Load:
    """The best load that fits into ``free`` bytes.

    What was wished, else fewer slots, else less context where nobody asked for a number. Raises
    :class:`NotEnoughMemory` with both numbers, and ``name`` for the model, when even the least does
    not fit.
    """
    wished = wish(header, path, options, settings, free, embeds=embeds, adapters=adapters)
    for load in [wished, *_smaller(wished, options, settings)]:
        if estimate_load(header, load, adapters).total <= free:
            return load
    raise not_enough(header, load, free, name, adapters)


def wish(
    header: Header,
    path: Path,
    options: Options,
    settings: Settings,
    free: int,
    *,
    embeds: bool = False,
    adapters: int = 0,
) -> Load:
    """The load that the options and the settings ask for, fitting or not.

    The context is the option, else the setting, else :func:`default_context`; at most what the
    model was trained for, at least 4. As many slots as the setting says, else as many as a quarter
    of what is free after the weights and ``adapters`` (bytes) can hold, from 1 to 8; to 4 of a
    long context that was chosen: 8,192 tokens take no more memory then than 4,096.

    ``embeds``: with room for embeddings. A model that was made for them (its file says how its
    vectors are pooled) gets nothing else; there slots are only how many requests it may have.
    """
    generates = header.value("pooling_type") is None
    whole = header.value("attention.causal") is False
    room = free - header.weights_size - adapters
    asked = options.num_ctx or settings.context_length or (DEFAULT_WHOLE if whole else None)
    n_ctx = clamp_context(header, asked) if asked else default_context(header, room, settings)
    n_batch = options.num_batch or 0
    n_batch = min(n_batch if n_batch > 0 else DEFAULT_BATCH, n_ctx)
    n_slots = min(settings.num_parallel or 0, MOST_SLOTS)
    types = {tensor.type_name for tensor in header.tensors}
    if not n_slots and not generates:
        n_slots = _AUTOMATIC_SLOTS
    if not n_slots:
        slot = slot_bytes(header, n_ctx, n_batch, settings.kv_cache_type) or 1
        most = _AUTOMATIC_SLOTS if asked or n_ctx <= CONTEXTS[0] else _LONG_SLOTS
        n_slots = max(1, min(room // 4 // slot, most))
    return Load(
        model=str(path),
        n_ctx=n_ctx,
        n_slots=n_slots,
        n_batch=max(n_batch, n_slots),  # every running sequence adds a token to a batch
        threads=max(options.num_thread or 0, 0),
        gpu_layers=-1 if options.num_gpu is None else max(options.num_gpu, -1),
        main_gpu=max(options.main_gpu or 0, 0),
        use_mmap=types <= NEVER_REPACKED if options.use_mmap is None else options.use_mmap,
        flash_attention=settings.flash_attention,
        kv_type=settings.kv_cache_type,
        tensor_types=tuple(sorted(types)),
        generates=generates,
        embeds=embeds or not generates,
    )


def default_context(header: Header, room: int, settings: Settings) -> int:
    """Tokens of context for a request when nobody asks for a number; ``room`` is what is free after the weights, in bytes.

    The longest of :data:`CONTEXTS`, but no longer than the model was trained for, whose caches and
    compute buffers, for four slots or as many as the setting says, take little more than those of
    the first: at most an eighth of the room, so that it is there, and at most 2 GiB or as much as
    the weights, so that loading takes no more than twice as long. The first where the model does
    not say how long it was trained or what its cache takes. Ollama goes by the memory of the
    graphics cards alone: 4,096 tokens below 23 GiB, 32,768 below 47, else 262,144.

    Llama 3.2 with 1.2B (32 KB a token), Llama 3 with 8B (128 KB) and with 70B (320 KB), in Q4:

        free   8 GB    16 GB    32 GB    64 GB    128 GB   256 GB   512 GB
        1.2B   8,192   16,384   16,384   16,384   16,384   16,384   16,384
        8B     4,096   4,096    8,192    8,192    8,192    8,192    8,192
        70B                              4,096    8,192    16,384   32,768
    """
    shortest = clamp_context(header, CONTEXTS[0])
    n_slots = min(settings.num_parallel or _LONG_SLOTS, MOST_SLOTS)

    def cost(n_ctx: int) -> int:
        found = estimate(
            header,
            n_ctx=n_ctx,
            n_slots=n_slots,
            n_batch=DEFAULT_BATCH,
            kv_type=settings.kv_cache_type,
            flash=settings.flash_attention is not False,
        )
        return found.kv + found.compute

    if not header.context_length or not slot_bytes(
        header, shortest, DEFAULT_BATCH, settings.kv_cache_type
    ):
        return shortest
    longer = (clamp_context(header, n_ctx) for n_ctx in reversed(CONTEXTS))
    more = min(room // _CONTEXT_SHARE, max(header.weights_size, _CHEAP))
    return next((n_ctx for n_ctx in longer if cost(n_ctx) - cost(shortest) <= more), shortest)


def least(load: Load, options: Options, settings: Settings) -> Load:
    """The smallest load that would still be made in the place of a wished one."""
    return [load, *_smaller(load, options, settings)][-1]


def clamp_context(header: Header, num_ctx: int) -> int:
    """A context that the model can have: from 4 tokens to those it was trained for."""
    return max(min(num_ctx, header.context_length or num_ctx), 4)


def not_enough(
    header: Header, load: Load, free: int, name: str, adapters: int = 0
) -> NotEnoughMemory:
    """The error for a load that does not fit."""
    need = format_bytes(estimate_load(header, load, adapters).total)
    way_out = (
        "a smaller num_ctx or a smaller model" if load.n_ctx > LEAST_CONTEXT else "a smaller model"
    )
    return NotEnoughMemory(
        f"{name} needs {need} of memory and {format_bytes(max(free, 0))} are free,"
        f" close other programs or try {way_out}"
    )


def _smaller(load: Load, options: Options, settings: Settings) -> Iterator[Load]:
    """Ever smaller loads: half the slots, down to one; then, if nobody asked, less context."""
    n_slots, n_ctx = load.n_slots, load.n_ctx
    while n_slots > 1:
        n_slots //= 2
        yield msgspec.structs.replace(load, n_slots=n_slots)
    if options.num_ctx or settings.context_length:
        return
    while n_ctx > LEAST_CONTEXT:
        n_ctx = max(n_ctx - CELL_STEP, LEAST_CONTEXT)
        yield msgspec.structs.replace(load, n_slots=1, n_ctx=n_ctx)

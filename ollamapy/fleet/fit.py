"""How a model is loaded so that it fits into the free memory. Pure: memory is estimated from the header
(``formats/footprint.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec

from ..config import Settings
from ..context import CELL_STEP, DEFAULT_BATCH
from ..errors import NotEnoughMemory
from ..formats.footprint import (
    NEVER_REPACKED,
    POOLING_LIBRARY,
    Estimate,
    embedding_context,
    estimate,
    partial_size,
    slot_bytes,
)
from ..formats.gguf import Header
from ..human import format_bytes
from ..loading import Files, LoadPlan
from .request import LeaseRequest, clamp_context

CONTEXTS = (4096, 8192, 16384, 32768)
"""Tokens of context that :func:`default_context` chooses from. llama.cpp writes the whole cache when it loads (measured: all of
it is in memory then, 0.1 to 0.3 s for each GB), so a context costs memory and time whether it is used or not."""

REST_CELLS = CONTEXTS[0]
"""Tokens of each slot that memory is taken for with the load; a longer context gets the others when a request comes near them."""

_FULL_SLOTS = 4
"""Slots that a default context is chosen for, where the setting gives no number: of more, few will ever be full."""

_CONTEXT_SHARE, _CHEAP = 8, 2 * 1024**3
"""A longer default context may add at most this part of the free memory, and at most so many bytes or the weights' size."""

DEFAULT_WHOLE = 2048
"""Default context of models that read a text at once, whose buffers grow with it: as in Ollama."""

LEAST_CONTEXT = 2048
"""A default context is not lowered below this; a load that still does not fit is rejected."""

MOST_SLOTS = 256
"""Sequences that one llama.cpp context can hold."""

AUTOMATIC_SLOTS = 8
"""The most slots where the setting gives no number."""

_CHEAP_SHARE = 10
"""A runner at rest has more slots than one only where the others take at most this part of its memory."""

_SAVED, _SAVED_SHARE = 512 * 1024**2, 16
"""Bytes of saved prefixes in memory, or one slot's tokens if these are more; at most this part of the free memory."""

_SUMMED_OTHERWISE = frozenset(("F32", "F16", "BF16"))
"""Types of weights of which llama.cpp's kernels sum a single row in another order than several."""

_ENCODED, _ENCODED_SHARE = 256 * 1024**2, 16
"""Bytes of encoded images and sounds; at most this part of the free memory."""

_LEAST_IMAGE, _MOST_IMAGE, _IMAGE_SHARE = 256, 1024, 4
"""Tokens of one image: at least and at most so many, between them this part of the context. On a processor 1,024 of a large model take
minutes, and some projectors would make 4,096 of a photo."""

_CHECKPOINTS, _CHECKPOINTS_SHARE = 4, 16
"""Checkpoints for each slot of a model whose states cannot be cut, in at most this part of the free memory."""


# ---- memory ------------------------------------------------------------------------------------------------------------


def estimate_load(header: Header, plan: LoadPlan) -> Estimate:
    """Memory that a plan takes. Adapters and projectors are copied and never mapped."""
    found = _estimate(header, plan)
    if not plan.generates:
        found = replace(found, kv=0, compute=0)
    if plan.embeds:
        kv, compute = _embedding_context(header, plan)
        found = replace(
            found,
            kv=found.kv + kv,
            compute=found.compute + compute,
            overhead=found.overhead + POOLING_LIBRARY,
        )
    found = replace(found, kv=found.kv + plan.checkpoint_size + plan.saved_size + plan.encoded_size)
    copies = _copied(plan.files)
    if not plan.use_mmap:
        return replace(found, weights=found.weights + copies)
    repacked = sum(t.n_bytes for t in header.tensors if t.type_name not in NEVER_REPACKED)
    copied = repacked if plan.extra_bufts else 0
    return replace(found, weights=copied + copies, mapped=found.weights)


def _estimate(header: Header, plan: LoadPlan) -> Estimate:
    """Memory of the weights and of the context for generating."""
    return estimate(
        header,
        n_ctx=plan.held,
        n_slots=plan.n_slots,
        n_batch=plan.n_batch,
        kv_type=plan.kv_type,
        flash=plan.flash_attention is not False,
    )


def _copied(files: Files) -> int:
    """Bytes of what is loaded beside the weights."""
    return files.adapter_size + files.projector_size


def embedding_size(header: Header, plan: LoadPlan) -> int:
    """Bytes that the context for embeddings adds to a plan."""
    return POOLING_LIBRARY + sum(_embedding_context(header, plan))


def context_size(header: Header, plan: LoadPlan) -> int:
    """Bytes of a plan's context: its cache and its compute buffers."""
    found = _estimate(header, plan)
    return found.kv + found.compute


def resizing_size(header: Header, plan: LoadPlan) -> int:
    """Bytes that it takes to make a runner's context anew for a plan: for a moment the context before exists too, and the state of a
    slot twice."""
    slot = slot_bytes(header, plan.held, plan.n_batch, plan.kv_type)
    return context_size(header, plan) + 2 * slot


def _embedding_context(header: Header, plan: LoadPlan) -> tuple[int, int]:
    return embedding_context(
        header,
        n_ctx=plan.n_ctx,
        n_batch=plan.n_batch,
        kv_type=plan.kv_type,
        flash=plan.flash_attention is not False,
    )


# ---- plans -------------------------------------------------------------------------------------------------------------


def best(request: LeaseRequest, settings: Settings, free: int, n_wanted: int = 1) -> LoadPlan:
    """The best plan to begin with that fits into ``free`` bytes, for so many requests.

    The preferred one :func:`at_rest`, else one with fewer slots, else one with less context where no number was given. Raises
    :class:`NotEnoughMemory` with both numbers when even the smallest does not fit.
    """
    first = at_rest(preferred(request, settings, free), request, n_wanted)
    for plan in [first, *_smaller(first, request, settings)]:
        if estimate_load(request.header, plan).total <= free:
            return plan
    raise not_enough(request, plan, free)


def at_rest(plan: LoadPlan, request: LeaseRequest, n_wanted: int = 1) -> LoadPlan:
    """The plan with no more slots than so many requests want, but for those that are cheap. The others come when they are needed."""
    if not plan.is_elastic:
        return plan
    one = resized(plan, request, 1, plan.n_ctx)
    slot = slot_bytes(request.header, plan.n_ctx, plan.n_batch, plan.kv_type)
    size = estimate_load(request.header, one).total - one.saved_size
    n_cheap = 1 + size // _CHEAP_SHARE // slot if slot else plan.n_slots
    return resized(plan, request, min(max(n_wanted, n_cheap), plan.n_slots), plan.n_ctx)


def resized(plan: LoadPlan, request: LeaseRequest, n_slots: int, n_ctx: int) -> LoadPlan:
    """The plan of a request with another size, and checkpoints in proportion to its slots. A longer context has the cells that there
    are."""
    return msgspec.structs.replace(
        plan,
        n_slots=n_slots,
        n_ctx=n_ctx,
        n_cells=plan.held if plan.is_elastic and plan.held < n_ctx else 0,
        n_batch=max(_batch(request, n_ctx), n_slots),
        checkpoint_size=plan.checkpoint_size * n_slots // plan.n_slots,
    )


def begun(plan: LoadPlan, header: Header) -> LoadPlan:
    """The plan with memory for no more than REST_CELLS tokens of each slot to begin with, where the others can come later."""
    few = plan.is_elastic and plan.n_ctx > REST_CELLS and not _scales(header)
    return with_cells(plan, REST_CELLS if few else plan.n_ctx)


def with_cells(plan: LoadPlan, n_cells: int) -> LoadPlan:
    """The plan with memory for so many tokens of each slot, at most for all."""
    return msgspec.structs.replace(plan, n_cells=n_cells if n_cells < plan.n_ctx else 0)


def can_lengthen(plan: LoadPlan, header: Header) -> bool:
    """Can a loaded model get a longer context? Not one that has contexts for embeddings too, or whose positions depend on the length."""
    return plan.is_elastic and not plan.embeds and not _scales(header)


def _scales(header: Header) -> bool:
    """Do a model's positions depend on the length of its context?"""
    scaling = header.value("rope.scaling.type")
    return scaling not in (None, "none") or any(
        tensor.name.startswith("rope_factors") for tensor in header.tensors
    )


def most_slots(
    request: LeaseRequest, plan: LoadPlan, settings: Settings, free: int, n_ctx: int
) -> int:
    """How many slots a loaded model may have with ``n_ctx`` tokens of context and ``free`` bytes beside it."""
    room = free + context_size(request.header, plan)
    return _slots(request, n_ctx, _batch(request, n_ctx), room, settings)


def preferred(request: LeaseRequest, settings: Settings, free: int) -> LoadPlan:
    """The plan that the options and the settings ask for, whether it fits or not, with all the slots that it may come to have.

    A model that was made for embeddings (its file says how its vectors are pooled) only embeds; its slots are only the
    number of requests that it may have. Other models get a context for embeddings if the request is for them.
    """
    header, options = request.header, request.options
    generates = header.value("pooling_type") is None
    room = free - header.weights_size - _copied(request.files)
    n_ctx = _context(request, room, settings)
    n_batch = _batch(request, n_ctx)
    n_slots = _slots(request, n_ctx, n_batch, room, settings)
    types = {tensor.type_name for tensor in header.tensors}
    sees = generates and request.files.projector is not None
    copies = generates and not options.deterministic  # of states, which depend on what was beside
    return LoadPlan(
        files=request.files,
        n_ctx=n_ctx,
        n_slots=n_slots,
        n_batch=max(n_batch, n_slots),  # every running sequence adds a token to a batch
        threads=max(options.num_thread or 0, 0),
        gpu_layers=-1 if options.num_gpu is None else max(options.num_gpu, -1),
        main_gpu=max(options.main_gpu or 0, 0),
        use_mmap=types <= NEVER_REPACKED if options.use_mmap is None else options.use_mmap,
        flash_attention=_flash_attention(request, settings),
        kv_type=settings.kv_cache_type,
        tensor_types=tuple(sorted(types)),
        generates=generates,
        embeds=request.embeds or not generates,
        deterministic=bool(options.deterministic),
        checkpoint_size=_checkpoint_size(header, n_ctx, n_slots, room, settings) if copies else 0,
        saved_size=_saved_size(header, n_ctx, n_batch, room, settings) if copies else 0,
        encoded_size=min(_ENCODED, max(room, 0) // _ENCODED_SHARE) if sees else 0,
        image_max_tokens=image_tokens(n_ctx) if sees else 0,
    )


def image_tokens(n_ctx: int) -> int:
    """The most tokens of an image whose tokens depend on its size: a quarter of the context, within bounds."""
    return max(_LEAST_IMAGE, min(n_ctx // _IMAGE_SHARE, _MOST_IMAGE))


def _flash_attention(request: LeaseRequest, settings: Settings) -> bool | None:
    """The setting; without one, not where the same tokens are wanted whatever the neighbours, and without it several can be computed
    together: its kernels compute a single token in another way (``engine/alike.py`` tries the rest)."""
    matrices = {each.type_name for each in request.header.tensors if len(each.shape) > 1}
    can_be_alike = not matrices & _SUMMED_OTHERWISE and settings.kv_cache_type == "f16"
    if settings.flash_attention is None and request.options.deterministic and can_be_alike:
        return False
    return settings.flash_attention


def _saved_size(header: Header, n_ctx: int, n_batch: int, room: int, settings: Settings) -> int:
    """Bytes for saved prefixes in memory; none where the setting turns them off, or one slot's tokens would have no room."""
    if settings.cache_size == 0:
        return 0
    slot = slot_bytes(header, n_ctx, n_batch, settings.kv_cache_type)
    size = min(max(slot, _SAVED), max(room, 0) // _SAVED_SHARE)
    return size if size >= slot else 0


def _checkpoint_size(
    header: Header, n_ctx: int, n_slots: int, room: int, settings: Settings
) -> int:
    """Bytes for checkpoints; none where not even one a slot would have room."""
    one = partial_size(header, n_ctx, settings.kv_cache_type)
    size = min(_CHECKPOINTS * n_slots * one, max(room, 0) // _CHECKPOINTS_SHARE)
    return size if size >= n_slots * one else 0


def _batch(request: LeaseRequest, n_ctx: int) -> int:
    """Tokens of a batch: the option, else the default; no more than the context has."""
    given = request.options.num_batch or 0
    return min(given if given > 0 else DEFAULT_BATCH, n_ctx)


def _given_context(request: LeaseRequest, settings: Settings) -> int | None:
    """The number of the request or the settings; None where neither gives one."""
    return request.options.num_ctx or settings.context_length or None


def _reads_at_once(header: Header) -> bool:
    return header.value("attention.causal") is False


def _context(request: LeaseRequest, room: int, settings: Settings) -> int:
    """Tokens of context: the option, else the setting, else a default; never more than the model was trained for."""
    header = request.header
    given = _given_context(request, settings)
    given = given or (DEFAULT_WHOLE if _reads_at_once(header) else None)
    return clamp_context(header, given) if given else default_context(header, room, settings)


def _slots(request: LeaseRequest, n_ctx: int, n_batch: int, room: int, settings: Settings) -> int:
    """How many requests are computed at once: the setting, else as many as a quarter of the room can hold, from 1 to 8."""
    header = request.header
    if settings.num_parallel:
        return min(settings.num_parallel, MOST_SLOTS)
    if header.value("pooling_type") is not None:
        return AUTOMATIC_SLOTS
    slot = slot_bytes(header, n_ctx, n_batch, settings.kv_cache_type) or 1
    return max(1, min(room // 4 // slot, AUTOMATIC_SLOTS))


def default_context(header: Header, room: int, settings: Settings) -> int:
    """Tokens of context where neither the request nor the settings give a number; ``room`` is bytes free after the weights.

    The longest of :data:`CONTEXTS`, up to the length that the model was trained for, that costs little more memory than the
    first (cache and compute buffers, for four slots or the setting's number): at most an eighth of the room, and at most
    2 GiB or the size of the weights, so that loading takes at most twice as long. The first one if the file does not have
    the trained length or the size of the cache. Ollama chooses by the memory of the graphics cards alone: 4,096 tokens below
    23 GiB, 32,768 below 47, else 262,144.

    Llama 3.2 with 1.2B (32 KB a token), Llama 3 with 8B (128 KB) and with 70B (320 KB), in Q4:

        free   8 GB    16 GB    32 GB    64 GB    128 GB   256 GB   512 GB
        1.2B   8,192   16,384   16,384   16,384   16,384   16,384   16,384
        8B     4,096   4,096    8,192    8,192    8,192    8,192    8,192
        70B                              4,096    8,192    16,384   32,768
    """
    shortest = clamp_context(header, CONTEXTS[0])
    n_slots = min(settings.num_parallel or _FULL_SLOTS, MOST_SLOTS)

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


def smallest(plan: LoadPlan, request: LeaseRequest, settings: Settings) -> LoadPlan:
    """The smallest plan that may be used instead of a preferred one."""
    return [plan, *_smaller(plan, request, settings)][-1]


def not_enough(request: LeaseRequest, plan: LoadPlan, free: int) -> NotEnoughMemory:
    """The error for a plan that does not fit."""
    need = format_bytes(estimate_load(request.header, plan).total)
    way_out = (
        "a smaller num_ctx or a smaller model" if plan.n_ctx > LEAST_CONTEXT else "a smaller model"
    )
    return NotEnoughMemory(
        f"{request.name.display} needs {need} of memory and {format_bytes(max(free, 0))} are free,"
        f" close other programs or try {way_out}"
    )


def _smaller(plan: LoadPlan, request: LeaseRequest, settings: Settings) -> Iterator[LoadPlan]:
    """Plans in falling size: no checkpoints, saved prefixes and encoded images in memory; half the slots, down to one; then, if no number was given, less context."""
    n_slots, n_ctx = plan.n_slots, plan.n_ctx
    if plan.checkpoint_size or plan.saved_size or plan.encoded_size:
        plan = msgspec.structs.replace(plan, checkpoint_size=0, saved_size=0, encoded_size=0)
        yield plan
    while n_slots > 1:
        n_slots //= 2
        yield msgspec.structs.replace(plan, n_slots=n_slots)
    if _given_context(request, settings):
        return
    while n_ctx > LEAST_CONTEXT:
        n_ctx = max(n_ctx - CELL_STEP, LEAST_CONTEXT)
        yield msgspec.structs.replace(plan, n_slots=1, n_ctx=n_ctx)

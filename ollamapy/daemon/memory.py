"""How many bytes a loaded model takes, how many are free, and the largest load that fits.

All of it follows from the GGUF header and is pure, but for :func:`free_memory`. The estimate is
meant to be a little too high. It does not know of graphics memory: a model is taken to lie in main
memory.

    total = mapped (file-backed) + weights + KV cache + compute buffers + overhead of the runner process

llama.cpp repacks quantised weights for faster kernels. A mapped file then stays in memory beside the
copy (measured on a 1.1B model in Q4_0: 1,144 MB against 637), so files are mapped only where nothing
is repacked: then their pages are shared with the system's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ..config import Settings
from ..errors import NotEnoughMemory
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

DEFAULT_BATCH = 512
MOST_SLOTS = 256
"""Sequences that one llama.cpp context can hold."""

_AUTOMATIC_SLOTS = 8
_CELL_STEP = 256
"""llama.cpp rounds the cells of a slot up to a multiple of this."""

_PROCESS = 25_000_000
_TOKEN = 300
"""Bytes of a runner before it loads (measured: 20 MB), of a token's entry (measured: 290)."""

_NUMPY = 20_000_000
"""Bytes of the library that pools vectors (measured: 15 to 20 MB)."""

_MOST_LOGITS, _FEWEST, _STATES = 32 * 1024 * 1024, 16, 4
"""How ``engine/pooled.py`` chooses the batches for embeddings."""

NEVER_REPACKED = frozenset({"F32", "F16", "BF16"})
"""Tensor types that llama.cpp computes with as they lie in the file."""

_KV_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32,
    "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
"""Bytes of one number in the cache; a block of the quantised types holds 32 and their scale."""

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

    Compute buffers hold, for each token of a batch, the largest of the stages that a pass goes
    through (the logits; two feed-forward rows; without flash attention the scores of every head
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
        kv=n_slots * _slot_bytes(header, n_ctx, n_batch, kv_type),
        compute=compute,
        overhead=_PROCESS + _TOKEN * vocabulary,
    )


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
            overhead=found.overhead + _NUMPY,
        )
    if not load.use_mmap:
        return replace(found, weights=found.weights + adapters)
    repacked = sum(t.n_bytes for t in header.tensors if t.type_name not in NEVER_REPACKED)
    copied = repacked if load.extra_bufts else 0
    return replace(found, weights=copied + adapters, mapped=found.weights)


def embedding_size(header: Header, load: Load) -> int:
    """What the context for embeddings adds to a load."""
    return _NUMPY + sum(_embedding_context(header, load))


def _embedding_context(header: Header, load: Load) -> tuple[int, int]:
    """Bytes of cache and of compute buffers of the context for embeddings (``engine/pooled.py``).

    It has an output for every token of a batch, with room for its logits even where the model has
    none. A causal model reads a text in batches, through a cache for the longest one; any other
    reads it at once and needs none.
    """
    width, vocabulary = header.embedding_length or 0, header.vocab_size
    n_batch = max(min(load.n_batch, _MOST_LOGITS // max(vocabulary, 1)), _FEWEST)
    cells = padded(max(load.n_ctx, n_batch))
    stages = [2 * _feed_forward(header)]
    if header.value("attention.causal") is False:
        n_batch, kv = max(load.n_ctx, n_batch), 0
    else:
        stages.append(vocabulary)
        states = _STATES * header.block_count * _state_bytes(header)
        kv = _slot_bytes(header, cells, n_batch, load.kv_type) + states
    if load.flash_attention is False:
        stages.append(header.head_count * cells)
    return kv, 4 * n_batch * (max(stages) + vocabulary + cells + 11 * width)


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
        slot = _slot_bytes(header, n_ctx, n_batch, settings.kv_cache_type) or 1
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

    if not header.context_length or not _slot_bytes(
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
        n_ctx = max(n_ctx - _CELL_STEP, LEAST_CONTEXT)
        yield msgspec.structs.replace(load, n_slots=1, n_ctx=n_ctx)


# ---- the KV cache --------------------------------------------------------------------------------


def _slot_bytes(header: Header, n_ctx: int, n_batch: int, kv_type: str) -> int:
    """What a sequence's cache and recurrent state take over all layers.

    A windowed layer keeps its window and one batch, no more. An unknown type counts as f16: the
    runner refuses it.
    """
    cells = padded(n_ctx)
    windowed = min(cells, padded((header.sliding_window or n_ctx) + n_batch))
    head = (header.key_length + header.value_length) * _KV_BYTES.get(kv_type, 2.0)
    numbers = sum(
        heads * (windowed if is_windowed else cells)
        for heads, is_windowed in zip(header.head_count_kv, _windowed_layers(header), strict=False)
    )
    return round(numbers * head) + header.block_count * _state_bytes(header)


def _windowed_layers(header: Header) -> list[bool]:
    """Which layers see only a window; none where that is not known: the estimate is too high."""
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


def padded(n: int) -> int:
    return -(-n // _CELL_STEP) * _CELL_STEP


# ---- free memory ---------------------------------------------------------------------------------


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that can be taken without swapping, on this machine and under its cgroups' limits.

    ``root`` is where ``proc`` and ``sys`` lie; only the cgroup files are looked for there.
    """
    import psutil

    return max(min([int(psutil.virtual_memory().available), *_cgroup_headrooms(root)]), 0)


def _cgroup_headrooms(root: Path) -> Iterator[int]:
    """What is left under the limit of this process's memory cgroup and of each one above it.

    In a container the path in proc may be the host's: what is missing is passed over, up to the
    mount, which is the container's own group. The page cache on the inactive list counts as free,
    since the kernel gives it up first.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            if not controllers:  # version 2
                group = mount.joinpath(*parts[:depth])
                names = ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):  # version 1
                group = mount.joinpath("memory", *parts[:depth])
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                break
            limit, used = _number(group / names[0]), _number(group / names[1])
            if limit is not None and used is not None:
                yield limit - used + _reclaimable(group / "memory.stat", names[2])


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none, or "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(path: Path, key: str) -> int:
    """One line of a memory.stat file."""
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[:1] == [key] and len(pair) == 2), 0)
    except (OSError, ValueError):
        return 0

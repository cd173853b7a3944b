"""What a model takes, what is free, and what is loaded into it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollamapy.config import Settings
from ollamapy.errors import NotEnoughMemory
from ollamapy.fleet import fit
from ollamapy.fleet.request import LeaseRequest
from ollamapy.formats import footprint
from ollamapy.formats.gguf import ArrayInfo, Header, Tensor
from ollamapy.loading import File, Files, LoadPlan
from ollamapy.machine import free_memory
from ollamapy.names import Name
from ollamapy.types import Options
from tests.plans import plan

MB, GB = 10**6, 10**9
MIB, GIB = 2**20, 2**30


def header(
    architecture: str = "llama",
    weights: int = 0,
    vocab: int = 0,
    type_name: str = "Q4_0",
    **keys: Any,
) -> Header:
    """A header with one tensor of `weights` bytes; in keys, "__" stands for the dot."""
    metadata = {f"{architecture}.{key.replace('__', '.')}": value for key, value in keys.items()}
    metadata["general.architecture"] = architecture
    metadata["tokenizer.ggml.tokens"] = ArrayInfo("string", vocab)
    tensors = (Tensor("t", type_name, (weights // 4,), weights, 0),) if weights else ()
    return Header(3, metadata, tensors, 0, weights)


LLAMA2_7B: dict[str, Any] = dict(
    weights=3_800 * MB, vocab=32_000, block_count=32, context_length=4096, embedding_length=4096,
    feed_forward_length=11_008, attention__head_count=32,
)  # fmt: skip
GEMMA: dict[str, Any] = dict(
    block_count=6, embedding_length=512, attention__head_count=4, attention__head_count_kv=2,
    attention__key_length=256, attention__value_length=256, attention__sliding_window=512,
)  # fmt: skip


def settings(**values: Any) -> Settings:
    return Settings.from_env(
        {"OLLAMAPY_HOME": "/nowhere", **{k: str(v) for k, v in values.items()}}
    )


def request(
    model: Header, options: Options | None = None, *, embeds: bool = False, adapters: int = 0
) -> LeaseRequest:
    """A request for a model of the file "m", with so many bytes of adapters."""
    files = Files(File(Path("m"), "m"), adapter_size=adapters)
    return LeaseRequest(Name.parse("llama2"), "", files, model, options or Options(), embeds)


def best(request: LeaseRequest, settings: Settings, free: int) -> LoadPlan:
    """The best plan for as many requests as there can be."""
    return fit.best(request, settings, free, fit.MOST_SLOTS)


# ---- the KV cache --------------------------------------------------------------------------------

# One slot of 4,096 tokens, batches of 512, unless the row says otherwise.
KV = [
    ("llama2 7b", header(**LLAMA2_7B), {}, 2 * GIB),
    ("two slots", header(**LLAMA2_7B), {"n_slots": 2}, 4 * GIB),
    ("q8_0", header(**LLAMA2_7B), {"kv_type": "q8_0"}, 2 * GIB * 34 // 64),
    ("q4_0", header(**LLAMA2_7B), {"kv_type": "q4_0"}, 2 * GIB * 18 // 64),
    ("f32", header(**LLAMA2_7B), {"kv_type": "f32"}, 4 * GIB),
    ("rounded up to 256", header(**LLAMA2_7B), {"n_ctx": 257}, 256 * MIB),
    ("grouped queries", header(**LLAMA2_7B, attention__head_count_kv=8), {}, 512 * MIB),
    (
        "a quarter of the layers has attention",
        header(**LLAMA2_7B, attention__head_count_kv=(0, 0, 0, 32) * 8),
        {},
        512 * MIB,
    ),
    ("its own lengths", header(**LLAMA2_7B, attention__key_length=256), {}, 3 * GIB),
    (
        "gemma3: five of six layers keep a window and a batch",
        header("gemma3", **GEMMA),
        {},
        2 * 512 * 2 * (5 * 1024 + 4096),
    ),
    ("a window larger than the context", header("gemma3", **GEMMA), {"n_ctx": 512}, 6 * MIB),
    (
        "windows as the header lists them",
        header("new", **GEMMA, attention__sliding_window_pattern=(True,) * 5 + (False,)),
        {},
        2 * 512 * 2 * (5 * 1024 + 4096),
    ),
    ("windows, but the file does not say in which layers", header("new", **GEMMA), {}, 2 * 512 * 2 * 6 * 4096),
    (
        "mamba: the state does not grow with the context",
        header(
            "mamba", block_count=24, embedding_length=768, attention__head_count=0,
            ssm__inner_size=1536, ssm__state_size=16, ssm__conv_kernel=4,
        ),
        {},
        24 * 4 * (3 * 1536 + 1536 * 16),
    ),
    (
        "rwkv",
        header("rwkv6", block_count=12, embedding_length=768, wkv__head_size=64),
        {},
        12 * 4 * 768 * (64 + 2),
    ),
    ("an empty header", header(), {}, 0),
]  # fmt: skip


@pytest.mark.parametrize("model, given, kv", [row[1:] for row in KV], ids=[row[0] for row in KV])
def test_kv_cache(model: Header, given: dict[str, Any], kv: int) -> None:
    load = {"n_ctx": 4096, "n_slots": 1, "n_batch": 512, "kv_type": "f16", **given}
    assert footprint.estimate(model, **load).kv == kv


STATES = [
    ("all of it can be cut", header(**LLAMA2_7B), 0),
    ("the windows of five of six layers", header("gemma3", **GEMMA), 2 * 512 * 2 * 5 * 512),
    (
        "a recurrent state",
        header("rwkv6", block_count=12, embedding_length=768, wkv__head_size=64),
        12 * 4 * 768 * (64 + 2),
    ),
    ("an empty header", header(), 0),
]


@pytest.mark.parametrize("model, size", [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_the_part_of_a_state_that_cannot_be_cut(model: Header, size: int) -> None:
    assert footprint.partial_size(model, 4096, "f16") == size


def test_checkpoints_are_counted_and_given_up_first() -> None:
    """Four for each slot, in a sixteenth of the memory; none where the plan does not fit with them."""
    model, one = header("gemma3", 100 * MB, **GEMMA), 2 * 512 * 2 * 5 * 512
    off = {"OLLAMAPY_CACHE": 0}
    plenty = best(request(model), settings(**off), 100 * GB)
    assert plenty.checkpoint_size == 4 * plenty.n_slots * one and plenty.saved_size == 0
    without = replace(plenty, checkpoint_size=0)
    total = fit.estimate_load(model, without).total
    assert fit.estimate_load(model, plenty).total == total + plenty.checkpoint_size
    chosen = settings(OLLAMAPY_NUM_PARALLEL=8, OLLAMAPY_CONTEXT_LENGTH=4096)
    wanted = fit.preferred(request(model), chosen, 100 * GB)
    tight = fit.estimate_load(model, replace(wanted, checkpoint_size=0, saved_size=0)).total
    found = best(request(model), chosen, tight)
    assert (found.n_slots, found.checkpoint_size, found.saved_size) == (8, 0, 0)
    four = settings(OLLAMAPY_NUM_PARALLEL=4)
    assert fit.preferred(request(model), four, 100 * MB + 16 * 6 * one).checkpoint_size == 6 * one
    assert fit.preferred(request(header(**LLAMA2_7B)), settings(), 100 * GB).checkpoint_size == 0


@pytest.mark.parametrize(
    "free, chosen, size",
    [
        (100 * GB, {}, 2 * GIB),  # one slot's tokens
        (100 * GB, {"OLLAMAPY_CACHE": 0}, 0),
        (100 * GB, {"OLLAMAPY_CONTEXT_LENGTH": 512}, 512 * MIB),
        (3_800 * MB + 16 * GIB, {}, 0),
        (3_800 * MB + 32 * GIB, {}, 2 * GIB),
    ],
)
def test_saved_prefixes_are_counted(free: int, chosen: dict[str, Any], size: int) -> None:
    model = header(**LLAMA2_7B)
    chosen = {"OLLAMAPY_CONTEXT_LENGTH": 4096, **chosen}
    plan = fit.preferred(request(model), settings(**chosen), free)
    assert plan.saved_size == size
    without = fit.estimate_load(model, replace(plan, saved_size=0)).total
    assert fit.estimate_load(model, plan).total == without + size


def test_encoded_images_are_counted_where_there_is_a_projector() -> None:
    model = header(**LLAMA2_7B)
    asked = request(model, Options())
    files = replace(asked.files, projector=File(Path("/mmproj.gguf")))
    seeing = dataclasses.replace(asked, files=files)
    plan = fit.preferred(seeing, settings(), 100 * GB)

    assert (plan.encoded_size, plan.image_max_tokens) == (256 * MIB, fit.image_tokens(plan.n_ctx))
    without = fit.estimate_load(model, replace(plan, encoded_size=0)).total
    assert fit.estimate_load(model, plan).total == without + 256 * MIB
    assert fit.preferred(asked, settings(), 100 * GB).encoded_size == 0


@pytest.mark.parametrize(("n_ctx", "most"), [(512, 256), (2048, 512), (4096, 1024), (32_768, 1024)])
def test_an_image_has_a_quarter_of_the_context(n_ctx: int, most: int) -> None:
    assert fit.image_tokens(n_ctx) == most


# "CPU compute buffer size" of llama.cpp 0.3.36, in MiB.
WIDE = header(
    block_count=2,
    vocab=32_000,
    embedding_length=512,
    attention__head_count=8,
    feed_forward_length=1376,
)
DEEP = header(
    block_count=2,
    vocab=1000,
    embedding_length=1024,
    attention__head_count=16,
    feed_forward_length=4096,
)
MEASURED = [
    (WIDE, 4096, 512, False, 77.51),
    (WIDE, 4096, 512, True, 64.50),
    (WIDE, 16384, 512, False, 293.51),
    (WIDE, 2048, 128, False, 16.38),
    (WIDE, 300, 512, False, 64.50),
    (DEEP, 4096, 512, False, 150.01),
    (DEEP, 4096, 512, True, 36.01),
    (DEEP, 16384, 512, True, 48.01),
    (DEEP, 2048, 128, False, 20.50),
    (DEEP, 300, 512, False, 35.08),
]


@pytest.mark.parametrize("model, n_ctx, n_batch, flash, truth", MEASURED)
def test_compute_buffers_are_a_little_overestimated(
    model: Header, n_ctx: int, n_batch: int, flash: bool, truth: float
) -> None:
    guess = footprint.estimate(
        model, n_ctx=n_ctx, n_slots=1, n_batch=n_batch, kv_type="f16", flash=flash
    )
    assert truth <= guess.compute / MIB <= 1.45 * truth


def test_total_is_the_sum() -> None:
    model = header(**LLAMA2_7B)
    load = plan("m.gguf", n_ctx=4096)
    parts = fit.estimate_load(model, load)
    assert parts.weights == 3_800 * MB
    assert parts.total == parts.weights + parts.kv + parts.compute + parts.overhead
    assert parts.anonymous == parts.total
    mapped = plan("m.gguf", n_ctx=4096, use_mmap=True)
    both = fit.estimate_load(model, mapped)
    assert (both.mapped, both.weights) == (3_800 * MB, 3_800 * MB), "repacked: both copies stay"
    plain = fit.estimate_load(model, replace(mapped, extra_bufts=False))
    assert (plain.mapped, plain.weights) == (3_800 * MB, 0)


def test_files_are_mapped_where_nothing_is_repacked() -> None:
    def mapped(kind: str, given: bool | None = None) -> bool:
        model = header(**LLAMA2_7B, type_name=kind)
        options = Options(use_mmap=given)
        return best(request(model, options), settings(), 500 * GB).use_mmap

    assert mapped("F32") and mapped("BF16") and not mapped("Q4_0")
    assert mapped("Q4_0", given=True) and not mapped("F32", given=False)


BERT: dict[str, Any] = dict(
    weights=440 * MB, vocab=30_000, block_count=12, context_length=512, embedding_length=768,
    feed_forward_length=3072, attention__head_count=12, attention__causal=False, pooling_type=1,
)  # fmt: skip


def test_a_model_made_for_embeddings_has_no_cache() -> None:
    model = header("bert", **BERT)
    load = best(request(model, Options()), settings(), 500 * GB)
    assert (load.generates, load.embeds, load.n_ctx, load.n_slots) == (False, True, 512, 8)
    parts = fit.estimate_load(model, load)
    assert parts.kv == 0
    # llama.cpp keeps room for logits that the model does not have: 512 x 30,000 floats
    assert 60 * MB < parts.compute < 120 * MB
    long = replace(load, n_ctx=8192)
    assert fit.estimate_load(model, long).compute > 15 * parts.compute


@pytest.mark.parametrize(
    ("options", "context", "n_ctx"),
    [({}, "", 2048), ({"num_ctx": 8192}, "", 8192), ({}, 4096, 4096)],
)
def test_the_context_of_a_model_that_reads_a_text_at_once(
    options: dict[str, Any], context: Any, n_ctx: int
) -> None:
    model = header("bert", **BERT | {"context_length": 8192})
    environ = {"OLLAMAPY_CONTEXT_LENGTH": context} if context else {}
    load = best(request(model, Options(**options)), settings(**environ), 500 * GB)
    assert load.n_ctx == n_ctx


def test_room_for_embeddings_beside_generating() -> None:
    model = header(**LLAMA2_7B)
    plain = best(request(model, Options()), settings(), 500 * GB)
    both = best(request(model, Options(), embeds=True), settings(), 500 * GB)
    assert (plain.generates, plain.embeds) == (True, False)
    assert both == replace(plain, embeds=True)
    more = fit.embedding_size(model, plain)
    totals = [fit.estimate_load(model, load).total for load in (plain, both)]
    assert totals[1] - totals[0] == more > 2 * GIB, "one more context, for the longest text"
    # a large vocabulary makes the batches small, not the buffers large
    large = header(**LLAMA2_7B | {"vocab": 256_000})
    assert fit.embedding_size(large, plain) < more + 300 * MB
    assert fit.preferred(request(model, Options(), embeds=True), settings(), 0).embeds


_values = st.one_of(
    st.integers(-(2**63), 2**64), st.floats(), st.text(max_size=3), st.booleans(),
    st.lists(st.integers(-2, 2**40), max_size=5).map(tuple),
    st.builds(ArrayInfo, st.just("uint32"), st.integers(0, 2**40)),
)  # fmt: skip
_keys = st.sampled_from(
    [
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.key_length",
        "attention.sliding_window", "attention.sliding_window_pattern", "ssm.state_size",
        "ssm.inner_size", "ssm.conv_kernel", "wkv.head_size", "token_shift_count",
        "shortconv.l_cache",
    ]
)  # fmt: skip


@given(
    st.sampled_from(["llama", "gemma3", "mamba", "rwkv7"]),
    st.dictionaries(_keys, _values),
    st.integers(-(2**31), 2**31),
    st.integers(-(2**40), 2**45),
)
def test_no_header_breaks_the_plan(
    architecture: str, values: dict[str, Any], num_ctx: int, free: int
) -> None:
    metadata = {f"{architecture}.{key}": value for key, value in values.items()}
    # The reader refuses more layers than this.
    if isinstance(layers := metadata.get(f"{architecture}.block_count"), int):
        metadata[f"{architecture}.block_count"] = layers % 4097
    model = Header(3, {"general.architecture": architecture, **metadata}, (), 0, 0)
    try:
        load = best(request(model, Options(num_ctx=num_ctx)), settings(), free)
    except NotEnoughMemory:
        return
    assert load.n_ctx >= 4 and 1 <= load.n_slots <= 8 and load.n_batch >= load.n_slots
    assert 0 <= fit.estimate_load(model, load).total <= free


# ---- the plan ------------------------------------------------------------------------------------

# Llama 2 7B: weights 3.8 GB; a slot 2.1 GB at 4,096 tokens, 1.1 GB at 2,048; the rest 0.4 GB.
PLANS = [
    # options                 settings               free GB   n_ctx  slots
    (Options(), {}, 60, 4096, 6),  # (60 - 3.8) / 4 / 2.1
    (Options(), {}, 200, 4096, 8),  # never more by itself
    (Options(), {}, 7, 4096, 1),
    (Options(num_ctx=2048), {}, 24, 2048, 4),
    (Options(num_ctx=99999), {}, 200, 4096, 8),  # what it was trained for
    (Options(num_ctx=1), {}, 200, 4, 8),
    (Options(num_ctx=-5), {}, 200, 4, 8),
    (Options(num_ctx=0), {}, 200, 4096, 8),
    (Options(), {"OLLAMA_CONTEXT_LENGTH": 1024}, 200, 1024, 8),
    (Options(num_ctx=512), {"OLLAMA_CONTEXT_LENGTH": 1024}, 200, 512, 8),
    (Options(), {"OLLAMA_NUM_PARALLEL": 3}, 200, 4096, 3),
    (Options(num_ctx=4), {"OLLAMA_NUM_PARALLEL": 9999}, 200, 4, 256),
    # It gets tight: first fewer slots, also of those that were set; then less of an automatic context.
    (Options(), {"OLLAMA_NUM_PARALLEL": 4}, 9, 4096, 2),
    (Options(), {"OLLAMA_NUM_PARALLEL": 4}, 7, 4096, 1),
    (Options(), {}, 6, 3584, 1),
    (Options(), {}, 5.14, 2048, 1),
    (Options(), {}, 4.9, None, None),
    (Options(num_ctx=4096), {}, 6, None, None),
    (Options(num_ctx=3072), {}, 6, 3072, 1),
    (Options(), {"OLLAMA_CONTEXT_LENGTH": 4096}, 6, None, None),
    (Options(), {}, -1, None, None),
]


@pytest.mark.parametrize("options, environ, free, n_ctx, n_slots", PLANS)
def test_plan(
    options: Options, environ: dict[str, Any], free: float, n_ctx: int | None, n_slots: int | None
) -> None:
    model = header(**LLAMA2_7B)
    if n_ctx is None:
        with pytest.raises(NotEnoughMemory):
            best(request(model, options), settings(**environ), round(free * GB))
        return
    load = best(request(model, options), settings(**environ), round(free * GB))
    assert (load.n_ctx, load.n_slots) == (n_ctx, n_slots)


LLAMA3_8B: dict[str, Any] = dict(
    weights=4_700 * MB, vocab=128_256, block_count=32, context_length=131_072,
    embedding_length=4096, feed_forward_length=14_336, attention__head_count=32,
    attention__head_count_kv=8,
)  # fmt: skip
LLAMA3_1B = LLAMA3_8B | dict(
    weights=770 * MB, block_count=16, embedding_length=2048, feed_forward_length=8192
)
LLAMA3_1B |= dict(attention__key_length=64, attention__value_length=64)
LLAMA3_70B = LLAMA3_8B | dict(
    weights=40_000 * MB, block_count=80, embedding_length=8192, feed_forward_length=28_672,
    attention__head_count=64,
)  # fmt: skip
CONTEXTS = [
    # model, its keys         settings                       free GB  n_ctx  slots
    (LLAMA3_1B, {}, 3, 4096, 4),
    (LLAMA3_1B, {}, 8, 8192, 6),
    (LLAMA3_1B, {}, 12, 8192, 8),
    (LLAMA3_1B, {}, 16, 16384, 7),
    (LLAMA3_1B, {}, 512, 16384, 8),  # never more, that loading stays quick
    (LLAMA3_1B | {"context_length": 2048}, {}, 64, 2048, 8),  # what it was trained for
    (LLAMA3_1B | {"context_length": 6000}, {}, 64, 6000, 8),
    (LLAMA3_1B, {"OLLAMA_CONTEXT_LENGTH": 4096}, 64, 4096, 8),
    (LLAMA3_1B, {"OLLAMA_NUM_PARALLEL": 1}, 16, 32768, 1),  # one slot may be long
    (LLAMA3_1B, {"OLLAMA_NUM_PARALLEL": 8}, 64, 8192, 8),
    (LLAMA3_1B, {"OLLAMA_KV_CACHE_TYPE": "q8_0"}, 32, 32768, 8),  # half the bytes, twice the tokens
    (LLAMA3_1B, {"OLLAMA_FLASH_ATTENTION": 0}, 16, 8192, 8),  # its scores are buffers, too
    (LLAMA3_8B, {}, 8, 4096, 1),
    (LLAMA3_8B, {}, 32, 8192, 6),
    (LLAMA3_8B, {}, 512, 8192, 8),
    (LLAMA3_70B, {}, 64, 4096, 4),
    (LLAMA3_70B, {}, 128, 8192, 8),
    (LLAMA3_70B, {}, 512, 32768, 8),  # its weights take longer to load
    (GEMMA | dict(context_length=32768), {}, 4, 32768, 8),  # a window in five layers of six
    (LLAMA3_1B | {"block_count": 0}, {}, 64, 4096, 8),  # nothing is known of its cache
    (LLAMA3_1B | {"context_length": None}, {}, 64, 4096, 8),  # nor how long it was trained
]


@pytest.mark.parametrize("keys, environ, free, n_ctx, n_slots", CONTEXTS)
def test_the_default_context(
    keys: dict[str, Any], environ: dict[str, Any], free: float, n_ctx: int, n_slots: int
) -> None:
    model = header("gemma3" if keys.items() >= GEMMA.items() else "llama", **keys)
    load = fit.preferred(request(model, Options()), settings(**environ), round(free * GB))
    assert (load.n_ctx, load.n_slots) == (n_ctx, n_slots)
    assert best(request(model, Options()), settings(**environ), round(free * GB)) == load


@given(st.integers(0, 2**41), st.integers(1, 200_000), st.integers(0, 9))
@example(free=5777936128, trained=4097, n_slots=0)
def test_a_longer_context_is_there_for_little(free: int, trained: int, n_slots: int) -> None:
    model = header(**LLAMA3_8B | {"context_length": trained})
    limits = settings(**({"OLLAMA_NUM_PARALLEL": n_slots} if n_slots else {}))
    load = fit.preferred(request(model, Options()), limits, free)
    shortest = min(4096, trained) if trained > 4 else 4
    assert shortest <= load.n_ctx <= min(max(trained, 4), 32768)
    if load.n_ctx > shortest:
        kv = fit.estimate_load(model, load).kv
        short = fit.estimate_load(model, replace(load, n_ctx=shortest)).kv
        assert kv - short <= (free - 4_700 * MB) / 8
        if load.n_ctx >= 2 * shortest:
            assert load.n_slots == (n_slots or 4)


def test_a_projector_takes_memory_too() -> None:
    model, options = header(**LLAMA2_7B), Options(num_ctx=4096)
    load = fit.best(request(model, options), settings(), 7 * GB)
    for mmap in (False, True):
        mapped = replace(load, use_mmap=mmap)
        seeing = replace(mapped, files=replace(mapped.files, projector_size=600 * MB))
        more = fit.estimate_load(model, seeing)
        assert more.anonymous - fit.estimate_load(model, mapped).anonymous == 600 * MB


def test_adapters_take_memory_too() -> None:
    model, options = header(**LLAMA2_7B), Options(num_ctx=4096)
    load = best(request(model, options), settings(), 7 * GB)
    for mmap in (False, True):
        mapped = replace(load, use_mmap=mmap)
        with_adapters = replace(mapped, files=replace(mapped.files, adapter_size=300 * MB))
        more = fit.estimate_load(model, with_adapters)
        assert more.anonymous - fit.estimate_load(model, mapped).anonymous == 300 * MB
    total = fit.estimate_load(model, load).total
    assert best(request(model, options, adapters=300 * MB), settings(), total + 300 * MB)
    with pytest.raises(NotEnoughMemory, match=r"needs 6\.4 GB .* 6\.1 GB are free"):
        best(request(model, options, adapters=300 * MB), settings(), total)
    # and room that slots and a longer context would have
    eight = header(**LLAMA3_8B)
    assert fit.preferred(request(eight, Options()), settings(), 32 * GB).n_ctx == 8192
    taken = fit.preferred(request(eight, Options(), adapters=16 * GB), settings(), 32 * GB)
    assert taken.n_ctx == 4096


def test_what_does_not_fit_is_refused_with_both_numbers_and_the_way_out() -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        best(request(header(**LLAMA2_7B), Options(num_ctx=4096)), settings(), 3_100 * MB)
    assert str(caught.value) == (
        "llama2:latest needs 6.1 GB of memory and 3.1 GB are free,"
        " close other programs or try a smaller num_ctx or a smaller model"
    )


LOADS = [
    (Options(), {}, plan("m", 4096, 8)),
    (
        Options(num_batch=64, num_gpu=7, main_gpu=1, use_mmap=True, num_thread=3),
        {},
        plan("m", 4096, 8, n_batch=64, gpu_layers=7, main_gpu=1, use_mmap=True, threads=3),
    ),
    (Options(num_batch=0, num_gpu=-3, main_gpu=-1, num_thread=-1), {}, plan("m", 4096, 8)),
    (Options(num_batch=9999), {}, plan("m", 4096, 8, n_batch=4096)),
    (Options(num_batch=1), {}, plan("m", 4096, 8, n_batch=8)),
    (Options(num_ctx=16), {}, plan("m", 16, 8, n_batch=16)),
    (
        Options(),
        {"OLLAMA_FLASH_ATTENTION": 1, "OLLAMA_KV_CACHE_TYPE": "q8_0"},
        plan("m", 4096, 8, flash_attention=True, kv_type="q8_0"),
    ),
]


@pytest.mark.parametrize("options, environ, load", LOADS)
def test_options_become_a_load(options: Options, environ: dict[str, Any], load: LoadPlan) -> None:
    model = header(**LLAMA2_7B)
    planned = best(request(model, options), settings(**environ), 500 * GB)
    assert planned.tensor_types == ("Q4_0",)
    assert replace(planned, tensor_types=(), saved_size=0) == load


@pytest.mark.parametrize(
    ("kind", "environ", "options", "flash"),
    [
        ("Q4_0", {}, Options(deterministic=True), False),
        ("Q4_0", {}, Options(), None),
        ("F16", {}, Options(deterministic=True), None),
        ("Q4_0", {"OLLAMA_FLASH_ATTENTION": 1}, Options(deterministic=True), True),
        ("Q4_0", {"OLLAMA_KV_CACHE_TYPE": "q8_0"}, Options(deterministic=True), None),
    ],
)
def test_flash_attention_where_answers_are_to_be_the_same_in_any_company(
    kind: str, environ: dict[str, Any], options: Options, flash: bool | None
) -> None:
    """It is left out where answers can then be computed together: matrices are quantised, vectors never are."""
    matrix, vector = Tensor("w", kind, (64, 64), 4096, 0), Tensor("b", "F32", (64,), 256, 4096)
    model = dataclasses.replace(header(**LLAMA2_7B), tensors=(matrix, vector))
    found = fit.best(request(model, options), settings(**environ), 500 * GB)
    assert found.flash_attention is flash


# ---- free memory ---------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"
CGROUPS = [
    ("no cgroups", {}, None),
    ("no limit", {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, None),
    (
        "version 2, its file cache given back",
        {
            "proc/self/cgroup": "0::/\n",
            f"{V2}/memory.max": "5000\n",
            f"{V2}/memory.current": "3000\n",
            f"{V2}/memory.stat": "anon 2000\nactive_file 7\ninactive_file 400\n",
        },
        2400,
    ),
    (
        "the tightest group above counts",
        {
            "proc/self/cgroup": "0::/user.slice/shell\n",
            f"{V2}/user.slice/memory.max": "1000\n",
            f"{V2}/user.slice/memory.current": "900\n",
            f"{V2}/user.slice/shell/memory.max": "5000\n",
            f"{V2}/user.slice/shell/memory.current": "0\n",
        },
        100,
    ),
    (
        "a container that sees the host's path",
        {
            "proc/self/cgroup": "12:cpu,memory:/docker/0123\n0::/docker/0123\n",
            f"{V1}/memory.limit_in_bytes": "2000\n",
            f"{V1}/memory.usage_in_bytes": "1500\n",
            f"{V1}/memory.stat": "inactive_file 1\ntotal_inactive_file 300\n",
        },
        800,
    ),
    (
        "version 1 beside other controllers",
        {
            "proc/self/cgroup": "3:cpu:/a\n2:memory:/a\n1:name=systemd:/b\n",
            f"{V1}/a/memory.limit_in_bytes": "700\n",
            f"{V1}/a/memory.usage_in_bytes": "100\n",
        },
        600,
    ),
    (
        "over the limit",
        {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "5", f"{V2}/memory.current": "9"},
        0,
    ),
    (
        "rubbish",
        {"proc/self/cgroup": "0::/../x\n:\nabc\n", f"{V2}/memory.max": "", "sys/x": ""},
        None,
    ),
]


@pytest.mark.parametrize("files, free", [row[1:] for row in CGROUPS], ids=[c[0] for c in CGROUPS])
def test_free_memory(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    write(tmp_path, files)
    if free is not None:
        assert free_memory(tmp_path) == free
    else:  # the machine's own; it moves while the test runs
        assert abs(free_memory(tmp_path) - psutil.virtual_memory().available) < 2 * GB


# ---- elastic ---------------------------------------------------------------------------------------------------------


SMOLLM2: dict[str, Any] = dict(
    weights=98 * MB, vocab=49_152, block_count=30, context_length=8192, embedding_length=576,
    feed_forward_length=1536, attention__head_count=9, attention__head_count_kv=3,
)  # fmt: skip
TINY: dict[str, Any] = dict(
    weights=700_000, vocab=660, block_count=2, context_length=512, embedding_length=64,
    feed_forward_length=160, attention__head_count=4, attention__head_count_kv=2,
)  # fmt: skip


@pytest.mark.parametrize(
    "model, chosen, wanted, n_slots",
    [
        (SMOLLM2, {}, 1, 1),
        (SMOLLM2, {}, 3, 3),
        (SMOLLM2, {}, 99, 8),
        (SMOLLM2, {"OLLAMAPY_NUM_PARALLEL": 2}, 99, 2),
        (LLAMA2_7B, {}, 1, 1),
        (LLAMA3_70B, {"OLLAMAPY_CONTEXT_LENGTH": 4096}, 1, 4),  # they are cheap
        (TINY, {}, 1, 8),
    ],
)
def test_slots_at_rest(
    model: dict[str, Any], chosen: dict[str, Any], wanted: int, n_slots: int
) -> None:
    asked = request(header(**model))
    plan = fit.preferred(asked, settings(**chosen), 400 * GB)
    found = fit.at_rest(plan, asked, wanted)
    assert found.n_slots == n_slots
    assert replace(found, n_slots=plan.n_slots) == plan, "nothing else is smaller"


def test_what_is_not_elastic_has_all_its_slots_at_once() -> None:
    for asked in (
        request(header(**SMOLLM2, pooling_type=1)),
        request(header(**SMOLLM2), Options(deterministic=True)),
    ):
        plan = fit.preferred(asked, settings(), 100 * GB)
        assert plan.n_slots > 1 and fit.at_rest(plan, asked) == plan
        assert not fit.can_lengthen(plan, asked.header)


@pytest.mark.parametrize(
    "keys, can",
    [
        ({}, True),
        ({"rope__scaling__type": "none"}, True),
        ({"rope__scaling__type": "yarn"}, False),
        ({"rope__scaling__type": "longrope"}, False),
    ],
)
def test_positions_that_depend_on_the_context_keep_it(keys: dict[str, Any], can: bool) -> None:
    asked = request(header(**SMOLLM2, **keys))
    plan = fit.preferred(asked, settings(), 100 * GB)
    assert fit.can_lengthen(plan, asked.header) is can
    assert not fit.can_lengthen(replace(plan, embeds=True), asked.header)


def test_another_size_is_the_plan_that_a_load_would_have_had() -> None:
    """Of a model that was loaded with few tokens: batches and checkpoints grow with it."""
    asked = request(header("gemma3", 100 * MB, **GEMMA), Options(num_ctx=128))
    longer = request(header("gemma3", 100 * MB, **GEMMA), Options(num_ctx=1024))
    eight = settings(OLLAMAPY_NUM_PARALLEL=8)
    plan, wanted = (fit.preferred(each, eight, 100 * GB) for each in (asked, longer))
    found = fit.resized(fit.at_rest(plan, asked), asked, 8, 1024)
    sizes = ("n_slots", "n_ctx", "n_batch")
    assert [getattr(found, name) for name in sizes] == [getattr(wanted, name) for name in sizes]
    assert found.checkpoint_size == plan.checkpoint_size


def test_resizing_takes_the_new_context_and_copies_of_a_slot() -> None:
    model = header(**LLAMA2_7B)
    plan = fit.preferred(request(model), settings(OLLAMAPY_NUM_PARALLEL=4), 100 * GB)
    slot = footprint.slot_bytes(model, plan.n_ctx, plan.n_batch, "f16")
    assert fit.context_size(model, plan) >= 4 * slot
    assert fit.resizing_size(model, plan) == fit.context_size(model, plan) + 2 * slot

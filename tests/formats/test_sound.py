"""Headers on which llama.cpp aborts are refused; those of real models are not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidModel
from ollamapy.formats.gguf import (
    ArrayInfo,
    Header,
    Tensor,
    check,
    check_tokens,
    read_checked,
    read_header,
)
from tests.small_models import random_model

GOOD = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 16,
    "tokenizer.ggml.tokens": ArrayInfo("string", 2000),
    "tokenizer.ggml.scores": ArrayInfo("float32", 2000),
    "tokenizer.ggml.token_type": ArrayInfo("int32", 2000),
}


def header(metadata: Mapping[str, Any] = GOOD, /, **types: str) -> Header:
    tensors = [Tensor(name.replace("__", "."), t, (4,), 16, 0) for name, t in types.items()]
    return Header(3, dict(metadata), tuple(tensors), 0, 0)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("llama.attention.layer_norm_rms_epsilon", -1.0, "epsilon is -1.0"),
        ("llama.attention.layer_norm_rms_epsilon", math.inf, "epsilon is inf"),
        ("llama.attention.layer_norm_epsilon", math.nan, "epsilon is nan"),
        ("llama.attention.group_norm_epsilon", 1e30, "epsilon is"),
        ("llama.attention.layer_norm_rms_epsilon", "small", "epsilon is"),
        ("llama.block_count", 2**31, "2147483648 layers"),
        ("llama.block_count", 0, "0 layers"),
        ("llama.block_count", 513, "513 layers"),
        ("llama.block_count", -1, "-1 layers"),
        ("llama.block_count", 2.0, "2.0 layers"),
        ("llama.attention.head_count", 2**31, "head_count is"),
        ("llama.attention.head_count_kv", (2, -1), "head_count_kv is -1"),
        ("llama.embedding_length", 0, "embedding_length is 0"),
        ("llama.expert_count", 2000, "2000 experts"),
        ("llama.expert_used_count", 2, "uses 2 of 0"),
        ("llama.rope.dimension_count", 32, "dimension_count is 32, and a head has 16"),
        ("llama.rope.dimension_count", 15, "dimension_count is 15"),
        ("llama.rope.scaling.type", "magic", "'magic'"),
        ("llama.rope.freq_base", math.nan, "freq_base is nan"),
        ("tokenizer.ggml.tokens", ArrayInfo("int32", 2000), "tokens is no list of string"),
        ("tokenizer.ggml.scores", ArrayInfo("int8", 2000), "scores is no list of float32"),
        ("tokenizer.ggml.scores", ArrayInfo("float32", 1999), "1999 values of scores"),
        ("tokenizer.ggml.token_type", ArrayInfo("int32", 1), "1 values of token_type"),
    ],
)
def test_what_is_refused(key: str, value: Any, says: str) -> None:
    check(header())
    with pytest.raises(InvalidModel, match="cannot be used") as error:
        check(header({**GOOD, key: value}))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("output_norm__weight", "I32"),
        ("blk__0__attn_norm__weight", "F16"),  # ggml-cpu aborts on it, too
        ("blk__0__attn_q_norm__weight", "Q8_0"),
        ("blk__0__attn_q__bias", "I8"),
        ("token_embd__weight", "I32"),
        ("blk__1__ffn_down_exps__weight", "I16"),
        ("output__weight", "F64"),
    ],
)
def test_types_that_are_refused(name: str, kind: str) -> None:
    with pytest.raises(InvalidModel, match=f"has the type {kind}"):
        check(header(GOOD, **{name: kind}))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("output_norm__weight", "F32"),
        ("token_embd__weight", "Q4_K"),
        ("blk__0__hash__weight", "I32"),
    ],
)
def test_types_that_are_usual(name: str, kind: str) -> None:
    check(header(GOOD, **{name: kind}))


def test_a_token_twice() -> None:
    check_tokens(("a", "b"))
    with pytest.raises(InvalidModel, match="the token 'a' twice"):
        check_tokens(("a", "b", "a"))


@pytest.mark.parametrize("vocab", [700, 2000])  # a vocabulary that is kept, and one that is skipped
def test_a_token_twice_in_a_file(tmp_path: Path, vocab: int) -> None:
    path = random_model(tmp_path / "m.gguf", vocab=vocab)
    tokens = read_header(path, arrays=True).metadata["tokenizer.ggml.tokens"]
    one, other = next(
        (a.encode(), b.encode())
        for a, b in itertools.combinations(tokens[400:], 2)
        if len(a.encode()) == len(b.encode())
    )
    length = len(one).to_bytes(8, "little")
    path.write_bytes(path.read_bytes().replace(length + one, length + other))
    with pytest.raises(InvalidModel, match="twice"):
        read_checked(path)
    read_header(path)


def test_no_layers_of_attention_and_projectors() -> None:
    check(header({**GOOD, "llama.attention.head_count": (4, 0), "llama.expert_count": 0}))
    check(header({"general.architecture": "clip", "clip.block_count": 0}))


def test_a_real_model(tmp_path: Path) -> None:
    assert read_checked(random_model(tmp_path / "m.gguf", vocab=2000)).vocab_size == 2000

"""Small random models as Hugging Face's programs save them, made by tests: config.json, a tokenizer, *.safetensors.

write_safetensors   the format, written after its description, not with the code under test
FAMILIES            one small model for each family, its quirks included, and the forward pass that belongs to it
make                a model's folder; the weights as numbers beside it
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.reference import Shape

Array = npt.NDArray[Any]

WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD, VOCAB = 64, 96, 4, 2, 16, 320
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def packed(array: Array, dtype: str) -> tuple[bytes, Array]:
    """An array's bytes in F32, F16 or BF16, and the numbers that they stand for."""
    if dtype == "BF16":
        upper = (array.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
        return upper.tobytes(), (upper.astype(np.uint32) << 16).view(np.float32)
    kept = array.astype({"F32": "<f4", "F16": "<f2"}[dtype])
    return kept.tobytes(), kept.astype(np.float32)


def write_safetensors(
    path: Path, tensors: Mapping[str, Array], dtype: str = "F32"
) -> dict[str, Array]:
    """Write a file; the numbers that it holds, which a narrower type has rounded."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data, kept = b"", {}
    for name, array in tensors.items():
        raw, kept[name] = packed(array, dtype)
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return kept


@dataclass(frozen=True)
class Model:
    """One family's small model: what config.json says and how it is computed."""

    architecture: str
    gguf: str
    shape: Shape
    config: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 2
    tied: bool = False
    biases: bool = False
    query_key_norms: bool = False
    post_norms: bool = False
    fused: bool = False


_PLAIN = Shape(HEADS, KV_HEADS, HEAD)
_GEMMA = replace(
    _PLAIN, norm_eps=1e-6, norm_offset=1.0, gelu=True, embedding_scale=math.sqrt(WIDTH)
)


def _llama3_divisors() -> Array:
    """Llama 3.1's rope scaling, from the reference code of the model (apply_scaling)."""
    frequencies = 10000.0 ** -(np.arange(HEAD // 2) / (HEAD // 2))
    divisors = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / frequency
        if wavelength < 64 / 4:
            divisors.append(1.0)
        elif wavelength > 64 / 1:
            divisors.append(8.0)
        else:
            smooth = (64 / wavelength - 1) / (4 - 1)
            divisors.append(1 / ((1 - smooth) / 8 + smooth))
    return np.array(divisors)


def _yarn_divisors(factor: float = 4.0, original: int = 64) -> Array:
    """YaRN's, from its paper: fast frequencies as they are, slow ones divided, a ramp between (beta 32 and 1)."""
    pairs = HEAD // 2

    def at(rotations: float) -> float:
        return HEAD * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(10000.0))

    low, high = max(math.floor(at(32)), 0), min(math.ceil(at(1)), HEAD - 1)
    ramp = np.clip((np.arange(pairs) - low) / max(high - low, 0.001), 0, 1)
    return 1 / (ramp / factor + (1 - ramp))


_LONG = [1.0 + 0.5 * i for i in range(HEAD // 2)]
_SHORT = [1.0 + 0.1 * i for i in range(HEAD // 2)]
FAMILIES = {
    "llama": Model("LlamaForCausalLM", "llama", _PLAIN),
    "llama tied": Model(
        "LlamaForCausalLM", "llama", _PLAIN, {"tie_word_embeddings": True}, tied=True
    ),
    "llama biased": Model("LlamaForCausalLM", "llama", _PLAIN, biases=True),
    "llama 3.1": Model(
        "LlamaForCausalLM",
        "llama",
        replace(_PLAIN, rope_divisors=_llama3_divisors()),
        {
            "rope_scaling": {
                **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
                **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
            }
        },
    ),
    "llama linear": Model(
        "LlamaForCausalLM",
        "llama",
        replace(_PLAIN, rope_divisors=np.full(HEAD // 2, 4.0)),
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    "llama yarn": Model(
        "LlamaForCausalLM",
        "llama",
        replace(_PLAIN, rope_divisors=_yarn_divisors(), rope_magnitude=0.1 * math.log(4.0) + 1.0),
        {
            "rope_scaling": {
                **{"rope_type": "yarn", "factor": 4.0},
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "mistral": Model(
        "MistralForCausalLM",
        "llama",
        replace(_PLAIN, rope_base=1e6, head_dim=32),
        {"rope_theta": 1e6, "head_dim": 32},
    ),
    "qwen2": Model("Qwen2ForCausalLM", "qwen2", _PLAIN, biases=True),
    "qwen3": Model(
        "Qwen3ForCausalLM",
        "qwen3",
        replace(_PLAIN, rope_base=1e6, head_dim=32),
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "head_dim": 32},
        query_key_norms=True,
    ),
    "gemma": Model(
        "GemmaForCausalLM", "gemma", _GEMMA, {"head_dim": HEAD, "rms_norm_eps": 1e-6}, tied=True
    ),
    "gemma2": Model(
        "Gemma2ForCausalLM",
        "gemma2",
        replace(
            _GEMMA,
            attention_softcap=50.0,
            final_softcap=30.0,
            window=5,
            is_windowed=lambda layer: layer % 2 == 0,
        ),
        {
            **{"head_dim": HEAD, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": HEAD},
            **{"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
            "sliding_window": 5,
        },
        tied=True,
        post_norms=True,
    ),
    "gemma3": Model(
        "Gemma3ForCausalLM",
        "gemma3",
        replace(
            _GEMMA,
            rope_base=1e6,
            window_rope_base=10000.0,
            window=5,
            is_windowed=lambda layer: layer % 6 != 5,
        ),
        {
            **{"head_dim": HEAD, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": HEAD},
            **{"rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 5},
            "sliding_window_pattern": 6,
        },
        layers=7,
        tied=True,
        post_norms=True,
        query_key_norms=True,
    ),
    "phi3": Model("Phi3ForCausalLM", "phi3", _PLAIN, {"sliding_window": 2047}, fused=True),
    "phi3 long": Model(
        "Phi3ForCausalLM",
        "phi3",
        replace(
            _PLAIN,
            rope_divisors=np.array(_LONG),
            rope_magnitude=math.sqrt(1 + math.log(512 / 64) / math.log(64)),
        ),
        {
            "original_max_position_embeddings": 64,
            "rope_scaling": {"type": "longrope", "long_factor": _LONG, "short_factor": _SHORT},
        },
        fused=True,
    ),
}
"""By a name for the test; several variants of one family where it has several ways."""


def config_json(model: Model) -> dict[str, Any]:
    """What config.json of such a model says."""
    return {
        "architectures": [model.architecture],
        **{"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": model.layers},
        **{"num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB},
        **{"max_position_embeddings": 512, "rms_norm_eps": 1e-5, "bos_token_id": 1},
        **{"eos_token_id": 2, "torch_dtype": "float32"},
        **model.config,
    }


def weights(model: Model, seed: int = 0) -> dict[str, Array]:
    """Random weights by Hugging Face's names, without "model." and ".weight"."""
    rng = np.random.default_rng(seed)
    head = model.shape.head_dim
    q, kv = HEADS * head, KV_HEADS * head

    def matrix(rows: int, columns: int) -> Array:
        values = rng.standard_normal((rows, columns), np.float32)
        return values * np.float32(1.5 / math.sqrt(columns))

    def norm(length: int) -> Array:
        middle = 1 - model.shape.norm_offset
        return (middle + 0.2 * rng.standard_normal(length)).astype(np.float32)

    made = {"embed_tokens": matrix(VOCAB, WIDTH) * (1 if model.shape.gelu else 6)}
    for layer in range(model.layers):
        at = f"layers.{layer}"
        made[f"{at}.input_layernorm"] = norm(WIDTH)
        made[f"{at}.post_attention_layernorm"] = norm(WIDTH)
        if model.post_norms:
            made[f"{at}.pre_feedforward_layernorm"] = norm(WIDTH)
            made[f"{at}.post_feedforward_layernorm"] = norm(WIDTH)
        if model.fused:
            made[f"{at}.self_attn.qkv_proj"] = matrix(q + 2 * kv, WIDTH)
            made[f"{at}.mlp.gate_up_proj"] = matrix(2 * HIDDEN, WIDTH)
        else:
            for part, rows in (("q", q), ("k", kv), ("v", kv)):
                made[f"{at}.self_attn.{part}_proj"] = matrix(rows, WIDTH)
                if model.biases:
                    made[f"{at}.self_attn.{part}_proj.bias"] = matrix(1, rows)[0]
            made[f"{at}.mlp.gate_proj"] = matrix(HIDDEN, WIDTH)
            made[f"{at}.mlp.up_proj"] = matrix(HIDDEN, WIDTH)
        if model.query_key_norms:
            made[f"{at}.self_attn.q_norm"] = norm(head)
            made[f"{at}.self_attn.k_norm"] = norm(head)
        made[f"{at}.self_attn.o_proj"] = matrix(WIDTH, q)
        made[f"{at}.mlp.down_proj"] = matrix(WIDTH, HIDDEN)
    made["norm"] = norm(WIDTH)
    if not model.tied:
        made["lm_head"] = matrix(VOCAB, WIDTH)
    return made


def full_name(name: str) -> str:
    """A tensor's name as it is in the file."""
    inner = name if name.startswith("lm_head") else f"model.{name}"
    return inner if inner.endswith(".bias") else f"{inner}.weight"


def make(
    folder: Path, model: Model, *, dtype: str = "F32", shards: int = 1, seed: int = 0
) -> dict[str, Array]:
    """Write a model's folder; its weights as they are after rounding to `dtype`, by the names of ``weights``."""
    folder.mkdir(exist_ok=True)
    made = weights(model, seed)
    (folder / "config.json").write_text(json.dumps(config_json(model)))
    (folder / "tokenizer.json").write_text(json.dumps(byte_level()))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}"})
    )
    names = list(made)
    kept: dict[str, Array] = {}
    where: dict[str, str] = {}
    for shard in range(shards):
        part = names[shard::shards]
        file = (
            "model.safetensors"
            if shards == 1
            else f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        )
        read = write_safetensors(
            folder / file, {full_name(name): made[name] for name in part}, dtype
        )
        kept |= {name: read[full_name(name)] for name in part}
        where |= {full_name(name): file for name in part}
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return kept


# ---- tokenizers ----------------------------------------------------------------------------------------------------------


def byte_alphabet() -> list[str]:
    """GPT-2's character for each byte (bytes_to_unicode of its encoder.py)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    table = {byte: chr(byte) for byte in shown}
    table |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


MERGES = [("a", "b"), ("ab", "c"), ("Ġ", "a"), ("Ġa", "b"), ("d", "e"), ("Ġ", "de")]


def byte_level(regex: str = LLAMA_3, ignore_merges: bool = True) -> dict[str, Any]:
    """A tokenizer.json like Llama 3's: specials 0 to 2, the bytes, what the merges make."""
    pieces = ["<unk>", "<s>", "</s>", *byte_alphabet(), *("".join(pair) for pair in MERGES)]
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": text, "special": special}
            for id, text, special in (
                *((i, t, True) for i, t in enumerate(pieces[:3])),
                (300, "<|im_end|>", True),
                (301, "<tool>", False),
            )
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": {
            "type": "Sequence",
            "processors": [
                {"type": "ByteLevel"},
                {
                    "type": "TemplateProcessing",
                    "single": [
                        {"SpecialToken": {"id": "<s>", "type_id": 0}},
                        {"Sequence": {"id": "A", "type_id": 0}},
                    ],
                },
            ],
        },
        "model": {
            "type": "BPE",
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [list(pair) for pair in MERGES],
            "ignore_merges": ignore_merges,
        },
    }


PIECES = [*"abcde", "▁", "ab", "abc", "▁a", "▁ab", "de", "é"]


def sentence_pieces() -> list[tuple[str, float, int]]:
    """(text, score, kind) of a vocabulary like Llama 2's."""
    rows = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    rows += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    return rows + [(piece, -float(index), 1) for index, piece in enumerate(PIECES)]


def _varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def tokenizer_model(*, kind: int = 2, dummy_prefix: bool = True) -> bytes:
    """A tokenizer.model: protobuf, written by hand."""
    out = b""
    for text, score, type in sentence_pieces():
        piece = _field(1, text.encode()) + b"\x15" + struct.pack("<f", score)
        out += _field(1, piece + (b"\x18" + _varint(type) if type != 1 else b""))
    out += _field(2, b"\x18" + _varint(kind) + _varint(43 << 3) + _varint(2**64 - 1))
    return out + _field(3, _field(1, b"identity") + b"\x18" + _varint(dummy_prefix))


def character_level() -> dict[str, Any]:
    """The same vocabulary as tokenizer.json has it: BPE with a fallback to bytes."""
    rows = sentence_pieces()
    merges = [
        (text[:cut], text[cut:])
        for text, _, kind in rows
        if kind == 1
        for cut in range(1, len(text))
        if text[:cut] in PIECES and text[cut:] in PIECES
    ]
    return {
        "added_tokens": [
            {"id": i, "content": text, "special": True} for i, (text, _, _) in enumerate(rows[:3])
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "vocab": {text: index for index, (text, _, _) in enumerate(rows)},
            "merges": [" ".join(pair) for pair in merges],
        },
    }

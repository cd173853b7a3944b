"""Models of BERT's family, which make vectors, as GGUF: BERT, XLM-RoBERTa and Nomic Embed.

How a text's vector is made of those of its tokens stands in the folder of a sentence-transformers model (`1_Pooling`); without
it the mean is taken, as sentence-transformers does. What comes after that, but for normalizing, cannot be computed by llama.cpp.
Rules and names: llama.cpp's conversion/bert.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from . import safetensors, wordpiece
from .architecture import MAX_LAYERS, MAX_SIZE, epsilon, refuse
from .folder import Folder, read_json
from .safetensors import Tensor
from .writer import Plan, Value, Weight, float32, pieces_of, read_at, tensor_names

ARCHITECTURES = {
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "XLMRobertaModel": "bert",
    "NomicBertModel": "nomic-bert",
}
"""By the name in config.json's `architectures`."""

_MEAN, _CLS, _LAST = 1, 2, 3


class _Config(msgspec.Struct, frozen=True):
    """config.json. Nomic's has GPT-2's names for the sizes."""

    architectures: list[str] = []
    hidden_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    intermediate_size: int = 0
    max_position_embeddings: int = 0
    type_vocab_size: int = 0
    layer_norm_eps: float | None = None
    hidden_act: str = "gelu"
    position_embedding_type: str = "absolute"
    pad_token_id: int | None = None
    n_embd: int = 0
    n_layer: int = 0
    n_head: int = 0
    n_inner: int = 0
    n_positions: int = 0
    layer_norm_epsilon: float | None = None
    activation_function: str = ""
    rotary_emb_base: float = 10_000.0
    rotary_emb_fraction: float = 1.0
    rotary_emb_interleaved: bool = False
    prenorm: bool = False
    qkv_proj_bias: bool = False
    moe_every_n_layers: int = 0
    lora_adaptations: Any = None
    quantization_config: Any = None


@dataclass(frozen=True, slots=True)
class Encoder:
    """What config.json describes, checked. ``skipped``: rows of the position matrix before that of the first token."""

    name: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    context: int
    token_types: int
    eps: float
    rope_base: float
    skipped: int


def is_encoder(architectures: list[str]) -> bool:
    """Whether config.json's `architectures` name a model of this family."""
    return any(name in ARCHITECTURES for name in architectures)


def read_encoder(files: Folder) -> Encoder:
    """config.json of a folder. Raises InvalidModel for what llama.cpp would compute otherwise."""
    config = read_json(files, "config.json", _Config)
    architecture = next(name for name in config.architectures if name in ARCHITECTURES)
    nomic = architecture == "NomicBertModel"
    skipped = (config.pad_token_id or 0) + 1 if architecture == "XLMRobertaModel" else 0
    encoder = Encoder(
        name=ARCHITECTURES[architecture],
        layers=config.n_layer if nomic else config.num_hidden_layers,
        width=config.n_embd if nomic else config.hidden_size,
        feed_forward=config.n_inner if nomic else config.intermediate_size,
        heads=config.n_head if nomic else config.num_attention_heads,
        # Nomic's files have the length to which its rotation can be stretched; it was trained for 2,048 tokens
        context=min(config.n_positions, 2048)
        if nomic
        else config.max_position_embeddings - skipped,
        token_types=config.type_vocab_size,
        eps=epsilon(
            config.layer_norm_epsilon if nomic else config.layer_norm_eps, 1e-12, "layer_norm_eps"
        ),
        rope_base=config.rotary_emb_base,
        skipped=skipped,
    )
    _check_config(config, encoder, nomic)
    if "modules.json" in files:
        _check_modules(files)
    return encoder


def _check_config(config: _Config, encoder: Encoder, nomic: bool) -> None:
    sizes = (encoder.layers, encoder.width, encoder.feed_forward, encoder.heads, encoder.context)
    if min(sizes) < 1 or max(sizes) > MAX_SIZE or encoder.layers > MAX_LAYERS:
        refuse("a size in its config.json is missing or impossible")
    if encoder.width % encoder.heads or not 0 < encoder.token_types <= MAX_SIZE:
        refuse("its heads or its token types do not fit")
    if config.quantization_config is not None:
        refuse("it is quantised already, take the one in F16 or BF16")
    if config.lora_adaptations or config.moe_every_n_layers:
        refuse("llama.cpp's converter is needed for one with adapters or experts")
    activation = config.activation_function if nomic else config.hidden_act
    if activation not in (("swiglu",) if nomic else ("gelu", "gelu_new", "gelu_pytorch_tanh")):
        refuse(f"llama.cpp has no {encoder.name} with the activation {activation[:40]!r}")
    if config.position_embedding_type != "absolute":
        refuse(f"llama.cpp has no {encoder.name} with other than absolute positions")
    odd_rope = config.rotary_emb_fraction != 1.0 or config.rotary_emb_interleaved
    if nomic and (odd_rope or config.prenorm or config.qkv_proj_bias):
        refuse("llama.cpp has no nomic-bert of this kind")


class _Module(msgspec.Struct, frozen=True):
    type: str


class _Pooling(msgspec.Struct, frozen=True):
    pooling_mode: str = ""
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode_lasttoken: bool = False


def _check_modules(files: Folder) -> None:
    for module in read_json(files, "modules.json", list[_Module]):
        kind = module.type.rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize"):
            refuse(f"its vectors go through a layer {kind[:40]!r}, which GGUF does not have")


def _pooling(files: Folder) -> int:
    name = next((name for name in sorted(files) if name.endswith("_Pooling/config.json")), None)
    if name is None:
        return _MEAN
    given = read_json(files, name, _Pooling)
    if given.pooling_mode_mean_tokens or given.pooling_mode == "mean":
        return _MEAN
    if given.pooling_mode_cls_token or given.pooling_mode == "cls":
        return _CLS
    if given.pooling_mode_lasttoken or given.pooling_mode == "lasttoken":
        return _LAST
    refuse("its pooling is neither of the mean nor of the first or last token")


def planned(files: Folder) -> Plan:
    """The conversion of a folder, checked. Raises InvalidModel."""
    encoder = read_encoder(files)
    tensors = _named(safetensors.read_model(files), encoder)
    rows = _check_tensors(tensors, encoder)
    metadata = _metadata(encoder) | wordpiece.metadata(files, rows)
    metadata["tokenizer.ggml.token_type_count"] = encoder.token_types
    metadata[f"{encoder.name}.pooling_type"] = _pooling(files)
    metadata["general.file_type"] = {"F32": 0, "F16": 1, "BF16": 32}[
        tensors["blk.0.attn_output.weight"].dtype
    ]

    def weight(name: str, tensor: Tensor, file: BinaryIO) -> Weight:
        return _weight(name, tensor, file, encoder)

    return Plan(encoder.name, metadata, tensors, weight)


def _metadata(encoder: Encoder) -> dict[str, Value]:
    values: dict[str, Value] = {
        "context_length": encoder.context,
        "embedding_length": encoder.width,
        "block_count": encoder.layers,
        "feed_forward_length": encoder.feed_forward,
        "attention.head_count": encoder.heads,
        "attention.layer_norm_epsilon": encoder.eps,
        "attention.causal": False,
    }
    if encoder.name == "nomic-bert":
        values["rope.freq_base"] = encoder.rope_base
    return {
        "general.type": "model",
        "general.quantization_version": 2,
        **{f"{encoder.name}.{key}": value for key, value in values.items()},
    }


_UNUSED = re.compile(r"embeddings\.position_ids|pooler\..*|cls\..*|lm_head\..*")


def _named(found: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Tensors by GGUF's names, without the heads that make no vectors."""
    names = tensor_names(encoder.name, encoder.layers)
    tensors: dict[str, Tensor] = {}
    for given, tensor in found.items():
        name = re.sub(r"^(?:bert|roberta)\.", "", given)
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        if _UNUSED.fullmatch(name):
            continue
        new = names(name)
        if new is None or new in tensors:
            refuse(f"tensor {given[:100]!r} is none of a {encoder.name}'s, or there twice")
        tensors[new] = tensor
    return tensors


def _check_tensors(tensors: dict[str, Tensor], encoder: Encoder) -> int:
    """Raise unless these are exactly a model's tensors; the rows of its vocabulary."""
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2 or not 0 < embedding.shape[0] <= MAX_SIZE:
        refuse("its weights have no embedding")
    expected = _shapes(encoder, embedding.shape[0])
    for name, shape in expected.items():
        if name not in tensors:
            refuse(f"its weights have no tensor {name!r}")
        if tensors[name].shape != shape:
            refuse(f"tensor {name!r} has the shape {tensors[name].shape} and not {shape}")
    for name, tensor in tensors.items():
        if name not in expected:
            refuse(f"tensor {name!r} is none of a {encoder.name}'s")
        if tensor.dtype not in ("F32", "F16", "BF16"):
            refuse(f"tensor {name!r} has the type {tensor.dtype}, take the weights in F16 or BF16")
    return embedding.shape[0]


def _shapes(encoder: Encoder, rows: int) -> dict[str, tuple[int, ...]]:
    width, hidden = encoder.width, encoder.feed_forward
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (rows, width),
        "token_types.weight": (encoder.token_types, width),
        "token_embd_norm.weight": (width,),
        "token_embd_norm.bias": (width,),
    }
    matrices = {
        "attn_output": (width, width),
        "ffn_up": (hidden, width),
        "ffn_down": (width, hidden),
    }
    if encoder.name == "bert":
        shapes["position_embd.weight"] = (encoder.context + encoder.skipped, width)
        matrices |= {f"attn_{part}": (width, width) for part in "qkv"}
    else:
        matrices |= {"attn_qkv": (3 * width, width), "ffn_gate": (hidden, width)}
    for layer in range(encoder.layers):
        for norm in ("attn_output_norm", "layer_output_norm"):
            shapes |= {f"blk.{layer}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for name, shape in matrices.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
            if encoder.name == "bert":
                shapes[f"blk.{layer}.{name}.bias"] = shape[:1]
    return shapes


def _weight(name: str, tensor: Tensor, file: BinaryIO, encoder: Encoder) -> Weight:
    """Matrices as they are; vectors, positions and token types in F32, as they are added to numbers of that type."""
    added = name in ("position_embd.weight", "token_types.weight")
    if len(tensor.shape) > 1 and not added:
        whole = tensor.offset, tensor.n_bytes
        return Weight(name, tensor.shape, tensor.dtype, lambda: pieces_of(file, *whole))
    skipped = encoder.skipped if name == "position_embd.weight" else 0
    shape = (tensor.shape[0] - skipped, *tensor.shape[1:])

    def numbers() -> Iterator[bytes]:
        values = float32(read_at(file, tensor.offset, tensor.n_bytes), tensor.dtype)
        yield values.reshape(tensor.shape)[skipped:].astype("<f4").tobytes()

    return Weight(name, shape, "F32", numbers)

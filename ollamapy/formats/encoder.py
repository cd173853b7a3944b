"""What config.json says of a model of BERT's family: one Encoder, whatever names the sizes have there.

    BERT, XLM-RoBERTa, RoBERTa   a norm after each part, positions in a table; the latter two begin it behind padding
    DistilBERT                   a BERT without token types, under names of its own
    Nomic Embed                  rotated positions, a gate, GPT-2's names for the sizes
    ModernBERT                   a norm before each part, rotated positions, a gate; most layers see a window only

Whatever llama.cpp would compute otherwise is refused. Rules: llama.cpp's conversion/bert.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from .architecture import ENCODERS, MAX_LAYERS, MAX_SIZE, epsilon, refuse
from .folder import Folder, read_json

_BEHIND_PADDING = ("XLMRobertaModel", "RobertaModel")
_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh")


class _Config(msgspec.Struct, frozen=True):
    """config.json: BERT's names, then Nomic's, DistilBERT's and ModernBERT's."""

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
    quantization_config: Any = None

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

    dim: int = 0
    n_layers: int = 0
    n_heads: int = 0
    hidden_dim: int = 0
    activation: str = "gelu"

    norm_eps: float | None = None
    hidden_activation: str = "gelu"
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    global_rope_theta: float = 160_000.0
    local_rope_theta: float | None = 10_000.0
    local_attention: int = 128
    global_attn_every_n_layers: int = 3


@dataclass(frozen=True, slots=True)
class Encoder:
    """What config.json describes, checked.

    ``token_types``: rows of the matrix of token types, 0 for none. ``skipped``: rows of the position matrix before that of the
    first token. ``window``: tokens that a layer sees, but for every ``dense_every``-th; 0: all. ``byte_pairs`` is llama.cpp's
    name for the tokenizer of such a model if its kind is BPE, "" if it is never that.
    """

    name: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    context: int
    token_types: int
    eps: float
    skipped: int = 0
    rope_base: float = 0.0
    window_rope_base: float = 0.0
    window: int = 0
    dense_every: int = 0
    byte_pairs: str = ""


def is_encoder(architectures: list[str]) -> bool:
    """Whether config.json's `architectures` name a model of this family."""
    return any(name in ENCODERS for name in architectures)


def read_encoder(files: Folder) -> Encoder:
    """config.json of a folder. Raises InvalidModel for what llama.cpp would compute otherwise."""
    config = read_json(files, "config.json", _Config)
    architecture = next(name for name in config.architectures if name in ENCODERS)
    if config.quantization_config is not None:
        refuse("it is quantised already, take the one in F16 or BF16")
    if architecture.startswith("DistilBert"):
        encoder = _distil(config)
    elif architecture.startswith("ModernBert"):
        encoder = _modern(config)
    elif architecture == "NomicBertModel":
        encoder = _nomic(config)
    else:
        encoder = _bert(config, architecture)
    _check_sizes(encoder)
    if "modules.json" in files:
        _check_modules(files)
    return encoder


def _bert(config: _Config, architecture: str) -> Encoder:
    _check_activation("bert", config.hidden_act)
    if config.position_embedding_type != "absolute":
        refuse("llama.cpp has no bert with other than absolute positions")
    if not 0 < config.type_vocab_size <= MAX_SIZE:
        refuse("its token types do not fit")
    skipped = (config.pad_token_id or 0) + 1 if architecture in _BEHIND_PADDING else 0
    return Encoder(
        name="bert",
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        feed_forward=config.intermediate_size,
        heads=config.num_attention_heads,
        context=config.max_position_embeddings - skipped,
        token_types=config.type_vocab_size,
        eps=epsilon(config.layer_norm_eps, 1e-12, "layer_norm_eps"),
        skipped=skipped,
        byte_pairs="roberta-bpe" if architecture == "RobertaModel" else "",
    )


def _distil(config: _Config) -> Encoder:
    _check_activation("DistilBERT", config.activation)
    return Encoder(
        name="bert",
        layers=config.n_layers,
        width=config.dim,
        feed_forward=config.hidden_dim,
        heads=config.n_heads,
        context=config.max_position_embeddings,
        token_types=0,
        eps=1e-12,
    )


def _nomic(config: _Config) -> Encoder:
    _check_activation("nomic-bert", config.activation_function, ("swiglu",))
    if config.lora_adaptations or config.moe_every_n_layers:
        refuse("llama.cpp's converter is needed for one with adapters or experts")
    odd_rope = config.rotary_emb_fraction != 1.0 or config.rotary_emb_interleaved
    if odd_rope or config.prenorm or config.qkv_proj_bias:
        refuse("llama.cpp has no nomic-bert of this kind")
    if not 0 < config.type_vocab_size <= MAX_SIZE:
        refuse("its token types do not fit")
    return Encoder(
        name="nomic-bert",
        layers=config.n_layer,
        width=config.n_embd,
        feed_forward=config.n_inner,
        heads=config.n_head,
        # Nomic's files have the length to which its rotation can be stretched; it was trained for 2,048 tokens
        context=min(config.n_positions, 2048),
        token_types=config.type_vocab_size,
        eps=epsilon(config.layer_norm_epsilon, 1e-12, "layer_norm_eps"),
        rope_base=config.rotary_emb_base,
    )


def _modern(config: _Config) -> Encoder:
    _check_activation("modern-bert", config.hidden_activation, ("gelu",))
    if config.norm_bias or config.attention_bias or config.mlp_bias:
        refuse("llama.cpp has no modern-bert with biases")
    if not (0 < config.local_attention <= MAX_SIZE and 0 < config.global_attn_every_n_layers):
        refuse("its window of attention is impossible")
    return Encoder(
        name="modern-bert",
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        feed_forward=config.intermediate_size,
        heads=config.num_attention_heads,
        context=config.max_position_embeddings,
        token_types=0,
        eps=epsilon(config.norm_eps, 1e-5, "norm_eps"),
        rope_base=config.global_rope_theta,
        window_rope_base=config.local_rope_theta or config.global_rope_theta,
        window=config.local_attention,
        dense_every=config.global_attn_every_n_layers,
        byte_pairs="modern-bert",
    )


def _check_activation(name: str, activation: str, known: tuple[str, ...] = _GELU) -> None:
    if activation not in known:
        refuse(f"llama.cpp has no {name} with the activation {activation[:40]!r}")


def _check_sizes(encoder: Encoder) -> None:
    sizes = (encoder.layers, encoder.width, encoder.feed_forward, encoder.heads, encoder.context)
    if min(sizes) < 1 or max(sizes) > MAX_SIZE or encoder.layers > MAX_LAYERS:
        refuse("a size in its config.json is missing or impossible")
    if encoder.width % encoder.heads:
        refuse("its heads do not fit")


class _Module(msgspec.Struct, frozen=True):
    type: str


def _check_modules(files: Folder) -> None:
    for module in read_json(files, "modules.json", list[_Module]):
        kind = module.type.rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize"):
            refuse(f"its vectors go through a layer {kind[:40]!r}, which GGUF does not have")

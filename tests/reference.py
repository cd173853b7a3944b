"""Logits of a model, computed twice: by real llama.cpp from a GGUF, and by numpy from plain weights.

    llama_logits     what llama.cpp makes of a GGUF, with an adapter or without, every step in float32
    Transformer      the forward pass of the families that are converted, as their papers and first implementations have it

The second is written to be read beside a paper, not to be fast, and shares no line with the code under test.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ollamapy.engine.library import ctypes_layer

Array = npt.NDArray[Any]


def llama_logits(
    path: Path, tokens: Sequence[int], *, adapter: Path | None = None, scale: float = 1.0
) -> Array:
    """The logits after each of `tokens`, [token, vocabulary], computed by llama.cpp on one thread, without a cache of less
    than 32 bits."""
    lib = ctypes_layer()
    silent = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(silent, None)
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.use_extra_bufts = False
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    assert model, f"llama.cpp does not load {path}"
    settings = lib.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    settings.n_threads = settings.n_threads_batch = 1
    settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.type_k = settings.type_v = lib.GGML_TYPE_F32
    context = lib.llama_init_from_model(model, settings)
    assert context
    if adapter is not None:
        loaded = lib.llama_adapter_lora_init(model, os.fsencode(adapter))
        assert loaded, f"llama.cpp does not load {adapter}"
        adapters, scales = (type(loaded) * 1)(loaded), (ctypes.c_float * 1)(scale)
        assert lib.llama_set_adapters_lora(context, adapters, 1, scales) == 0
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    assert lib.llama_decode(context, batch) == 0
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    rows = [
        np.ctypeslib.as_array(lib.llama_get_logits_ith(context, i), (n_vocab,)).copy()
        for i in range(len(tokens))
    ]
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    lib.llama_model_free(model)
    return np.stack(rows)


@dataclass(frozen=True)
class Shape:
    """What a forward pass must know beside the weights. The defaults are Llama's."""

    n_heads: int
    n_kv_heads: int
    head_dim: int
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    neighbours: bool = False
    """Rotate (0, 1), (2, 3)... of a head, as llama2.c does; else (0, half), (1, half + 1)... as Hugging Face does."""
    rope_divisors: Array | None = None
    """What each frequency is divided by (rope scaling)."""
    rope_magnitude: float = 1.0
    """What cosine and sine are multiplied with (longrope, yarn)."""
    embedding_scale: float = 1.0
    norm_offset: float = 0.0
    gelu: bool = False
    query_scale: float | None = None
    attention_softcap: float | None = None
    final_softcap: float | None = None
    window: int | None = None
    is_windowed: Callable[[int], bool] = lambda layer: True
    window_rope_base: float | None = None


def transformer(shape: Shape, weights: Mapping[str, Array], tokens: Sequence[int]) -> Array:
    """Logits after each token, [token, vocabulary]. `weights` have Hugging Face's names without "model." and ".weight"."""

    def norm(x: Array, name: str) -> Array:
        scaled: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + shape.norm_eps)
        normed: Array = scaled * (weights[name] + shape.norm_offset)
        return normed

    def linear(x: Array, name: str) -> Array:
        return x @ weights[name].T + weights.get(f"{name}.bias", np.float32(0))

    x = weights["embed_tokens"][list(tokens)].astype(np.float64) * shape.embedding_scale
    n_layers = 1 + max(int(n.split(".")[1]) for n in weights if n.startswith("layers."))
    for layer in range(n_layers):
        at = f"layers.{layer}"
        h = norm(x, f"{at}.input_layernorm")
        attended = _attention(shape, weights, layer, h, norm, linear)
        if f"{at}.pre_feedforward_layernorm" in weights:  # Gemma 2 and 3
            x = x + norm(attended, f"{at}.post_attention_layernorm")
            fed = _feed_forward(shape, weights, at, norm(x, f"{at}.pre_feedforward_layernorm"))
            x = x + norm(fed, f"{at}.post_feedforward_layernorm")
        else:
            x = x + attended
            x = x + _feed_forward(shape, weights, at, norm(x, f"{at}.post_attention_layernorm"))
    logits = norm(x, "norm") @ weights.get("lm_head", weights["embed_tokens"]).T
    return _capped(logits, shape.final_softcap).astype(np.float32)


def _attention(
    shape: Shape,
    weights: Mapping[str, Array],
    layer: int,
    h: Array,
    norm: Callable[[Array, str], Array],
    linear: Callable[[Array, str], Array],
) -> Array:
    at, n = f"layers.{layer}.self_attn", len(h)
    if f"{at}.qkv_proj" in weights:  # Phi-3
        n_q, n_kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
        q, k, v = np.split(linear(h, f"{at}.qkv_proj"), [n_q, n_q + n_kv], axis=-1)
    else:
        q, k, v = (linear(h, f"{at}.{part}_proj") for part in "qkv")
    q = q.reshape(n, shape.n_heads, shape.head_dim)
    k = k.reshape(n, shape.n_kv_heads, shape.head_dim)
    v = v.reshape(n, shape.n_kv_heads, shape.head_dim)
    if f"{at}.q_norm" in weights:
        q, k = norm(q, f"{at}.q_norm"), norm(k, f"{at}.k_norm")
    windowed = shape.window is not None and shape.is_windowed(layer)
    local = windowed and shape.window_rope_base is not None
    q, k = (_rotated(shape, vectors, local) for vectors in (q, k))

    groups = shape.n_heads // shape.n_kv_heads
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scale = shape.query_scale or shape.head_dim**-0.5
    scores = _capped(np.einsum("ihd,jhd->hij", q, k) * scale, shape.attention_softcap)
    distance = np.arange(n)[:, None] - np.arange(n)[None, :]
    visible = distance >= 0
    if windowed and shape.window is not None:
        visible &= distance < shape.window
    scores = np.where(visible, scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    mixed = np.einsum("hij,jhd->ihd", scores, v).reshape(n, -1)
    return linear(mixed, f"{at}.o_proj")


def _rotated(shape: Shape, vectors: Array, local: bool) -> Array:
    half = shape.head_dim // 2
    base = shape.window_rope_base if local else shape.rope_base
    assert base is not None
    frequencies = base ** -(np.arange(half) / half)
    if shape.rope_divisors is not None and not local:
        frequencies = frequencies / shape.rope_divisors
    angles = np.arange(len(vectors))[:, None, None] * frequencies
    cosine, sine = np.cos(angles) * shape.rope_magnitude, np.sin(angles) * shape.rope_magnitude
    if shape.neighbours:
        first, second = vectors[..., ::2], vectors[..., 1::2]
    else:
        first, second = vectors[..., :half], vectors[..., half:]
    turned = first * cosine - second * sine, first * sine + second * cosine
    if shape.neighbours:
        return np.stack(turned, axis=-1).reshape(vectors.shape)
    return np.concatenate(turned, axis=-1)


def _feed_forward(shape: Shape, weights: Mapping[str, Array], at: str, h: Array) -> Array:
    if f"{at}.mlp.gate_up_proj" in weights:  # Phi-3
        gate, up = np.split(h @ weights[f"{at}.mlp.gate_up_proj"].T, 2, axis=-1)
    else:
        gate = h @ weights[f"{at}.mlp.gate_proj"].T
        up = h @ weights[f"{at}.mlp.up_proj"].T
    if shape.gelu:
        gate = 0.5 * gate * (1 + np.tanh((2 / np.pi) ** 0.5 * (gate + 0.044715 * gate**3)))
    else:
        gate = gate / (1 + np.exp(-gate))
    fed: Array = (gate * up) @ weights[f"{at}.mlp.down_proj"].T
    return fed


def _capped(values: Array, cap: float | None) -> Array:
    return values if cap is None else np.tanh(values / cap) * cap

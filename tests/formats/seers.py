"""Small random models that see, as Hugging Face's programs save them, and what they make of an image: by libmtmd and by numpy.

    KINDS      one for each kind of encoder that is converted
    make       a folder: the text model of folders.py and an encoder beside it
    encoded    the embeddings that libmtmd computes with a projector's GGUF
    reference  those that the encoder's paper and transformers' implementation compute

An image has the size that the encoder takes, so that nothing is scaled.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ollamapy.engine.library import ctypes_layer
from tests.formats import folders

Array = npt.NDArray[Any]

WIDTH, HIDDEN, HEADS, LAYERS = 32, 48, 2, 3
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


@dataclass(frozen=True)
class Kind:
    """A small model that sees: its architecture, its text model (folders.FAMILIES), its config.json's part, its image's side."""

    architecture: str
    text: str
    image: int
    patch: int
    vision: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


_PLAIN = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
_QWEN = {"depth": LAYERS, "num_heads": HEADS, "patch_size": 14, "spatial_merge_size": 2}
_ROPE = {"rope_scaling": {"type": "mrope", "mrope_section": [4, 2, 2]}}
KINDS = {
    "mlp": Kind(
        "LlavaForConditionalGeneration",
        "llama",
        image=28,
        patch=7,
        vision=_PLAIN
        | {"image_size": 28, "patch_size": 7, "intermediate_size": HIDDEN, "projection_dim": 16},
        more={"vision_feature_layer": -2},
    ),
    "gemma3": Kind(
        "Gemma3ForConditionalGeneration",
        "gemma3",
        image=28,
        patch=7,
        vision=_PLAIN | {"image_size": 28, "patch_size": 7, "intermediate_size": HIDDEN},
        more={"mm_tokens_per_image": 4},
    ),
    "qwen2vl_merger": Kind(
        "Qwen2VLForConditionalGeneration",
        "qwen2",
        image=84,
        patch=14,
        vision=_QWEN | {"embed_dim": WIDTH, "hidden_size": folders.WIDTH},
        more=_ROPE,
    ),
    "qwen2.5vl_merger": Kind(
        "Qwen2_5_VLForConditionalGeneration",
        "qwen2",
        image=84,
        patch=14,
        vision=_QWEN
        | {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "fullatt_block_indexes": [1]},
        more=_ROPE,
    ),
}
"""By the type of their projector."""


def make(
    folder: Path, name: str, *, dtype: str = "F32", new_names: bool = False
) -> dict[str, Array]:
    """Write a folder; the encoder's weights after rounding to `dtype`, by their names in it. ``new_names``: those of transformers 5."""
    kind = KINDS[name]
    model = folders.FAMILIES[kind.text]
    text = {folders.full_name(name): array for name, array in folders.make(folder, model).items()}
    seen = weights(name)
    config = folders.config_json(model)
    parts = {"vision_config": dict(kind.vision), "architectures": [kind.architecture], **kind.more}
    if name.startswith("qwen"):
        whole = {**config, **parts}
    else:
        whole = {**parts, "text_config": {**config, "model_type": kind.text}}
        text = {f"language_model.{name}": array for name, array in text.items()}
    if new_names:
        text = {_new_name(name): array for name, array in text.items()}
    tensors = text | {("model." if new_names else "") + name: a for name, a in seen.items()}
    (folder / "config.json").write_text(json.dumps(whole))
    pixels = {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    kept = folders.write_safetensors(folder / "model.safetensors", tensors, dtype)
    return {name: kept[("model." if new_names else "") + name] for name in seen}


def _new_name(name: str) -> str:
    plain = name.removeprefix("language_model.")
    return plain if plain.startswith("lm_head") else "model.language_model." + plain[6:]


# ---- weights -------------------------------------------------------------------------------------------------------------


class _Random:
    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)
        self.made: dict[str, Array] = {}

    def linear(self, name: str, *shape: int) -> None:
        values = self._rng.standard_normal(shape, np.float32)
        self.made[f"{name}.weight"] = values / np.float32(np.prod(shape[1:]) ** 0.5)
        self.made[f"{name}.bias"] = 0.1 * self._rng.standard_normal(shape[0]).astype(np.float32)

    def table(self, name: str, *shape: int) -> None:
        self.made[name] = 0.5 * self._rng.standard_normal(shape).astype(np.float32)

    def norm(self, name: str, *, bias: bool = True) -> None:
        self.made[f"{name}.weight"] = 1 + 0.2 * self._rng.standard_normal(WIDTH).astype(np.float32)
        if bias:
            self.table(f"{name}.bias", WIDTH)


def weights(name: str) -> dict[str, Array]:
    """Random weights of an encoder and its projection, by the names that they have in a folder."""
    random = _Random()
    (_qwen_weights if name.startswith("qwen") else _other_weights)(random, name)
    return random.made


def _other_weights(random: _Random, name: str) -> None:
    kind, at = KINDS[name], "vision_tower.vision_model"
    n_patches = (kind.image // kind.patch) ** 2
    random.linear(f"{at}.embeddings.patch_embedding", WIDTH, 3, kind.patch, kind.patch)
    random.table(f"{at}.embeddings.position_embedding.weight", n_patches + (name == "mlp"), WIDTH)
    if name == "mlp":
        del random.made[f"{at}.embeddings.patch_embedding.bias"]
        random.table(f"{at}.embeddings.class_embedding", WIDTH)
        random.norm(f"{at}.pre_layrnorm")
    random.norm(f"{at}.post_layernorm")
    for layer in range(LAYERS):
        block = f"{at}.encoder.layers.{layer}"
        for norm in ("layer_norm1", "layer_norm2"):
            random.norm(f"{block}.{norm}")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            random.linear(f"{block}.self_attn.{part}", WIDTH, WIDTH)
        random.linear(f"{block}.mlp.fc1", HIDDEN, WIDTH)
        random.linear(f"{block}.mlp.fc2", WIDTH, HIDDEN)
    if name == "mlp":
        random.linear("multi_modal_projector.linear_1", folders.WIDTH, WIDTH)
        random.linear("multi_modal_projector.linear_2", folders.WIDTH, folders.WIDTH)
    else:
        random.table("multi_modal_projector.mm_soft_emb_norm.weight", WIDTH)
        random.table("multi_modal_projector.mm_input_projection_weight", WIDTH, folders.WIDTH)


def _qwen_weights(random: _Random, name: str) -> None:
    rms = name == "qwen2.5vl_merger"
    patch = KINDS[name].patch
    random.linear("visual.patch_embed.proj", WIDTH, 3, 2, patch, patch)
    del random.made["visual.patch_embed.proj.bias"]
    for layer in range(LAYERS):
        block = f"visual.blocks.{layer}"
        for norm in ("norm1", "norm2"):
            random.norm(f"{block}.{norm}", bias=not rms)
        random.linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH)
        random.linear(f"{block}.attn.proj", WIDTH, WIDTH)
        if rms:
            random.linear(f"{block}.mlp.gate_proj", HIDDEN, WIDTH)
            random.linear(f"{block}.mlp.up_proj", HIDDEN, WIDTH)
            random.linear(f"{block}.mlp.down_proj", WIDTH, HIDDEN)
        else:
            random.linear(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH)
            random.linear(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    random.norm("visual.merger.ln_q", bias=not rms)
    random.linear("visual.merger.mlp.0", 4 * WIDTH, 4 * WIDTH)
    random.linear("visual.merger.mlp.2", folders.WIDTH, 4 * WIDTH)


# ---- what they make of an image: by libmtmd --------------------------------------------------------------------------------


def image(name: str) -> Array:
    """Random pixels, (rows, columns, colours) of a byte each."""
    side = KINDS[name].image
    return np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)


def encoded(text: Path, projector: Path, pixels: Array) -> Array:
    """The embeddings of an image, (tokens, width), computed on one thread."""
    lib = ctypes_layer()
    from llama_cpp import mtmd_cpp as mtmd

    silent = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(silent, None)
    mtmd.mtmd_helper_log_set(silent, None)
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(os.fsencode(text), params)
    assert model, f"llama.cpp does not load {text}"
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu, settings.n_threads, settings.warmup = False, 1, False
    settings.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = mtmd.mtmd_init_from_file(os.fsencode(projector), model, settings)
    assert context, f"libmtmd does not load {projector}"
    rows, columns, _ = pixels.shape
    data = (ctypes.c_uint8 * pixels.size)(*pixels.tobytes())
    bitmap = mtmd.mtmd_bitmap_init(columns, rows, data)
    marker = mtmd.mtmd_default_marker()
    prompt = mtmd.mtmd_input_text(marker, len(marker), False, True)
    chunks = mtmd.mtmd_input_chunks_init()
    bitmaps = (ctypes.c_void_p * 1)(bitmap)
    assert mtmd.mtmd_tokenize(context, chunks, ctypes.byref(prompt), bitmaps, 1) == 0
    found = []
    for number in range(mtmd.mtmd_input_chunks_size(chunks)):
        chunk = mtmd.mtmd_input_chunks_get(chunks, number)
        if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            assert mtmd.mtmd_encode_chunk(context, chunk) == 0
            shape = mtmd.mtmd_input_chunk_get_n_tokens(chunk), lib.llama_model_n_embd_inp(model)
            found.append(np.ctypeslib.as_array(mtmd.mtmd_get_output_embd(context), shape).copy())
    mtmd.mtmd_input_chunks_free(chunks)
    mtmd.mtmd_bitmap_free(bitmap)
    mtmd.mtmd_free(context)
    lib.llama_model_free(model)
    return np.concatenate(found)


# ---- and by numpy ----------------------------------------------------------------------------------------------------------


def reference(name: str, made: Mapping[str, Array], pixels: Array) -> Array:
    """The embeddings of an image, (tokens, width)."""
    scaled = (pixels.astype(np.float64) / 255 - MEAN) / STD
    side, patch = KINDS[name].image // KINDS[name].patch, KINDS[name].patch
    patches = scaled.reshape(side, patch, side, patch, 3).transpose(0, 2, 4, 1, 3)
    if name.startswith("qwen"):
        return _qwen(name, made, patches)
    return _clip(made, patches) if name == "mlp" else _siglip(made, patches)


def _linear(made: Mapping[str, Array], name: str, x: Array) -> Array:
    result: Array = x @ made[f"{name}.weight"].T + made[f"{name}.bias"]
    return result


def _layer_norm(made: Mapping[str, Array], name: str, x: Array, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * made[f"{name}.weight"] + made[f"{name}.bias"]


def _rms_norm(weight: Array, x: Array, eps: float) -> Array:
    scaled: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return scaled * weight


def _gelu(x: Array) -> Array:
    result: Array = 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return result


def _quick_gelu(x: Array) -> Array:
    result: Array = x / (1 + np.exp(-1.702 * x))
    return result


def _attended(q: Array, k: Array, v: Array) -> Array:
    """Full attention of (tokens, heads, numbers)."""
    scores = np.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    result: Array = np.einsum("hij,jhd->ihd", shares, v).reshape(len(q), -1)
    return result


def _heads(x: Array) -> Array:
    return x.reshape(len(x), HEADS, -1)


def _encoder(
    made: Mapping[str, Array], x: Array, layers: int, eps: float, activation: Any
) -> Array:
    """The layers that CLIP and SigLIP share."""
    for layer in range(layers):
        at = f"vision_tower.vision_model.encoder.layers.{layer}"
        h = _layer_norm(made, f"{at}.layer_norm1", x, eps)
        q, k, v = (_heads(_linear(made, f"{at}.self_attn.{part}_proj", h)) for part in "qkv")
        x = x + _linear(made, f"{at}.self_attn.out_proj", _attended(q, k, v))
        h = _layer_norm(made, f"{at}.layer_norm2", x, eps)
        x = x + _linear(made, f"{at}.mlp.fc2", activation(_linear(made, f"{at}.mlp.fc1", h)))
    return x


def _clip(made: Mapping[str, Array], patches: Array) -> Array:
    """LLaVA 1.5: the patches after the last layer but one, and two matrices.

    As libmtmd computes it: the class embedding comes after the patches, where CLIP has it before them, and so each patch has the
    position of the one before it, and the first patch is left out in place of the class (tools/mtmd/models/llava.cpp).
    """
    at = "vision_tower.vision_model"
    kernel = made[f"{at}.embeddings.patch_embedding.weight"].reshape(WIDTH, -1)
    x = patches.reshape(-1, kernel.shape[1]) @ kernel.T
    x = np.concatenate([x, made[f"{at}.embeddings.class_embedding"][None]])
    x = x + made[f"{at}.embeddings.position_embedding.weight"]
    x = _layer_norm(made, f"{at}.pre_layrnorm", x, 1e-5)
    x = _encoder(made, x, LAYERS - 1, 1e-5, _quick_gelu)[1:]
    x = _gelu(_linear(made, "multi_modal_projector.linear_1", x))
    return _linear(made, "multi_modal_projector.linear_2", x)


def _siglip(made: Mapping[str, Array], patches: Array) -> Array:
    """Gemma 3: means of two by two patches, a norm and a matrix."""
    at, side = "vision_tower.vision_model", len(patches)
    name = f"{at}.embeddings.patch_embedding"
    kernel = made[f"{name}.weight"].reshape(WIDTH, -1)
    x = patches.reshape(-1, kernel.shape[1]) @ kernel.T + made[f"{name}.bias"]
    x = x + made[f"{at}.embeddings.position_embedding.weight"]
    x = _layer_norm(made, f"{at}.post_layernorm", _encoder(made, x, LAYERS, 1e-6, _gelu), 1e-6)
    pooled = x.reshape(side // 2, 2, side // 2, 2, WIDTH).mean((1, 3)).reshape(-1, WIDTH)
    weight = 1 + made["multi_modal_projector.mm_soft_emb_norm.weight"]
    x = _rms_norm(weight, pooled, 1e-6)
    result: Array = x @ made["multi_modal_projector.mm_input_projection_weight"]
    return result


def _qwen(name: str, made: Mapping[str, Array], patches: Array) -> Array:
    """Qwen2-VL and 2.5: positions turn Q and K by rows and columns; four neighbours are merged. The image is smaller than a window."""
    side, rms = len(patches), name == "qwen2.5vl_merger"
    order = np.arange(side * side).reshape(side // 2, 2, side // 2, 2).transpose(0, 2, 1, 3).ravel()
    kernel = made["visual.patch_embed.proj.weight"].sum(2).reshape(WIDTH, -1)  # of two equal frames
    x = (patches.reshape(side * side, -1) @ kernel.T)[order]
    places = np.stack([order // side, order % side], 1)
    eps = 1e-5  # of folders.config_json

    def norm(name: str, x: Array) -> Array:
        if rms:
            return _rms_norm(made[f"{name}.weight"], x, eps)
        return _layer_norm(made, name, x, eps)

    for layer in range(LAYERS):
        at = f"visual.blocks.{layer}"
        qkv = _linear(made, f"{at}.attn.qkv", norm(f"{at}.norm1", x))
        q, k, v = (_heads(part) for part in np.split(qkv, 3, -1))
        attended = _attended(_turned(q, places), _turned(k, places), v)
        x = x + _linear(made, f"{at}.attn.proj", attended)
        h = norm(f"{at}.norm2", x)
        if rms:
            gate = _linear(made, f"{at}.mlp.gate_proj", h)
            h = gate / (1 + np.exp(-gate)) * _linear(made, f"{at}.mlp.up_proj", h)
            x = x + _linear(made, f"{at}.mlp.down_proj", h)
        else:
            h = _quick_gelu(_linear(made, f"{at}.mlp.fc1", h))
            x = x + _linear(made, f"{at}.mlp.fc2", h)
    merged = norm("visual.merger.ln_q", x).reshape(-1, 4 * WIDTH)
    return _linear(made, "visual.merger.mlp.2", _gelu(_linear(made, "visual.merger.mlp.0", merged)))


def _turned(x: Array, places: Array) -> Array:
    """Rotary positions of two dimensions: the first half of a head's pairs turns with the row, the other with the column."""
    half = x.shape[-1] // 2
    frequencies = 10_000.0 ** -(np.arange(0, half, 2) / half)
    angles = (places[:, :, None] * frequencies).reshape(len(x), 1, half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)

"""The part of a model's folder that sees -> a projector (`mmproj`) in GGUF: LLaVA 1.5, Gemma 3, Qwen2-VL and Qwen2.5-VL.

Names and metadata are those of llama.cpp's convert_hf_to_gguf.py (conversion/gemma.py, qwenvl.py), for LLaVA those of its
tools/mtmd/legacy-models; the part that reads is in convert.py. What changes on the way:

    LLaVA        layers after `vision_feature_layer` are left out: what they compute is not used
    Gemma 3      the projection's norm: Gemma multiplies with 1 + weight, llama.cpp with the weight
    Qwen2-VL     Q, K and V are cut apart; so are the two frames of a patch's convolution

Matrices keep their type (F32, F16, BF16) but for what libmtmd wants in another one: convolutions in F16 or F32, positions in F32,
Gemma's projection in F16. As in convert.py everything is checked before a byte is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from . import safetensors
from .architecture import MAX_LAYERS, MAX_SIZE, SEEING, check_tensors, epsilon, refuse
from .convert import file_type, open_all
from .folder import Folder, read_json
from .safetensors import Tensor
from .writer import (
    OnProgress,
    Plan,
    Value,
    Weight,
    float32,
    pieces_of,
    read_at,
    tensor_names,
    write,
)

_MOST_CONFIG = 2**20
"""Bytes of a config.json that is read by the daemon; real ones have up to some 10 kB."""

KINDS = {
    "LlavaForConditionalGeneration": "mlp",
    "Gemma3ForConditionalGeneration": "gemma3",
    "Qwen2VLForConditionalGeneration": "qwen2vl_merger",
    "Qwen2_5_VLForConditionalGeneration": "qwen2.5vl_merger",
}
"""The type of projector, by the name in config.json's `architectures`."""

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class _Encoder(msgspec.Struct, frozen=True):
    """config.json's `vision_config`. None: not given, its kind's default."""

    model_type: str = ""
    hidden_size: int | None = None
    embed_dim: int | None = None
    intermediate_size: int | None = None
    num_hidden_layers: int | None = None
    depth: int | None = None
    num_attention_heads: int | None = None
    num_heads: int | None = None
    image_size: int | None = None
    patch_size: int | None = None
    spatial_merge_size: int = 2
    temporal_patch_size: int = 2
    window_size: int = 112
    fullatt_block_indexes: tuple[int, ...] = (7, 15, 23, 31)
    hidden_act: str | None = None
    layer_norm_eps: float | None = None
    projection_dim: int | None = None


class _Config(msgspec.Struct, frozen=True):
    """config.json of a model that sees, as far as it matters here."""

    architectures: list[str] = []
    hidden_size: int = 0
    text_config: dict[str, object] = {}
    vision_config: _Encoder | None = None
    vision_feature_layer: int | list[int] = -2
    vision_feature_select_strategy: str = "default"
    projector_hidden_act: str = "gelu"
    rms_norm_eps: float | None = None
    mm_tokens_per_image: int = 256


class _Pixels(msgspec.Struct, frozen=True):
    """preprocessor_config.json: how the numbers of pixels are scaled."""

    image_mean: list[float] | None = None
    image_std: list[float] | None = None


@dataclass(frozen=True, slots=True)
class _Sizes:
    """The numbers that the shapes follow from. ``text`` is the width of the model, ``layers`` those that are used."""

    kind: str
    text: int
    width: int
    feed_forward: int
    layers: int
    all_layers: int
    heads: int
    image: int
    patch: int

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2


def sees(files: Folder) -> bool:
    """Whether a folder has a part that sees, of a kind that is known here. Raises InvalidModel."""
    if "config.json" not in files:
        return False
    config = read_json(files, "config.json", _Config, most=_MOST_CONFIG)
    return _kind(config) is not None and config.vision_config is not None


def convert_projector(files: Folder, target: Path, *, progress: OnProgress | None = None) -> None:
    """Write the projector of a model's folder (its files by name) at `target`.

    Raises InvalidModel when the folder is not what it should be or libmtmd would compute something else; StoreError when `target`
    cannot be written; `target` is then removed.
    """
    plan = planned(files)
    with ExitStack() as stack:
        opened = open_all(stack, plan.tensors.values())
        weights = [
            plan.weight(name, tensor, opened[tensor.path]) for name, tensor in plan.tensors.items()
        ]
        write(target, plan.architecture, plan.metadata, weights, progress)


def planned(files: Folder) -> Plan:
    """The conversion, checked, without reading a weight. Raises InvalidModel."""
    config = read_json(files, "config.json", _Config)
    sizes = _sizes(config)
    tensors = _named(safetensors.read_model(files), sizes)
    check_tensors(tensors, _shapes(sizes), "what sees")
    metadata = _metadata(config, sizes) | _scaling(files, sizes)
    metadata["general.file_type"] = file_type(tensors.values())
    return Plan("clip", metadata, tensors, _weight)


def _kind(config: _Config) -> str | None:
    return next((KINDS[name] for name in config.architectures if name in KINDS), None)


# ---- sizes and metadata --------------------------------------------------------------------------------------------------

_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "mlp": {"width": 768, "feed_forward": 3072, "layers": 12, "heads": 12, "image": 224, "patch": 32},
    "gemma3": {"width": 768, "feed_forward": 3072, "layers": 12, "heads": 12, "image": 224, "patch": 16},
    "qwen2vl_merger": {"width": 1280, "feed_forward": 0, "layers": 32, "heads": 16, "image": 560, "patch": 14},
    "qwen2.5vl_merger": {"width": 3584, "feed_forward": 3420, "layers": 32, "heads": 16, "image": 560, "patch": 14},
}  # fmt: skip
"""Of transformers' configurations; the image's size, which Qwen's do not have, of llama.cpp's script."""


def _sizes(config: _Config) -> _Sizes:
    """Raises InvalidModel where sizes are missing, impossible or not those that libmtmd computes with."""
    kind, given = _kind(config), config.vision_config
    if kind is None or given is None:
        refuse("it has no part that sees, of a kind that is known here")
    _check_kind(kind, config, given)
    text = config.text_config.get("hidden_size") or config.hidden_size
    if not text and kind == "mlp":
        text = 4096  # of LLaMA 7B, whose sizes LLaVA's configuration leaves out
    width = given.embed_dim if kind == "qwen2vl_merger" else given.hidden_size
    found = {
        "width": width,
        "feed_forward": given.intermediate_size,
        "layers": given.num_hidden_layers or given.depth,
        "heads": given.num_attention_heads or given.num_heads,
        "image": given.image_size,
        "patch": given.patch_size,
    }
    numbers = {key: found[key] or default for key, default in _DEFAULTS[kind].items()}
    if kind == "qwen2vl_merger":
        numbers["feed_forward"] = 4 * numbers["width"]
    if not isinstance(text, int) or not all(0 < n <= MAX_SIZE for n in (text, *numbers.values())):
        refuse("a size of the part that sees is missing or impossible")
    layers = numbers.pop("layers")
    sizes = _Sizes(
        kind, text, layers=_used_layers(config, kind, layers), all_layers=layers, **numbers
    )
    if layers > MAX_LAYERS or sizes.width % sizes.heads or not sizes.patches:
        refuse("the sizes of the part that sees do not fit each other")
    return sizes


def _check_kind(kind: str, config: _Config, given: _Encoder) -> None:
    """Raise for what libmtmd computes otherwise."""
    families = {"mlp": "clip_vision_model", "gemma3": "siglip_vision_model"}
    if kind in families and given.model_type not in ("", families[kind]):
        refuse(f"its part that sees is a {given.model_type[:40]!r}")
    if kind == "mlp" and (
        config.vision_feature_select_strategy != "default" or config.projector_hidden_act != "gelu"
    ):
        refuse("its projector is none of LLaVA 1.5")
    if kind.startswith("qwen") and (given.spatial_merge_size, given.temporal_patch_size) != (2, 2):
        refuse("llama.cpp merges two patches by two, of two frames")
    if kind == "qwen2.5vl_merger" and given.window_size != 112:
        refuse("llama.cpp has windows of 112 pixels")


def _used_layers(config: _Config, kind: str, layers: int) -> int:
    """How many layers of the encoder are computed: of CLIP's in LLaVA, those up to the one whose output is taken."""
    if kind != "mlp":
        return layers
    given = config.vision_feature_layer
    chosen = given if isinstance(given, list) else [given]
    if len(chosen) != 1:
        refuse("it takes the output of several layers of what sees")
    used = chosen[0] if chosen[0] >= 0 else layers + chosen[0] + 1
    if not 0 < used <= layers:
        refuse(f"its vision_feature_layer is {chosen[0]}")
    return used


def _metadata(config: _Config, sizes: _Sizes) -> dict[str, Value]:
    encoder = config.vision_config
    assert encoder is not None
    kind = sizes.kind
    given, default = encoder.layer_norm_eps, 1e-5 if kind == "mlp" else 1e-6
    if kind.startswith("qwen"):
        given = config.rms_norm_eps
    values: dict[str, Value] = {
        "image_size": sizes.image,
        "patch_size": sizes.patch,
        "embedding_length": sizes.width,
        "feed_forward_length": sizes.feed_forward,
        "block_count": sizes.layers,
        "projection_dim": sizes.text,
        "attention.head_count": sizes.heads,
        "attention.layer_norm_epsilon": epsilon(given, default, "layer_norm_eps"),
    }
    if kind == "mlp":
        values["feature_layer"] = [sizes.layers]
    elif kind == "gemma3" and (scale := _pooled_side(config, sizes)) != 4:
        values["projector.scale_factor"] = scale
    elif kind == "qwen2.5vl_merger":
        values["n_wa_pattern"] = _full_every(encoder)
    return {
        "general.type": "mmproj",
        "general.quantization_version": 2,
        "clip.has_vision_encoder": True,
        "clip.projector_type": kind,
        "clip.use_gelu": kind == "gemma3" or (kind == "mlp" and encoder.hidden_act == "gelu"),
        "clip.use_silu": kind == "qwen2.5vl_merger",
        **{f"clip.vision.{key}": value for key, value in values.items()},
    }


def _pooled_side(config: _Config, sizes: _Sizes) -> int:
    """How many patches become one embedding, in each direction."""
    side, tokens = sizes.image // sizes.patch, int(max(config.mm_tokens_per_image, 0) ** 0.5)
    if not tokens or side % tokens:
        refuse("its mm_tokens_per_image does not divide the patches of an image")
    return side // tokens


def _full_every(encoder: _Encoder) -> int:
    """Every n-th layer sees all of an image, the others a window."""
    full = encoder.fullatt_block_indexes
    every = full[0] + 1 if full else 0
    if list(full) != [every * (n + 1) - 1 for n in range(len(full))] or not every:
        refuse("llama.cpp has other layers with a window in what sees")
    return every


def _scaling(files: Folder, sizes: _Sizes) -> dict[str, Value]:
    """Mean and standard deviation of pixels, for the three colours."""
    names = [
        name for name in ("preprocessor_config.json", "processor_config.json") if name in files
    ]
    given = read_json(files, names[0], _Pixels) if names else _Pixels()
    siglip = sizes.kind == "gemma3"
    mean = given.image_mean or ([0.5] * 3 if siglip else _CLIP_MEAN)
    std = given.image_std or ([0.5] * 3 if siglip else _CLIP_STD)
    if len(mean) != 3 or len(std) != 3 or not all(0 <= m < 256 for m in mean) or min(std) <= 0:
        refuse("its image_mean and image_std are not of three colours")
    return {"clip.vision.image_mean": mean, "clip.vision.image_std": std}


# ---- tensors -------------------------------------------------------------------------------------------------------------

_SKIPPED = re.compile(r".*(?:position_ids|vision_model\.head\..*)")
_LAYER = re.compile(r"vision_tower\.vision_model\.encoder\.layers\.([0-9]+)\..*")
_LLAVA = {"linear_1": "mm.0", "linear_2": "mm.2"}


def _named(found: Mapping[str, Tensor], sizes: _Sizes) -> dict[str, Tensor]:
    """The tensors of the part that sees, by GGUF's names."""
    names = tensor_names("clip", sizes.all_layers)
    tensors: dict[str, Tensor] = {}
    for given, tensor in found.items():
        name = given.removeprefix("model.")
        if not name.startswith(SEEING) or _SKIPPED.fullmatch(name) or _is_unused(name, sizes):
            continue
        for new, part in _parts(name, tensor, sizes, names):
            if new is None or new in tensors:
                refuse(f"tensor {given[:100]!r} is none of what sees, or there twice")
            tensors[new] = part
    return tensors


def _is_unused(name: str, sizes: _Sizes) -> bool:
    """Whether a tensor of CLIP comes after the layer whose output LLaVA takes."""
    if sizes.kind != "mlp":
        return False
    layer = _LAYER.fullmatch(name)
    past = layer is not None and sizes.layers <= int(layer[1]) < sizes.all_layers
    return past or name.startswith("vision_tower.vision_model.post_layernorm.")


def _parts(
    name: str, tensor: Tensor, sizes: _Sizes, names: Callable[[str], str | None]
) -> Iterator[tuple[str | None, Tensor]]:
    """The tensors of GGUF that one of the folder becomes, with their names: one, but Q, K and V apart, and the two frames."""
    base, _, end = name.rpartition(".")
    if sizes.kind == "mlp" and (new := _LLAVA.get(base.removeprefix("multi_modal_projector."))):
        yield f"{new}.{end}", tensor
    elif ".qkv." in name and tensor.shape and tensor.shape[0] % 3 == 0:
        rows, n_bytes = tensor.shape[0] // 3, tensor.n_bytes // 3
        for number, part in enumerate("qkv"):
            place = tensor.offset + number * n_bytes
            shape = (rows, *tensor.shape[1:])
            yield (
                names(name.replace(".qkv.", f".{part}.")),
                replace(tensor, shape=shape, offset=place, n_bytes=n_bytes),
            )
    elif name == "visual.patch_embed.proj.weight":
        yield "v.patch_embd.weight", tensor
        yield "v.patch_embd.weight.1", tensor
    else:
        yield names(re.sub(r"(mm_\w+)_weight$", r"\1.weight", name)), tensor


_Shapes = dict[str, tuple[int, ...]]


def _shapes(sizes: _Sizes) -> _Shapes:
    """The tensors of a part that sees, and their shapes as they are in the folder."""
    found = _qwen_ends(sizes) if sizes.kind.startswith("qwen") else _other_ends(sizes)
    for layer in range(sizes.layers):
        found |= {f"v.blk.{layer}.{name}": shape for name, shape in _layer_shapes(sizes).items()}
    return found


def _layer_shapes(sizes: _Sizes) -> _Shapes:
    width, hidden = sizes.width, sizes.feed_forward
    rms = sizes.kind == "qwen2.5vl_merger"
    found = _linear("attn_out", width, width) | _linear("ffn_down", width, hidden)
    for name in ("ffn_up", "ffn_gate") if rms else ("ffn_up",):
        found |= _linear(name, hidden, width)
    for name in ("attn_q", "attn_k", "attn_v"):
        found |= _linear(name, width, width)
    for name in ("ln1", "ln2"):
        found |= _norm(name, width, bias=not rms)
    return found


def _other_ends(sizes: _Sizes) -> _Shapes:
    """Of CLIP with LLaVA's projector, and of SigLIP with Gemma's, what comes before the layers and after them."""
    width, text, patch = sizes.width, sizes.text, sizes.patch
    found: _Shapes = {"v.patch_embd.weight": (width, 3, patch, patch)}
    if sizes.kind == "mlp":
        found |= {"v.class_embd": (width,), "v.position_embd.weight": (sizes.patches + 1, width)}
        found |= _norm("v.pre_ln", width)
        return found | _linear("mm.0", text, width) | _linear("mm.2", text, text)
    found |= {"v.patch_embd.bias": (width,), "v.position_embd.weight": (sizes.patches, width)}
    found |= _norm("v.post_ln", width)
    return found | {
        "mm.input_projection.weight": (width, text),
        "mm.soft_emb_norm.weight": (width,),
    }


def _qwen_ends(sizes: _Sizes) -> _Shapes:
    merged = 4 * sizes.width
    frames = (sizes.width, 3, 2, sizes.patch, sizes.patch)
    found: _Shapes = {"v.patch_embd.weight": frames, "v.patch_embd.weight.1": frames}
    found |= _norm("v.post_ln", sizes.width, bias=sizes.kind == "qwen2vl_merger")
    return found | _linear("mm.0", merged, merged) | _linear("mm.2", sizes.text, merged)


def _linear(name: str, rows: int, columns: int) -> _Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int, *, bias: bool = True) -> _Shapes:
    return {f"{name}.{end}": (width,) for end in ("weight", "bias")[: 1 + bias]}


_TYPES = {"v.position_embd.weight": "F32", "mm.input_projection.weight": "F16"}


def _weight(name: str, tensor: Tensor, file: BinaryIO) -> Weight:
    """How a tensor is written: matrices as they are, vectors in F32."""
    convolves = name.startswith("v.patch_embd.weight")
    kind = _TYPES.get(name, tensor.dtype if len(tensor.shape) > 1 else "F32")
    if convolves and kind == "BF16":
        kind = "F32"
    if kind == tensor.dtype and len(tensor.shape) < 5 and name != "mm.soft_emb_norm.weight":
        return Weight(
            name, tensor.shape, kind, lambda: pieces_of(file, tensor.offset, tensor.n_bytes)
        )
    shape = tensor.shape
    frame = None
    if len(shape) == 5:  # (rows, colours, frames, height, width)
        shape, frame = (*shape[:2], *shape[3:]), int(name.endswith(".1"))

    def numbers() -> Iterator[bytes]:
        values = float32(read_at(file, tensor.offset, tensor.n_bytes), tensor.dtype)
        if frame is not None:
            values = values.reshape(tensor.shape)[:, :, frame]
        if name == "mm.soft_emb_norm.weight":
            values = values + 1
        yield values.astype({"F32": "<f4", "F16": "<f2"}[kind]).tobytes()

    return Weight(name, shape, kind, numbers)

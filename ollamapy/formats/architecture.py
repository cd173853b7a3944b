"""The architectures that can be converted to GGUF, and config.json, which names a folder's.

Everything here is checked before a tensor is read: an architecture that llama.cpp has, and sizes that fit each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

import msgspec

from ..errors import InvalidModel
from . import vocabulary
from .folder import Folder, one_line, read_json
from .safetensors import Tensor

MAX_LAYERS = 512  # llama.cpp takes no more
MAX_SIZE = 2**24


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one architecture have in common: GGUF's name of it, and the ways in which they differ."""

    name: str
    pairs: bool = False
    """Q and K must be put in the order of neighbouring pairs."""
    norm_offset: float = 0.0
    tied: bool = False
    """There is no output matrix, even if config.json describes one."""
    post_norms: bool = False
    query_key_norms: bool = False
    fused: bool = False


GEMMA_3 = Family("gemma3", norm_offset=1.0, tied=True, post_norms=True, query_key_norms=True)
LLAVA = Family("llama", pairs=True)
FAMILIES = {
    "LlamaForCausalLM": Family("llama", pairs=True),
    "MistralForCausalLM": Family("llama", pairs=True),
    "Qwen2ForCausalLM": Family("qwen2"),
    "Qwen3ForCausalLM": Family("qwen3", query_key_norms=True),
    "GemmaForCausalLM": Family("gemma", norm_offset=1.0, tied=True),
    "Gemma2ForCausalLM": Family("gemma2", norm_offset=1.0, tied=True, post_norms=True),
    "Gemma3ForCausalLM": GEMMA_3,
    "Gemma3ForConditionalGeneration": GEMMA_3,
    "Phi3ForCausalLM": Family("phi3", fused=True),
    "LlavaForConditionalGeneration": LLAVA,
    "Qwen2VLForConditionalGeneration": Family("qwen2vl"),
    "Qwen2_5_VLForConditionalGeneration": Family("qwen2vl"),
}
"""By the name in config.json's `architectures`."""


SEEING = ("vision_tower.", "multi_modal_projector.", "visual.")
"""How the names of tensors begin that belong to the part that sees (seeing.py)."""

_LEFT_OUT: dict[str, dict[str, Any]] = {
    "llama": {
        **{"hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "max_position_embeddings": 2048},
    },
    "mistral": {
        **{"hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131_072},
    },
}
"""What a text_config of LLaVA may leave out: transformers' defaults, by its model_type."""


class UnknownArchitecture(InvalidModel):
    """No conversion of this architecture is known here; ``model_type`` is config.json's name of the family."""

    def __init__(self, message: str, model_type: str) -> None:
        super().__init__(message)
        self.model_type = model_type


ENCODERS = {
    "BertModel": "bert",
    "BertForMaskedLM": "bert",
    "XLMRobertaModel": "bert",
    "RobertaModel": "bert",
    "DistilBertModel": "bert",
    "DistilBertForMaskedLM": "bert",
    "NomicBertModel": "nomic-bert",
    "ModernBertModel": "modern-bert",
    "ModernBertForMaskedLM": "modern-bert",
}
"""The models of BERT's family (encoder.py): GGUF's name, by the name in config.json's `architectures`."""


class Config(vocabulary.Ids, frozen=True):
    """config.json, as far as it matters here. None: not given, its family's default."""

    architectures: list[str] = []
    model_type: str = ""
    hidden_size: int = 0
    intermediate_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int | None = None
    rms_norm_eps: float | None = None
    tie_word_embeddings: bool | None = None
    hidden_act: str | None = None
    hidden_activation: str | None = None
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_local_base_freq: float | None = None
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: int | None = None
    sliding_window: int | None = None
    sliding_window_pattern: int | None = None
    layer_types: list[str] | None = None
    query_pre_attn_scalar: float | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    quantization_config: dict[str, Any] | None = None
    text_config: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The numbers that a model's shapes follow from."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    context: int
    rotated: int
    """How many numbers of a head are rotated."""


def read_config(files: Folder) -> Config:
    """config.json; of a model with several parts, its text part's. Raises InvalidModel."""
    if "config.json" not in files:
        raise InvalidModel("the folder has no config.json, put the model's beside its weights")
    config = read_json(files, "config.json", Config)
    if config.text_config is not None:
        try:
            usual = _LEFT_OUT.get(str(config.text_config.get("model_type")), {})
            inner = msgspec.convert({**usual, **config.text_config}, Config)
        except msgspec.ValidationError as error:
            refuse(f"its text_config is not understood ({one_line(error)})")
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids = {n: v for n in names if (v := getattr(config, n)) is not None}
        config = msgspec.structs.replace(inner, architectures=config.architectures, **ids)
    return config


def family_of(config: Config) -> Family:
    """Raises InvalidModel for an architecture that is not converted here, and for weights that are quantised already."""
    known = [FAMILIES[name] for name in config.architectures if name in FAMILIES]
    if not known:
        given = ", ".join(config.architectures)[:100] or "none"
        raise UnknownArchitecture(
            f"the model's architecture ({given}) cannot be converted here: pull a GGUF of it, or make one with"
            " llama.cpp's convert_hf_to_gguf.py and name that in FROM;"
            f" convertible: {', '.join((*FAMILIES, *ENCODERS))}",
            config.model_type,
        )
    if known[0] is LLAVA and config.model_type not in _LEFT_OUT:
        refuse(f"its part that reads is a {config.model_type[:40]!r}")
    if config.quantization_config is not None:
        raise InvalidModel("the model is quantised already, take the one in F16 or BF16")
    return known[0]


def sizes_of(config: Config, family: Family) -> Sizes:
    """Raises InvalidModel where the sizes are impossible or do not fit each other."""
    gemma3 = family is GEMMA_3
    heads = config.num_attention_heads or (8 if gemma3 else 0)
    kv_heads = config.num_key_value_heads or (4 if gemma3 else heads)
    head = config.head_dim or (256 if gemma3 else config.hidden_size // max(heads, 1))
    rotated = int(head * rotary_share(config)) if family.fused else head
    context = config.max_position_embeddings or (131_072 if gemma3 else 0)
    sizes = Sizes(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        feed_forward=config.intermediate_size,
        heads=heads,
        kv_heads=kv_heads,
        head=head,
        context=context,
        rotated=rotated,
    )
    numbers = [
        *(sizes.layers, sizes.width, sizes.feed_forward, sizes.heads, sizes.kv_heads),
        *(sizes.head, sizes.context, sizes.rotated),
    ]
    if min(numbers) < 1 or max(numbers) > MAX_SIZE or sizes.layers > MAX_LAYERS:
        refuse("a size in it is missing or impossible")
    if sizes.heads % sizes.kv_heads or sizes.head % 2 or sizes.rotated % 2:
        refuse("its heads do not fit each other")
    return sizes


def rope_settings(config: Config) -> dict[str, Any]:
    """rope_scaling, or rope_parameters, as newer files have it (there of the layers without a window, where they differ)."""
    given = config.rope_parameters or config.rope_scaling or {}
    inner = given.get("full_attention")
    return inner if isinstance(inner, dict) else given


def rotary_share(config: Config) -> float:
    """The part of a head that is rotated, 1 for all of it."""
    share = given_or(
        config.partial_rotary_factor, rope_settings(config).get("partial_rotary_factor")
    )
    return positive(given_or(share, 1.0), "partial_rotary_factor")


def positive(value: Any, name: str) -> float:
    """A number above 0 from config.json. Raises InvalidModel that names it."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0 < value < 1e12:
        refuse(f"its {name} is missing or no number above 0")
    return float(value)


def epsilon(value: float | None, default: float, name: str) -> float:
    """What a norm adds below its root: from 0 to below 1. Raises InvalidModel that names it."""
    if value is None:
        return default
    if not 0 <= value < 1:
        refuse(f"its {name} is {value:g}, which is no small positive number")
    return value


def given_or(value: Any, default: Any) -> Any:
    """``value``, or ``default`` where it is None."""
    return default if value is None else value


def check_tensors(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, tuple[int, ...]],
    whose: str,
    optional: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> None:
    """Raise InvalidModel unless the tensors are those that are expected, with these shapes and types that are converted; ``optional``
    ones may be there. ``whose`` stands in the message on one that has no place."""
    for name, shape in expected.items():
        if name not in tensors:
            refuse(f"its weights have no tensor {name!r}")
        if tensors[name].shape != shape:
            refuse(f"tensor {name!r} has the shape {tensors[name].shape} and not {shape}")
    for name, tensor in tensors.items():
        if name not in expected and optional.get(name) != tensor.shape:
            refuse(f"tensor {name!r} is none of {whose}")
        if tensor.dtype not in ("F32", "F16", "BF16"):
            refuse(f"tensor {name!r} has the type {tensor.dtype}, take the weights in F16 or BF16")


def refuse(why: str) -> NoReturn:
    """Raise InvalidModel: why the model cannot be converted."""
    raise InvalidModel(
        f"the model cannot be converted: {why}; get a GGUF of it, or the folder again"
    )

"""A model's folder as Hugging Face's programs save it (config.json, tokenizer, *.safetensors) -> GGUF.

Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3 (of a Gemma 3 that sees, the part that reads) and Phi-3. Weights keep their type:
F32, F16 or BF16; vectors become F32, as llama.cpp wants them. What changes on the way:

    Llama, Mistral   the rows of Q and K, head by head: Hugging Face rotates (i, i + half) of a head, GGUF's `llama` (2i, 2i + 1)
    Gemma            norms: Gemma multiplies with 1 + weight, llama.cpp with the weight
    rope scaling     linear and yarn are numbers, llama3 and longrope become tensors of factors

Everything is checked before a byte is written: that config.json describes a model that llama.cpp computes in the same way, and
that the tensors are exactly those that it describes. What llama.cpp would compute otherwise (another rope scaling, another
pattern of windows) is refused, but for the sliding windows of Mistral 7B v0.1, Qwen 2 and Phi-3, which llama.cpp leaves out:
their models are the same up to the window's length. Tensor names: the `gguf` package's tables.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec

from ollamapy.errors import InvalidModel, reason

from . import safetensors, vocabulary
from .folder import Files, folder_files, one_line, read_json
from .safetensors import Tensor
from .writer import Progress, Value, Weight, pieces_of, read_at, write

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
    """There is no output matrix, whatever config.json says."""
    post_norms: bool = False
    query_key_norms: bool = False
    fused: bool = False


_GEMMA_3 = Family("gemma3", norm_offset=1.0, tied=True, post_norms=True, query_key_norms=True)
FAMILIES = {
    "LlamaForCausalLM": Family("llama", pairs=True),
    "MistralForCausalLM": Family("llama", pairs=True),
    "Qwen2ForCausalLM": Family("qwen2"),
    "Qwen3ForCausalLM": Family("qwen3", query_key_norms=True),
    "GemmaForCausalLM": Family("gemma", norm_offset=1.0, tied=True),
    "Gemma2ForCausalLM": Family("gemma2", norm_offset=1.0, tied=True, post_norms=True),
    "Gemma3ForCausalLM": _GEMMA_3,
    "Gemma3ForConditionalGeneration": _GEMMA_3,
    "Phi3ForCausalLM": Family("phi3", fused=True),
}
"""By the name in config.json's `architectures`."""


class Config(vocabulary.Ids, frozen=True):
    """config.json, as far as it matters here. None: not given, its family's default."""

    architectures: list[str] = []
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


def convert(source: Path | Files, target: Path, *, progress: Progress | None = None) -> None:
    """Write the GGUF of a model's folder (or of its files by name, wherever they lie) at `target`.

    Raises InvalidModel when the folder is not what it should be or llama.cpp could not compute the model as it was meant;
    StoreError when `target` cannot be written; `target` is then gone.
    """
    files = folder_files(source) if isinstance(source, Path) else source
    config = read_config(files)
    family = family_of(config)
    sizes = sizes_of(config, family)
    found = _text_tensors(safetensors.read_model(files))
    tensors = _named(found, family, sizes)
    _check_tensors(tensors, config, family, sizes)

    metadata = _metadata(config, family, sizes)
    scaling, factors = _rope_scaling(config, family, sizes)
    metadata |= {f"{family.name}.rope.{key}": value for key, value in scaling.items()}
    rows = tensors["token_embd.weight"].shape[0]
    metadata |= vocabulary.metadata(files, rows, config)
    metadata["general.file_type"] = _file_type(tensors.values())
    metadata[f"{family.name}.vocab_size"] = rows
    with ExitStack() as stack:
        opened = open_all(stack, tensors.values())
        weights = [
            _weight(name, tensor, opened[tensor.path], family, sizes)
            for name, tensor in tensors.items()
        ]
        weights += [_vector(name, values) for name, values in factors.items()]
        write(target, family.name, metadata, weights, progress)


# ---- config.json ---------------------------------------------------------------------------------------------------------


def read_config(files: Files) -> Config:
    """config.json; of a model with several parts, its text part's. Raises InvalidModel."""
    if "config.json" not in files:
        raise InvalidModel("the folder has no config.json, put the model's beside its weights")
    config = read_json(files, "config.json", Config)
    if config.text_config is not None:
        try:
            inner = msgspec.convert(config.text_config, Config)
        except msgspec.ValidationError as error:
            _refuse(f"its text_config is not understood ({one_line(error)})")
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        ids = {n: v for n in names if (v := getattr(config, n)) is not None}
        config = msgspec.structs.replace(inner, architectures=config.architectures, **ids)
    return config


def family_of(config: Config) -> Family:
    """Raises InvalidModel for an architecture that is not converted here, and for weights that are quantised already."""
    known = [FAMILIES[name] for name in config.architectures if name in FAMILIES]
    if not known:
        said = ", ".join(config.architectures)[:100] or "none"
        raise InvalidModel(
            f"the model's architecture ({said}) cannot be converted, a GGUF of it may be had;"
            f" convertible: {', '.join(FAMILIES)}"
        )
    if config.quantization_config is not None:
        raise InvalidModel("the model is quantised already, take the one in F16 or BF16")
    return known[0]


def sizes_of(config: Config, family: Family) -> Sizes:
    """Raises InvalidModel where the sizes are impossible or do not fit each other."""
    gemma3 = family is _GEMMA_3
    heads = config.num_attention_heads or (8 if gemma3 else 0)
    kv_heads = config.num_key_value_heads or (4 if gemma3 else heads)
    head = config.head_dim or (256 if gemma3 else config.hidden_size // max(heads, 1))
    rotated = int(head * _rotary_share(config)) if family.fused else head
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
        _refuse("a size in it is missing or impossible")
    if sizes.heads % sizes.kv_heads or sizes.head % 2 or sizes.rotated % 2:
        _refuse("its heads do not fit each other")
    return sizes


def _metadata(config: Config, family: Family, sizes: Sizes) -> dict[str, Value]:
    """The keys of the architecture but for rope scaling."""
    gemma = family.name.startswith("gemma")
    activation = config.hidden_activation or config.hidden_act or ("gelu" if gemma else "silu")
    if activation.startswith("gelu") != gemma or not activation.startswith(("gelu", "silu")):
        _refuse(f"llama.cpp has no {family.name} with the activation {activation[:40]!r}")
    eps = config.rms_norm_eps if config.rms_norm_eps is not None else 1e-6
    values: dict[str, Value] = {
        "context_length": sizes.context,
        "embedding_length": sizes.width,
        "block_count": sizes.layers,
        "feed_forward_length": sizes.feed_forward,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "attention.key_length": sizes.head,
        "attention.value_length": sizes.head,
        "attention.layer_norm_rms_epsilon": eps,
        "rope.dimension_count": sizes.rotated,
    }
    if family.name in ("gemma2", "gemma3"):
        values["attention.sliding_window"] = _window(config, family, sizes)
        _check_query_scale(config, family, sizes)
    if family.name == "gemma2":
        values["attn_logit_softcapping"] = _given(config.attn_logit_softcapping, 50.0)
        values["final_logit_softcapping"] = _given(config.final_logit_softcapping, 30.0)
    elif family is _GEMMA_3:
        if config.attn_logit_softcapping:
            _refuse("llama.cpp has no gemma3 with a cap on attention")
        if config.final_logit_softcapping:
            values["final_logit_softcapping"] = config.final_logit_softcapping
    elif family.fused:
        values["attention.sliding_window"] = config.sliding_window or 0
    return {
        "general.type": "model",
        "general.quantization_version": 2,
        **{f"{family.name}.{key}": value for key, value in values.items()},
    }


def _window(config: Config, family: Family, sizes: Sizes) -> int:
    """The sliding window's length, if the layers that have it are those that llama.cpp takes."""
    every = 2 if family.name == "gemma2" else 6
    pattern = [
        "sliding_attention" if (layer + 1) % every else "full_attention"
        for layer in range(sizes.layers)
    ]
    if config.layer_types not in (None, pattern) or config.sliding_window_pattern not in (
        None,
        every,
    ):
        _refuse(f"llama.cpp has other layers with a window in a {family.name}")
    return config.sliding_window or 4096


def _check_query_scale(config: Config, family: Family, sizes: Sizes) -> None:
    """llama.cpp divides by the root of a head's length, in the 27B models (known by their layers) of width / heads."""
    largest = sizes.layers == (46 if family.name == "gemma2" else 62)
    known = sizes.width / sizes.heads if largest else sizes.head
    given = config.query_pre_attn_scalar
    if given is not None and not math.isclose(given, known):
        _refuse(f"llama.cpp has no {family.name} with a query_pre_attn_scalar of {given:g}")


# ---- rope ----------------------------------------------------------------------------------------------------------------


def _rope_settings(config: Config) -> dict[str, Any]:
    """rope_scaling, or rope_parameters, as newer files have it (there of the layers without a window, where they differ)."""
    given = config.rope_parameters or config.rope_scaling or {}
    inner = given.get("full_attention")
    return inner if isinstance(inner, dict) else given


def _rotary_share(config: Config) -> float:
    share = _given(
        config.partial_rotary_factor, _rope_settings(config).get("partial_rotary_factor")
    )
    return _positive(_given(share, 1.0), "partial_rotary_factor")


def _rope_scaling(
    config: Config, family: Family, sizes: Sizes
) -> tuple[dict[str, Value], dict[str, list[float]]]:
    """The keys below `rope.` that say how positions become angles, and the tensors of factors."""
    given = _rope_settings(config)
    default_base = 1_000_000.0 if family is _GEMMA_3 else 10_000.0
    base = _given(config.rope_theta, given.get("rope_theta"))
    values: dict[str, Value] = {"freq_base": _positive(_given(base, default_base), "rope_theta")}
    if family is _GEMMA_3:
        local = (config.rope_parameters or {}).get("sliding_attention")
        inner = local.get("rope_theta") if isinstance(local, dict) else None
        windowed = _positive(_given(config.rope_local_base_freq, _given(inner, 10_000.0)), "base")
        values["freq_base_swa"] = windowed
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        if family.fused:
            values["scaling.original_context_length"] = _original_context(config, given, sizes)
        return values, {}
    if kind == "linear":
        values["scaling.type"] = "linear"
        values["scaling.factor"] = _positive(given.get("factor"), "factor")
        return values, {}
    original = _original_context(config, given, sizes)
    if kind == "yarn" and family is not _GEMMA_3:
        return values | _yarn(given, original, sizes), {}
    if kind == "llama3" and family.name == "llama":
        return values, {"rope_freqs.weight": _llama3_factors(given, original, values, sizes)}
    if kind in ("longrope", "su") and family.fused:
        keys, factors = _longrope(given, original, sizes)
        return values | keys, factors
    _refuse(f"llama.cpp has no {family.name} with the rope scaling {str(kind)[:40]!r}")


def _yarn(given: Mapping[str, Any], original: int, sizes: Sizes) -> dict[str, Value]:
    """https://arxiv.org/abs/2309.00071. llama.cpp puts in the magnitude 0.1 ln(factor) + 1 itself."""
    factor = _positive(_given(given.get("factor"), sizes.context / original), "factor")
    if any(given.get(key) for key in ("mscale", "mscale_all_dim")):
        _refuse("llama.cpp has no such model with an mscale in its rope scaling")
    values: dict[str, Value] = {
        "scaling.type": "yarn",
        "scaling.factor": factor,
        "scaling.original_context_length": original,
    }
    magnitude = given.get("attention_factor")
    if magnitude is not None:
        own = 0.1 * math.log(factor) + 1.0
        values["scaling.attn_factor"] = _positive(magnitude, "attention_factor") / own
    for key in ("beta_fast", "beta_slow"):
        if given.get(key) is not None:
            values[f"scaling.yarn_{key}"] = _positive(given[key], key)
    return values


def _llama3_factors(
    given: Mapping[str, Any], original: int, values: Mapping[str, Value], sizes: Sizes
) -> list[float]:
    """What each frequency is divided by: Llama 3.1's, after transformers' modeling_rope_utils.py."""
    factor = _positive(given.get("factor"), "factor")
    low = _positive(given.get("low_freq_factor"), "low_freq_factor")
    high = _positive(given.get("high_freq_factor"), "high_freq_factor")
    base = values["freq_base"]
    assert isinstance(base, float)
    if high <= low:
        _refuse("its rope scaling's high_freq_factor is not above the low one")
    factors = []
    for i in range(sizes.rotated // 2):
        wavelength = 2 * math.pi * base ** (2 * i / sizes.rotated)
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _longrope(
    given: Mapping[str, Any], original: int, sizes: Sizes
) -> tuple[dict[str, Value], dict[str, list[float]]]:
    """https://arxiv.org/abs/2402.13753: factors for contexts up to the original length and others for longer ones."""
    factors = {}
    for key in ("long", "short"):
        listed = given.get(f"{key}_factor")
        if not isinstance(listed, list) or len(listed) != sizes.rotated // 2:
            _refuse(f"its rope scaling's {key}_factor has not {sizes.rotated // 2} numbers")
        numbers = [_positive(each, f"{key}_factor") for each in listed]
        factors[f"rope_factors_{key}.weight"] = numbers
    scale = sizes.context / original
    magnitude = given.get("attention_factor")
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    return {
        "scaling.type": "longrope",
        "scaling.original_context_length": original,
        "scaling.attn_factor": _positive(magnitude, "attention_factor"),
    }, factors


def _original_context(config: Config, given: Mapping[str, Any], sizes: Sizes) -> int:
    said = _given(
        config.original_max_position_embeddings,
        _given(given.get("original_max_position_embeddings"), sizes.context),
    )
    if not isinstance(said, int) or not 1 < said <= MAX_SIZE:
        _refuse("its original_max_position_embeddings is no length")
    return said


def _positive(value: Any, name: str) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0 < value < 1e12:
        _refuse(f"its {name} is missing or no number above 0")
    return float(value)


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


# ---- tensors -------------------------------------------------------------------------------------------------------------


def _text_tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the part that reads, under a plain model's names, without what is computed anew."""
    kept = {}
    for name, tensor in found.items():
        if name.startswith(("vision_tower.", "multi_modal_projector.", "model.vision_tower.")):
            continue
        if name.endswith("rotary_emb.inv_freq") or name.startswith("model.multi_modal_projector."):
            continue
        kept[plain_name(name)] = tensor
    return kept


def plain_name(name: str) -> str:
    """A tensor's name without the marks of a part of a larger model."""
    return name.removeprefix("language_model.").replace("model.language_model.", "model.")


def _named(found: Mapping[str, Tensor], family: Family, sizes: Sizes) -> dict[str, Tensor]:
    """Tensors by GGUF's names."""
    names = tensor_names(family.name, sizes.layers)
    tensors = {}
    for name, tensor in found.items():
        if name == "lm_head.weight" and family.tied:
            continue
        new = names(name)
        if new is None:
            _refuse(f"tensor {name[:100]!r} is none of a {family.name}'s")
        if new in tensors:
            _refuse(f"tensor {new!r} is there twice")
        tensors[new] = tensor
    return tensors


def tensor_names(architecture: str, layers: int) -> Any:
    """A function from Hugging Face's name of a tensor to GGUF's, or None."""
    import gguf

    number = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(number, layers)
    return lambda name: table.get_name(name, try_suffixes=(".weight", ".bias"))


def _check_tensors(
    tensors: dict[str, Tensor], config: Config, family: Family, sizes: Sizes
) -> None:
    """Raise unless these are exactly a model's tensors; drop an output matrix that is the embedding once more."""
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2 or not 0 < embedding.shape[0] <= MAX_SIZE:
        _refuse("its weights have no embedding")
    tied = family.tied or (config.tie_word_embeddings is True)
    if tied:
        tensors.pop("output.weight", None)
    expected, optional = _shapes(family, sizes, embedding.shape[0])
    if not tied and "output.weight" in tensors:
        expected["output.weight"] = (embedding.shape[0], sizes.width)
    elif not tied and config.tie_word_embeddings is False:
        _refuse("its weights have no tensor 'output.weight' (lm_head)")
    for name, shape in expected.items():
        if name not in tensors:
            _refuse(f"its weights have no tensor {name!r}")
        if tensors[name].shape != shape:
            _refuse(f"tensor {name!r} has the shape {tensors[name].shape} and not {shape}")
    for name, tensor in tensors.items():
        if name not in expected and optional.get(name) != tensor.shape:
            _refuse(f"tensor {name!r} is none of a {family.name}'s")
        if tensor.dtype not in ("F32", "F16", "BF16"):
            _refuse(f"tensor {name!r} has the type {tensor.dtype}, take the weights in F16 or BF16")


def _shapes(
    family: Family, sizes: Sizes, vocab: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The shapes that a model's tensors must have, and those of tensors that may be there."""
    width, hidden, head = sizes.width, sizes.feed_forward, sizes.head
    q, kv = sizes.heads * head, sizes.kv_heads * head
    expected: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocab, width),
        "output_norm.weight": (width,),
    }
    optional: dict[str, tuple[int, ...]] = {}
    for layer in range(sizes.layers):
        parts: dict[str, tuple[int, ...]] = {
            "attn_norm.weight": (width,),
            "attn_output.weight": (width, q),
            "ffn_norm.weight": (width,),
            "ffn_down.weight": (width, hidden),
        }
        if family.fused:
            parts |= {"attn_qkv.weight": (q + 2 * kv, width), "ffn_up.weight": (2 * hidden, width)}
        else:
            parts |= {
                "attn_q.weight": (q, width),
                "attn_k.weight": (kv, width),
                "attn_v.weight": (kv, width),
                "ffn_gate.weight": (hidden, width),
                "ffn_up.weight": (hidden, width),
            }
        biases = {"attn_q.bias": (q,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
        if family.name == "qwen2":
            parts |= biases
        if family.query_key_norms:
            parts |= {"attn_q_norm.weight": (head,), "attn_k_norm.weight": (head,)}
        if family.post_norms:
            parts |= {"post_attention_norm.weight": (width,), "post_ffw_norm.weight": (width,)}
        expected |= {f"blk.{layer}.{name}": shape for name, shape in parts.items()}
        if family.name == "llama":
            biases["attn_output.bias"] = (width,)
            optional |= {f"blk.{layer}.{name}": shape for name, shape in biases.items()}
    return expected, optional


def _file_type(tensors: Iterable[Tensor]) -> int:
    """general.file_type: the type of most matrices."""
    types = Counter(tensor.dtype for tensor in tensors if len(tensor.shape) > 1)
    return {"F32": 0, "F16": 1, "BF16": 32}[types.most_common(1)[0][0]]


def open_all(stack: ExitStack, tensors: Iterable[Tensor]) -> dict[Path, BinaryIO]:
    """The files that tensors lie in, open until `stack` ends. Raises InvalidModel."""
    try:
        return {path: stack.enter_context(path.open("rb")) for path in {t.path for t in tensors}}
    except OSError as error:
        raise InvalidModel(
            f"cannot read the model's weights ({reason(error)}), get them again"
        ) from error


def _weight(name: str, tensor: Tensor, file: BinaryIO, family: Family, sizes: Sizes) -> Weight:
    heads = 0
    if family.pairs and name.endswith((".attn_q.weight", ".attn_q.bias")):
        heads = sizes.heads
    elif family.pairs and name.endswith((".attn_k.weight", ".attn_k.bias")):
        heads = sizes.kv_heads
    if len(tensor.shape) > 1:
        if heads:
            return Weight(name, tensor.shape, tensor.dtype, lambda: _paired(file, tensor, heads))
        whole = tensor.offset, tensor.n_bytes
        return Weight(name, tensor.shape, tensor.dtype, lambda: pieces_of(file, *whole))
    offset = family.norm_offset if name.endswith("norm.weight") else 0.0

    def vector() -> Iterator[bytes]:
        values = float32(read_at(file, tensor.offset, tensor.n_bytes), tensor.dtype) + offset
        if heads:
            values = values.reshape(heads, 2, -1).swapaxes(1, 2)
        yield values.astype("<f4").tobytes()

    return Weight(name, tensor.shape, "F32", vector)


def _paired(file: BinaryIO, tensor: Tensor, heads: int) -> Iterator[bytes]:
    """A matrix with each head's rows 0, half, 1, half + 1..., read head by head."""
    import numpy as np

    n_bytes = tensor.n_bytes // heads
    for head in range(heads):
        raw = read_at(file, tensor.offset + head * n_bytes, n_bytes)
        rows = np.frombuffer(raw, np.uint8).reshape(2, tensor.shape[0] // heads // 2, -1)
        yield rows.swapaxes(0, 1).tobytes()


def float32(raw: bytes, dtype: str) -> Any:
    """Bytes of type F32, F16 or BF16 as a numpy array of float32. BF16 is the upper half of a float32."""
    import numpy as np

    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)


def _vector(name: str, values: list[float]) -> Weight:
    return Weight(name, (len(values),), "F32", lambda: [struct.pack(f"<{len(values)}f", *values)])


def _refuse(why: str) -> NoReturn:
    raise InvalidModel(
        f"the model cannot be converted: {why}; get a GGUF of it, or the folder again"
    )

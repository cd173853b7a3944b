"""A model's folder as Hugging Face's programs save it (config.json, tokenizer, *.safetensors) -> GGUF.

Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3 and Phi-3; of models that see (LLaVA 1.5, Gemma 3, Qwen2-VL) the part that reads, for
the other is in seeing.py; BERT's family is in bert.py. Weights keep their type: F32, F16 or BF16; vectors become F32, as llama.cpp requires. What changes on the way:

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
from pathlib import Path
from typing import BinaryIO

from ..errors import InvalidModel, reason
from . import bert, safetensors, vocabulary
from .architecture import (
    GEMMA_3,
    MAX_SIZE,
    SEEING,
    Config,
    Family,
    Sizes,
    check_tensors,
    epsilon,
    family_of,
    given_or,
    read_config,
    refuse,
    sizes_of,
)
from .encoder import is_encoder
from .folder import Folder, folder_files
from .rope import rope_scaling
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


def convert(source: Path | Folder, target: Path, *, progress: OnProgress | None = None) -> None:
    """Write the GGUF of a model's folder (or of its files by name) at `target`.

    Raises InvalidModel when the folder is not what it should be or llama.cpp would compute another model;
    StoreError when `target` cannot be written; `target` is then removed.
    """
    plan = planned(folder_files(source) if isinstance(source, Path) else source)
    with ExitStack() as stack:
        opened = open_all(stack, plan.tensors.values())
        weights = [
            plan.weight(name, tensor, opened[tensor.path]) for name, tensor in plan.tensors.items()
        ]
        write(target, plan.architecture, plan.metadata, [*weights, *plan.more], progress)


def planned(files: Folder) -> Plan:
    """The conversion of a folder, checked: all that can be wrong with it is, without reading a weight. Raises InvalidModel."""
    config = read_config(files)
    if is_encoder(config.architectures):
        return bert.planned(files)
    family = family_of(config)
    sizes = sizes_of(config, family)
    found = _text_tensors(safetensors.read_model(files))
    tensors = _named(found, family, sizes)
    _check_tensors(tensors, config, family, sizes)

    metadata = _metadata(config, family, sizes)
    scaling, factors = rope_scaling(config, family, sizes)
    metadata |= {f"{family.name}.rope.{key}": value for key, value in scaling.items()}
    rows = tensors["token_embd.weight"].shape[0]
    metadata |= vocabulary.metadata(files, rows, config)
    metadata["general.file_type"] = file_type(tensors.values())
    metadata[f"{family.name}.vocab_size"] = rows

    def weight(name: str, tensor: Tensor, file: BinaryIO) -> Weight:
        return _weight(name, tensor, file, family, sizes)

    more = [_vector(name, values) for name, values in factors.items()]
    return Plan(family.name, metadata, tensors, weight, more)


def _metadata(config: Config, family: Family, sizes: Sizes) -> dict[str, Value]:
    """The keys of the architecture but for rope scaling."""
    gemma = family.name.startswith("gemma")
    activation = config.hidden_activation or config.hidden_act or ("gelu" if gemma else "silu")
    if activation.startswith("gelu") != gemma or not activation.startswith(("gelu", "silu")):
        refuse(f"llama.cpp has no {family.name} with the activation {activation[:40]!r}")
    eps = epsilon(config.rms_norm_eps, 1e-6, "rms_norm_eps")
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
        values["attn_logit_softcapping"] = given_or(config.attn_logit_softcapping, 50.0)
        values["final_logit_softcapping"] = given_or(config.final_logit_softcapping, 30.0)
    elif family is GEMMA_3:
        if config.attn_logit_softcapping:
            refuse("llama.cpp has no gemma3 with a cap on attention")
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
        refuse(f"llama.cpp has other layers with a window in a {family.name}")
    return config.sliding_window or 4096


def _check_query_scale(config: Config, family: Family, sizes: Sizes) -> None:
    """llama.cpp divides by the root of a head's length, in the 27B models (recognized by their layers) of width / heads."""
    largest = sizes.layers == (46 if family.name == "gemma2" else 62)
    known = sizes.width / sizes.heads if largest else sizes.head
    given = config.query_pre_attn_scalar
    if given is not None and not math.isclose(given, known):
        refuse(f"llama.cpp has no {family.name} with a query_pre_attn_scalar of {given:g}")


# ---- tensors -------------------------------------------------------------------------------------------------------------


def _text_tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the part that reads, under a plain model's names, without what is computed anew."""
    kept = {}
    for name, tensor in found.items():
        if name.removeprefix("model.").startswith(SEEING) or name.endswith("rotary_emb.inv_freq"):
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
            refuse(f"tensor {name[:100]!r} is none of a {family.name}'s")
        if new in tensors:
            refuse(f"tensor {new!r} is there twice")
        tensors[new] = tensor
    return tensors


def _check_tensors(
    tensors: dict[str, Tensor], config: Config, family: Family, sizes: Sizes
) -> None:
    """Raise unless these are exactly a model's tensors; drop an output matrix that is the embedding once more."""
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2 or not 0 < embedding.shape[0] <= MAX_SIZE:
        refuse("its weights have no embedding")
    tied = family.tied or (config.tie_word_embeddings is True)
    if tied:
        tensors.pop("output.weight", None)
    expected, optional = _shapes(family, sizes, embedding.shape[0])
    if not tied and "output.weight" in tensors:
        expected["output.weight"] = (embedding.shape[0], sizes.width)
    elif not tied and config.tie_word_embeddings is False:
        refuse("its weights have no tensor 'output.weight' (lm_head)")
    check_tensors(tensors, expected, f"a {family.name}'s", optional)


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
        if family.name in ("qwen2", "qwen2vl"):
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


def file_type(tensors: Iterable[Tensor]) -> int:
    """general.file_type: the type of most matrices."""
    types = Counter(tensor.dtype for tensor in tensors if len(tensor.shape) > 1)
    return {"F32": 0, "F16": 1, "BF16": 32}[types.most_common(1)[0][0]]


def open_all(stack: ExitStack, tensors: Iterable[Tensor]) -> dict[Path, BinaryIO]:
    """The files of the tensors, open until `stack` ends. Raises InvalidModel."""
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


def _vector(name: str, values: list[float]) -> Weight:
    return Weight(name, (len(values),), "F32", lambda: [struct.pack(f"<{len(values)}f", *values)])

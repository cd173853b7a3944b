"""Models of BERT's family, which make vectors, as GGUF; encoder.py has which there are.

How a text's vector is made of those of its tokens stands in the folder of a sentence-transformers model (`1_Pooling`); without
it the mean is taken, as sentence-transformers does. What comes after that, but for normalizing, cannot be computed by llama.cpp.
Rules and names: llama.cpp's conversion/bert.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from . import safetensors, wordpiece
from .architecture import MAX_SIZE, check_tensors, refuse
from .encoder import Encoder, read_encoder
from .folder import Folder, read_json
from .safetensors import Tensor
from .writer import Plan, Value, Weight, float32, pieces_of, read_at, tensor_names

_MEAN, _CLS, _LAST = 1, 2, 3


class _Pooling(msgspec.Struct, frozen=True):
    pooling_mode: str = ""
    pooling_mode_mean_tokens: bool = False
    pooling_mode_cls_token: bool = False
    pooling_mode_lasttoken: bool = False


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
    metadata = _metadata(encoder) | wordpiece.metadata(files, rows, encoder.byte_pairs)
    if encoder.name != "modern-bert":
        metadata["tokenizer.ggml.token_type_count"] = max(encoder.token_types, 1)
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
    if encoder.rope_base:
        values["rope.freq_base"] = encoder.rope_base
    if encoder.window:
        values["rope.freq_base_swa"] = encoder.window_rope_base
        values["rope.scaling.type"] = "none"
        values["attention.sliding_window"] = encoder.window
        values["attention.sliding_window_pattern"] = encoder.dense_every
    return {
        "general.type": "model",
        "general.quantization_version": 2,
        **{f"{encoder.name}.{key}": value for key, value in values.items()},
    }


_PREFIX = re.compile(r"^(?:bert|roberta|distilbert|model)\.")
_UNUSED = re.compile(
    r"embeddings\.position_ids|(?:pooler|cls|lm_head|head|decoder)\..*|vocab_(?:transform|layer_norm|projector)\..*"
)


def _named(found: dict[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Tensors by GGUF's names, without the heads that make no vectors."""
    names = tensor_names(encoder.name, encoder.layers)
    tensors: dict[str, Tensor] = {}
    for given, tensor in found.items():
        name = _PREFIX.sub("", given)
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
    check_tensors(tensors, _shapes(encoder, embedding.shape[0]), f"a {encoder.name}'s")
    return embedding.shape[0]


def _shapes(encoder: Encoder, rows: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a model and their shapes. Biases go with BERT's matrices, and with all norms but ModernBERT's."""
    width = encoder.width
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (rows, width)}
    if encoder.token_types:
        shapes["token_types.weight"] = (encoder.token_types, width)
    norms, matrices = ["token_embd_norm"], {}
    if encoder.name == "bert":
        shapes["position_embd.weight"] = (encoder.context + encoder.skipped, width)
    if encoder.name == "modern-bert":
        norms.append("output_norm")
    for layer in range(encoder.layers):
        norms += [f"blk.{layer}.{norm}" for norm in _norms(encoder, layer)]
        for name, shape in _matrices(encoder).items():
            matrices[f"blk.{layer}.{name}"] = shape
    with_bias = [] if encoder.name == "modern-bert" else norms
    shapes |= {f"{norm}.weight": (width,) for norm in norms}
    shapes |= {f"{norm}.bias": (width,) for norm in with_bias}
    shapes |= {f"{name}.weight": shape for name, shape in matrices.items()}
    if encoder.name == "bert":
        shapes |= {f"{name}.bias": shape[:1] for name, shape in matrices.items()}
    return shapes


def _norms(encoder: Encoder, layer: int) -> list[str]:
    if encoder.name != "modern-bert":
        return ["attn_output_norm", "layer_output_norm"]
    return (
        ["attn_norm", "ffn_norm"] if layer else ["ffn_norm"]
    )  # the embedding's norm is just before


def _matrices(encoder: Encoder) -> dict[str, tuple[int, int]]:
    width, hidden = encoder.width, encoder.feed_forward
    both = {"attn_output": (width, width), "ffn_down": (width, hidden)}
    if encoder.name == "bert":
        return (
            both | {"ffn_up": (hidden, width)} | {f"attn_{part}": (width, width) for part in "qkv"}
        )
    both["attn_qkv"] = (3 * width, width)
    if encoder.name == "modern-bert":
        return both | {"ffn_up": (2 * hidden, width)}  # with the gate
    return both | {"ffn_up": (hidden, width), "ffn_gate": (hidden, width)}


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

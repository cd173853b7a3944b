"""Values of a header on which llama.cpp aborts, or computes nothing that makes sense: refused before it sees the file.

llama.cpp checks a file's form and many of its values with an error; on those below it ends its process, or divides by zero.
Sources: its GGML_ASSERTs in llama-model.cpp and llama-vocab.cpp, and the types that ggml-cpu's operations take.
"""

from __future__ import annotations

import math
import re
from typing import Any

from .header import ArrayInfo, Header
from .refusal import refuse, refuse_twice, shown

MAX_LAYERS = 512
MAX_EXPERTS = 1024
_MAX_COUNT = 2**24  # of heads, or the width of a layer

_SCALINGS = ("none", "linear", "yarn", "longrope")
_COUNTS = (
    *("embedding_length", "attention.head_count", "attention.head_count_kv"),
    *("attention.key_length", "attention.value_length", "rope.dimension_count"),
)
_INTEGERS = ("I8", "I16", "I32", "I64", "F64")
_MULTIPLIED = re.compile(r"(?:.*\.)?(?:token_embd|output|attn_\w+|ffn_(?:gate|up|down)\w*)\.weight")
_ADDED = re.compile(r"(?:.*[._])?norm\w*\.(?:weight|bias)|.*\.bias")


def check(header: Header) -> None:
    """Raise InvalidModel for a model's header that llama.cpp cannot work with; projectors and adapters are let pass."""
    kind = header.metadata.get("general.type")
    if header.architecture == "clip" or kind in ("adapter", "mmproj"):
        return
    _check_counts(header)
    _check_numbers(header)
    _check_vocabulary(header.metadata)
    _check_types(header)


def _check_counts(header: Header) -> None:
    layers = header.value("block_count")
    if layers is not None and not (_is_int(layers) and 0 < layers <= MAX_LAYERS):
        refuse(f"it claims {layers} layers, llama.cpp takes 1 to {MAX_LAYERS}")
    for key in _COUNTS:
        for count in _all(header.value(key)):
            if not _is_int(count) or not 0 <= count <= _MAX_COUNT:
                refuse(f"its {key} is {count}")
    if header.value("embedding_length") == 0:
        refuse("its embedding_length is 0")
    experts, used = (header.value(key) or 0 for key in ("expert_count", "expert_used_count"))
    if not _is_int(experts) or not 0 <= experts <= MAX_EXPERTS:
        refuse(f"it claims {experts} experts, llama.cpp takes {MAX_EXPERTS}")
    counts = [each for each in _all(used) if _is_int(each)]
    if max(counts, default=0) > experts or (experts and max(counts, default=0) < 1):
        refuse(f"it uses {max(counts, default=0)} of {experts} experts")
    rotated = header.number("rope.dimension_count") or 0
    if rotated % 2 or (header.key_length and rotated > header.key_length):
        refuse(f"its rope.dimension_count is {rotated}, and a head has {header.key_length}")


def _check_numbers(header: Header) -> None:
    prefix = f"{header.architecture}."
    for key, value in header.metadata.items():
        if not key.startswith(prefix):
            continue
        if key.endswith("epsilon") and not (_is_number(value) and 0 <= value < 1):
            refuse(f"its {key[len(prefix) :]} is {value!r}, which is no small positive number")
        if isinstance(value, float) and not math.isfinite(value):
            refuse(f"its {key[len(prefix) :]} is {value}")
    scaling = header.value("rope.scaling.type")
    if scaling is not None and scaling not in _SCALINGS:
        refuse(f"its rope.scaling.type is {ascii(scaling)[:40]}, not one of {', '.join(_SCALINGS)}")


def _check_vocabulary(metadata: dict[str, Any]) -> None:
    count = None
    for name, kinds in (
        ("tokens", ("string",)),
        ("scores", ("float32",)),
        ("token_type", ("int32", "uint32")),
        ("merges", ("string",)),
    ):
        value = metadata.get(f"tokenizer.ggml.{name}")
        if value is None:
            continue
        kind, length = _array(value)
        if kind and kind not in kinds:
            refuse(f"its tokenizer.ggml.{name} is no list of {kinds[0]}")
        if name == "tokens":
            count = length
        elif name != "merges" and length != count:
            refuse(f"its tokenizer has {count} tokens and {length} values of {name}")


def _array(value: Any) -> tuple[str, int]:
    """The type of an array's elements, "" where a kept array does not tell, and its length."""
    if isinstance(value, ArrayInfo):
        return value.type, value.length
    if not isinstance(value, tuple):
        return "no array", 0
    kinds: dict[type, str] = {str: "string", float: "float32", bool: "bool"}
    return (kinds.get(type(value[0]), "int32") if value else ""), len(value)


def _check_types(header: Header) -> None:
    for tensor in header.tensors:
        if tensor.type_name != "F32" and _ADDED.fullmatch(tensor.name):
            what = "which must be F32"
        elif tensor.type_name in _INTEGERS and _MULTIPLIED.fullmatch(tensor.name):
            what = "which llama.cpp does not multiply"
        else:
            continue
        refuse(f"tensor {shown(tensor.name)} has the type {tensor.type_name}, {what}")


def check_tokens(tokens: Any) -> None:
    """Raise InvalidModel for a token that is twice in a vocabulary that was kept."""
    if isinstance(tokens, tuple) and len(set(tokens)) < len(tokens):
        seen: set[str] = set()
        for token in tokens:
            if token in seen:
                refuse_twice(str(token))
            seen.add(token)


def _all(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

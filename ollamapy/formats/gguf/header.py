"""The header of a GGUF file as a value: metadata, tensors, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from ..ggml import FILE_TYPES

MAX_BLOCKS = 4_096
"""Layers; llama.cpp accepts 512."""

SHOWN_ARRAY = 5
"""The longest array that Ollama shows without `verbose`."""


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """An array that was skipped: the type of its elements ("string", "float32"...) and how many."""

    type: str
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: shape as the file has it (fastest dimension first), sizes in bytes.

    `offset` counts from Header.data_offset; offset + n_bytes is checked to be inside the file.
    """

    name: str
    type_name: str
    shape: tuple[int, ...]
    n_bytes: int
    offset: int

    @property
    def n_elements(self) -> int:
        """The product of the shape."""
        return product(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata and tensors of a file. `size` and `data_offset` are bytes.

    `metadata` holds bool, int, float, str, a tuple of those, or ArrayInfo. Its keys and types are
    the file's own choice, so nothing below raises on a missing or mistyped key: numbers are then
    None, or 0 where a sum of nothing makes sense.
    """

    version: int
    metadata: dict[str, Any]
    tensors: tuple[Tensor, ...]
    data_offset: int
    size: int

    @property
    def architecture(self) -> str:
        """For example "llama", "qwen3", "bert"; "clip" for a projector; "unknown" if absent."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) and value else "unknown"

    def value(self, key: str) -> Any:
        """The metadata under the architecture's own prefix: value("block_count"), or None."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def number(self, key: str) -> int | None:
        """value(key) if it is an integer from 0 to 2^31-1."""
        value = self.value(key)
        return value if _is_count(value) else None

    @property
    def parameter_count(self) -> int:
        """The elements of all tensors."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def weights_size(self) -> int:
        """The bytes of all tensors."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def context_length(self) -> int | None:
        """The context, in tokens, that the model was trained for."""
        return self.number("context_length")

    @property
    def embedding_length(self) -> int | None:
        """The width of the model."""
        return self.number("embedding_length")

    @property
    def block_count(self) -> int:
        """The number of layers, at most MAX_BLOCKS."""
        return self.number("block_count") or 0

    @property
    def head_count(self) -> int:
        """Attention heads of a layer; the largest, where layers differ."""
        return max(self._per_layer("attention.head_count"), default=0)

    @property
    def head_count_kv(self) -> tuple[int, ...]:
        """Key/value heads of each layer, `block_count` of them; 0 for a layer without attention.

        Models without grouped queries leave it out: they have as many as attention heads.
        """
        return self._per_layer("attention.head_count_kv") or self._per_layer("attention.head_count")

    @property
    def key_length(self) -> int:
        """Numbers in one head's key."""
        return self._head_length("attention.key_length")

    @property
    def value_length(self) -> int:
        """Numbers in one head's value."""
        return self._head_length("attention.value_length")

    @property
    def sliding_window(self) -> int | None:
        """The tokens that a windowed layer looks back, if the model has such layers."""
        return self.number("attention.sliding_window") or None

    @property
    def vocab_size(self) -> int:
        """The number of tokens, counted where the file lists them."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, tuple):
            return len(tokens)
        if isinstance(tokens, ArrayInfo):
            return tokens.length
        return self.number("vocab_size") or 0

    @property
    def file_type_name(self) -> str:
        """The usual name of the quantisation: "Q4_K_M", "F16", "unknown"."""
        value = self.metadata.get("general.file_type")
        return FILE_TYPES.get(value, "unknown") if _is_count(value) else "unknown"

    @property
    def chat_template(self) -> str | None:
        """The model's own Jinja template."""
        return self._text("tokenizer.chat_template")

    def model_info(self, *, verbose: bool = False) -> dict[str, Any]:
        """The `model_info` of /api/show: metadata by key, without name and template.

        An array longer than SHOWN_ARRAY is None, as Ollama has it, unless `verbose`; then the
        header should have been read with arrays=True (else what was skipped is None still).
        """
        info = dict(self.metadata, **{"general.parameter_count": self.parameter_count})
        info.pop("general.name", None)
        info.pop("tokenizer.chat_template", None)
        for key, value in info.items():
            too_long = isinstance(value, tuple) and len(value) > SHOWN_ARRAY and not verbose
            if too_long or isinstance(value, ArrayInfo):
                info[key] = None
        return dict(sorted(info.items()))

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _per_layer(self, key: str) -> tuple[int, ...]:
        """A number given once for all layers, or one for each; () if it is neither."""
        value = self.value(key)
        if _is_count(value):
            return (value,) * self.block_count
        if isinstance(value, tuple) and all(_is_count(each) for each in value):
            return value[: self.block_count]
        return ()

    def _head_length(self, key: str) -> int:
        length = self.number(key)
        if length is not None:
            return length
        heads = self.head_count
        return (self.embedding_length or 0) // heads if heads else 0


def joined(shards: Sequence[Header]) -> Header:
    """The header of a model in several files, the first of which has the metadata. A tensor's
    offset is valid only where there is a single file."""
    first, *others = shards
    if not others:
        return first
    tensors = tuple(tensor for header in shards for tensor in header.tensors)
    return replace(first, tensors=tensors, size=sum(header.size for header in shards))


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product

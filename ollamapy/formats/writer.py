"""Writes a GGUF file from metadata and weights, one piece of one tensor in memory at a time.

The one place where a conversion meets the `gguf` package, which lays the header out; it is imported inside, because it
brings numpy with it. Nothing is computed or checked here: that is the converters' part.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from ollamapy.errors import InvalidModel, StoreError, reason

from .safetensors import Tensor

OnProgress = Callable[[int, int], None]
"""Called with the bytes of weights that are written, and of all. An error that it raises ends the conversion."""

Value = str | bytes | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]
"""A value of metadata. A number is written as u32 or f32, one in a sequence as i32 or f32."""

PIECE = 4 * 2**20
"""Bytes of a tensor that are in memory at once, about."""

_ELEMENT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor to write: its shape as numpy has it (rows first), its GGML type (F32, F16 or BF16), its bytes in pieces."""

    name: str
    shape: tuple[int, ...]
    type: str
    pieces: Callable[[], Iterable[bytes]]

    @property
    def n_bytes(self) -> int:
        """The bytes that all pieces have together."""
        return prod(self.shape) * _ELEMENT_BYTES[self.type]


@dataclass(frozen=True, slots=True)
class Plan:
    """A conversion that was checked: the tensors by GGUF's names, how each becomes a weight of an open file, and ``more`` weights."""

    architecture: str
    metadata: dict[str, Value]
    tensors: Mapping[str, Tensor]
    weight: Callable[[str, Tensor, BinaryIO], Weight]
    more: Sequence[Weight] = ()


def write(
    target: Path,
    architecture: str,
    metadata: Mapping[str, Value],
    weights: Sequence[Weight],
    progress: OnProgress | None = None,
) -> None:
    """Write a GGUF file at `target`, which is removed again when this fails for whatever reason.

    Raises StoreError when `target` cannot be written, a full disk too.
    """
    try:
        with _removed_on_failure(target):
            _write_header(target, architecture, metadata, weights)
            _append_weights(target, weights, progress)
    except OSError as error:
        raise StoreError(
            f"cannot write the converted model ({reason(error)}), make room or choose another place"
        ) from error


def pieces_of(file: BinaryIO, offset: int, n_bytes: int) -> Iterator[bytes]:
    """`n_bytes` of an open file from `offset` on, in pieces. InvalidModel when the file ends before."""
    while n_bytes:
        piece = read_at(file, offset, min(n_bytes, PIECE))
        yield piece
        offset += len(piece)
        n_bytes -= len(piece)


def read_at(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    """Exactly `n_bytes` from `offset` on. InvalidModel when the file ends before, or cannot be read."""
    try:
        file.seek(offset)
        data = file.read(n_bytes)
    except OSError as error:  # not to be taken for a target that cannot be written
        raise InvalidModel(f"cannot read the model file ({reason(error)}), get it again") from error
    if len(data) < n_bytes:
        raise InvalidModel("the model file became shorter while it was read, get it again")
    return data


@contextlib.contextmanager
def _removed_on_failure(target: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            target.unlink(missing_ok=True)
        raise


def _write_header(
    target: Path, architecture: str, metadata: Mapping[str, Value], weights: Sequence[Weight]
) -> None:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(target, architecture)
    try:
        for key, value in metadata.items():
            _check_range(key, value)
            match value:
                case bool():
                    writer.add_bool(key, value)
                case int():
                    writer.add_uint32(key, value)
                case float():
                    writer.add_float32(key, value)
                case str():
                    writer.add_string(key, value)
                case _:
                    writer.add_array(key, value)
        for weight in weights:
            kind = gguf.GGMLQuantizationType[weight.type]
            # with a raw type given, the numpy one is not looked at
            writer.add_tensor_info(
                weight.name, weight.shape, np.dtype(np.void), weight.n_bytes, raw_dtype=kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


_LARGEST_FLOAT32 = 3.4028234e38


def _check_range(key: str, value: Value) -> None:
    """Raise InvalidModel for a number that GGUF's u32 or f32 cannot hold: of a config.json that makes no sense."""
    if isinstance(value, float):
        fits = math.isfinite(value) and abs(value) <= _LARGEST_FLOAT32
    else:
        fits = not isinstance(value, int) or 0 <= value < 2**32
    if not fits:
        raise InvalidModel(
            f"the model cannot be converted: its {key.partition('.')[2]} is {value!r}; get its folder again"
        )


def _append_weights(target: Path, weights: Sequence[Weight], progress: OnProgress | None) -> None:
    """The data after the header: tensor after tensor, each at a multiple of GGUF's alignment."""
    total = sum(weight.n_bytes for weight in weights)
    done = 0
    with target.open("ab") as file:
        file.write(bytes(-file.tell() % _ALIGNMENT))
        for weight in weights:
            written = 0
            for piece in weight.pieces():
                file.write(piece)
                written += len(piece)
                if progress is not None:
                    progress(done + written, total)
            assert written == weight.n_bytes, weight.name
            done += written
            file.write(bytes(-written % _ALIGNMENT))


_ALIGNMENT = 32


def tensor_names(architecture: str, layers: int) -> Any:
    """A function from Hugging Face's name of a tensor to GGUF's, or None."""
    import gguf

    number = next(n for n, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(number, layers)
    return lambda name: table.get_name(name, try_suffixes=(".weight", ".bias"))


def float32(raw: bytes, dtype: str) -> Any:
    """Bytes of type F32, F16 or BF16 as a numpy array of float32. BF16 is the upper half of a float32."""
    import numpy as np

    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32)

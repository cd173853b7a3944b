"""The header of a .safetensors file: the place of each tensor. Several files that make one model are read as one.

    header length u64 | header: JSON, {name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {...}} | data

Little endian; offsets count from the data's beginning. Files come from anywhere: a length is compared with the file before it
is used, and the tensors must fill the data without a gap, without overlap, to its last byte, as the format's own reader
demands. Tensor data is never read here. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NoReturn

import msgspec

from ollamapy.errors import InvalidModel, reason

from .folder import Folder, one_line, read_json

MAX_HEADER_BYTES = 16 * 2**20  # real ones: up to some 3 MB
MAX_TENSORS = 131_072
MAX_DIMENSIONS = 8

_ELEMENT_BYTES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1},
}
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: its element type ("F32", "BF16"...), its shape with rows first, and its bytes' place in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    n_bytes: int


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. Raises InvalidModel, also when the file cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device may never return
            _refuse("it is not a regular file")
        size = status.st_size
        with path.open("rb") as file:
            begin = file.read(_LENGTH.size)
            if len(begin) < _LENGTH.size:
                _refuse("it is too short")
            if begin.startswith(b"version "):
                raise InvalidModel(
                    "the safetensors file is a Git LFS pointer instead of the model, fetch the real file"
                )
            (length,) = _LENGTH.unpack(begin)
            if length > min(MAX_HEADER_BYTES, size - _LENGTH.size):
                _refuse(f"its header claims {length:,} bytes")
            header = file.read(length)
    except OSError as error:
        raise InvalidModel(
            f"cannot read a safetensors file ({reason(error)}), get it again"
        ) from error
    if len(header) < length:
        _refuse("it ends in the middle of its header")
    return _tensors(path, header, data_at=_LENGTH.size + length, n_data=size - 8 - length)


def read_model(files: Folder) -> dict[str, Tensor]:
    """The tensors of a model's folder: of the files that its index names; without one, of model.safetensors, else of all.

    Raises InvalidModel.
    """
    names = [name for name in files if name.endswith(".safetensors")]
    indexes = [name for name in files if name.endswith(".safetensors.index.json")]
    where: dict[str, str] = {}
    if len(indexes) == 1:
        where = read_json(files, indexes[0], _Index).weight_map
        names = sorted(set(where.values()))
        if missing := [name for name in names if name not in files]:
            raise InvalidModel(
                f"the model's file {missing[0][:100]!r} is missing, {len(missing)} of {len(names)} are;"
                " get the whole folder"
            )
    elif "model.safetensors" in names:
        names = ["model.safetensors"]
    if not names:
        raise InvalidModel("the folder has no .safetensors file, which is where the weights are")
    found: dict[str, Tensor] = {}
    for name in names:
        for tensor in read_tensors(files[name]).values():
            if tensor.name in found:
                _refuse(f"tensor {tensor.name[:100]!r} is in two files")
            found[tensor.name] = tensor
    if absent := where.keys() - found.keys():
        _refuse(f"its files have no tensor {min(absent)[:100]!r}, which the index names")
    return found


def _tensors(path: Path, header: bytes, data_at: int, n_data: int) -> dict[str, Tensor]:
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        if len(entries) > MAX_TENSORS:
            _refuse(f"it claims {len(entries):,} tensors")
        decode = msgspec.json.Decoder(_Entry).decode
        placed = sorted(
            ((decode(raw), name) for name, raw in entries.items()),
            key=lambda pair: pair[0].data_offsets,
        )
    except (msgspec.DecodeError, RecursionError) as error:
        _refuse(f"its header is not understood ({one_line(error)})")
    found = {}
    expected = 0
    for entry, name in placed:
        shown = ascii(name[:100])
        if entry.dtype not in _ELEMENT_BYTES:
            _refuse(f"tensor {shown} has the unknown type {entry.dtype[:20]!r}")
        if len(entry.shape) > MAX_DIMENSIONS or any(not 0 <= n < 2**63 for n in entry.shape):
            _refuse(f"tensor {shown} has an impossible shape")
        begin, end = entry.data_offsets
        if begin != expected:
            _refuse(f"tensor {shown} begins at {begin} instead of {expected}")
        if end - begin != prod(entry.shape) * _ELEMENT_BYTES[entry.dtype]:
            _refuse(f"tensor {shown} claims {end - begin} bytes, which its shape does not take")
        if end > n_data:
            _refuse(f"tensor {shown} ends after the file")
        found[name] = Tensor(name, entry.dtype, entry.shape, path, data_at + begin, end - begin)
        expected = end
    if expected != n_data:
        _refuse(f"{n_data - expected} bytes at its end belong to no tensor")
    return found


def _refuse(why: str) -> NoReturn:
    raise InvalidModel(f"the safetensors file cannot be used: {why}; it is damaged, get it again")

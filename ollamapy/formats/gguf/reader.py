"""Read and check the header of a GGUF file: its metadata and the list of its tensors.

Files are untrusted: a count, a length or an offset is compared with what is left of the file before
it is used, memory stays below the limits listed here and in ``values.py``, and everything wrong is
an InvalidModel with one line of text. Tensor data is never read, only located. llama.cpp reads the
same file later, in a child process; where it would refuse or abort (an array of arrays, a gap
between tensors, an odd alignment) this reader refuses first.

    magic "GGUF" | version u32 | tensor count u64 | pair count u64
    pair:    key string | type u32 | value                      string: length u64 | bytes
    array:   element type u32 | length u64 | elements
    tensor:  name string | dimensions u32 | size u64 each | type u32 | offset u64 from the data
    padding up to the next multiple of general.alignment | data, tensor after tensor, each padded

All little endian. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The reader keeps a window of the file in memory instead of mapping it: a mapped file that is cut
short while it is read kills the process with SIGBUS. Skipping a vocabulary of 152,000 tokens is one
tight loop over string lengths.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InvalidModel, reason
from ..ggml import TENSOR_TYPES
from .header import MAX_BLOCKS, Header, Tensor, product
from .refusal import NEW_OR_DAMAGED, refuse, shown
from .values import UINT32, Values
from .window import Window

MAX_PAIRS = 65_536
MAX_TENSORS = 131_072
MAX_KEY_BYTES = 65_535
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 2**20

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_HEAD = struct.Struct("<4sIQQ")
_TENSOR_END = struct.Struct("<IQ")

# Files that are mistaken for GGUF, by their first bytes, and what to do about each.
_OTHER_KINDS = {
    b"lmgg": ("an old GGML file", "convert it to GGUF"),
    b"tjgg": ("an old GGML file", "convert it to GGUF"),
    b"fmgg": ("an old GGML file", "convert it to GGUF"),
    b"vers": ("a Git LFS pointer instead of the model", "fetch the real file"),
    b"PK\x03\x04": ("a zip archive, such as a PyTorch checkpoint", "convert it to GGUF"),
    b"<!DO": ("a web page instead of the model", "check the address it came from"),
    b"<htm": ("a web page instead of the model", "check the address it came from"),
}
_NO_GGUF = ("not a GGUF file, its first four bytes are wrong", "get it again or convert it to GGUF")


def read_header(
    source: Path | BinaryIO, *, arrays: bool = False, checks_tokens: bool = False
) -> Header:
    """Read and check the header of a GGUF file, given by its path or open for reading.

    Arrays longer than SHORT_ARRAY are skipped and become ArrayInfo, unless `arrays`. With `checks_tokens` no two tokens of a
    skipped vocabulary may be equal. Strings that
    are not UTF-8 get replacement characters (vocabularies hold odd bytes); keys and tensor names
    must be UTF-8. Raises InvalidModel, also when the file cannot be opened or read.
    """
    try:
        if not isinstance(source, Path):
            return _read(Window(source), arrays, checks_tokens)
        if not stat.S_ISREG(source.stat().st_mode):  # opening a pipe or a device may never return
            refuse("it is not a regular file", "put the GGUF file itself in its place")
        with source.open("rb", buffering=0) as file:
            return _read(Window(file), arrays, checks_tokens)
    except OSError as error:
        raise InvalidModel(
            f"cannot read the model file ({reason(error)}), make it readable or get it again"
        ) from error


def _read(window: Window, arrays: bool, checks_tokens: bool) -> Header:
    # 1) what kind of file
    magic = window.peek(4)
    if magic != b"GGUF":
        what, way_out = _OTHER_KINDS.get(magic, _NO_GGUF)
        refuse(f"it is {what}", way_out)
    _, version, n_tensors, n_pairs = window.unpack(_HEAD)
    if version & 0xFFFF == 0:  # 3 reads as 0x03000000
        refuse("it is big endian", "get the little-endian one or convert it on this machine")
    if version not in (2, 3):
        refuse(f"it has GGUF version {version}", "get or convert it in version 3 (or 2)")

    # 2) metadata; a pair takes 13 bytes at least, a tensor 24
    if n_pairs > min(MAX_PAIRS, window.left // 13):
        refuse(f"it claims {n_pairs} metadata entries")
    if n_tensors > min(MAX_TENSORS, window.left // 24):
        refuse(f"it claims {n_tensors} tensors")
    values = Values(window, arrays, checks_tokens)
    metadata: dict[str, Any] = {}
    alignment = 32
    for _ in range(n_pairs):
        key = _name(window, "metadata key")
        if key in metadata:
            refuse(f"metadata key {shown(key)} occurs twice")
        (type_number,) = window.unpack(_U32)
        metadata[key] = values.read(type_number, key)
        if key == "general.alignment":
            alignment = _alignment(type_number, metadata[key])

    # 3) tensors
    placed = list(_tensors(window, n_tensors, alignment))
    data_offset = _pad(window.offset, alignment)
    end = placed[-1].offset + placed[-1].n_bytes if placed else 0
    if placed and data_offset + end > window.size:
        refuse(f"{data_offset + end - window.size} bytes of tensors are missing")
    header = Header(version, metadata, tuple(placed), data_offset, window.size)
    if header.block_count > MAX_BLOCKS:
        refuse(f"it claims {header.block_count} layers")
    return header


def _tensors(window: Window, count: int, alignment: int) -> Iterator[Tensor]:
    """The tensor list. Each must begin where the one before it ends, padded, as llama.cpp demands:
    so none overlap, and the last one's end bounds them all."""
    names: set[str] = set()
    expected = 0
    for _ in range(count):
        name = _name(window, "tensor name")
        if name in names:
            refuse(f"tensor {shown(name)} occurs twice")
        names.add(name)
        (n_dimensions,) = window.unpack(_U32)
        if n_dimensions > MAX_DIMENSIONS:
            refuse(f"tensor {shown(name)} has {n_dimensions} dimensions")
        shape = tuple(window.unpack(_U64)[0] for _ in range(n_dimensions))
        n_elements = product(shape)
        if not 0 < n_elements < 2**63:
            refuse(f"tensor {shown(name)} has an impossible shape")
        type_number, offset = window.unpack(_TENSOR_END)
        if type_number not in TENSOR_TYPES:
            refuse(f"tensor {shown(name)} has the unknown type {type_number}", NEW_OR_DAMAGED)
        type_name, block_length, block_bytes = TENSOR_TYPES[type_number]
        if (shape[0] if shape else 1) % block_length:
            refuse(f"a row of tensor {shown(name)} is not made of whole {type_name} blocks")
        if offset != expected:
            refuse(f"tensor {shown(name)} begins at {offset} instead of {expected}")
        n_bytes = n_elements // block_length * block_bytes
        expected = _pad(offset + n_bytes, alignment)
        yield Tensor(name, type_name, shape, n_bytes, offset)


def _name(window: Window, what: str) -> str:
    try:
        return window.string(MAX_KEY_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        refuse(f"it has a {what} that is not UTF-8")


def _alignment(type_number: int, value: Any) -> int:
    if type_number == UINT32 and 0 < value <= MAX_ALIGNMENT and value & (value - 1) == 0:
        return int(value)
    refuse("its general.alignment is not a power of two")  # llama.cpp aborts on these


def _pad(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment

"""The header of a GGUF file: its metadata, the list of its tensors, and what follows from them.

Files come from anywhere, so nothing in one is believed before it is checked: a count, a length or
an offset is compared with what is left of the file before it is used, memory stays below the limits
listed here, and everything wrong is an InvalidModel with one line of text. Tensor data is never
read, only located. llama.cpp reads the same file later, in a child process; where it would refuse
or abort (an array of arrays, a gap between tensors, an odd alignment) this reader refuses first.

    magic "GGUF" | version u32 | tensor count u64 | pair count u64
    pair:    key string | type u32 | value                      string: length u64 | bytes
    array:   element type u32 | length u64 | elements
    tensor:  name string | dimensions u32 | size u64 each | type u32 | offset u64 from the data
    padding up to the next multiple of general.alignment | data, tensor after tensor, each padded

All little endian. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The reader keeps a window of the file in memory instead of mapping it, because a mapped file that
somebody cuts short kills the process with SIGBUS. Skipping a vocabulary of 152,000 tokens is one
tight loop over string lengths.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeGuard

from ollamapy.errors import InvalidModel, reason

# Limits. Real headers: 40 pairs, 2,000 tensors, 262,144 tokens, 600,000 merges, 20 MB.
MAX_PAIRS = 65_536
MAX_TENSORS = 131_072
MAX_KEY_BYTES = 65_535
MAX_STRING_BYTES = 16 * 2**20
MAX_ARRAY_LENGTH = 64 * 2**20
MAX_STRINGS = 8 * 2**20  # in all arrays together: one costs 0.1 microseconds to skip
MAX_KEPT_ELEMENTS = 2 * 2**20  # in all arrays together
MAX_KEPT_BYTES = 128 * 2**20  # of all strings and kept arrays together
MAX_DIMENSIONS = 4
MAX_ALIGNMENT = 2**20
MAX_BLOCKS = 4_096  # layers; llama.cpp takes 512

SHORT_ARRAY = 1_024
"""Arrays up to this length are always kept: what a model says of each layer, no vocabularies."""

SHOWN_ARRAY = 5
"""The longest array that Ollama shows when it is not asked for everything."""

_WINDOW = 256 * 2**10

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_HEAD = struct.Struct("<4sIQQ")
_TENSOR_END = struct.Struct("<IQ")

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {
    0: ("uint8", struct.Struct("<B")),
    1: ("int8", struct.Struct("<b")),
    2: ("uint16", struct.Struct("<H")),
    3: ("int16", struct.Struct("<h")),
    4: ("uint32", struct.Struct("<I")),
    5: ("int32", struct.Struct("<i")),
    6: ("float32", struct.Struct("<f")),
    _BOOL: ("bool", struct.Struct("<B")),
    10: ("uint64", struct.Struct("<Q")),
    11: ("int64", struct.Struct("<q")),
    12: ("float64", struct.Struct("<d")),
}
_FLOAT32 = 6
_UINT32 = 4

# Numbers of enum ggml_type: name, elements in a block, bytes of a block (llama.cpp 0.3.36).
_TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}

# Values of general.file_type (enum llama_ftype). 4 is Ollama's own number for MXFP4.
_FILE_TYPES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "MXFP4", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1"},
    **{10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M"},
    **{16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S"},
    **{22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M"},
    **{28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0"},
    **{37: "TQ2_0", 38: "MXFP4", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0"},
}

# Files that people take for GGUF, by their first bytes, and what to do about it.
_STRANGERS = {
    b"lmgg": ("an old GGML file", "convert it to GGUF"),
    b"tjgg": ("an old GGML file", "convert it to GGUF"),
    b"fmgg": ("an old GGML file", "convert it to GGUF"),
    b"vers": ("a Git LFS pointer instead of the model", "fetch the real file"),
    b"PK\x03\x04": ("a zip archive, such as a PyTorch checkpoint", "convert it to GGUF"),
    b"<!DO": ("a web page instead of the model", "check the address it came from"),
    b"<htm": ("a web page instead of the model", "check the address it came from"),
}
_NO_GGUF = ("not a GGUF file, its first four bytes are wrong", "get it again or convert it to GGUF")


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """An array that was skipped: the type of its elements ("string", "float32"...) and how many."""

    type: str
    length: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: shape as the file has it (fastest dimension first), sizes in bytes.

    `offset` counts from Header.data_offset; offset + n_bytes is known to lie inside the file.
    """

    name: str
    type_name: str
    shape: tuple[int, ...]
    n_bytes: int
    offset: int

    @property
    def n_elements(self) -> int:
        """The product of the shape."""
        return _product(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """What the file says about itself. `size` and `data_offset` are bytes.

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
        """For example "llama", "qwen3", "bert"; "clip" for a projector; "unknown" if not said."""
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

        Models without grouped queries do not say it: they have as many as attention heads.
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
        """The quantisation as people call it: "Q4_K_M", "F16", "unknown"."""
        value = self.metadata.get("general.file_type")
        return _FILE_TYPES.get(value, "unknown") if _is_count(value) else "unknown"

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
        """A number said once for all layers, or one by one; () if it is neither."""
        value = self.value(key)
        if _is_count(value):
            return (value,) * self.block_count
        if isinstance(value, tuple) and all(_is_count(each) for each in value):
            return value[: self.block_count]
        return ()

    def _head_length(self, key: str) -> int:
        said = self.number(key)
        if said is not None:
            return said
        heads = self.head_count
        return (self.embedding_length or 0) // heads if heads else 0


def read_header(source: Path | BinaryIO, *, arrays: bool = False) -> Header:
    """Read and check the header of a GGUF file, given by its path or open for reading.

    Arrays longer than SHORT_ARRAY are skipped and become ArrayInfo, unless `arrays`. Strings that
    are not UTF-8 get replacement characters (vocabularies hold odd bytes); keys and tensor names
    must be UTF-8. Raises InvalidModel, also when the file cannot be opened or read.
    """
    try:
        if not isinstance(source, Path):
            return _read(_Window(source), arrays)
        if not stat.S_ISREG(source.stat().st_mode):  # opening a pipe or a device may never return
            _refuse("it is not a regular file", "put the GGUF file itself in its place")
        with source.open("rb", buffering=0) as file:
            return _read(_Window(file), arrays)
    except OSError as error:
        raise InvalidModel(
            f"cannot read the model file ({reason(error)}), make it readable or get it again"
        ) from error


def joined(shards: Sequence[Header]) -> Header:
    """The header of a model whose tensors lie in several files, the first of which has the metadata. Where a tensor lies within
    its file is only right for a single one."""
    first, *others = shards
    if not others:
        return first
    tensors = tuple(tensor for header in shards for tensor in header.tensors)
    return replace(first, tensors=tensors, size=sum(header.size for header in shards))


def _read(window: _Window, arrays: bool) -> Header:
    # 1) what kind of file
    magic = window.peek(4)
    if magic != b"GGUF":
        what, way_out = _STRANGERS.get(magic, _NO_GGUF)
        _refuse(f"it is {what}", way_out)
    _, version, n_tensors, n_pairs = window.unpack(_HEAD)
    if version & 0xFFFF == 0:  # 3 reads as 0x03000000
        _refuse("it is big endian", "get the little-endian one or convert it on this machine")
    if version not in (2, 3):
        _refuse(f"it has GGUF version {version}", "get or convert it in version 3 (or 2)")

    # 2) metadata; a pair takes 13 bytes at least, a tensor 24
    if n_pairs > min(MAX_PAIRS, window.left // 13):
        _refuse(f"it claims {n_pairs} metadata entries")
    if n_tensors > min(MAX_TENSORS, window.left // 24):
        _refuse(f"it claims {n_tensors} tensors")
    values = _Values(window, arrays)
    metadata: dict[str, Any] = {}
    alignment = 32
    for _ in range(n_pairs):
        key = _name(window, "metadata key")
        if key in metadata:
            _refuse(f"metadata key {_shown(key)} occurs twice")
        (type_number,) = window.unpack(_U32)
        metadata[key] = values.read(type_number, key)
        if key == "general.alignment":
            alignment = _alignment(type_number, metadata[key])

    # 3) tensors
    placed = list(_tensors(window, n_tensors, alignment))
    data_offset = _pad(window.offset, alignment)
    end = placed[-1].offset + placed[-1].n_bytes if placed else 0
    if placed and data_offset + end > window.size:
        _refuse(f"{data_offset + end - window.size} bytes of tensors are missing")
    header = Header(version, metadata, tuple(placed), data_offset, window.size)
    if header.block_count > MAX_BLOCKS:
        _refuse(f"it claims {header.block_count} layers")
    return header


def _tensors(window: _Window, count: int, alignment: int) -> Iterator[Tensor]:
    """The tensor list. Each must begin where the one before it ends, padded, as llama.cpp demands:
    thus none overlap, and the last one's end bounds them all."""
    names: set[str] = set()
    expected = 0
    for _ in range(count):
        name = _name(window, "tensor name")
        if name in names:
            _refuse(f"tensor {_shown(name)} occurs twice")
        names.add(name)
        (n_dimensions,) = window.unpack(_U32)
        if n_dimensions > MAX_DIMENSIONS:
            _refuse(f"tensor {_shown(name)} has {n_dimensions} dimensions")
        shape = tuple(window.unpack(_U64)[0] for _ in range(n_dimensions))
        n_elements = _product(shape)
        if not 0 < n_elements < 2**63:
            _refuse(f"tensor {_shown(name)} has an impossible shape")
        type_number, offset = window.unpack(_TENSOR_END)
        if type_number not in _TENSOR_TYPES:
            _refuse(f"tensor {_shown(name)} has the unknown type {type_number}", _NEW_OR_DAMAGED)
        type_name, block_length, block_bytes = _TENSOR_TYPES[type_number]
        if (shape[0] if shape else 1) % block_length:
            _refuse(f"a row of tensor {_shown(name)} is not made of whole {type_name} blocks")
        if offset != expected:
            _refuse(f"tensor {_shown(name)} begins at {offset} instead of {expected}")
        n_bytes = n_elements // block_length * block_bytes
        expected = _pad(offset + n_bytes, alignment)
        yield Tensor(name, type_name, shape, n_bytes, offset)


class _Window:
    """The part of the file that is being looked at, moved forward as needed.

    `data` are the bytes at file position `start`; `position` counts within `data` and may lie past
    its end after a skip, but never past the file's.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        self.data = b""
        self.start = 0
        self.position = 0

    @property
    def offset(self) -> int:
        return self.start + self.position

    @property
    def left(self) -> int:
        return self.size - self.offset

    def fill(self, length: int) -> None:
        """Make the next `length` bytes available in `data` at `position`."""
        if len(self.data) - self.position >= length:
            return
        if length > self.left:
            _refuse("it ends in the middle of its header")
        self.start, self.position = self.offset, 0
        self.file.seek(self.start)
        self.data = _read_fully(self.file, max(length, _WINDOW))
        if len(self.data) < length:  # it was cut short while we read
            _refuse("it ends in the middle of its header")

    def peek(self, length: int) -> bytes:
        if length > self.left:
            _refuse("it is too short to be a GGUF file")
        self.fill(length)
        return self.data[self.position : self.position + length]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        self.fill(layout.size)
        values = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values

    def take(self, length: int) -> bytes:
        self.fill(length)
        self.position += length
        return self.data[self.position - length : self.position]

    def skip(self, length: int) -> None:
        if length > self.left:
            _refuse("it ends in the middle of its header")
        self.position += length

    def string(self, longest: int) -> bytes:
        (length,) = self.unpack(_U64)
        if length > longest:
            _refuse(f"it has a string of {length} bytes")
        return self.take(length)

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings. The loop that vocabularies spend their time in."""
        unpack, data, position = _U64.unpack_from, self.data, self.position
        last = len(data) - 8
        for _ in range(count):
            if position > last:
                self.position = position
                self.fill(8)
                data, position = self.data, self.position
                last = len(data) - 8
            length = unpack(data, position)[0]
            if length > MAX_STRING_BYTES:
                _refuse(f"it has a string of {length} bytes")
            position += 8 + length
        self.position = position
        self.skip(0)  # did the last string end inside the file?


class _Values:
    """Reads metadata values and keeps account of the memory that they take together."""

    def __init__(self, window: _Window, arrays: bool) -> None:
        self.window = window
        self.arrays = arrays
        self.strings_left = MAX_STRINGS
        self.elements_left = MAX_KEPT_ELEMENTS
        self.bytes_left = MAX_KEPT_BYTES

    def read(self, type_number: int, key: str) -> Any:
        if type_number == _STRING:
            return self._text()
        if type_number == _ARRAY:
            return self._array(key)
        if type_number not in _SCALARS:
            _refuse(f"metadata key {_shown(key)} has the unknown type {type_number}")
        layout = _SCALARS[type_number][1]
        return _elements(type_number, self.window.take(layout.size))[0]

    def _array(self, key: str) -> tuple[Any, ...] | ArrayInfo:
        (type_number,), (length,) = self.window.unpack(_U32), self.window.unpack(_U64)
        if length > MAX_ARRAY_LENGTH:
            _refuse(f"metadata key {_shown(key)} claims {length} elements")
        keep = self.arrays or length <= SHORT_ARRAY
        if keep:
            self.elements_left -= length
            if self.elements_left < 0:
                _refuse("its metadata arrays are too long")
        if type_number == _STRING:
            return self._strings(key, length, keep)
        if type_number not in _SCALARS:
            kind = "arrays" if type_number == _ARRAY else f"the unknown type {type_number}"
            _refuse(f"metadata key {_shown(key)} is an array of {kind}")
        type_name, layout = _SCALARS[type_number]
        if not keep:
            self.window.skip(length * layout.size)
            return ArrayInfo(type_name, length)
        self._spend(length * layout.size)
        return _elements(type_number, self.window.take(length * layout.size))

    def _strings(self, key: str, length: int, keep: bool) -> tuple[str, ...] | ArrayInfo:
        self.strings_left -= length
        if self.strings_left < 0 or length * 8 > self.window.left:
            _refuse(f"metadata key {_shown(key)} claims {length} strings")
        if keep:
            return tuple(self._text() for _ in range(length))
        self.window.skip_strings(length)
        return ArrayInfo("string", length)

    def _text(self) -> str:
        raw = self.window.string(MAX_STRING_BYTES)
        self._spend(len(raw))
        return raw.decode("utf-8", "replace")

    def _spend(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            _refuse("its metadata is too long")


def _elements(type_number: int, raw: bytes) -> tuple[Any, ...]:
    layout = _SCALARS[type_number][1]
    values = tuple(value for (value,) in layout.iter_unpack(raw))
    if type_number == _BOOL:
        if raw.strip(b"\x00\x01"):
            _refuse("it has a truth value that is neither 0 nor 1")
        return tuple(value == 1 for value in values)
    if type_number == _FLOAT32:
        return tuple(_shortest(value) for value in values)
    return values


def _shortest(value: float) -> float:
    """The float with the fewest digits that is the same in 32 bits: 1e-05, not 9.99999974e-06."""
    for digits in (6, 7, 8):
        candidate = float(f"{value:.{digits}g}")
        if candidate == value or struct.pack("<f", candidate) == struct.pack("<f", value):
            return candidate
    return float(f"{value:.9g}")


def _name(window: _Window, what: str) -> str:
    try:
        return window.string(MAX_KEY_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        _refuse(f"it has a {what} that is not UTF-8")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 64 else name[:61] + "...")


def _alignment(type_number: int, value: Any) -> int:
    if type_number == _UINT32 and 0 < value <= MAX_ALIGNMENT and value & (value - 1) == 0:
        return int(value)
    _refuse("its general.alignment is not a power of two")  # llama.cpp aborts on these


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _pad(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _read_fully(file: BinaryIO, length: int) -> bytes:
    """Up to `length` bytes: an unbuffered file may give fewer at a time."""
    data = file.read(length)
    while len(data) < length and (more := file.read(length - len(data))):
        data += more
    return data


_NEW_OR_DAMAGED = "it is damaged or newer than this program, get it again in another quantisation"
_DAMAGED = "it is damaged or cut off, get it again"


def _refuse(why: str, way_out: str = _DAMAGED) -> NoReturn:
    """Raise InvalidModel, whose message says what is wrong and what to do."""
    raise InvalidModel(f"the model file cannot be used: {why}; {way_out}")

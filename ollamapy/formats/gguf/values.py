"""Metadata values: scalars, strings and arrays, within a budget for all of them together."""

from __future__ import annotations

import struct
from typing import Any

from .header import ArrayInfo
from .refusal import refuse, refuse_twice, shown
from .window import MAX_STRING_BYTES, Window

# Real headers: 40 pairs, 262,144 tokens, 600,000 merges, 20 MB.
MAX_ARRAY_LENGTH = 64 * 2**20
MAX_STRINGS = 8 * 2**20  # in all arrays together: one costs 0.1 microseconds to skip
MAX_KEPT_ELEMENTS = 2 * 2**20  # in all arrays together
MAX_KEPT_BYTES = 128 * 2**20  # of all strings and kept arrays together

SHORT_ARRAY = 1_024
"""Arrays up to this length are always kept: lists with an entry for each layer, no vocabularies."""

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

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
_TOKENS = "tokenizer.ggml.tokens"
UINT32 = 4


class Values:
    """Reads metadata values and keeps account of the memory that they take together."""

    def __init__(self, window: Window, arrays: bool, checks_tokens: bool = False) -> None:
        self.window = window
        self.arrays = arrays
        self.checks_tokens = checks_tokens
        self.strings_left = MAX_STRINGS
        self.elements_left = MAX_KEPT_ELEMENTS
        self.bytes_left = MAX_KEPT_BYTES

    def read(self, type_number: int, key: str) -> Any:
        if type_number == _STRING:
            return self._text()
        if type_number == _ARRAY:
            return self._array(key)
        if type_number not in _SCALARS:
            refuse(f"metadata key {shown(key)} has the unknown type {type_number}")
        layout = _SCALARS[type_number][1]
        return _elements(type_number, self.window.take(layout.size))[0]

    def _array(self, key: str) -> tuple[Any, ...] | ArrayInfo:
        (type_number,), (length,) = self.window.unpack(_U32), self.window.unpack(_U64)
        if length > MAX_ARRAY_LENGTH:
            refuse(f"metadata key {shown(key)} claims {length} elements")
        keep = self.arrays or length <= SHORT_ARRAY
        if keep:
            self.elements_left -= length
            if self.elements_left < 0:
                refuse("its metadata arrays are too long")
        if type_number == _STRING:
            return self._strings(key, length, keep)
        if type_number not in _SCALARS:
            kind = "arrays" if type_number == _ARRAY else f"the unknown type {type_number}"
            refuse(f"metadata key {shown(key)} is an array of {kind}")
        type_name, layout = _SCALARS[type_number]
        if not keep:
            self.window.skip(length * layout.size)
            return ArrayInfo(type_name, length)
        self._spend(length * layout.size)
        return _elements(type_number, self.window.take(length * layout.size))

    def _strings(self, key: str, length: int, keep: bool) -> tuple[str, ...] | ArrayInfo:
        self.strings_left -= length
        if self.strings_left < 0 or length * 8 > self.window.left:
            refuse(f"metadata key {shown(key)} claims {length} strings")
        if keep:
            return tuple(self._text() for _ in range(length))
        if not (self.checks_tokens and key == _TOKENS):
            self.window.skip_strings(length)
        elif (twice := self.window.skip_distinct_strings(length)) is not None:
            refuse_twice(twice.decode("utf-8", "replace"))
        return ArrayInfo("string", length)

    def _text(self) -> str:
        raw = self.window.string(MAX_STRING_BYTES)
        self._spend(len(raw))
        return raw.decode("utf-8", "replace")

    def _spend(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            refuse("its metadata is too long")


def _elements(type_number: int, raw: bytes) -> tuple[Any, ...]:
    layout = _SCALARS[type_number][1]
    values = tuple(value for (value,) in layout.iter_unpack(raw))
    if type_number == _BOOL:
        if raw.strip(b"\x00\x01"):
            refuse("it has a truth value that is neither 0 nor 1")
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

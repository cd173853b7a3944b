"""Go's values as a template sees them.

Go's bool, int, float64, complex128 and string are Python's own bool, int, float, complex and str;
all else is one of the classes here. A template reaches only what these classes hold: fields are
looked up in :class:`Struct` and :class:`Map`, methods in :class:`GoType`, never with getattr.

A Go string is bytes. Here it is a str in which each byte that is not UTF-8 is a surrogate U+DC80
to U+DCFF, as in Python's ``surrogateescape``; :func:`clean` keeps all other surrogates out.

Ollama's own types are in ``types.py``, how values are written in ``printing.py`` and ``marshal.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Value = Any
"""Any Go value: see the module's docstring."""

MAX_CHARACTERS = 16 * 1024 * 1024
"""Longest text that one call may print, and that one render may give."""


class GoError(Exception):
    """What Go calls an error while it executes a template; the message is Go's, or close to it."""


class StructField(NamedTuple):
    """An exported field, and how encoding/json writes it."""

    name: str
    json: str
    omit_empty: bool = False


def _no_value() -> Value:
    return NIL


@dataclass(slots=True, eq=False)
class GoType:
    """A type other than the basic ones. ``name`` is what %T prints; ``elem`` belongs to a map, a
    slice or a pointer; ``methods`` are those a template can call, all without arguments; ``zero``
    makes the value of a missing key in a map of this type's values."""

    name: str
    kind: str
    elem: GoType | None = None
    fields: tuple[StructField, ...] = ()
    methods: dict[str, Callable[[Value], Value]] = field(default_factory=dict)
    zero: Callable[[], Value] = _no_value

    @property
    def is_stringer(self) -> bool:
        """Whether fmt prints it with its own String method."""
        return "String" in self.methods


class Nothing:
    """:data:`INVALID` and :data:`NIL`, the two absences of a value."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


INVALID = Nothing("INVALID")
"""No value at all: what a pipeline is left with when its value is nil."""

NIL = Nothing("NIL")
"""An ``interface {}`` that holds nothing, as a missing key or JSON's null gives it. Unlike INVALID it
has a type, so a field of it is an error."""


class Uint8(int):
    """A byte."""


UINT8 = GoType("uint8", "uint8")
BYTES = GoType("[]uint8", "slice", UINT8)


class Slice:
    """A window of a backing sequence, or nil. ``cap`` counts from ``start``."""

    __slots__ = ("type", "backing", "start", "length", "cap", "is_nil")

    def __init__(
        self,
        type: GoType,
        backing: Sequence[Value] | None,
        start: int = 0,
        length: int | None = None,
        cap: int | None = None,
    ) -> None:
        self.type = type
        self.is_nil = backing is None
        self.backing: Sequence[Value] = () if backing is None else backing
        self.start = start
        self.length = len(self.backing) if length is None else length
        self.cap = len(self.backing) - start if cap is None else cap

    def items(self) -> Sequence[Value]:
        return self.backing[self.start : self.start + self.length]

    def at(self, index: int) -> Value:
        item = self.backing[self.start + index]
        return Uint8(item) if self.type.elem is UINT8 else item


class Map:
    """A map with strings as keys, or nil. Go's maps have no order: its readers sort the keys."""

    __slots__ = ("type", "entries", "is_nil")

    def __init__(self, type: GoType, entries: dict[str, Value] | None) -> None:
        self.type = type
        self.is_nil = entries is None
        self.entries: dict[str, Value] = {} if entries is None else entries

    def get(self, key: str) -> Value:
        """The value of ``key``, or the zero value of the map's elements."""
        found = self.entries.get(key)
        if found is not None:
            return found
        return NIL if self.type.elem is None else self.type.elem.zero()


class Struct:
    """A struct; ``values`` holds its exported fields in order.

    The one with a hidden field (:data:`ORDERED`) keeps it under the name "", which no template can
    write.
    """

    __slots__ = ("type", "values")

    def __init__(self, type: GoType, values: dict[str, Value]) -> None:
        self.type = type
        self.values = values


class Pointer:
    """A pointer to a struct, or nil."""

    __slots__ = ("type", "target")

    def __init__(self, type: GoType, target: Struct | None) -> None:
        self.type = type
        self.target = target


class Function:
    """A ``func`` that range can iterate over: its pairs, in order."""

    __slots__ = ("type", "pairs")

    def __init__(self, type: GoType, pairs: Sequence[tuple[Value, Value]]) -> None:
        self.type = type
        self.pairs = pairs


BASIC: dict[type, str] = {
    str: "string",
    bool: "bool",
    int: "int",
    float: "float64",
    complex: "complex128",
    Uint8: "uint8",
}
"""The basic types and their names."""


def kind_of(value: Value) -> str:
    """reflect's Kind: ``invalid`` for INVALID, ``interface`` for NIL."""
    if basic := BASIC.get(type(value)):
        return basic
    if value is INVALID:
        return "invalid"
    if value is NIL:
        return "interface"
    kind: str = value.type.kind
    return kind


def type_name(value: Value) -> str:
    """What %T prints."""
    if basic := BASIC.get(type(value)):
        return basic
    if value is INVALID or value is NIL:
        return "<nil>"
    name: str = value.type.name
    return name


# ---- strings -------------------------------------------------------------------------------------

_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")


def to_bytes(text: str) -> bytes:
    """The bytes of a Go string."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """The Go string of these bytes."""
    return data.decode("utf-8", "surrogateescape")


def joined(pieces: Sequence[str]) -> str:
    """The Go string of these strings: halves of a character that meet become one."""
    text = "".join(pieces)
    if text.isascii() or not _ESCAPED_BYTE.search(text):
        return text
    return from_bytes(to_bytes(text))


def to_text(go_string: str) -> str:
    """A Go string for the world outside: each byte that is no UTF-8 is U+FFFD, as Go's JSON has it."""
    return go_string if go_string.isascii() else _ESCAPED_BYTE.sub("\ufffd", go_string)


def clean(text: str) -> str:
    """``text`` as Go would decode it: surrogate pairs joined, lone surrogates U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

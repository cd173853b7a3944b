"""The functions that a template can call: Go's builtins and Ollama's four.

``and`` and ``or`` are not here: they do not evaluate all of their operands, see ``execution.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NoReturn
from urllib.parse import quote_plus

from .data import typescript_type
from .marshal import to_json
from .printing import sprint, sprintf, sprintln
from .values import (
    BYTES,
    INVALID,
    NIL,
    Function,
    GoError,
    Map,
    Pointer,
    Slice,
    Struct,
    Uint8,
    Value,
    from_bytes,
    kind_of,
    to_bytes,
    type_name,
)


def truth(value: Value) -> bool:
    """Whether ``if`` takes it: anything but the zero of its type; a struct always."""
    if isinstance(value, Slice):
        return value.length > 0
    if isinstance(value, Map):
        return bool(value.entries)
    if isinstance(value, Pointer):
        return value.target is not None
    if value is INVALID or value is NIL:
        return False
    if isinstance(value, (Struct, Function)):
        return True
    return bool(value)


def _is_nil(value: Value) -> bool:
    if isinstance(value, (Slice, Map)):
        return value.is_nil
    return value is INVALID or (isinstance(value, Pointer) and value.target is None)


_COMPARED = {
    "bool": "bool",
    "int": "int",
    "uint8": "int",  # signs differ, values compare
    "float64": "float",
    "complex128": "complex",
    "string": "string",
}


def _incompatible(first: Value, second: Value) -> NoReturn:
    raise GoError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")


def _equal(first: Value, *others: Value) -> bool:
    """``eq``: whether the first equals any of the others. Values of different types cannot be
    compared, but nothing compares with nil as unequal."""
    if not others:
        raise GoError("missing argument for comparison")
    first = INVALID if first is NIL else first
    kind = _COMPARED.get(kind_of(first))
    for other in others:
        other = INVALID if other is NIL else other
        if _COMPARED.get(kind_of(other)) != kind:
            if first is not INVALID and other is not INVALID:
                _incompatible(first, other)
        elif kind is not None:
            if first == other:
                return True
        elif _equal_references(first, other):
            return True
    return False


def _equal_references(first: Value, other: Value) -> bool:
    """Maps, slices, pointers, structs: only pointers can be equal; the others compare with nil."""
    kinds = {kind_of(first), kind_of(other)}
    if len(kinds) > 1 and "invalid" not in kinds:
        raise GoError(f"non-comparable types {type_name(first)}, {type_name(other)}")
    if _is_nil(first) or _is_nil(other):
        return _is_nil(first) and _is_nil(other)
    if not isinstance(other, Pointer):
        raise GoError(f"non-comparable type {type_name(other)}")
    return isinstance(first, Pointer) and first.target is other.target


def _less(first: Value, second: Value) -> bool:
    """``lt``: numbers of one sort, or strings byte by byte (which is the order of code points)."""
    kinds = [_COMPARED.get(kind_of(value)) for value in (first, second)]
    if None in kinds:
        raise GoError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        _incompatible(first, second)
    if kinds[0] in ("bool", "complex"):
        raise GoError("invalid type for comparison")
    if kinds[0] == "string":
        return to_bytes(first) < to_bytes(second)
    return bool(first < second)


def _less_or_equal(first: Value, second: Value) -> bool:
    return _less(first, second) or _equal(first, second)


def _length(value: Value) -> int:
    value = _followed(value, "len")
    if isinstance(value, str):
        return len(value) if value.isascii() else len(to_bytes(value))
    if isinstance(value, Slice):
        return value.length
    if isinstance(value, Map):
        return len(value.entries)
    raise GoError(f"len of type {type_name(value)}")


def _followed(value: Value, doing: str) -> Value:
    """``value`` with its pointer followed; nil is an error."""
    if value is INVALID or value is NIL:
        raise GoError(f"{doing} of untyped nil")
    if isinstance(value, Pointer):
        if value.target is None:
            raise GoError(f"{doing} of nil pointer")
        return value.target
    return value


def _place(index: Value, limit: int) -> int:
    """An index into a string or slice; ``limit`` itself is still in range."""
    if type(index) not in (int, Uint8):
        kind = "nil" if index is INVALID or index is NIL else f"type {type_name(index)}"
        raise GoError(f"cannot index slice/array with {kind}")
    if not 0 <= index <= limit:
        raise GoError(f"index out of range: {index}")
    return int(index)


def _index(item: Value, *indexes: Value) -> Value:
    if item is INVALID or item is NIL:
        raise GoError("index of untyped nil")
    for index in indexes:
        item = _followed(item, "index")
        if isinstance(item, Map):
            if type(index) is not str:
                raise GoError(f"value has type {type_name(index)}; should be string")
            item = item.get(index)
        elif isinstance(item, (str, Slice)):
            if isinstance(item, str):
                item = Slice(BYTES, to_bytes(item))
            place = _place(index, item.length)
            if place == item.length:
                raise GoError(f"index out of range: {place}")
            item = item.at(place)
        else:
            raise GoError(f"can't index item of type {type_name(item)}")
    return item


def _slice(item: Value, *indexes: Value) -> Value:
    """``slice x i j k`` is Go's x[i:j:k]; a slice may grow again up to its capacity."""
    item = _followed(item, "slice")
    if len(indexes) > 3:
        raise GoError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == 3:
            raise GoError("cannot 3-index slice a string")
        data = to_bytes(item)
        start, end = _window(indexes, len(data), len(data))[:2]
        return from_bytes(data[start:end])
    if not isinstance(item, Slice):
        raise GoError(f"can't slice item of type {type_name(item)}")
    start, end, cap = _window(indexes, item.length, item.cap)
    backing = None if item.is_nil else item.backing
    return Slice(item.type, backing, item.start + start, end - start, cap - start)


def _window(indexes: Sequence[Value], length: int, cap: int) -> tuple[int, int, int]:
    places = [0, length, cap]
    for position, index in enumerate(indexes):
        places[position] = _place(index, cap)
    start, end, most = places
    if start > end or (len(indexes) == 3 and end > most):
        raise GoError(f"invalid slice index: {start} > {end} or {end} > {most}")
    return start, end, most


def printable(value: Value) -> Value:
    """The printed form of ``value``: the target of a pointer, ``<no value>`` for none."""
    if isinstance(value, Pointer) and value.target is not None:
        return value.target
    return "<no value>" if value is INVALID or value is NIL else value


def _as_text(values: Sequence[Value]) -> str:
    """The operands of html, js and urlquery as one string."""
    return sprint([printable(value) for value in values])


_HTML = str.maketrans(
    {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_JS = {
    **{code: f"\\u{code:04X}" for code in (*range(0x20), *map(ord, "<>&="))},
    **{ord(char): "\\" + char for char in "\\'\""},
}


def _js(*values: Value) -> str:
    text = _as_text(values).translate(_JS)
    if text.isascii():
        return text
    return "".join(
        char
        if char.isascii() or char.isprintable() or "\udc80" <= char <= "\udcff"
        else f"\\u{ord(char):04X}"
        for char in text
    )


def _call(function: Value, *_: Value) -> NoReturn:
    """No data of ours holds a function that a template could call."""
    raise GoError(f"non-function of type {type_name(function)}")


def _current_date(*_: str) -> str:
    return date.today().isoformat()


def _yesterday(*_: str) -> str:
    return (date.today() - timedelta(days=1)).isoformat()


@dataclass(frozen=True, slots=True)
class Builtin:
    """A function: how many operands it must have, how many it may have (None: any number), and
    the parameters, counted from the first, that take strings only (None: all)."""

    run: Callable[..., Value]
    least: int = 1
    most: int | None = 1
    strings: int | None = 0


BUILTINS: dict[str, Builtin] = {
    "call": Builtin(_call, 1, None),
    "html": Builtin(lambda *values: _as_text(values).translate(_HTML), 0, None),
    "index": Builtin(_index, 1, None),
    "slice": Builtin(_slice, 1, None),
    "js": Builtin(_js, 0, None),
    "len": Builtin(_length),
    "not": Builtin(lambda value: not truth(value)),
    "print": Builtin(lambda *values: sprint(values), 0, None),
    "printf": Builtin(lambda form, *values: sprintf(form, values), 1, None, 1),
    "println": Builtin(lambda *values: sprintln(values), 0, None),
    "urlquery": Builtin(lambda *values: quote_plus(to_bytes(_as_text(values)), safe=""), 0, None),
    "eq": Builtin(_equal, 1, None),
    "ne": Builtin(lambda first, second: not _equal(first, second), 2, 2),
    "lt": Builtin(_less, 2, 2),
    "le": Builtin(_less_or_equal, 2, 2),
    "gt": Builtin(lambda first, second: not _less_or_equal(first, second), 2, 2),
    "ge": Builtin(lambda first, second: not _less(first, second), 2, 2),
}
SHORT_CIRCUIT = {"and": False, "or": True}

_OLLAMAS: dict[str, Builtin] = {
    "json": Builtin(to_json),
    "currentDate": Builtin(_current_date, 0, None, None),
    "yesterdayDate": Builtin(_yesterday, 0, None, None),
    "toTypeScriptType": Builtin(typescript_type),
}
FUNCTIONS = {**BUILTINS, **_OLLAMAS}

NAMES = frozenset({*FUNCTIONS, *SHORT_CIRCUIT})
"""What a template may call."""

"""``encoding/json``: a value as Go's json.Marshal writes it. Knows nothing of templates."""

from __future__ import annotations

import base64
import math
import re
from typing import Any

from .floats import plain, scientific, shortest
from .types import ORDERED, PROPERTY_TYPE
from .values import INVALID, NIL, UINT8, Map, Pointer, Slice, Struct, Value


class _Unsupported(Exception):
    """encoding/json has no form for this value."""


_JSON_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in (*range(0x20), 0x3C, 0x3E, 0x26, 0x2028, 0x2029)},
    **{chr(0xDC00 + byte): "\\ufffd" for byte in range(0x80, 0x100)},
    "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\",
}  # fmt: skip
_JSON_SPECIAL = re.compile('[\x00-\x1f<>&\u2028\u2029\udc80-\udcff"\\\\]')


def to_json(value: Value) -> str:
    """json.Marshal: keys of maps sorted, HTML's characters escaped; "" for what has no JSON."""
    try:
        return _json(value)
    except _Unsupported:
        return ""


def _json_string(text: str) -> str:
    return '"' + _JSON_SPECIAL.sub(lambda found: _JSON_ESCAPES[found[0]], text) + '"'


def _json(value: Value) -> str:
    if type(value) is str:
        return _json_string(value)
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if type(value) is float:
        return _json_float(value)
    if value is NIL or value is INVALID:
        return "null"
    if isinstance(value, Struct):
        return _json_struct(value)
    if isinstance(value, Slice):
        return _json_slice(value)
    if isinstance(value, Map):
        return "null" if value.is_nil else _json_object(sorted(value.entries.items()))
    if isinstance(value, Pointer):
        if value.target is None:
            return "null"
        if value.target.type is ORDERED:
            return _json_object(value.target.values[""].entries.items())
        return _json(value.target)
    raise _Unsupported


def _json_object(items: Any) -> str:
    return "{" + ",".join(f"{_json_string(key)}:{_json(item)}" for key, item in items) + "}"


def _json_struct(value: Struct) -> str:
    members = [
        f'"{item.json}":{_json(value.values[item.name])}'
        for item in value.type.fields
        if not (item.omit_empty and _is_empty(value.values[item.name]))
    ]
    return "{" + ",".join(members) + "}"


def _json_slice(value: Slice) -> str:
    if value.is_nil:
        return "null"
    items = value.items()
    if value.type.elem is UINT8:
        return '"' + base64.b64encode(bytes(items)).decode() + '"'
    if value.type is PROPERTY_TYPE and len(items) == 1:
        return _json_string(items[0])
    return "[" + ",".join(map(_json, items)) + "]"


def _is_empty(value: Value) -> bool:
    """What ``omitempty`` leaves out."""
    if isinstance(value, Slice):
        return value.length == 0
    if isinstance(value, Map):
        return not value.entries
    if isinstance(value, Pointer):
        return value.target is None
    return value is NIL or value == ""


def _json_float(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        raise _Unsupported
    if value and not 1e-6 <= abs(value) < 1e21:
        text = scientific(*shortest(value), "e")
        return text[:-2] + text[-1] if text[-4:-1] == "e-0" else text
    return plain(*shortest(value))

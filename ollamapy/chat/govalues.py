"""Go's values as a template sees them, and those that Ollama hands to a template.

Go's bool, int, float64, complex128 and string are Python's own bool, int, float, complex and str;
all else is one of the classes here. A template reaches nothing but what stands in the tables of
this module: fields are looked up in :class:`Struct` and :class:`Map`, methods in
:class:`GoType`, never with getattr.

A Go string is bytes. Here it is a str whose bytes that are no UTF-8 are surrogates U+DC80 to U+DCFF,
as in Python's ``surrogateescape``; :func:`clean` keeps all others out.

How values are written is ``goprint.py``'s affair, which also adds the methods that write.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import TemplateError

Value = Any
"""Any Go value: see the module's docstring."""

MAX_CHARACTERS = 16 * 1024 * 1024
"""Longest text that one call may print, and that one render may give."""


class GoError(Exception):
    """What Go calls an error while it executes a template; the message is Go's, or close to it."""


# ---- types and values ----------------------------------------------------------------------------


class StructField(NamedTuple):
    """An exported field, and how encoding/json writes it."""

    name: str
    json: str
    omit_empty: bool = False


@dataclass(slots=True, eq=False)
class GoType:
    """A type other than the basic ones. ``name`` is what %T prints; ``elem`` belongs to a map, a
    slice or a pointer; ``methods`` are those a template can call, all without arguments."""

    name: str
    kind: str
    elem: GoType | None = None
    fields: tuple[StructField, ...] = ()
    methods: dict[str, Callable[[Value], Value]] = field(default_factory=dict)

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
has a type, so asking it for a field is an error."""


class Uint8(int):
    """A byte."""


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
    """A map with strings as keys, or nil. In what order its keys stand is the reader's affair: Go
    has none, templates and JSON sort."""

    __slots__ = ("type", "entries", "is_nil")

    def __init__(self, type: GoType, entries: dict[str, Value] | None) -> None:
        self.type = type
        self.is_nil = entries is None
        self.entries: dict[str, Value] = {} if entries is None else entries

    def get(self, key: str) -> Value:
        """The value of ``key``, or the zero value of the map's elements."""
        found = self.entries.get(key)
        return zero(self.type.elem) if found is None else found


class Struct:
    """A struct; ``values`` holds its exported fields in order.

    The one with a hidden field (:data:`ORDERED`) keeps it under the name "", which no template can
    say.
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


# ---- Ollama's types ------------------------------------------------------------------------------

_ANY = GoType("interface {}", "interface")
_STRING = GoType("string", "string")
UINT8 = GoType("uint8", "uint8")

BYTES = GoType("[]uint8", "slice", UINT8)
STRINGS = GoType("[]string", "slice", _STRING)
LIST = GoType("[]interface {}", "slice", _ANY)
OBJECT = GoType("map[string]interface {}", "map", _ANY)

IMAGE = GoType("api.ImageData", "slice", UINT8)
IMAGES = GoType("[]api.ImageData", "slice", IMAGE)
PROPERTY_TYPE = GoType("api.PropertyType", "slice", _STRING)
PROPERTY = GoType(
    "api.ToolProperty",
    "struct",
    fields=(
        StructField("AnyOf", "anyOf", True),
        StructField("Type", "type", True),
        StructField("Items", "items", True),
        StructField("Description", "description", True),
        StructField("Enum", "enum", True),
        StructField("Properties", "properties", True),
        StructField("Required", "required", True),
    ),
)
PROPERTY_LIST = GoType("[]api.ToolProperty", "slice", PROPERTY)
PROPERTY_MAP = GoType("map[string]api.ToolProperty", "map", PROPERTY)
ORDERED = GoType("api.ToolPropertiesMap", "struct")
ORDER = GoType("*orderedmap.Map[string,github.com/ollama/ollama/api.ToolProperty]", "ptr")
ORDERED_POINTER = GoType("*api.ToolPropertiesMap", "ptr", ORDERED)
PAIRS = GoType("iter.Seq2[string,github.com/ollama/ollama/api.ToolProperty]", "func")

PROPERTIES = GoType("template.templateProperties", "map", PROPERTY)
PARAMETERS = GoType(
    "template.templateToolFunctionParameters",
    "struct",
    fields=(
        StructField("Type", "type"),
        StructField("Defs", "$defs", True),
        StructField("Items", "items", True),
        StructField("Required", "required", True),
        StructField("Properties", "properties"),
    ),
)
TOOL_FUNCTION = GoType(
    "template.templateToolFunction",
    "struct",
    fields=(
        StructField("Name", "name"),
        StructField("Description", "description"),
        StructField("Parameters", "parameters"),
    ),
)
TOOL = GoType(
    "template.templateTool",
    "struct",
    fields=(
        StructField("Type", "type"),
        StructField("Items", "items", True),
        StructField("Function", "function"),
    ),
)
TOOLS = GoType("template.templateTools", "slice", TOOL)

ARGUMENTS = GoType("template.templateArgs", "map", _ANY)
CALL_FUNCTION = GoType(
    "template.templateToolCallFunction",
    "struct",
    fields=tuple(StructField(name, name) for name in ("Index", "Name", "Arguments")),
)
CALL = GoType(
    "template.templateToolCall",
    "struct",
    fields=tuple(StructField(name, name) for name in ("ID", "Function")),
)
CALLS = GoType("[]template.templateToolCall", "slice", CALL)
MESSAGE = GoType(
    "template.templateMessage",
    "struct",
    fields=tuple(
        StructField(name, name)
        for name in ("Role", "Content", "Thinking", "Images", "ToolCalls", "ToolName", "ToolCallID")
    ),
)
MESSAGE_POINTER = GoType("*template.templateMessage", "ptr", MESSAGE)
MESSAGES = GoType("[]*template.templateMessage", "slice", MESSAGE_POINTER)


def zero(type: GoType | None) -> Value:
    """The zero value of a map's elements: the only maps are of anything and of tool properties."""
    return _property({}) if type is PROPERTY else NIL


# ---- from a request's JSON to values -------------------------------------------------------------


def message_value(message: Mapping[str, Any]) -> Pointer:
    """One message in the shape of Ollama's API (role, content, thinking, images, tool_calls,
    tool_name, tool_call_id). What has a wrong type counts as absent. Images are bytes or base64."""
    calls = [_call(call) for call in _list(message, "tool_calls") if isinstance(call, Mapping)]
    images = [_image(image) for image in _list(message, "images")]
    values: dict[str, Value] = {
        "Role": _text(message, "role"),
        "Content": _text(message, "content"),
        "Thinking": _text(message, "thinking"),
        "Images": Slice(IMAGES, images or None),
        "ToolCalls": Slice(CALLS, calls or None),
        "ToolName": _text(message, "tool_name"),
        "ToolCallID": _text(message, "tool_call_id"),
    }
    return Pointer(MESSAGE_POINTER, Struct(MESSAGE, values))


def tools_value(tools: Sequence[Mapping[str, Any]] | None) -> Slice:
    """The tools of a request in the shape of Ollama's API; unknown keys are dropped, as there.
    None, no tools given, prints as ``null``; an empty list as ``[]``."""
    return Slice(TOOLS, None if tools is None else [_tool(tool) for tool in tools])


def any_value(value: Any) -> Value:
    """A value of JSON, as Go decodes it into an ``interface {}``: every number is a float64."""
    if value is None:
        return NIL
    if isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return float(value) if abs(value) < 2**1023 else math.copysign(math.inf, value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return Map(OBJECT, {clean(str(key)): any_value(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Slice(LIST, [any_value(item) for item in value])
    raise TemplateError(f"a {type(value).__name__} cannot be given to a chat template")


def clean(text: str) -> str:
    """``text`` as Go would decode it: surrogate pairs joined, lone surrogates U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    return clean(value) if isinstance(value, str) else ""


def _list(source: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = source.get(key)
    return value if isinstance(value, (list, tuple)) else ()


def _object(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = source.get(key)
    return value if isinstance(value, Mapping) else {}


def _strings(source: Mapping[str, Any], key: str, type: GoType = STRINGS) -> Slice:
    value = source.get(key)
    if type is PROPERTY_TYPE and isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return Slice(type, None)
    return Slice(type, [clean(item) if isinstance(item, str) else "" for item in value])


def _image(image: Any) -> Slice:
    if isinstance(image, str):
        try:
            image = base64.b64decode(image)
        except (ValueError, binascii.Error):
            image = b""
    return Slice(IMAGE, image if isinstance(image, bytes) else b"")


def _call(call: Mapping[str, Any]) -> Struct:
    function = _object(call, "function")
    arguments = None
    if "arguments" in function:
        given = _object(function, "arguments")
        arguments = {clean(str(key)): any_value(value) for key, value in given.items()}
    index = function.get("index")
    values = {
        "Index": index if type(index) is int else 0,
        "Name": _text(function, "name"),
        "Arguments": Map(ARGUMENTS, arguments),
    }
    return Struct(CALL, {"ID": _text(call, "id"), "Function": Struct(CALL_FUNCTION, values)})


def _tool(tool: Mapping[str, Any]) -> Struct:
    function = _object(tool, "function")
    given = _object(function, "parameters")
    parameters: dict[str, Value] = {
        "Type": _text(given, "type"),
        "Defs": any_value(given.get("$defs")),
        "Items": any_value(given.get("items")),
        "Required": _strings(given, "required"),
        "Properties": Map(PROPERTIES, _properties(given)),
    }
    values: dict[str, Value] = {
        "Name": _text(function, "name"),
        "Description": _text(function, "description"),
        "Parameters": Struct(PARAMETERS, parameters),
    }
    return Struct(
        TOOL,
        {
            "Type": _text(tool, "type"),
            "Items": any_value(tool.get("items")),
            "Function": Struct(TOOL_FUNCTION, values),
        },
    )


def _properties(given: Mapping[str, Any]) -> dict[str, Value] | None:
    """In the order given, which only a nested property's own JSON keeps."""
    value = given.get("properties")
    if not isinstance(value, Mapping):
        return None
    return {
        clean(str(name)): _property(schema if isinstance(schema, Mapping) else {})
        for name, schema in value.items()
    }


def _property(given: Mapping[str, Any]) -> Struct:
    options = given.get("anyOf")
    any_of = None
    if isinstance(options, (list, tuple)):
        any_of = [_property(option if isinstance(option, Mapping) else {}) for option in options]
    enum = given.get("enum")
    choices = [any_value(item) for item in enum] if isinstance(enum, (list, tuple)) else None
    nested = _properties(given)
    ordered = None if nested is None else Struct(ORDERED, {"": Map(PROPERTY_MAP, nested)})
    values: dict[str, Value] = {
        "AnyOf": Slice(PROPERTY_LIST, any_of),
        "Type": _strings(given, "type", PROPERTY_TYPE),
        "Items": any_value(given.get("items")),
        "Description": _text(given, "description"),
        "Enum": Slice(LIST, choices),
        "Properties": Pointer(ORDERED_POINTER, ordered),
        "Required": _strings(given, "required"),
    }
    return Struct(PROPERTY, values)


# ---- methods -------------------------------------------------------------------------------------

_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def typescript_type(value: Value) -> str:
    """Ollama's toTypeScriptType: the TypeScript type of a tool's property."""
    if not isinstance(value, Struct) or value.type is not PROPERTY:
        return "any"
    if value.values["AnyOf"].length:
        return " | ".join(typescript_type(option) for option in value.values["AnyOf"].items())
    names = value.values["Type"].items()
    return " | ".join(_TYPESCRIPT.get(name, "any") for name in names) if names else "any"


def _entries(value: Pointer) -> dict[str, Value]:
    entries: dict[str, Value] = value.target.values[""].entries if value.target else {}
    return entries


PROPERTY.methods["ToTypeScriptType"] = typescript_type
ORDERED_POINTER.methods.update(
    Len=lambda value: len(_entries(value)),
    All=lambda value: Function(PAIRS, tuple(_entries(value).items())),
    ToMap=lambda value: Map(PROPERTY_MAP, dict(_entries(value)) if value.target else None),
)


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

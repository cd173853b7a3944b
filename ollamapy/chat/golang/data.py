"""From a request's JSON to the values that Ollama gives to a template, and the methods of these values.

A value of a wrong type counts as absent.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import TemplateError
from .marshal import to_json
from .types import (
    ARGUMENTS,
    CALL,
    CALL_FUNCTION,
    CALLS,
    IMAGE,
    IMAGES,
    LIST,
    MESSAGE,
    MESSAGE_POINTER,
    OBJECT,
    ORDERED,
    ORDERED_POINTER,
    PAIRS,
    PARAMETERS,
    PROPERTIES,
    PROPERTY,
    PROPERTY_LIST,
    PROPERTY_MAP,
    PROPERTY_TYPE,
    STRINGS,
    TOOL,
    TOOL_FUNCTION,
    TOOLS,
)
from .values import BYTES, NIL, Function, GoError, GoType, Map, Pointer, Slice, Struct, Value, clean


def message_value(message: Mapping[str, Any]) -> Pointer:
    """One message in the shape of Ollama's API (role, content, thinking, images, tool_calls,
    tool_name, tool_call_id). What has a wrong type counts as absent. Images are bytes or base64."""
    given = [call for call in _list(message, "tool_calls") if isinstance(call, Mapping)]
    calls = [_call(call, place) for place, call in enumerate(given)]
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


def _call(call: Mapping[str, Any], place: int) -> Struct:
    function = _object(call, "function")
    arguments = None
    if "arguments" in function:
        given = _object(function, "arguments")
        arguments = {clean(str(key)): any_value(value) for key, value in given.items()}
    index = function.get("index")
    values = {
        "Index": index if type(index) is int else place,
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


PROPERTY.zero = lambda: _property({})
PROPERTY.methods["ToTypeScriptType"] = typescript_type
ORDERED_POINTER.methods.update(
    Len=lambda value: len(_entries(value)),
    All=lambda value: Function(PAIRS, tuple(_entries(value).items())),
    ToMap=lambda value: Map(PROPERTY_MAP, dict(_entries(value)) if value.target else None),
)


def _type_string(value: Slice) -> str:
    names = value.items()
    if len(names) < 2:
        return str(names[0]) if names else ""
    return "[" + " ".join(names) + "]"


def _json_or_braces(value: Map) -> str:
    return "{}" if value.is_nil else to_json(value)


def _json_bytes(value: Value) -> Slice:
    if isinstance(value, Pointer) and value.target is None:
        raise GoError("value method api.ToolPropertiesMap.MarshalJSON called using nil pointer")
    return Slice(BYTES, to_json(value).encode())


TOOLS.methods["String"] = to_json
TOOL.methods["String"] = to_json
ARGUMENTS.methods["String"] = _json_or_braces
PROPERTIES.methods["String"] = _json_or_braces
PROPERTY_TYPE.methods["String"] = _type_string
PROPERTY_TYPE.methods["MarshalJSON"] = _json_bytes
ORDERED_POINTER.methods["MarshalJSON"] = _json_bytes

"""JSON Schemas as the grammar engine takes them: what it refuses, but a schema's author means well, is rewritten.

Pure. What a schema becomes (a grammar, a part of one) is decided by its users.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import InvalidRequest

MAX_DEPTH = 100
"""Objects and lists of a schema's JSON in each other; the engine's parser of JSON ends at 128, and a grammar adds some."""

OPEN = ("additionalProperties", "unevaluatedProperties", "patternProperties")
"""Keywords of a schema that decide about properties that it does not name."""

COMBINING = ("allOf", "anyOf", "oneOf", "$ref", "not", "if", "dependentSchemas")
"""Keywords whose schemas apply to the same value."""

_DICTS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_DIRECT = (
    *("items", "additionalItems", "contains", "additionalProperties", "unevaluatedProperties"),
    *("unevaluatedItems", "propertyNames", "not", "if", "then", "else"),
)


def usable(schema: Any) -> Any:
    """The schema, rewritten; the given one stays as it is. Raises InvalidRequest if it nests deeper than MAX_DEPTH, and for a
    reference that leads back to itself.

    - ``$schema`` and ``$id`` are left out: nothing is fetched, and references are to the schema itself.
    - What is null is left out: programs write it for what they do not have.
    - ``"type": "any"``, which some write for no type, and patterns with look-around, word boundaries or back references are
      left out.
    - A required property that is not among the properties may have any value.
    - Dates and times are those that Python's and JavaScript's parsers read (RFC 3339 allows more, as a lower-case "t").
    """
    check_depth(schema)
    _check_references(schema)
    return _rewritten(schema)


def check_depth(value: Any) -> None:
    """Raises InvalidRequest if the objects and lists of a JSON value nest deeper than MAX_DEPTH."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return
    raise InvalidRequest(f"a JSON schema nests at most {MAX_DEPTH} objects and lists in each other")


def _inside(value: Any) -> Iterator[Any]:
    """The objects and lists directly in a value."""
    items = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    )
    return (item for item in items if isinstance(item, (Mapping, list)))


def _rewritten(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DICTS and isinstance(value, Mapping):
            found[key] = {name: _rewritten(inner) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            found[key] = [_rewritten(inner) for inner in value]
        elif key in _DIRECT and isinstance(value, list):  # "items" of older drafts
            found[key] = [_rewritten(inner) for inner in value]
        else:
            found[key] = _rewritten(value) if key in _DIRECT else value
    for key in [key for key in found if _is_left_out(key, found[key])]:
        del found[key]
    return _with_times(_with_required(found))


def _is_left_out(key: str, value: Any) -> bool:
    if value is None:
        return key not in ("const", "default")
    if key == "type":
        return value == "any" or (isinstance(value, list) and "any" in value)
    if key == "pattern":
        return isinstance(value, str) and _UNSUPPORTED.search(value) is not None
    return key in ("$schema", "$id") and isinstance(value, str)


_UNSUPPORTED = re.compile(r"\(\?<?[=!]|(?<!\\)(?:\\\\)*\\[1-9bB]")
"""Look-around, word boundaries and back references: no grammar can have them."""


ANY_VALUE: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string", "maxLength": 256},
        {"type": ["number", "boolean", "null", "array", "object"]},
    ]
}
"""The value of a property that is required and not described: a text has a bound, because a model that does not know what
belongs there may write it for ever."""


def _with_required(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with all its required properties among the named ones."""
    others = schema.get("additionalProperties", False)
    nothing: dict[str, Any] | None = {} if schema.get("additionalProperties") is False else None
    properties, required = schema.get("properties", nothing), schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return schema
    if others not in (True, False) or any(
        key in schema for key in (*COMBINING, "patternProperties")
    ):
        return schema
    names = (name for name in required if isinstance(name, str) and name not in properties)
    missing = {name: ANY_VALUE for name in names}
    return {**schema, "properties": {**properties, **missing}} if missing else schema


def closed(schema: Any) -> Any:
    """A schema whose objects have no properties but the named ones, where it leaves that open. Changes the given one.

    JSON Schema would allow any, and a model does invent some; Ollama's grammars allow none. Where schemas are combined into
    one object, closing a part could forbid what another part requires: such a schema stays as it is.
    """
    nodes: list[dict[str, Any]] = []
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict):
            continue
        nodes.append(node)
        if "allOf" in node or ("properties" in node and any(key in node for key in COMBINING)):
            return schema
        for key, value in node.items():
            if key in _DICTS and isinstance(value, dict):
                waiting.extend(value.values())
            elif key in _LISTS and isinstance(value, list):
                waiting.extend(value)
            elif key in _CLOSED_WITHIN:
                waiting.append(value)
    for node in nodes:
        if "properties" in node and not any(key in node for key in OPEN):
            node["additionalProperties"] = False
    return schema


_CLOSED_WITHIN = ("items", "additionalProperties", "contains", "unevaluatedProperties")


# ---- dates and times -------------------------------------------------------------------------------------------------

_MONTHS = r"((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
_YEAR = r"([1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_LEAP = r"(\d\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29"
_DATE = rf"({_YEAR}-{_MONTHS}|{_LEAP})"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{3}(\d{3})?)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"

PATTERNS: Mapping[str, str] = {
    "date-time": f"^{_DATE}T{_TIME}$", "date": f"^{_DATE}$", "time": f"^{_TIME}$",
}  # fmt: skip
"""A format -> the texts of it that every parser reads."""


def _with_times(schema: dict[str, Any]) -> dict[str, Any]:
    form = schema.get("format")
    if not isinstance(form, str) or form not in PATTERNS or "pattern" in schema:
        return schema
    return {
        **{key: value for key, value in schema.items() if key != "format"},
        "pattern": PATTERNS[form],
    }


# ---- references ------------------------------------------------------------------------------------------------------


def embedded(schema: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema that can be a part of another one, and the definitions that it refers to, for the other one's ``$defs``.

    The names of these begin with ``prefix``. Raises InvalidRequest for a reference to what is not in the schema.
    """
    definitions: dict[str, Any] = {}
    names: dict[str, str] = {}  # reference -> name of its definition

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(item) for item in value]
        if not isinstance(value, Mapping):
            return value
        found = {key: renamed(item) for key, item in value.items()}
        if isinstance(reference := value.get("$ref"), str):
            found["$ref"] = f"#/$defs/{defined(reference)}"
        return found

    def defined(reference: str) -> str:
        if reference not in names:
            names[reference] = name = f"{prefix}{len(names)}"
            definitions[name] = renamed(_pointed(schema, reference))
        return names[reference]

    return renamed({key: schema[key] for key in schema if key not in _DEFINITIONS}), definitions


_DEFINITIONS = ("$defs", "definitions")


def _check_references(schema: Any) -> None:
    """Raise InvalidRequest for a reference to nothing but itself, also over others: no answer can satisfy it."""
    sound: set[str] = set()  # references that lead to something
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        waiting.extend(_inside(node))
        followed: dict[str, None] = {}
        while (reference := _reference(node)) and reference not in sound:
            if reference in followed:
                raise InvalidRequest(
                    f"the reference {reference[:80]} of a JSON schema leads back to itself"
                )
            followed[reference] = None
            try:
                node = _pointed(schema, reference)
            except InvalidRequest:
                break  # told where the schema is used
        sound.update(followed)


def _reference(schema: Any) -> str:
    """The place in the whole schema that a part of it refers to, "" if none."""
    found = schema.get("$ref") if isinstance(schema, Mapping) else None
    return found if isinstance(found, str) and found.startswith("#/") else ""


def _pointed(schema: Any, reference: str) -> Any:
    """What a reference of the form ``#/a/b`` refers to. Raises InvalidRequest where there is nothing, and for other forms."""
    start, *parts = reference.split("/")
    found = schema if start == "#" else None
    for part in parts:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        else:
            found = found.get(part) if isinstance(found, Mapping) else None
    if found is None:
        raise InvalidRequest(f"it refers to {reference[:80]}, which is not in it")
    return found

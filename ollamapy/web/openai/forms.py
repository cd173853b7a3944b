"""The form that an answer must have, by the fields of OpenAI's, llama.cpp's and vLLM's clients. Pure.

OpenAI      response_format: {"type": "json_object" | "json_schema" ...}
llama.cpp   grammar: GBNF, json_schema: a schema, response_format.schema
vLLM        structured_outputs: {"json" | "regex" | "choice" | "grammar" | "json_object": ...}, and guided_json and so on
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...types import Constraint

FIELDS = {
    "grammar": "string", "json_schema": "any", "structured_outputs": "map[string]interface {}", "guided_json": "any",
    "guided_regex": "string", "guided_choice": "[]string", "guided_grammar": "string",
}  # fmt: skip
"""Fields of every request for an answer -> their Go types (body.py)."""

ANY_JSON = Constraint("json")


def constraint(given: Mapping[str, Any], own: Constraint | None) -> Constraint | None:
    """The form that a request's fields name; ``own`` is that of the path's own field. Raises InvalidRequest for two of them."""
    found = [("the request's format", own)] if own is not None else []
    found += _named(given)
    if len(found) > 1:
        raise InvalidRequest(f"give {found[0][0]} or {found[1][0]}, not both")
    return found[0][1] if found else None


def response_format(form: Mapping[str, Any]) -> Constraint | None:
    """The form of a chat's or a completion's ``response_format``. Raises InvalidRequest."""
    kind = form.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return json_object(form, "response_format")
    if kind != "json_schema":
        raise InvalidRequest("response_format.type must be text, json_object or json_schema")
    described = form.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    return _schema(schema, "response_format.json_schema.schema")


def json_object(form: Mapping[str, Any], where: str) -> Constraint:
    """Any object, or one of a schema beside the type, as llama.cpp's clients send it. Raises InvalidRequest."""
    schema = form.get("schema")
    return ANY_JSON if schema is None or schema == {} else _schema(schema, f"{where}.schema")


def text_format(form: Any) -> Constraint | None:
    """The form of a response's ``text.format``. Raises InvalidRequest."""
    kind = form.get("type") if isinstance(form, dict) else None
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return json_object(form, "text.format")
    if kind != "json_schema":
        raise InvalidRequest("text.format must be of type text, json_object or json_schema")
    return _schema(form.get("schema"), "text.format.schema")


def _named(given: Mapping[str, Any]) -> Iterator[tuple[str, Constraint]]:
    """The fields of other servers that name a form, with it."""
    if given.get("grammar"):
        yield "grammar", Constraint("gbnf", given["grammar"])
    if given.get("json_schema"):
        yield "json_schema", _schema(given["json_schema"], "json_schema")
    wanted = given.get("structured_outputs", {})
    guided = {name: given.get(f"guided_{name}") for name in ("json", "regex", "choice", "grammar")}
    for prefix, values in (("structured_outputs.", wanted), ("guided_", guided)):
        for name, value in values.items():
            form = _structured(name, value, prefix + name)
            if form is not None:
                yield prefix + name, form


def _structured(name: str, value: Any, where: str) -> Constraint | None:
    """One of vLLM's forms; None for what asks for none."""
    if value in (None, False, ""):
        return None
    match name, value:
        case "json", str():
            return Constraint("schema", value)
        case "json", _:
            return _schema(value, where)
        case "json_object", True:
            return ANY_JSON
        case "regex", str():
            return Constraint("regex", value)
        case "grammar", str():
            return Constraint("gbnf", value)
        case "choice", list() if value and all(isinstance(each, str) for each in value):
            return Constraint("choice", msgspec.json.encode(value).decode())
    raise InvalidRequest(f"{where[:80]} is no form that this server knows, see docs/api.md")


def _schema(schema: Any, where: str) -> Constraint:
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{where} must be a JSON Schema")
    return Constraint("schema", msgspec.json.encode(schema).decode())

"""The form of an answer that must be a tool call, or may be one instead of another form. Reads no answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ... import schemas
from ...errors import InvalidRequest
from ...types import Constraint
from . import harmony
from .families import Writing
from .recognize import AnswerFormat

_WITHIN_LARK = {"whitespace_pattern": " ", "coerce_one_of": True, "lenient": True}
"""The options of schemas, repeated for one inside a Lark grammar; above all, at most a space between two parts: a model that finds
no continuation writes white space for ever."""

MAX_CALLS = 16
"""In one answer: a model that is free to go on may not stop by itself."""


def call_grammar(
    format: AnswerFormat,
    tools: Sequence[Mapping[str, Any]],
    tool_choice: str,
    parallel: bool = True,
) -> Constraint | None:
    """The form of the answer (after thinking): None for "auto" and "none", else one or more
    calls (one, if not ``parallel``) of any tool ("required") or of the one named.

    Where the calls of the model's family are JSON between marks, they are written so, and gpt-oss's
    (one in an answer) in its own way; else as bare JSON, which ``choose(forced=True)`` reads too. A name that is no tool's gives None.
    """
    if tool_choice in ("auto", "none"):
        return None
    functions = [tool.get("function", tool) for tool in tools]
    callable_functions = [f for f in functions if tool_choice in ("required", f.get("name"))]
    if not callable_functions:
        return None
    family = format.family
    if family.name == "harmony":
        return _harmony_constraint(callable_functions)
    return _constraint(family.writing, callable_functions, parallel)


def call_marks(format: AnswerFormat) -> tuple[str, ...]:
    """The texts with which a model that may call a tool begins to; none where its calls have no marks of their own."""
    opens = (text for form in format.family.forms for text in form.opens)
    return tuple(dict.fromkeys(opens))


def _harmony_constraint(functions: Sequence[Mapping[str, Any]]) -> Constraint:
    """One call, whose header has the name, and the message the arguments alone."""
    rules, parts = [], []
    for place, function in enumerate(functions):
        header = json.dumps(harmony.CALL_HEADER.format(name=function.get("name")))
        arguments = _arguments_schema(function)
        parts.append(_part(function, arguments))
        schema = json.dumps({**arguments, "x-guidance": _WITHIN_LARK})
        rules.append(f"f{place}: {header} j{place}\nj{place}: %json {schema}\n")
    start = " | ".join(f"f{place}" for place in range(len(functions)))
    return Constraint("lark", f"start: {start}\n{''.join(rules)}", parts=tuple(parts))


def _part(function: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[str, str]:
    return f"tool {function.get('name')}", json.dumps(arguments)


def _constraint(
    writing: Writing, functions: Sequence[Mapping[str, Any]], parallel: bool
) -> Constraint:
    schema, parts = _calls_schema(functions, writing)
    definitions = schema.pop("$defs", {})
    if writing.shape == "list":
        most = MAX_CALLS if parallel else 1
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": most}
    if definitions:
        schema = {**schema, "$defs": definitions}
    if not writing.before and not writing.after:
        return Constraint("schema", json.dumps(schema, ensure_ascii=False), parts=parts)
    text = json.dumps({**schema, "x-guidance": _WITHIN_LARK}, ensure_ascii=False)
    before, after = json.dumps(writing.before), json.dumps(writing.after)
    call = " ".join(
        [*([before] if writing.before else []), "json", *([after] if writing.after else [])]
    )
    more = f'("\\n"? call){{0,{MAX_CALLS - 1}}}'
    several = parallel and writing.shape == "object"
    start = f"call {more}" if several else "call"
    lark = f"start: {start}\ncall: {call}\njson: %json {text}\n"
    return Constraint("lark", lark, parts=parts)


def _calls_schema(
    functions: Sequence[Mapping[str, Any]], writing: Writing
) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
    """The schema of one call of any of the functions, with the definitions that it refers to; and the parts that it is made of."""
    calls: list[dict[str, Any]] = []
    parts: list[tuple[str, str]] = []
    definitions: dict[str, Any] = {}
    for place, function in enumerate(functions):
        schema = _arguments_schema(function)
        parts.append(_part(function, schema))
        try:
            arguments, own = schemas.embedded(schema, f"f{place}_")
        except InvalidRequest as error:
            raise _named(function, error) from None
        definitions |= own
        calls.append(
            {
                "type": "object",
                "properties": {
                    writing.name: {"const": function.get("name")},
                    writing.arguments: arguments,
                },
                "required": [writing.name, writing.arguments],
                "additionalProperties": False,
            }
        )
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**call, "$defs": definitions}, tuple(parts)


def _arguments_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """What the arguments of a function must be: an object of the named parameters alone, unless the schema allows others.

    Raises InvalidRequest, naming the tool, for a schema that cannot be used, and for one that describes no object.
    """
    given = function.get("parameters")
    try:
        parameters = schemas.closed(schemas.usable(given)) if isinstance(given, Mapping) else {}
    except InvalidRequest as error:
        raise _named(function, error) from None
    kind = parameters.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise _named(
            function, InvalidRequest(f"arguments are an object, and its type is {kind}"[:200])
        )
    keywords = (*schemas.OPEN, *schemas.COMBINING)
    if isinstance(parameters.get("properties"), Mapping) and not any(
        key in parameters for key in keywords
    ):
        parameters["additionalProperties"] = False
    return {**parameters, "type": "object"}


def _named(function: Mapping[str, Any], error: InvalidRequest) -> InvalidRequest:
    return InvalidRequest(f"the schema of tool {function.get('name')} cannot be used: {error}")

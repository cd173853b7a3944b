"""The form of an answer that must be a tool call, or may be one instead of another form. Reads no answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
    rules = []
    for place, function in enumerate(functions):
        header = json.dumps(harmony.CALL_HEADER.format(name=function.get("name")))
        schema = {**_arguments_schema(function), "x-guidance": _WITHIN_LARK}
        rules.append(f"f{place}: {header} j{place}\nj{place}: %json {json.dumps(schema)}\n")
    start = " | ".join(f"f{place}" for place in range(len(functions)))
    return Constraint("lark", f"start: {start}\n{''.join(rules)}")


def _constraint(
    writing: Writing, functions: Sequence[Mapping[str, Any]], parallel: bool
) -> Constraint:
    schema, definitions = _calls_schema(functions, writing)
    if writing.shape == "list":
        most = MAX_CALLS if parallel else 1
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": most}
    if definitions:
        schema = {**schema, "$defs": definitions}
    if not writing.before and not writing.after:
        return Constraint("schema", json.dumps(schema, ensure_ascii=False))
    text = json.dumps({**schema, "x-guidance": _WITHIN_LARK}, ensure_ascii=False)
    before, after = json.dumps(writing.before), json.dumps(writing.after)
    call = " ".join(
        [*([before] if writing.before else []), "json", *([after] if writing.after else [])]
    )
    more = f'("\\n"? call){{0,{MAX_CALLS - 1}}}'
    several = parallel and writing.shape == "object"
    start = f"call {more}" if several else "call"
    return Constraint("lark", f"start: {start}\ncall: {call}\njson: %json {text}\n")


def _calls_schema(
    functions: Sequence[Mapping[str, Any]], writing: Writing
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of one call of any of the functions, and the definitions that it refers to."""
    calls: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for place, function in enumerate(functions):
        parameters = _arguments_schema(function)
        prefix = f"f{place}_"
        for key in ("$defs", "definitions"):
            inner = parameters.pop(key, None)
            for name, item in (inner if isinstance(inner, Mapping) else {}).items():
                definitions[prefix + name] = _renamed(item, prefix)
        arguments = _renamed(parameters, prefix)
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
    return (calls[0] if len(calls) == 1 else {"anyOf": calls}), definitions


def _arguments_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    """What the arguments of a function must be: an object of the named parameters alone, unless the schema allows others."""
    given = function.get("parameters")
    parameters = dict(given) if isinstance(given, Mapping) else {}
    if isinstance(parameters.get("properties"), Mapping) and not any(
        k in parameters for k in _OPEN
    ):
        parameters["additionalProperties"] = False
    return {"type": "object", **parameters}


_OPEN = (
    *("additionalProperties", "unevaluatedProperties", "patternProperties"),
    *("allOf", "anyOf", "oneOf", "$ref", "not", "if"),
)
"""Keywords of a schema that names some properties, with which it may have others, too."""


def _renamed(schema: Any, prefix: str) -> Any:
    """The schema with its references to definitions given their new names: each tool's are its own,
    and all are together at the root."""
    if isinstance(schema, list):
        return [_renamed(item, prefix) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {key: _renamed(value, prefix) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        for start in ("#/$defs/", "#/definitions/"):
            if reference.startswith(start):
                result["$ref"] = f"#/$defs/{prefix}{reference[len(start) :]}"
    return result

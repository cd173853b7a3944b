"""The form of an answer that must be a tool call. Reads no answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...types import Constraint
from ..template import Template
from .families import Writing
from .known import family_for

MAX_CALLS = 16
"""In one answer: a model that is free to go on may not stop by itself."""


def call_grammar(
    template: Template,
    tools: Sequence[Mapping[str, Any]],
    tool_choice: str,
    parallel: bool = True,
) -> Constraint | None:
    """What the answer (after thinking) is bound to: None for "auto" and "none", else one or more
    calls (one, if not ``parallel``) of any tool ("required") or of the one named.

    Where the calls of the model's family are JSON between marks, they are written so; else as bare
    JSON, which ``choose(forced=True)`` reads too. A name that is no tool's gives None.
    """
    if tool_choice in ("auto", "none"):
        return None
    functions = [tool.get("function", tool) for tool in tools]
    asked = [f for f in functions if tool_choice in ("required", f.get("name"))]
    if not asked:
        return None
    return _constraint(family_for(template).writing, asked, parallel)


def _constraint(
    writing: Writing, functions: Sequence[Mapping[str, Any]], parallel: bool
) -> Constraint:
    schema, definitions = _calls_schema(functions, writing)
    if writing.shape == "list":
        most = MAX_CALLS if parallel else 1
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": most}
    if definitions:
        schema = {**schema, "$defs": definitions}
    text = json.dumps(schema, ensure_ascii=False)
    if not writing.before and not writing.after:
        return Constraint("schema", text)
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
        given = function.get("parameters")
        parameters = dict(given) if isinstance(given, Mapping) else {}
        prefix = f"f{place}_"
        for key in ("$defs", "definitions"):
            inner = parameters.pop(key, None)
            for name, item in (inner if isinstance(inner, Mapping) else {}).items():
                definitions[prefix + name] = _renamed(item, prefix)
        arguments = {"type": "object", **_renamed(parameters, prefix)}
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


def _renamed(schema: Any, prefix: str) -> Any:
    """The schema with its references to definitions given their new names: each tool's are its own,
    and all stand together at the root."""
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

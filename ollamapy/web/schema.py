"""The parts of which the OpenAPI document is written: schemas, the errors that paths raise, and one operation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import errors
from ..errors import OllamapyError
from ..types import CONTEXT_POLICIES, OPTION_KINDS, THINK_LEVELS
from . import body

Schema = Mapping[str, Any]

JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"

REF = "#/components/schemas/{name}"
"""Where the schema of a Struct is in the document."""


def ref(struct: type) -> Schema:
    """A reference to the schema of a Struct, which the document has among its components."""
    return {"$ref": REF.format(name=struct.__name__)}


def record(required: Mapping[str, Schema], **more: Schema) -> Schema:
    """An object with required keys, with optional ones (``more``), and possibly others."""
    return {"type": "object", "properties": {**required, **more}, "required": list(required)}


def array(items: Schema) -> Schema:
    """A list of such items."""
    return {"type": "array", "items": items}


def any_of(*schemas: Schema) -> Schema:
    """A value that one of the schemas describes."""
    return {"anyOf": list(schemas)}


TEXT, NUMBER, INTEGER, FLAG, OBJECT = (
    {"type": name} for name in ("string", "number", "integer", "boolean", "object")
)
ANY: Schema = {}
NULL: Schema = {"type": "null"}

_GO_TYPES: Mapping[str, Schema] = {
    "string": TEXT, "bool": FLAG, "int": INTEGER, "[]int": array(INTEGER), "[]string": array(TEXT),
    "[]api.Message": array(OBJECT), "map[string]interface {}": OBJECT, "any": ANY,
}  # fmt: skip
"""A field's type in the tables of fields -> its schema."""

_OPTION_KINDS: Mapping[str, Schema] = {
    "integer": NUMBER, "float32": NUMBER, "boolean": FLAG, "array": array(TEXT), "string": {"enum": [*CONTEXT_POLICIES]},
}  # fmt: skip
"""An option's type -> its schema; integers may be written as floats."""

_DURATION: Schema = {
    "type": "string",
    "pattern": "^-?([0-9]{1,6}(ns|us|ms|s|m|h)){1,3}$",
    "description": "Negative: for ever. 0: not at all.",
}
_TOOL = record({"function": record({"name": TEXT}, description=TEXT, parameters=OBJECT)}, type=TEXT)

_FIELDS: Mapping[str, Schema] = {
    "options": {"$ref": REF.format(name="Options")},
    "keep_alive": any_of(_DURATION, {"type": "number", "description": "seconds"}),
    "format": any_of({"enum": ["json", ""]}, {"type": "object", "description": "a JSON Schema"}),
    "think": any_of(FLAG, {"enum": [*THINK_LEVELS]}),
    "input": any_of(TEXT, array(TEXT)),
    "stop": any_of(TEXT, array(TEXT)),
    "tools": array(_TOOL),
    "tool_calls": array(_TOOL),
    "logit_bias": {"type": "object", "patternProperties": {"^[0-9]{1,9}$": NUMBER}, "additionalProperties": False},
    "license": any_of(TEXT, array(TEXT)),
    "documents": array(TEXT),
    "tool_choice": any_of(TEXT, OBJECT),
    **{name: NUMBER for name in ("temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty")},
    **{name: INTEGER for name in ("top_k", "num_ctx")},
}  # fmt: skip
"""Schemas of fields of Ollama's API, also in other APIs, whose Go type says too little."""

EVENT = record({"data": TEXT}, event=TEXT)


def schema_of(fields: Mapping[str, str], required: Sequence[str] = (), **own: Schema) -> Schema:
    """The schema of a table of fields (body.py); ``own`` has the schemas that differ from Ollama's API. Null means absent."""
    found = {}
    for name, go_type in fields.items():
        is_vague = go_type in ("any", "map[string]interface {}")
        schema = own.get(name) or (_FIELDS.get(name) if is_vague else None) or _GO_TYPES[go_type]
        found[name] = schema if name in required or not schema else any_of(schema, {"type": "null"})
    return {"type": "object", "properties": found, "required": list(required)}


def messages(fields: Mapping[str, str], roles: Sequence[str], **own: Schema) -> Schema:
    return array(schema_of(fields, ["role"], role={"enum": [*roles]}, **own))


OPTIONS: Schema = {
    "type": "object",
    "properties": {name: _OPTION_KINDS[kind] for name, kind in OPTION_KINDS.items()},
}

# ---- errors ----------------------------------------------------------------------------------------------------------

Errors = tuple[type[OllamapyError], ...]

REQUEST: Errors = (errors.InvalidRequest, body.BodyTooLarge, body.BodyTooSlow)
MODEL: Errors = (
    errors.ModelNotFound, errors.InvalidName, errors.InvalidModel, errors.TemplateError, errors.StoreError,
)  # fmt: skip
RUN: Errors = (
    *REQUEST, *MODEL, errors.ServerBusy, errors.NotEnoughMemory, errors.LoadFailed, errors.RunnerCrashed,
)  # fmt: skip
STORE: Errors = (*REQUEST, *MODEL, errors.ReadOnlyModel)


def tree(error: type[OllamapyError]) -> Errors:
    return (error, *(each for child in error.__subclasses__() for each in tree(child)))


TRANSFER: Errors = (
    *STORE,
    *tree(errors.TransferError),
    errors.InvalidModelfile,
    errors.ServerBusy,
)

NATIVE_ERROR, OPENAI_ERROR, ANTHROPIC_ERROR = (
    {"$ref": REF.format(name=name)} for name in ("Error", "OpenAIError", "AnthropicError")
)
ERROR_SCHEMAS: Mapping[str, Schema] = {
    "Error": record({"error": TEXT}, code=TEXT),
    "OpenAIError": record(
        {"error": record({"message": TEXT, "type": TEXT, "param": ANY, "code": ANY})}
    ),
    "AnthropicError": record(
        {
            "type": {"const": "error"},
            "error": record({"type": TEXT, "message": TEXT}),
            "request_id": TEXT,
        }
    ),
}
# ---- operations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path. ``answers``: media type -> schema of a 200 (None: no body); ``takes``: the request's, if JSON, and ``form``, if it
    is one with files; ``query``: the parameters after the path's question mark."""

    summary: str
    answers: Mapping[str, Schema] | None
    takes: Schema | None = None
    raises: Errors = ()
    binary: bool = False
    form: Schema | None = None
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "done"})
    query: Mapping[str, Schema] = field(default_factory=dict)


def streamed(answer: Schema) -> Mapping[str, Schema]:
    """One object, or a line for each piece of it; the last line may be an error."""
    return {JSON: answer, NDJSON: any_of(answer, NATIVE_ERROR)}


def or_events(answer: Schema) -> Mapping[str, Schema]:
    return {JSON: answer, EVENTS: EVENT}

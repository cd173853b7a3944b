"""The OpenAPI document: what every path takes and answers, in each of the APIs. Pure.

It is made from what the program itself uses: requests from the tables of fields that their parsers read by, options from the
table of options, answers from the Structs that are written, statuses and their reasons from the tree of errors. Only answers
that are written as dicts (OpenAI's, Anthropic's) are told here again, by their fixed keys. A path that is not told here is a
KeyError, so that none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import getdoc
from typing import Any

import msgspec

from .. import __version__, errors
from ..errors import OllamapyError
from ..models.listing import ListedModel
from ..models.spec import Details
from ..types import CONTEXT_POLICIES, OPTION_KINDS, THINK_LEVELS, Progress
from . import body
from .anthropic import wire as anthropic
from .ollama import create
from .ollama import model_wire as stored
from .ollama import vectors as embed
from .ollama import wire as ollama
from .openai import chat, completions, responses, vectors, wire

Schema = Mapping[str, Any]

JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"

_REF = "#/components/schemas/{name}"
_STRUCTS = (
    ollama.Generated, ollama.Chatted, ollama.RunningModel, embed.EmbedAnswer, embed.RerankAnswer, ListedModel,
    Details, Progress,
)  # fmt: skip


def _ref(struct: type) -> Schema:
    return {"$ref": _REF.format(name=struct.__name__)}


def _object(required: Mapping[str, Schema], **more: Schema) -> Schema:
    """An object that has the required keys, may have some more, and others besides."""
    return {"type": "object", "properties": {**required, **more}, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _any_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


_TEXT, _NUMBER, _INTEGER, _FLAG, _OBJECT = (
    {"type": name} for name in ("string", "number", "integer", "boolean", "object")
)
_ANY: Schema = {}

_GO_TYPES: Mapping[str, Schema] = {
    "string": _TEXT, "bool": _FLAG, "int": _INTEGER, "[]int": _list(_INTEGER), "[]string": _list(_TEXT),
    "[]api.Message": _list(_OBJECT), "map[string]interface {}": _OBJECT, "any": _ANY,
}  # fmt: skip
"""A field's type in the tables of fields -> its schema."""

_OPTION_KINDS: Mapping[str, Schema] = {
    "integer": _NUMBER, "float32": _NUMBER, "boolean": _FLAG, "array": _list(_TEXT), "string": {"enum": [*CONTEXT_POLICIES]},
}  # fmt: skip
"""An option's type -> its schema; integers may be written as floats."""

_DURATION: Schema = {
    "type": "string",
    "pattern": "^-?([0-9]{1,6}(ns|us|ms|s|m|h)){1,3}$",
    "description": "Negative: for ever. 0: not at all.",
}
_TOOL = _object(
    {"function": _object({"name": _TEXT}, description=_TEXT, parameters=_OBJECT)}, type=_TEXT
)

_FIELDS: Mapping[str, Schema] = {
    "options": {"$ref": _REF.format(name="Options")},
    "keep_alive": _any_of(_DURATION, {"type": "number", "description": "seconds"}),
    "format": _any_of({"enum": ["json", ""]}, {"type": "object", "description": "a JSON Schema"}),
    "think": _any_of(_FLAG, {"enum": [*THINK_LEVELS]}),
    "input": _any_of(_TEXT, _list(_TEXT)),
    "stop": _any_of(_TEXT, _list(_TEXT)),
    "tools": _list(_TOOL),
    "tool_calls": _list(_TOOL),
    "logit_bias": {"type": "object", "patternProperties": {"^[0-9]{1,9}$": _NUMBER}, "additionalProperties": False},
    "license": _any_of(_TEXT, _list(_TEXT)),
    "documents": _list(_TEXT),
    "tool_choice": _any_of(_TEXT, _OBJECT),
    **{name: _NUMBER for name in ("temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty")},
    **{name: _INTEGER for name in ("top_k", "num_ctx")},
}  # fmt: skip
"""What the fields of Ollama's API are, and those that others have of it, where their table does not say it."""

_BLOCKS = _any_of(_TEXT, _list(_object({"type": {"const": "text"}, "text": _TEXT}, type=_TEXT)))
_INPUTS = _any_of(_TEXT, _list(_TEXT), _list(_INTEGER), _list(_list(_INTEGER)))
_EVENT = _object({"data": _TEXT}, event=_TEXT)


def _schema_of(fields: Mapping[str, str], required: Sequence[str] = (), **known: Schema) -> Schema:
    """The schema of a table of fields (body.py); ``known`` has those that are something else here than in Ollama's API. Null is
    as good as nothing."""
    found = {}
    for name, go_type in fields.items():
        vague = go_type in ("any", "map[string]interface {}")
        schema = known.get(name) or (_FIELDS.get(name) if vague else None) or _GO_TYPES[go_type]
        found[name] = (
            schema if name in required or not schema else _any_of(schema, {"type": "null"})
        )
    return {"type": "object", "properties": found, "required": list(required)}


def _messages(fields: Mapping[str, str], roles: Sequence[str], **known: Schema) -> Schema:
    return _list(_schema_of(fields, ["role"], role={"enum": [*roles]}, **known))


_OPTIONS: Schema = {
    "type": "object",
    "properties": {name: _OPTION_KINDS[kind] for name, kind in OPTION_KINDS.items()},
}

# ---- errors ----------------------------------------------------------------------------------------------------------

Errors = tuple[type[OllamapyError], ...]

_REQUEST: Errors = (errors.InvalidRequest, body.BodyTooLarge, body.BodyTooSlow)
_MODEL: Errors = (
    errors.ModelNotFound, errors.InvalidName, errors.InvalidModel, errors.TemplateError, errors.StoreError,
)  # fmt: skip
_RUN: Errors = (
    *_REQUEST, *_MODEL, errors.ServerBusy, errors.NotEnoughMemory, errors.LoadFailed, errors.RunnerCrashed,
)  # fmt: skip
_STORE: Errors = (*_REQUEST, *_MODEL, errors.ReadOnlyModel)


def _tree(error: type[OllamapyError]) -> Errors:
    return (error, *(each for child in error.__subclasses__() for each in _tree(child)))


_TRANSFER: Errors = (
    *_STORE,
    *_tree(errors.TransferError),
    errors.InvalidModelfile,
    errors.ServerBusy,
)

_NATIVE_ERROR, _OPENAI_ERROR, _ANTHROPIC_ERROR = (
    {"$ref": _REF.format(name=name)} for name in ("Error", "OpenAIError", "AnthropicError")
)
_ERROR_SCHEMAS: Mapping[str, Schema] = {
    "Error": _object({"error": _TEXT}),
    "OpenAIError": _object(
        {"error": _object({"message": _TEXT, "type": _TEXT, "param": _ANY, "code": _ANY})}
    ),
    "AnthropicError": _object(
        {
            "type": {"const": "error"},
            "error": _object({"type": _TEXT, "message": _TEXT}),
            "request_id": _TEXT,
        }
    ),
}
_ERRORS: Mapping[str, Schema] = {
    "/v1/messages": _ANTHROPIC_ERROR, "/v1/": _OPENAI_ERROR, "/rerank": _OPENAI_ERROR, "/": _NATIVE_ERROR,
}  # fmt: skip
"""The beginning of a path -> what its errors are written as; the first that fits."""

_GATE = "The Host or the Origin of the request is not allowed here; there is no content then."


# ---- operations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Operation:
    """What one path does. ``answers``: media type -> schema of a 200 (None: no body); ``takes`` the request's, if it is JSON."""

    summary: str
    answers: Mapping[str, Schema] | None
    takes: Schema | None = None
    raises: Errors = ()
    binary: bool = False
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "done"})


def _streamed(answer: Schema) -> Mapping[str, Schema]:
    """One object, or a line for each piece of it, the last of which may be an error."""
    return {JSON: answer, NDJSON: _any_of(answer, _NATIVE_ERROR)}


def _or_events(answer: Schema) -> Mapping[str, Schema]:
    return {JSON: answer, EVENTS: _EVENT}


_USAGE = {"usage": _OBJECT, "model": _TEXT}
_CHOICES = _object(
    {"id": _TEXT, "object": _TEXT, "created": _INTEGER, "model": _TEXT, "choices": _list(_OBJECT)}, usage=_OBJECT
)  # fmt: skip
_OPENAI_MODEL = _object(
    {"id": _TEXT, "object": {"const": "model"}, "created": _INTEGER, "owned_by": _TEXT}
)
_VECTOR = _any_of(_list(_NUMBER), _TEXT)
_ROOT = _Operation("Whether it runs", {"text/plain": _TEXT})
_BLANKS: Mapping[str, Schema] = {
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "tag": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,80}$"},
}
"""What may stand in a path's blanks, where it is not any text."""

_ANTHROPIC: Mapping[str, Schema] = {
    "messages": _messages(anthropic.MESSAGE_FIELDS, anthropic.ROLES, content=_BLOCKS),
    "system": _BLOCKS,
    "tools": _list(_object({"name": _TEXT, "input_schema": _OBJECT}, description=_TEXT)),
    "tool_choice": _object({"type": {"enum": ["auto", "any", "tool", "none"]}}, name=_TEXT),
    "thinking": _object(
        {"type": {"enum": ["enabled", "disabled", "adaptive"]}}, budget_tokens=_INTEGER
    ),
}

_ANTHROPIC_MODELS = _object(
    {
        "data": _list(_object({"type": {"const": "model"}, "id": _TEXT})),
        "has_more": {"type": "boolean"},
    }
)

_RERANK = _Operation(
    "Documents by how well they answer a query; the documents may be called texts",
    {
        JSON: _object(
            {"results": _list(_object({"index": _INTEGER, "relevance_score": _NUMBER})), **_USAGE}
        )
    },
    _schema_of(vectors.RERANK_FIELDS, ["model", "query"]),
    _RUN,
)

_OPERATIONS: Mapping[tuple[str, str], _Operation] = {
    ("GET", "/"): _ROOT,
    ("GET", "/openapi.json"): _Operation("This document", {JSON: _OBJECT}),
    ("GET", "/health"): _Operation("Whether the daemon answers", {JSON: _object({"status": {"const": "ok"}})}),
    ("GET", "/api/version"): _Operation(
        "The Ollama it stands in for, and what it is itself",
        {JSON: _object({"version": _TEXT, "ollamapy": _TEXT, "pid": _INTEGER, "busy": _INTEGER}, models=_TEXT)},
    ),
    ("GET", "/api/status"): _Operation(
        "That no cloud is asked",
        {JSON: _object({"cloud": _object({"disabled": _FLAG, "source": _TEXT})})},
    ),
    ("GET", "/api/tags"): _Operation(
        "The stored models", {JSON: _object({"models": _list(_ref(ListedModel))})}, raises=_MODEL
    ),
    ("GET", "/api/ps"): _Operation(
        "The loaded models", {JSON: _object({"models": _list(_ref(ollama.RunningModel))})}
    ),
    ("POST", "/api/generate"): _Operation(
        "Continue a prompt; without one, load the model, or unload it with a keep_alive of 0",
        _streamed(_ref(ollama.Generated)),
        _schema_of(ollama.GENERATE_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/chat"): _Operation(
        "Answer a conversation",
        _streamed(_ref(ollama.Chatted)),
        _schema_of(
            ollama.CHAT_FIELDS, ["model"], messages=_messages(ollama.MESSAGE_FIELDS, ollama.ROLES)
        ),
        _RUN,
    ),
    ("POST", "/api/embed"): _Operation(
        "A vector for each text", {JSON: _ref(embed.EmbedAnswer)}, _schema_of(embed.EMBED_FIELDS, ["model"]), _RUN
    ),
    ("POST", "/api/embeddings"): _Operation(
        "A vector, in the older form",
        {JSON: _object({"embedding": _list(_NUMBER)})},
        _schema_of(embed.EMBEDDINGS_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/rerank"): _Operation(
        "Documents by how well they answer a query",
        {JSON: _ref(embed.RerankAnswer)},
        _schema_of(embed.RERANK_FIELDS, ["model", "query"]),
        _RUN,
    ),
    ("POST", "/api/tokenize"): _Operation(
        "The token ids of a text",
        {JSON: _object({"model": _TEXT, "tokens": _list(_INTEGER)})},
        _schema_of(embed.TOKENIZE_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/detokenize"): _Operation(
        "The text of token ids",
        {JSON: _object({"model": _TEXT, "text": _TEXT})},
        _schema_of(embed.DETOKENIZE_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/cancel/{id}"): _Operation(
        "End the requests with this X-Request-Id; each ends with an error, in its own API's words",
        {JSON: _object({"status": _TEXT})},
        raises=(errors.RequestNotFound, *_REQUEST),
    ),
    ("POST", "/api/show"): _Operation(
        "What is known of a model",
        {JSON: _object({"modelfile": _TEXT, "details": _ref(Details), "model_info": _OBJECT, "modified_at": _TEXT})},
        _schema_of(ollama.SHOW_FIELDS),
        _STORE,
    ),
    ("DELETE", "/api/delete"): _Operation(
        "Delete a model", None, _schema_of(stored.DELETE_FIELDS), _STORE
    ),
    ("POST", "/api/copy"): _Operation(
        "Give a model another name", None, _schema_of(stored.COPY_FIELDS, ["source", "destination"]), _STORE
    ),
    ("POST", "/api/create"): _Operation(
        "Make a model from another one or from blobs",
        _streamed(_ref(Progress)),
        _schema_of(
            create.CREATE_FIELDS, ["model"], messages=_messages(create.MESSAGE_FIELDS, create.ROLES)
        ),
        (*_TRANSFER, *_RUN),
    ),
    ("POST", "/api/pull"): _Operation(
        "Get a model", _streamed(_ref(Progress)), _schema_of(stored.PULL_FIELDS), _TRANSFER
    ),
    ("POST", "/api/push"): _Operation(
        "Give a model away", _streamed(_ref(Progress)), _schema_of(stored.PUSH_FIELDS), _TRANSFER
    ),
    ("HEAD", "/api/blobs/{digest}"): _Operation(
        "Whether a blob is there", None, raises=(errors.InvalidRequest, errors.ModelNotFound)
    ),
    ("POST", "/api/blobs/{digest}"): _Operation(
        "Store a blob",
        None,
        raises=(*_REQUEST, errors.StoreError, errors.DiskFull),
        binary=True,
        statuses={200: "it was there", 201: "it is stored"},
    ),
    ("GET", "/v2/{repository}/manifests/{tag}"): _Operation(
        "A model's manifest, for who pulls from here", {"*/*": _ANY}, raises=_MODEL
    ),
    ("GET", "/v2/{repository}/blobs/{digest}"): _Operation(
        "A blob, for who pulls from here", {"application/octet-stream": _ANY}, raises=_MODEL
    ),
    ("POST", "/v1/chat/completions"): _Operation(
        "Answer a conversation",
        _or_events(_CHOICES),
        _schema_of(
            chat.FIELDS,
            ["model", "messages"],
            messages=_messages(chat.MESSAGE_FIELDS, chat.ROLES, content=_BLOCKS),
            reasoning_effort={"enum": [*wire.EFFORTS]},
        ),
        _RUN,
    ),
    ("POST", "/v1/completions"): _Operation(
        "Continue prompts", _or_events(_CHOICES), _schema_of(completions.FIELDS, ["model"], prompt=_INPUTS), _RUN
    ),
    ("POST", "/v1/embeddings"): _Operation(
        "A vector for each input",
        {JSON: _object({"data": _list(_object({"embedding": _VECTOR, "index": _INTEGER})), **_USAGE})},
        _schema_of(
            vectors.EMBED_FIELDS,
            ["model", "input"],
            input=_INPUTS,
            encoding_format={"enum": ["float", "base64"]},
        ),
        _RUN,
    ),
    ("POST", "/v1/rerank"): _RERANK,
    ("POST", "/rerank"): _RERANK,
    ("GET", "/v1/models"): _Operation(
        "The stored models; in Anthropic's shape for a request with the header anthropic-version",
        {JSON: _any_of(_object({"object": {"const": "list"}, "data": _list(_OPENAI_MODEL)}), _ANTHROPIC_MODELS)},
        raises=_MODEL,
    ),
    ("GET", "/v1/models/{name}"): _Operation("A stored model", {JSON: _OPENAI_MODEL}, raises=_MODEL),
    ("POST", "/v1/responses"): _Operation(
        "Answer a conversation of items",
        _or_events(_object({"id": _TEXT, "object": {"const": "response"}, "status": _TEXT, "output": _list(_OBJECT), **_USAGE})),
        _schema_of(
            responses.FIELDS,
            ["model", "input"],
            input=_any_of(
                _TEXT,
                _list(_object({"role": {"enum": [*responses.ROLES]}, "content": _TEXT})),
                _list(_OBJECT),
            ),
            tools=_list(_object({"type": {"const": "function"}, "name": _TEXT}, parameters=_OBJECT)),
            truncation={"enum": ["auto", "disabled"]},
        ),
        (*_RUN, responses.NotKept),
    ),
    ("POST", "/v1/messages"): _Operation(
        "Answer a conversation",
        _or_events(_object({"id": _TEXT, "type": {"const": "message"}, "role": _TEXT, "content": _list(_OBJECT), **_USAGE})),
        _schema_of(anthropic.FIELDS, ["model", "max_tokens", "messages"], **_ANTHROPIC),
        _RUN,
    ),
    ("POST", "/v1/messages/count_tokens"): _Operation(
        "The tokens that a conversation has",
        {JSON: _object({"input_tokens": _INTEGER})},
        _schema_of(anthropic.FIELDS, ["model", "messages"], **_ANTHROPIC),
        _RUN,
    ),
}  # fmt: skip


# ---- the document ----------------------------------------------------------------------------------------------------

_ID_PARAMETER: Schema = {
    "name": "X-Request-Id",
    "in": "header",
    "required": False,
    "description": "An id for the request, by which POST /api/cancel can end it; else it gets one. The answer says it.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}


def document(paths: Iterable[tuple[str, str]]) -> bytes:
    """The document for these methods and paths (``{blank}`` or ``{blank:path}`` in them). Raises KeyError for one not told here."""
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    found: dict[str, dict[str, Any]] = {}
    for method, given in paths:
        path = given.replace(":path}", "}")
        found.setdefault(path, {})[method.lower()] = _operation(path, _OPERATIONS[method, path])
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "ollamapy", "version": __version__},
            "paths": found,
            "components": {
                "schemas": {**components, "Options": _OPTIONS, **_ERROR_SCHEMAS},
                "parameters": {"RequestId": _ID_PARAMETER},
            },
        }
    )


def _operation(path: str, told: _Operation) -> dict[str, Any]:
    blanks = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: dict[str, Any] = {
        "summary": told.summary,
        "parameters": [
            {"$ref": "#/components/parameters/RequestId"},
            *(_blank(name) for name in blanks),
        ],
        "responses": _responses(path, told),
    }
    if told.takes is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": told.takes}}}
    elif told.binary:
        found["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return found


def _blank(name: str) -> Schema:
    schema = _BLANKS.get(name, {"type": "string", "pattern": "^[!-~]{1,200}$"})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(path: str, told: _Operation) -> dict[str, Any]:
    head = {"X-Request-Id": {"schema": _TEXT}}
    content = {kind: {"schema": schema} for kind, schema in (told.answers or {}).items()}
    found: dict[str, Any] = {
        str(status): {"description": text, "headers": head, **({"content": content} if content else {})}
        for status, text in told.statuses.items()
    }  # fmt: skip
    error = next(schema for beginning, schema in _ERRORS.items() if path.startswith(beginning))
    reasons = {403: [_GATE]}
    causes: Errors = (*told.raises, errors.CancelRequested, OllamapyError)
    for raised in causes:
        known = reasons.setdefault(raised.status, [])
        if (reason := _first_line(raised)) not in known:
            known.append(reason)
    for status, texts in sorted(reasons.items()):
        described = {"description": " ".join(texts), "headers": head}
        found[str(status)] = {**described, "content": {JSON: {"schema": error}}}
    return found


def _first_line(error: type[OllamapyError]) -> str:
    if error is OllamapyError:
        return "What nobody foresaw."
    return (getdoc(error) or "").partition("\n")[0]

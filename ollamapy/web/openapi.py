"""The OpenAPI document: the requests and answers of every path, in each of the APIs. Pure.

It is generated from the program's own tables: requests from the tables of fields of their parsers, options from the table of
options, answers from their Structs, statuses and their reasons from the tree of errors. Only answers that are encoded from
dicts (OpenAI's, Anthropic's) are described again here, by their fixed keys. A path without a description is a KeyError, so
that none is forgotten.
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
from ..registry import hub_search
from ..registry.hub_search import HubModel
from ..serving.chats.values import Chat, ChatMessage
from ..types import CONTEXT_POLICIES, OPTION_KINDS, THINK_LEVELS, Progress
from . import body
from .anthropic import wire as anthropic
from .chats import wire as chats
from .ollama import create, model_wire
from .ollama import vectors as ollama_vectors
from .ollama import wire as ollama
from .openai import chat, completions, responses, vectors
from .openai import wire as openai
from .page.paths import NoSuchFile

Schema = Mapping[str, Any]

JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"

_REF = "#/components/schemas/{name}"
_STRUCTS = (
    ollama.GenerateAnswer, ollama.ChatAnswer, ollama.RunningModel, ollama_vectors.EmbedAnswer, ollama_vectors.RerankAnswer, ListedModel,
    Details, Progress, HubModel, Chat, ChatMessage,
)  # fmt: skip


def _ref(struct: type) -> Schema:
    return {"$ref": _REF.format(name=struct.__name__)}


def _object(required: Mapping[str, Schema], **more: Schema) -> Schema:
    """An object with required keys, with optional ones (``more``), and possibly others."""
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
"""Schemas of fields of Ollama's API, also in other APIs, whose Go type says too little."""

_BLOCKS = _any_of(_TEXT, _list(_object({"type": {"const": "text"}, "text": _TEXT}, type=_TEXT)))
_INPUTS = _any_of(_TEXT, _list(_TEXT), _list(_INTEGER), _list(_list(_INTEGER)))
_EVENT = _object({"data": _TEXT}, event=_TEXT)


def _schema_of(fields: Mapping[str, str], required: Sequence[str] = (), **own: Schema) -> Schema:
    """The schema of a table of fields (body.py); ``own`` has the schemas that differ from Ollama's API. Null means absent."""
    found = {}
    for name, go_type in fields.items():
        is_vague = go_type in ("any", "map[string]interface {}")
        schema = own.get(name) or (_FIELDS.get(name) if is_vague else None) or _GO_TYPES[go_type]
        found[name] = (
            schema if name in required or not schema else _any_of(schema, {"type": "null"})
        )
    return {"type": "object", "properties": found, "required": list(required)}


def _messages(fields: Mapping[str, str], roles: Sequence[str], **own: Schema) -> Schema:
    return _list(_schema_of(fields, ["role"], role={"enum": [*roles]}, **own))


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


_CHAT: Errors = (errors.ChatNotFound, errors.ChatsUnavailable, errors.ChatsFull)

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
    "Error": _object({"error": _TEXT}, code=_TEXT),
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
"""The beginning of a path -> the schema of its errors; the first match counts."""

_GATE = "The request's Host or Origin is not allowed; the response has no content then."


# ---- operations ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Operation:
    """One method of a path. ``answers``: media type -> schema of a 200 (None: no body); ``takes``: the request's, if JSON;
    ``query``: the parameters after the path's question mark."""

    summary: str
    answers: Mapping[str, Schema] | None
    takes: Schema | None = None
    raises: Errors = ()
    binary: bool = False
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "done"})
    query: Mapping[str, Schema] = field(default_factory=dict)


def _streamed(answer: Schema) -> Mapping[str, Schema]:
    """One object, or a line for each piece of it; the last line may be an error."""
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
_ROOT = _Operation(
    "Whether the daemon runs; for a browser, the page", {"text/plain": _TEXT, "text/html": _TEXT}
)
_PLACEHOLDERS: Mapping[str, Schema] = {
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "tag": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,80}$"},
}
"""Schemas of a path's placeholders that are not any text."""

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
    "Rank documents by how well they answer a query; the field may be named texts",
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
    ("GET", "/page/{name}"): _Operation(
        "A file of the page", {"text/javascript": _TEXT, "text/css": _TEXT, "*/*": _ANY}, raises=(NoSuchFile,)
    ),
    ("GET", "/openapi.json"): _Operation("This document", {JSON: _OBJECT}),
    ("GET", "/health"): _Operation("Whether the daemon answers", {JSON: _object({"status": {"const": "ok"}})}),
    ("GET", "/api/version"): _Operation(
        "The version of Ollama that the API is compatible with, and the daemon's own",
        {JSON: _object({"version": _TEXT, "ollamapy": _TEXT, "pid": _INTEGER, "busy": _INTEGER}, models=_TEXT)},
    ),
    ("GET", "/api/status"): _Operation(
        "The state of Ollama's cloud: always disabled",
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
        _streamed(_ref(ollama.GenerateAnswer)),
        _schema_of(ollama.GENERATE_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/chat"): _Operation(
        "Answer a conversation",
        _streamed(_ref(ollama.ChatAnswer)),
        _schema_of(
            ollama.CHAT_FIELDS, ["model"], messages=_messages(ollama.MESSAGE_FIELDS, ollama.ROLES)
        ),
        _RUN,
    ),
    ("POST", "/api/embed"): _Operation(
        "A vector for each text", {JSON: _ref(ollama_vectors.EmbedAnswer)}, _schema_of(ollama_vectors.EMBED_FIELDS, ["model"]), _RUN
    ),
    ("POST", "/api/embeddings"): _Operation(
        "A vector for a text, in the older form",
        {JSON: _object({"embedding": _list(_NUMBER)})},
        _schema_of(ollama_vectors.EMBEDDINGS_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/rerank"): _Operation(
        "Rank documents by how well they answer a query",
        {JSON: _ref(ollama_vectors.RerankAnswer)},
        _schema_of(ollama_vectors.RERANK_FIELDS, ["model", "query"]),
        _RUN,
    ),
    ("POST", "/api/tokenize"): _Operation(
        "The token ids of a text",
        {JSON: _object({"model": _TEXT, "tokens": _list(_INTEGER)})},
        _schema_of(ollama_vectors.TOKENIZE_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/detokenize"): _Operation(
        "The text of token ids",
        {JSON: _object({"model": _TEXT, "text": _TEXT})},
        _schema_of(ollama_vectors.DETOKENIZE_FIELDS, ["model"]),
        _RUN,
    ),
    ("POST", "/api/cancel/{id}"): _Operation(
        "End the requests with this X-Request-Id; each ends with an error, in the form of its own API",
        {JSON: _object({"status": _TEXT})},
        raises=(errors.RequestNotFound, *_REQUEST),
    ),
    ("POST", "/api/show"): _Operation(
        "Show a model's details",
        {JSON: _object({"modelfile": _TEXT, "details": _ref(Details), "model_info": _OBJECT, "modified_at": _TEXT})},
        _schema_of(ollama.SHOW_FIELDS),
        _STORE,
    ),
    ("DELETE", "/api/delete"): _Operation(
        "Delete a model", None, _schema_of(model_wire.DELETE_FIELDS), _STORE
    ),
    ("POST", "/api/copy"): _Operation(
        "Give a model another name", None, _schema_of(model_wire.COPY_FIELDS, ["source", "destination"]), _STORE
    ),
    ("POST", "/api/create"): _Operation(
        "Create a model from another one or from blobs",
        _streamed(_ref(Progress)),
        _schema_of(
            create.CREATE_FIELDS, ["model"], messages=_messages(create.MESSAGE_FIELDS, create.ROLES)
        ),
        (*_TRANSFER, *_RUN),
    ),
    ("POST", "/api/pull"): _Operation(
        "Pull a model", _streamed(_ref(Progress)), _schema_of(model_wire.PULL_FIELDS), _TRANSFER
    ),
    ("POST", "/api/push"): _Operation(
        "Push a model", _streamed(_ref(Progress)), _schema_of(model_wire.PUSH_FIELDS), _TRANSFER
    ),
    ("HEAD", "/api/blobs/{digest}"): _Operation(
        "Whether the store has a blob", None, raises=(errors.InvalidRequest, errors.ModelNotFound)
    ),
    ("POST", "/api/blobs/{digest}"): _Operation(
        "Store a blob",
        None,
        raises=(*_REQUEST, errors.StoreError, errors.DiskFull),
        binary=True,
        statuses={200: "the blob was already stored", 201: "the blob is stored"},
    ),
    ("GET", "/api/catalogue"): _Operation(
        "Search the catalogue, or list all of it",
        {JSON: _object({"free": _INTEGER, "families": _list(_object({"name": _TEXT, "about": _TEXT, "models": _list(_OBJECT)}))})},
        raises=(errors.InvalidRequest, errors.InvalidCatalog),
        query={"q": _TEXT},
    ),
    ("GET", "/api/hub"): _Operation(
        "Search the hub for repositories with GGUF files, the most downloaded first",
        {JSON: _object({"models": _list(_ref(HubModel))})},
        raises=(errors.InvalidRequest, errors.ServerBusy, *_tree(errors.TransferError)),
        query={"q": _TEXT, "limit": {"type": "integer", "minimum": 1, "maximum": hub_search.MOST}},
    ),
    ("GET", "/api/remote"): _Operation(
        "Details of a remote model, and the memory that each of its quantizations needs, without downloading it",
        {JSON: _object({"name": _TEXT, "details": _OBJECT, "size": _INTEGER, "free": _INTEGER, "fits": _list(_OBJECT)})},
        raises=(errors.InvalidRequest, errors.InvalidName, errors.InvalidModel, errors.ServerBusy, *_tree(errors.TransferError)),
        query={"model": _TEXT},
    ),
    ("GET", "/v2/{repository}/manifests/{tag}"): _Operation(
        "A model's manifest, for machines that pull from this daemon", {"*/*": _ANY}, raises=_MODEL
    ),
    ("GET", "/v2/{repository}/blobs/{digest}"): _Operation(
        "A blob, for machines that pull from this daemon", {"application/octet-stream": _ANY}, raises=_MODEL
    ),
    ("GET", "/api/chats"): _Operation(
        "The conversations that the daemon keeps: the pinned ones first, then the newest",
        {JSON: _object({"chats": _list(_ref(Chat)), "next": _any_of(_TEXT, {"type": "null"}), "folders": _list(_TEXT)}, notice=_TEXT)},
        raises=(errors.InvalidRequest, *_CHAT),
    ),
    ("POST", "/api/chats"): _Operation(
        "Begin a conversation",
        {JSON: _ref(Chat)},
        _schema_of(chats.CHAT_FIELDS, ["model"]),
        (*_REQUEST, *_CHAT),
        statuses={201: "the chat was made"},
    ),
    ("DELETE", "/api/chats"): _Operation(
        "Delete all conversations of the caller, with ?confirm=all", None, raises=(errors.InvalidRequest, *_CHAT), statuses={204: "deleted"}
    ),
    ("GET", "/api/chats/{id}"): _Operation("A conversation with all its messages", {JSON: _ref(Chat)}, raises=_CHAT),
    ("PATCH", "/api/chats/{id}"): _Operation(
        "Change the settings of a conversation", {JSON: _ref(Chat)}, _schema_of(chats.CHAT_FIELDS), (*_REQUEST, *_CHAT)
    ),
    ("DELETE", "/api/chats/{id}"): _Operation("Delete a conversation", None, raises=_CHAT, statuses={204: "deleted"}),
    ("POST", "/api/chats/{id}/messages"): _Operation(
        "Add a message and have it answered, or answer again, or continue an answer; as events",
        {EVENTS: _EVENT, JSON: _ref(ChatMessage)},
        _schema_of(chats.MESSAGE_FIELDS, content=_TEXT),
        (*_RUN, *_CHAT, errors.ChatConflict),
        statuses={200: "the events of the answer", 201: "the message, if no answer is wanted"},
    ),
    ("GET", "/api/chats/{id}/messages/{message}/events"): _Operation(
        "The events of an answer from a place on", {EVENTS: _EVENT}, raises=(errors.InvalidRequest, *_CHAT)
    ),
    ("POST", "/api/chats/{id}/messages/{message}/stop"): _Operation(
        "End an answer that is being written", {JSON: _ref(ChatMessage)}, raises=(*_REQUEST, *_CHAT)
    ),
    ("DELETE", "/api/chats/{id}/messages/{message}"): _Operation(
        "Delete a message and everything below it", None, raises=_CHAT, statuses={204: "deleted"}
    ),
    ("POST", "/v1/chat/completions"): _Operation(
        "Answer a conversation",
        _or_events(_CHOICES),
        _schema_of(
            chat.FIELDS,
            ["model", "messages"],
            messages=_messages(chat.MESSAGE_FIELDS, chat.ROLES, content=_BLOCKS),
            reasoning_effort={"enum": [*openai.EFFORTS]},
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
        (*_RUN, responses.NotStored),
    ),
    ("POST", "/v1/messages"): _Operation(
        "Answer a conversation",
        _or_events(_object({"id": _TEXT, "type": {"const": "message"}, "role": _TEXT, "content": _list(_OBJECT), **_USAGE})),
        _schema_of(anthropic.FIELDS, ["model", "max_tokens", "messages"], **_ANTHROPIC),
        _RUN,
    ),
    ("POST", "/v1/messages/count_tokens"): _Operation(
        "Count the tokens of a conversation",
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
    "description": "An id for the request, by which POST /api/cancel can cancel it; without one a random id is used. The response has it.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,128}$"},
}


def document(paths: Iterable[tuple[str, str]]) -> bytes:
    """The document for these methods and paths (with ``{name}`` or ``{name:path}``). Raises KeyError for an undescribed one."""
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


def _operation(path: str, operation: _Operation) -> dict[str, Any]:
    placeholders = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: dict[str, Any] = {
        "summary": operation.summary,
        "parameters": [
            {"$ref": "#/components/parameters/RequestId"},
            *(_placeholder(name) for name in placeholders),
            *(_parameter(name, schema) for name, schema in operation.query.items()),
        ],
        "responses": _responses(path, operation),
    }
    if operation.takes is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.takes}}}
    elif operation.binary:
        found["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return found


def _parameter(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _placeholder(name: str) -> Schema:
    schema = _PLACEHOLDERS.get(name, {"type": "string", "pattern": "^[!-~]{1,200}$"})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(path: str, operation: _Operation) -> dict[str, Any]:
    head = {"X-Request-Id": {"schema": _TEXT}}
    content = {kind: {"schema": schema} for kind, schema in (operation.answers or {}).items()}
    found: dict[str, Any] = {
        str(status): {"description": text, "headers": head, **({"content": content} if content else {})}
        for status, text in operation.statuses.items()
    }  # fmt: skip
    error = next(schema for beginning, schema in _ERRORS.items() if path.startswith(beginning))
    reasons = {403: [_GATE]}
    causes: Errors = (*operation.raises, errors.CancelRequested, OllamapyError)
    for raised in causes:
        texts = reasons.setdefault(raised.status, [])
        if (reason := _first_line(raised)) not in texts:
            texts.append(reason)
    for status, texts in sorted(reasons.items()):
        described = {"description": " ".join(texts), "headers": head}
        found[str(status)] = {**described, "content": {JSON: {"schema": error}}}
    return found


def _first_line(error: type[OllamapyError]) -> str:
    if error is OllamapyError:
        return "An unexpected error."
    return (getdoc(error) or "").partition("\n")[0]

"""The OpenAPI document: the requests and answers of every path, in each of the APIs. Pure.

It is generated from the program's own tables: requests from the tables of fields of their parsers, options from the table of
options, answers from their Structs, statuses and their reasons from the tree of errors. Only answers that are encoded from
dicts (OpenAI's, Anthropic's) are described again here, by their fixed keys. A path without a description is a KeyError, so
that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import getdoc
from typing import Any

import msgspec

from .. import __version__, errors
from ..errors import OllamapyError
from ..models.listing import ListedModel
from ..models.spec import Details
from ..types import Progress
from .anthropic import wire as anthropic
from .chats import operations as chats_operations
from .models import operations as models_operations
from .models.wire import JobState
from .ollama import create, model_wire
from .ollama import vectors as ollama_vectors
from .ollama import wire as ollama
from .openai import chat, completions, vectors
from .openai import operations as openai_operations
from .openai import wire as openai
from .page.paths import NoSuchFile
from .requests import operations as requests_operations
from .schema import (
    ANTHROPIC_ERROR,
    ANY,
    ERROR_SCHEMAS,
    FLAG,
    INTEGER,
    JSON,
    MODEL,
    NATIVE_ERROR,
    NUMBER,
    OBJECT,
    OPENAI_ERROR,
    OPTIONS,
    REF,
    REQUEST,
    RUN,
    STORE,
    TEXT,
    TRANSFER,
    Errors,
    Operation,
    Schema,
    any_of,
    array,
    messages,
    or_events,
    record,
    ref,
    schema_of,
    streamed,
)  # fmt: skip

_STRUCTS = (
    ollama.GenerateAnswer, ollama.ChatAnswer, ollama.RunningModel, ollama_vectors.EmbedAnswer, ollama_vectors.RerankAnswer, ListedModel,
    Details, Progress, *chats_operations.STRUCTS, *models_operations.STRUCTS, *requests_operations.STRUCTS,
)  # fmt: skip


_BLOCKS = any_of(TEXT, array(record({"type": {"const": "text"}, "text": TEXT}, type=TEXT)))
_INPUTS = any_of(TEXT, array(TEXT), array(INTEGER), array(array(INTEGER)))
_ERRORS: Mapping[str, Schema] = {
    "/v1/messages": ANTHROPIC_ERROR, "/v1/": OPENAI_ERROR, "/rerank": OPENAI_ERROR, "/": NATIVE_ERROR,
}  # fmt: skip
"""The beginning of a path -> the schema of its errors; the first match counts."""

_GATE = "The request's Host or Origin is not allowed; the response has no content then."


# ---- operations ------------------------------------------------------------------------------------------------------


def _job_steps() -> Mapping[str, Schema]:
    """Steps of a job, or in the background the job."""
    return streamed(any_of(ref(Progress), ref(JobState)))


_BEGUN = {200: "done", 202: "begun in the background"}


_USAGE = {"usage": OBJECT, "model": TEXT}
_CHOICES = record(
    {"id": TEXT, "object": TEXT, "created": INTEGER, "model": TEXT, "choices": array(OBJECT)}, usage=OBJECT
)  # fmt: skip
_OPENAI_MODEL = record(
    {"id": TEXT, "object": {"const": "model"}, "created": INTEGER, "owned_by": TEXT}
)
_VECTOR = any_of(array(NUMBER), TEXT)
_ROOT = Operation(
    "Whether the daemon runs; for a browser, the page", {"text/plain": TEXT, "text/html": TEXT}
)
_PLACEHOLDERS: Mapping[str, Schema] = {
    "digest": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    "tag": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,80}$"},
}
"""Schemas of a path's placeholders that are not any text."""

_ANTHROPIC: Mapping[str, Schema] = {
    "messages": messages(anthropic.MESSAGE_FIELDS, anthropic.ROLES, content=_BLOCKS),
    "system": _BLOCKS,
    "tools": array(record({"name": TEXT, "input_schema": OBJECT}, description=TEXT)),
    "tool_choice": record({"type": {"enum": ["auto", "any", "tool", "none"]}}, name=TEXT),
    "thinking": record(
        {"type": {"enum": ["enabled", "disabled", "adaptive"]}}, budget_tokens=INTEGER
    ),
}

_ANTHROPIC_MODELS = record(
    {
        "data": array(record({"type": {"const": "model"}, "id": TEXT})),
        "has_more": {"type": "boolean"},
    }
)

_RERANK = Operation(
    "Rank documents by how well they answer a query; the field may be named texts",
    {
        JSON: record(
            {"results": array(record({"index": INTEGER, "relevance_score": NUMBER})), **_USAGE}
        )
    },
    schema_of(vectors.RERANK_FIELDS, ["model", "query"]),
    RUN,
)

_OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/"): _ROOT,
    ("GET", "/page/{name}"): Operation(
        "A file of the page", {"text/javascript": TEXT, "text/css": TEXT, "*/*": ANY}, raises=(NoSuchFile,)
    ),
    ("GET", "/openapi.json"): Operation("This document", {JSON: OBJECT}),
    ("GET", "/health"): Operation("Whether the daemon answers", {JSON: record({"status": {"const": "ok"}})}),
    ("GET", "/api/version"): Operation(
        "The version of Ollama that the API is compatible with, and the daemon's own",
        {JSON: record({"version": TEXT, "ollamapy": TEXT, "pid": INTEGER, "busy": INTEGER}, models=TEXT)},
    ),
    ("GET", "/api/status"): Operation(
        "The state of Ollama's cloud: always disabled",
        {JSON: record({"cloud": record({"disabled": FLAG, "source": TEXT})})},
    ),
    ("GET", "/api/tags"): Operation(
        "The stored models", {JSON: record({"models": array(ref(ListedModel))})}, raises=MODEL
    ),
    ("GET", "/api/ps"): Operation(
        "The loaded models", {JSON: record({"models": array(ref(ollama.RunningModel))})}
    ),
    ("POST", "/api/generate"): Operation(
        "Continue a prompt; without one, load the model, or unload it with a keep_alive of 0",
        streamed(ref(ollama.GenerateAnswer)),
        schema_of(ollama.GENERATE_FIELDS, ["model"]),
        RUN,
    ),
    ("POST", "/api/chat"): Operation(
        "Answer a conversation",
        streamed(ref(ollama.ChatAnswer)),
        schema_of(
            ollama.CHAT_FIELDS, ["model"], messages=messages(ollama.MESSAGE_FIELDS, ollama.ROLES)
        ),
        RUN,
    ),
    ("POST", "/api/embed"): Operation(
        "A vector for each text", {JSON: ref(ollama_vectors.EmbedAnswer)}, schema_of(ollama_vectors.EMBED_FIELDS, ["model"]), RUN
    ),
    ("POST", "/api/embeddings"): Operation(
        "A vector for a text, in the older form",
        {JSON: record({"embedding": array(NUMBER)})},
        schema_of(ollama_vectors.EMBEDDINGS_FIELDS, ["model"]),
        RUN,
    ),
    ("POST", "/api/rerank"): Operation(
        "Rank documents by how well they answer a query",
        {JSON: ref(ollama_vectors.RerankAnswer)},
        schema_of(ollama_vectors.RERANK_FIELDS, ["model", "query"]),
        RUN,
    ),
    ("POST", "/api/tokenize"): Operation(
        "The token ids of a text",
        {JSON: record({"model": TEXT, "tokens": array(INTEGER)})},
        schema_of(ollama_vectors.TOKENIZE_FIELDS, ["model"]),
        RUN,
    ),
    ("POST", "/api/detokenize"): Operation(
        "The text of token ids",
        {JSON: record({"model": TEXT, "text": TEXT})},
        schema_of(ollama_vectors.DETOKENIZE_FIELDS, ["model"]),
        RUN,
    ),
    ("POST", "/api/cancel/{id}"): Operation(
        "End the requests with this X-Request-Id; each ends with an error, in the form of its own API",
        {JSON: record({"status": TEXT})},
        raises=(errors.RequestNotFound, *REQUEST),
    ),
    ("POST", "/api/show"): Operation(
        "Show a model's details",
        {JSON: record({"modelfile": TEXT, "details": ref(Details), "model_info": OBJECT, "modified_at": TEXT})},
        schema_of(ollama.SHOW_FIELDS),
        STORE,
    ),
    ("DELETE", "/api/delete"): Operation(
        "Delete a model", None, schema_of(model_wire.DELETE_FIELDS), STORE
    ),
    ("POST", "/api/copy"): Operation(
        "Give a model another name", None, schema_of(model_wire.COPY_FIELDS, ["source", "destination"]), STORE
    ),
    ("POST", "/api/create"): Operation(
        "Create a model from another one, from blobs or from a Modelfile's text",
        _job_steps(),
        schema_of(
            create.CREATE_FIELDS, ["model"], messages=messages(create.MESSAGE_FIELDS, create.ROLES)
        ),
        (*TRANSFER, *RUN),
        statuses=_BEGUN,
    ),
    ("POST", "/api/pull"): Operation(
        "Pull a model", _job_steps(), schema_of(model_wire.PULL_FIELDS), TRANSFER, statuses=_BEGUN
    ),
    ("POST", "/api/push"): Operation(
        "Push a model", streamed(ref(Progress)), schema_of(model_wire.PUSH_FIELDS), TRANSFER
    ),
    ("HEAD", "/api/blobs/{digest}"): Operation(
        "Whether the store has a blob", None, raises=(errors.InvalidRequest, errors.ModelNotFound)
    ),
    ("POST", "/api/blobs/{digest}"): Operation(
        "Store a blob",
        None,
        raises=(*REQUEST, errors.StoreError, errors.DiskFull),
        binary=True,
        statuses={200: "the blob was already stored", 201: "the blob is stored"},
    ),
    ("GET", "/v2/{repository}/manifests/{tag}"): Operation(
        "A model's manifest, for machines that pull from this daemon", {"*/*": ANY}, raises=MODEL
    ),
    ("GET", "/v2/{repository}/blobs/{digest}"): Operation(
        "A blob, for machines that pull from this daemon", {"application/octet-stream": ANY}, raises=MODEL
    ),
    ("POST", "/v1/chat/completions"): Operation(
        "Answer a conversation",
        or_events(_CHOICES),
        schema_of(
            chat.FIELDS,
            ["model", "messages"],
            messages=messages(chat.MESSAGE_FIELDS, chat.ROLES, content=_BLOCKS),
            reasoning_effort={"enum": [*openai.EFFORTS]},
        ),
        RUN,
    ),
    ("POST", "/v1/completions"): Operation(
        "Continue prompts", or_events(_CHOICES), schema_of(completions.FIELDS, ["model"], prompt=_INPUTS), RUN
    ),
    ("POST", "/v1/embeddings"): Operation(
        "A vector for each input",
        {JSON: record({"data": array(record({"embedding": _VECTOR, "index": INTEGER})), **_USAGE})},
        schema_of(
            vectors.EMBED_FIELDS,
            ["model", "input"],
            input=_INPUTS,
            encoding_format={"enum": ["float", "base64"]},
        ),
        RUN,
    ),
    ("POST", "/v1/rerank"): _RERANK,
    ("POST", "/rerank"): _RERANK,
    ("GET", "/v1/models"): Operation(
        "The stored models; in Anthropic's shape for a request with the header anthropic-version",
        {JSON: any_of(record({"object": {"const": "list"}, "data": array(_OPENAI_MODEL)}), _ANTHROPIC_MODELS)},
        raises=MODEL,
    ),
    ("GET", "/v1/models/{name}"): Operation("A stored model", {JSON: _OPENAI_MODEL}, raises=MODEL),
    ("POST", "/v1/messages"): Operation(
        "Answer a conversation",
        or_events(record({"id": TEXT, "type": {"const": "message"}, "role": TEXT, "content": array(OBJECT), **_USAGE})),
        schema_of(anthropic.FIELDS, ["model", "max_tokens", "messages"], **_ANTHROPIC),
        RUN,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "Count the tokens of a conversation",
        {JSON: record({"input_tokens": INTEGER})},
        schema_of(anthropic.FIELDS, ["model", "messages"], **_ANTHROPIC),
        RUN,
    ),
    **chats_operations.OPERATIONS,
    **models_operations.OPERATIONS,
    **openai_operations.OPERATIONS,
    **requests_operations.OPERATIONS,
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
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=REF)
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
                "schemas": {**components, "Options": OPTIONS, **ERROR_SCHEMAS},
                "parameters": {"RequestId": _ID_PARAMETER},
            },
        }
    )


def _operation(path: str, operation: Operation) -> dict[str, Any]:
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
    elif operation.form is not None:
        content = {"multipart/form-data": {"schema": operation.form}}
        found["requestBody"] = {"required": True, "content": content}
    elif operation.binary:
        found["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return found


def _parameter(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _placeholder(name: str) -> Schema:
    schema = _PLACEHOLDERS.get(name, {"type": "string", "pattern": "^[!-~]{1,200}$"})
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _responses(path: str, operation: Operation) -> dict[str, Any]:
    head = {"X-Request-Id": {"schema": TEXT}}
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

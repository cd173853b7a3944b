"""The descriptions of /v1/responses, /v1/conversations and /v1/audio, for the OpenAPI document. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ChatsFull, ChatsUnavailable, InvalidRequest
from ...serving.responses.values import PreviousNotFound, ResponseNotFound
from ..schema import (
    FLAG,
    INTEGER,
    JSON,
    NUMBER,
    OBJECT,
    REQUEST,
    RUN,
    TEXT,
    Errors,
    Operation,
    Schema,
    any_of,
    array,
    or_events,
    record,
    schema_of,
)
from . import audio, conversations, response_items, responses

_RESPONSE = record(
    {"id": TEXT, "object": {"const": "response"}, "status": TEXT, "output": array(OBJECT)},
    usage=OBJECT,
    model=TEXT,
)
_CONVERSATION = record(
    {"id": TEXT, "object": {"const": "conversation"}, "created_at": INTEGER, "metadata": OBJECT}
)
_DELETED = record({"id": TEXT, "object": TEXT, "deleted": {"const": True}})
_ITEM = record({"id": TEXT, "type": TEXT})
_ITEM_LIST = record({"object": {"const": "list"}, "data": array(_ITEM), "has_more": FLAG})
_LIST_QUERY: Mapping[str, Schema] = {
    "limit": INTEGER,
    "order": {"enum": ["asc", "desc"]},
    "after": TEXT,
}
_ITEMS = any_of(
    array(record({"role": {"enum": [*response_items.ROLES]}, "content": TEXT})), array(OBJECT)
)
_REQUEST = schema_of(
    responses.FIELDS,
    ["model", "input"],
    input=any_of(TEXT, _ITEMS),
    tools=array(record({"type": {"const": "function"}, "name": TEXT}, parameters=OBJECT)),
    truncation={"enum": ["auto", "disabled"]},
)

_SPEECH = record(
    {"file": {"type": "string", "format": "binary"}, "model": TEXT},
    language=TEXT,
    prompt=TEXT,
    response_format={"enum": [*audio.FORMATS]},
    temperature=NUMBER,
)
_TEXT_OF_SOUND: Mapping[str, Schema] = {
    JSON: record({"text": TEXT}, duration=NUMBER, segments=array(OBJECT)),
    "text/plain": TEXT,
}

_STORED: Errors = (ResponseNotFound, ChatsUnavailable, ChatsFull)
_LISTED: Errors = (InvalidRequest, *_STORED)
_CHANGED: Errors = (*REQUEST, *_STORED)
_ANSWERED: Errors = (*RUN, *_STORED, PreviousNotFound, responses.PromptNotStored)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/audio/transcriptions"): Operation(
        "Write down what is said in a sound", _TEXT_OF_SOUND, form=_SPEECH, raises=RUN
    ),
    ("POST", "/v1/audio/translations"): Operation(
        "Translate what is said in a sound to English", _TEXT_OF_SOUND, form=_SPEECH, raises=RUN
    ),
    ("POST", "/v1/responses"): Operation(
        "Answer a conversation of items", or_events(_RESPONSE), _REQUEST, _ANSWERED
    ),
    ("POST", "/v1/responses/input_tokens"): Operation(
        "Count the tokens that a response would be made from",
        {JSON: record({"object": {"const": "response.input_tokens"}, "input_tokens": INTEGER})},
        _REQUEST,
        _ANSWERED,
    ),
    ("GET", "/v1/responses/{id}"): Operation(
        "A stored response; with ?stream=true its events, those after starting_after",
        or_events(_RESPONSE),
        raises=_LISTED,
        query={"stream": FLAG, "starting_after": INTEGER},
    ),
    ("DELETE", "/v1/responses/{id}"): Operation(
        "Delete a stored response", {JSON: _DELETED}, raises=_STORED
    ),
    ("POST", "/v1/responses/{id}/cancel"): Operation(
        "End a response in the background", {JSON: _RESPONSE}, raises=_CHANGED
    ),
    ("GET", "/v1/responses/{id}/input_items"): Operation(
        "The items of a stored response's request", {JSON: _ITEM_LIST}, raises=_LISTED, query=_LIST_QUERY
    ),
    ("POST", "/v1/conversations"): Operation(
        "Begin a conversation of items", {JSON: _CONVERSATION}, schema_of(conversations.NEW_FIELDS, items=_ITEMS), _CHANGED
    ),
    ("GET", "/v1/conversations/{id}"): Operation("A conversation", {JSON: _CONVERSATION}, raises=_STORED),
    ("POST", "/v1/conversations/{id}"): Operation(
        "Replace a conversation's metadata", {JSON: _CONVERSATION}, schema_of(conversations.UPDATE_FIELDS), _CHANGED
    ),
    ("DELETE", "/v1/conversations/{id}"): Operation(
        "Delete a conversation with its items", {JSON: _DELETED}, raises=_STORED
    ),
    ("GET", "/v1/conversations/{id}/items"): Operation(
        "The items of a conversation", {JSON: _ITEM_LIST}, raises=_LISTED, query=_LIST_QUERY
    ),
    ("POST", "/v1/conversations/{id}/items"): Operation(
        "Add items to a conversation", {JSON: _ITEM_LIST}, schema_of(conversations.ITEM_FIELDS, ["items"], items=_ITEMS), _CHANGED
    ),
    ("GET", "/v1/conversations/{id}/items/{item}"): Operation("An item of a conversation", {JSON: _ITEM}, raises=_STORED),
    ("DELETE", "/v1/conversations/{id}/items/{item}"): Operation(
        "Delete an item of a conversation", {JSON: _CONVERSATION}, raises=_STORED
    ),
}  # fmt: skip

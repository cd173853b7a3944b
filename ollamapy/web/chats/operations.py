"""The paths of conversations as the OpenAPI document describes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ... import errors
from ...serving.chats.attachments import Attachment
from ...serving.chats.values import Chat, ChatMessage
from ..schema import (
    ANY,
    EVENT,
    EVENTS,
    INTEGER,
    JSON,
    OBJECT,
    REQUEST,
    RUN,
    TEXT,
    Errors,
    Operation,
    any_of,
    array,
    record,
    ref,
    schema_of,
)  # fmt: skip
from . import wire as chats

STRUCTS = (Chat, ChatMessage, Attachment)

_CHAT: Errors = (errors.ChatNotFound, errors.ChatsUnavailable, errors.ChatsFull)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/api/chats"): Operation(
        "The conversations that the daemon keeps: the pinned ones first, then the newest",
        {JSON: record({"chats": array(ref(Chat)), "next": any_of(TEXT, {"type": "null"}), "folders": array(TEXT)}, notice=TEXT)},
        raises=(errors.InvalidRequest, *_CHAT),
        query={
            "q": TEXT, "folder": TEXT, "archived": {"enum": ["true", "false", "all"]}, "before": TEXT,
            "limit": {"type": "integer", "minimum": 1, "maximum": chats.MOST_LISTED},
        },
    ),
    ("POST", "/api/chats"): Operation(
        "Begin a conversation",
        {JSON: ref(Chat)},
        schema_of(chats.CHAT_FIELDS, ["model"]),
        (*REQUEST, *_CHAT),
        statuses={201: "the chat was made"},
    ),
    ("DELETE", "/api/chats"): Operation(
        "Delete all conversations of the caller",
        None,
        raises=(errors.InvalidRequest, *_CHAT),
        statuses={204: "deleted"},
        query={"confirm": {"const": "all"}},
    ),
    ("GET", "/api/chats/{id}"): Operation("A conversation with all its messages", {JSON: ref(Chat)}, raises=_CHAT),
    ("PATCH", "/api/chats/{id}"): Operation(
        "Change the settings of a conversation", {JSON: ref(Chat)}, schema_of(chats.CHAT_FIELDS), (*REQUEST, *_CHAT)
    ),
    ("DELETE", "/api/chats/{id}"): Operation("Delete a conversation", None, raises=_CHAT, statuses={204: "deleted"}),
    ("POST", "/api/chats/{id}/messages"): Operation(
        "Add a message and have it answered, or answer again, or continue an answer; as events",
        {EVENTS: EVENT, JSON: ref(ChatMessage)},
        schema_of(chats.MESSAGE_FIELDS, content=TEXT),
        (*RUN, *_CHAT, errors.ChatConflict),
        statuses={200: "the events of the answer", 201: "the message, if no answer is wanted"},
        query={"html": {"const": "true"}},
    ),
    ("GET", "/api/chats/export"): Operation("All conversations as one file", {JSON: OBJECT}, raises=_CHAT),
    ("POST", "/api/chats/import"): Operation(
        "Import an export of ollamapy, of Open WebUI, or ChatGPT's conversations.json",
        {JSON: record({"chats": array(TEXT), "skipped": array(record({"title": TEXT, "reason": TEXT}))})},
        raises=(*REQUEST, *_CHAT, errors.ServerBusy),
        binary=True,
    ),
    ("GET", "/api/chats/{id}/export"): Operation(
        "A conversation as a file",
        {JSON: OBJECT, "text/markdown": TEXT},
        raises=(errors.InvalidRequest, *_CHAT),
        query={"format": {"enum": ["json", "markdown"]}},
    ),
    ("POST", "/api/attachments"): Operation(
        "Store a file that messages can use",
        {JSON: ref(Attachment)},
        raises=(*REQUEST, *_CHAT),
        binary=True,
        statuses={201: "stored"},
        query={"name": TEXT, "temporary": {"enum": ["true", "false"]}},
    ),
    ("GET", "/api/attachments/{digest}"): Operation(
        "A file that was attached", {"*/*": ANY}, raises=(errors.InvalidRequest, *_CHAT)
    ),
    ("POST", "/api/chats/{id}/html"): Operation(
        "The HTML of messages, block by block",
        {JSON: {"type": "object", "additionalProperties": array(TEXT)}},
        schema_of(chats.HTML_FIELDS),
        (*REQUEST, *_CHAT),
    ),
    ("POST", "/api/chats/{id}/prefill"): Operation(
        "Compute the prompt of a message that will be sent, with what is written of it so far, while nothing else is to be done",
        None,
        schema_of(chats.MESSAGE_FIELDS, content=TEXT),
        (*RUN, *_CHAT),
        statuses={202: "it is computed if the model is loaded and idle"},
    ),
    ("GET", "/api/chats/{id}/messages/{message}/events"): Operation(
        "The events of an answer from a place on",
        {EVENTS: EVENT},
        raises=(errors.InvalidRequest, *_CHAT),
        query={"after": INTEGER, "html": {"const": "true"}},
    ),
    ("POST", "/api/chats/{id}/messages/{message}/stop"): Operation(
        "End an answer that is being written", {JSON: ref(ChatMessage)}, raises=(*REQUEST, *_CHAT)
    ),
    ("DELETE", "/api/chats/{id}/messages/{message}"): Operation(
        "Delete a message and everything below it", None, raises=_CHAT, statuses={204: "deleted"}
    ),
}  # fmt: skip

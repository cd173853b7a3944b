"""The conversations' API: from JSON to what is asked of a chat, and from chats and events to JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from ...digests import is_digest, parse_digest
from ...errors import InvalidRequest
from ...serving.chats.asking import Asked, NewMessage, NewPart
from ...serving.chats.events import Event
from ...serving.chats.values import Changes, Chat, ChatMessage, Listed
from .. import body
from .. import query as parameters
from ..ollama import wire as ollama

encode = msgspec.json.Encoder().encode

MOST_TITLE, MOST_FOLDER, MOST_SYSTEM = 200, 100, 1_000_000
"""Characters of a title, of a folder's name, and of a system message."""
MOST_LISTED = 1000
MOST_PARTS = 100
MOST_NAME = 255
"""Characters of an attachment's name."""
MOST_IMPORTED = 128 * 2**20
"""Bytes of a file to import."""
MOST_ATTACHED = 32 * 2**20
"""Bytes of an attachment."""
MOST_RENDERED = 100
"""Messages whose HTML one request may ask for."""

_ROLES = ("user", "assistant", "tool", "system")
_SETTINGS = ("options", "format", "think", "keep_alive")
CHAT_FIELDS = {
    "title": "string", "model": "string", "system": "string", "options": "map[string]interface {}", "format": "any",
    "think": "any", "keep_alive": "any", "folder": "string", "pinned": "bool", "archived": "bool", "head": "string",
    "temporary": "bool",
}  # fmt: skip
MESSAGE_FIELDS = {
    "content": "any", "role": "string", "parent": "string", "continue": "string", "answer": "bool", "model": "string",
    "options": "map[string]interface {}", "format": "any", "think": "any", "keep_alive": "any", "tools": "any",
    "tool_name": "string", "tool_call_id": "string",
}  # fmt: skip
PART_FIELDS = {
    "type": "string",
    "text": "string",
    "digest": "string",
    "name": "string",
    "data": "string",
}
HTML_FIELDS = {"messages": "[]string"}

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class NewChat:
    """The body of a request that makes a chat."""

    given: Changes
    temporary: bool


def parse_new_chat(data: bytes) -> NewChat:
    """The body of POST /api/chats. Raises InvalidRequest."""
    given = body.fields(body.decode(data), CHAT_FIELDS, "ChatFields")
    body.model_name(given)
    temporary = given.pop("temporary", False)
    given.pop("head", None)
    return NewChat(_changes(given), temporary)


def parse_changes(data: bytes) -> Changes:
    """The body of PATCH /api/chats/ID; null resets a setting. Raises InvalidRequest."""
    value = body.decode(data)
    given = body.fields(value, CHAT_FIELDS, "ChatFields")
    given.pop("temporary", None)
    if "model" in given:
        body.model_name(given)
    resets: dict[str, Any] = {
        name: None for name in _SETTINGS if name in value and value[name] is None
    }
    return _changes(given | resets)


def _changes(given: Mapping[str, Any]) -> Changes:
    """Changes of a chat, each value checked."""
    for name, most in (("title", MOST_TITLE), ("folder", MOST_FOLDER), ("system", MOST_SYSTEM)):
        if len(given.get(name, "")) > most:
            raise InvalidRequest(f"{name} has more than {most:,} characters")
    _check_settings(given)
    return Changes(**given)


def _check_settings(given: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for settings that no request to a model could have."""
    set_ones = {name: given[name] for name in _SETTINGS if given.get(name) is not None}
    ollama.common({"model": "any", **set_ones})


def parse_html(data: bytes) -> list[str]:
    """The body of POST /api/chats/ID/html: ids of messages. Raises InvalidRequest."""
    ids: list[str] = body.fields(body.decode(data), HTML_FIELDS, "HTMLRequest").get("messages", [])
    if len(ids) > MOST_RENDERED:
        raise InvalidRequest(f"the HTML of at most {MOST_RENDERED} messages can be asked for")
    return ids


def parse_message(data: bytes) -> Asked:
    """The body of POST /api/chats/ID/messages. Raises InvalidRequest."""
    value = body.decode(data)
    given = body.fields(value, MESSAGE_FIELDS, "NewMessage")
    _check_settings(given)
    role = body.role(given.get("role", "user"), _ROLES, "the message")
    new = None
    if "content" in given:
        content, parts = _content(given["content"])
        new = NewMessage(
            content,
            role,  # type: ignore[arg-type]
            parts,
            tool_name=given.get("tool_name", ""),
            tool_call_id=given.get("tool_call_id", ""),
        )
    begins_chat = "parent" in value and value["parent"] is None
    return Asked(
        new,
        parent=None if begins_chat else given.get("parent", UNSET),
        continues=given.get("continue", ""),
        answers=given.get("answer", True),
        model=given.get("model", ""),
        tools=ollama.given_tools(given.get("tools")),
        **{name: given[name] for name in _SETTINGS if name in given},
    )


def _content(value: Any) -> tuple[str, tuple[NewPart, ...]]:
    """A message's text, and its parts if it has attachments. Raises InvalidRequest."""
    if isinstance(value, str):
        return value, ()
    if not isinstance(value, list) or not 0 < len(value) <= MOST_PARTS:
        raise InvalidRequest(f"content must be a text, or a list of at most {MOST_PARTS} parts")
    parts = tuple(_part(item, f"content[{index}]") for index, item in enumerate(value))
    text = "\n\n".join(part.text for part in parts if part.type == "text")
    return text, parts if any(part.type != "text" for part in parts) else ()


def parse_attachment(data: bytes) -> bytes:
    """The body of POST /api/attachments. Raises InvalidRequest, BodyTooLarge."""
    if not data:
        raise InvalidRequest("the file is empty: its content is the body of the request")
    if len(data) > MOST_ATTACHED:
        raise body.BodyTooLarge(f"a file has at most {MOST_ATTACHED // 2**20} MiB")
    return data


def _part(item: Any, where: str) -> NewPart:
    given = body.fields(item, PART_FIELDS, "NewMessage", where)
    kind, name = given.get("type"), given.get("name", "")
    if kind == "text":
        return NewPart("text", body.text(given, "text", where))
    if kind not in ("image", "file"):
        raise InvalidRequest(f"the type of {where} must be text, image or file")
    check_name(name)
    if "data" in given:
        return NewPart(kind, name=name, data=body.from_base64(given["data"]))
    if not is_digest(digest := given.get("digest", "")):
        raise InvalidRequest(f"{where} must have the digest or the data of a file")
    return NewPart(kind, digest=parse_digest(digest), name=name)


def check_name(name: str) -> None:
    """Raise InvalidRequest for what cannot be a file's name."""
    if len(name) > MOST_NAME or not name.isprintable():
        raise InvalidRequest(
            f"a file's name has at most {MOST_NAME} characters, all of them printable"
        )


def parse_list(query: Mapping[str, str]) -> dict[str, Any]:
    """The query of GET /api/chats, as the keywords of Chats.page. Raises InvalidRequest."""
    kinds = {"true": True, "false": False, "all": None}
    archived = query.get("archived", "false")
    if archived not in kinds:
        raise InvalidRequest("archived must be true, false or all")
    return {
        "query": parameters.text(query, "q").strip(),
        "folder": parameters.text(query, "folder") if "folder" in query else None,
        "archived": kinds[archived],
        "limit": parameters.count(query, "limit", 100, MOST_LISTED),
        "before": parameters.text(query, "before"),
    }


def number(query: Mapping[str, str], name: str, default: int = 0) -> int:
    """A number of a query. Raises InvalidRequest."""
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest(f"{name} must be a whole number")
    return int(text)


def encode_list(found: Listed) -> bytes:
    """A page of the list; ``notice``, and ``running`` of a chat, only where there is something to say."""
    hits = found.hits
    chats = [
        {
            **asdict(chat),
            **(asdict(hits[chat.id]) if chat.id in hits else {}),
            **({"running": True} if chat.id in found.running else {}),
        }
        for chat in found.chats
    ]
    answer = {"chats": chats, "next": found.next, "folders": found.folders}
    return encode(answer | ({"notice": found.notice} if found.notice else {}))


def encode_chat(chat: Chat, messages: list[ChatMessage]) -> bytes:
    """A chat with its messages."""
    return encode({**asdict(chat), "messages": messages})


def write_event(event: Event) -> bytes:
    """A server-sent event, without its last line feed."""
    number = b"" if event.number is None else b"id: %d\n" % event.number
    return b"%sevent: %s\ndata: %s\n" % (number, event.name.encode(), encode(event.data))

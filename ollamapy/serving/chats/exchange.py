"""Conversations as files: our own export, and what other programs export. Pure.

Our own has everything, attachments included. Of Open WebUI's and ChatGPT's, branches, titles, times, models and thinking are
taken; their fields are optional here, because they changed from version to version. Everything that is read may be hostile: a
message whose parents form a circle belongs to no branch and is left out.

    ollamapy    {"format": "ollamapy-chats", "version": 1, "chats": [{..., "messages": [...], "attachments": [...]}]}
    Open WebUI  [{"title": ..., "chat": {"history": {"messages": {ID: {"parentId": ..., ...}}, "currentId": ID}}}]
    ChatGPT     [{"title": ..., "mapping": {ID: {"message": {...}, "parent": ID}}, "current_node": ID}]
"""

from __future__ import annotations

import html
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import heapify, heappop, heappush
from typing import Any, Literal

import msgspec

from ...digests import digest_of
from ...errors import InvalidRequest
from ...formats.documents.kinds import type_of
from .attachments import Attachment
from .elements import Elements
from .values import Chat, ChatMessage, Part, Role, new_id, now, time_text, title_of

FORMAT, VERSION = "ollamapy-chats", 1
HEAD = msgspec.json.encode({"format": FORMAT, "version": VERSION})[:-1] + b',"chats":[\n'
"""How a file begins; chats follow, with commas between them."""
TAIL = b"]}\n"

MOST_CHATS = 50_000
MOST_MESSAGES = 10_000
"""Messages of an imported chat."""
MOST_TITLE, MOST_FOLDER = 200, 100
"""Characters of a title and of a folder's name."""


class NotImported(Exception):
    """Why a chat of a file is left out."""


class UnknownFormat(NotImported):
    """An object is not a chat of any format that is read."""


class Imported(msgspec.Struct, frozen=True):
    """A chat of a file with new ids; ``files`` are its attachments' names and contents."""

    chat: Chat
    messages: tuple[ChatMessage, ...]
    files: tuple[tuple[str, bytes], ...] = ()


def encode_chat(
    chat: Chat, messages: Sequence[ChatMessage], files: Iterable[tuple[Attachment, bytes]]
) -> bytes:
    """A chat of our own export."""
    attached = [
        {"digest": file.digest, "name": file.name, "data": b64encode(content).decode()}
        for file, content in files
    ]
    fields = msgspec.structs.asdict(chat)
    return msgspec.json.encode({**fields, "messages": messages, "attachments": attached})


def markdown(chat: Chat, branch: Sequence[ChatMessage]) -> str:
    """The branch that a chat shows, to be read; thinking is left out."""
    parts = [f"# {chat.title or 'Chat'}", f"*{chat.created_at[:10]}, {chat.model}*"]
    if chat.system:
        parts.append("> " + chat.system.replace("\n", "\n> "))
    for message in branch:
        who = {"user": "You", "system": "System"}.get(message.role, message.model or message.role)
        names = [f"[{part.name or part.type}]" for part in message.parts if part.digest]
        calls = [f"`{call.name}({_json(call.arguments)})`" for call in message.tool_calls]
        parts += [f"## {who}", *names, message.content.strip(), *calls]
    return "\n\n".join(part for part in parts if part) + "\n"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


# ---- import ----------------------------------------------------------------------------------------------------------


class Skipped(msgspec.Struct, frozen=True):
    """A chat of a file that was left out, and why."""

    title: str
    reason: str


class Reader:
    """Reads the chats of a file while it arrives. Not for several threads at once."""

    def __init__(self) -> None:
        self.chats: list[Imported] = []
        self.skipped: list[Skipped] = []
        self._elements = Elements()
        self._is_known = False  # the format of any chat so far

    def feed(self, piece: bytes) -> None:
        """Take the next piece. Raises InvalidRequest for what is no JSON, and for too many chats."""
        for element in self._elements.feed(piece):
            if len(self.chats) + len(self.skipped) >= MOST_CHATS:
                raise InvalidRequest(f"the file has more than {MOST_CHATS:,} chats")
            try:
                self.chats.append(imported(element))
                self._is_known = True
            except NotImported as error:
                self._is_known |= not isinstance(error, UnknownFormat)
                self.skipped.append(Skipped(title_in(element), str(error)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise InvalidRequest(f"the file is no JSON: {error}") from None

    def finish(self) -> None:
        """Raise InvalidRequest if the file was cut off, or has no chats of a format that is read."""
        if self._elements.is_open:
            raise InvalidRequest("the file is not complete: its JSON has no end")
        if not self._is_known:
            raise InvalidRequest(
                "the file has no chats: choose an export of ollamapy, Open WebUI, or ChatGPT's conversations.json"
            )


def imported(element: bytes) -> Imported:
    """A chat of a file. Raises NotImported, msgspec.DecodeError for what is no JSON."""
    value = msgspec.json.decode(element)
    if not isinstance(value, dict):
        raise NotImported("it is no object")
    if isinstance(value.get("mapping"), dict):
        return _of_chatgpt(value)
    inner = _object(value.get("chat")) or value
    if isinstance(inner.get("history"), dict):
        return _of_open_webui(value, inner)
    if isinstance(value.get("messages"), list):
        return _of_ours(value)
    raise UnknownFormat("it is of no known format")


def title_in(element: bytes) -> str:
    """The title of a chat that is left out, as far as it has one."""
    try:
        value = msgspec.json.decode(element)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return _text(value.get("title"))[:MOST_TITLE] if isinstance(value, dict) else ""


def _of_ours(value: Mapping[str, Any]) -> Imported:
    """Our own export: the same chat with new ids."""
    try:
        chat = msgspec.convert({**value, "id": ""}, Chat)
        found = msgspec.convert(value["messages"], tuple[ChatMessage, ...])
        files = tuple(
            (_text(file.get("name")), b64decode(_text(file.get("data")), validate=True))
            for file in value.get("attachments", ())
        )
    except (msgspec.ValidationError, ValueError, AttributeError, TypeError) as error:
        raise NotImported(f"it is damaged: {error}") from None
    digests = {digest_of(content) for _, content in files}
    if any(part.digest not in digests for m in found for part in m.parts if part.type != "text"):
        raise NotImported("an attachment is missing")
    kept = msgspec.structs.replace(
        chat,
        title=chat.title[:MOST_TITLE],
        folder=chat.folder[:MOST_FOLDER],
        created_at=_own_time(chat.created_at),
        updated_at=_own_time(chat.updated_at),
    )
    return _renamed(kept, [_own_message(message) for message in found], files, value.get("head"))


def _own_message(message: ChatMessage) -> ChatMessage:
    """A message of our own export, without what makes no sense."""
    sizes = {"thinking": 0, "text": 0, "tool_call": 0}
    for kind, size in message.order:
        sizes[kind] += size if size >= 0 else 2**62
    true = (len(message.thinking), len(message.content), len(message.tool_calls))
    return msgspec.structs.replace(
        message,
        status="failed" if message.status == "streaming" else message.status,
        order=message.order if tuple(sizes.values()) == true else (),
        created_at=_own_time(message.created_at),
    )


_OWN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def _own_time(text: str) -> str:
    return text if _OWN_TIME.fullmatch(text) else now()


def _of_open_webui(value: Mapping[str, Any], chat: Mapping[str, Any]) -> Imported:
    history = chat["history"]
    found = history.get("messages")
    if not isinstance(found, dict):
        raise NotImported("its history has no messages")
    files: list[tuple[str, bytes]] = []
    messages = [
        _open_webui_message(id, message, files)
        for id, message in found.items()
        if isinstance(message, dict)
    ]
    models = chat.get("models")
    params = _object(chat.get("params"))
    made = Chat(
        id="",
        title=_text(value.get("title") or chat.get("title"))[:MOST_TITLE],
        model=_text(models[0]) if isinstance(models, list) and models else "",
        system=_text(params.get("system") or chat.get("system")),
        pinned=value.get("pinned") is True,
        archived=value.get("archived") is True,
        created_at=_time(value.get("created_at") or chat.get("timestamp")),
        updated_at=_time(value.get("updated_at") or chat.get("timestamp")),
    )
    return _renamed(made, messages, tuple(files), history.get("currentId"))


def _open_webui_message(
    id: str, value: Mapping[str, Any], files: list[tuple[str, bytes]]
) -> ChatMessage:
    """A message, whose thinking stands in its text, quoted in an element <details>; images are data URLs."""
    thinking, content = _reasoning(_text(value.get("content")))
    given = value.get("files")
    attached = [file for file in given if isinstance(file, dict)] if isinstance(given, list) else []
    parts = [part for file in attached if (part := _open_webui_file(file, files))]
    return ChatMessage(
        id=id,
        parent=_text(value.get("parentId")) or None,
        role=_role(value.get("role")),
        content=content,
        parts=(*parts, Part("text", content)) if parts else (),
        thinking=thinking,
        model=_text(value.get("model")),
        status="done",
        created_at=_time(value.get("timestamp")),
    )


_REASONING = re.compile(
    r'<details type="reasoning"[^>]*>\s*(?:<summary>[^<]*</summary>)?(.*?)</details>\s*', re.DOTALL
)


def _reasoning(content: str) -> tuple[str, str]:
    """The thinking and the rest of a text."""
    thoughts = [html.unescape(found) for found in _REASONING.findall(content)]
    lines = (
        line.removeprefix(">").removeprefix(" ")
        for text in thoughts
        for line in text.strip().splitlines()
    )
    return "\n".join(lines), _REASONING.sub("", content)


def _open_webui_file(file: Mapping[str, Any], files: list[tuple[str, bytes]]) -> Part | None:
    """An image of a message, or a text file; None for what the export does not have."""
    name = _text(file.get("name"))[:255]
    url = _text(file.get("url"))
    if url.startswith("data:"):
        try:
            content = b64decode(url.partition(",")[2], validate=True)
        except ValueError:
            return None
    else:
        text = _object(_object(file.get("file")).get("data")).get("content")
        if not isinstance(text, str):
            return None
        content = text.encode()
    files.append((name, content))
    media_type = type_of(content)
    kind: Literal["image", "file"] = "image" if media_type.startswith("image/") else "file"
    return Part(kind, digest=digest_of(content), name=name, media_type=media_type)


def _of_chatgpt(value: Mapping[str, Any]) -> Imported:
    """Nodes without a message of their own (the root, hidden ones, thoughts) are left out, and their children move up."""
    nodes = {id: node for id, node in value["mapping"].items() if isinstance(node, dict)}
    shown = {id: found for id, node in nodes.items() if (found := _chatgpt_message(node))}
    messages = []
    for id, message in shown.items():
        parent, thoughts = _shown_parent(nodes, shown, id)
        if message.role == "assistant":
            message = msgspec.structs.replace(message, thinking="\n\n".join(thoughts))
        messages.append(msgspec.structs.replace(message, id=id, parent=parent))
    models = [message.model for message in messages if message.model]
    made = Chat(
        id="",
        title=_text(value.get("title"))[:MOST_TITLE],
        model=_text(value.get("default_model_slug")) or next(iter(models), ""),
        archived=value.get("is_archived") is True,
        created_at=_time(value.get("create_time")),
        updated_at=_time(value.get("update_time")),
    )
    head = _text(value.get("current_node"))
    if head in nodes and head not in shown:
        head = _shown_parent(nodes, shown, head)[0] or ""
    return _renamed(made, messages, (), head)


def _shown_parent(
    nodes: Mapping[str, Any], shown: Mapping[str, ChatMessage], id: str
) -> tuple[str | None, list[str]]:
    """The nearest message above a node, and the thoughts in between."""
    thoughts: list[str] = []
    seen = {id}
    parent = _text(nodes[id].get("parent"))
    while parent in nodes and parent not in shown and parent not in seen:
        seen.add(parent)
        thoughts[:0] = _thoughts(nodes[parent].get("message"))
        parent = _text(nodes[parent].get("parent"))
    return (parent if parent in shown else None), thoughts


def _thoughts(message: Any) -> list[str]:
    found = _object(_object(message).get("content")).get("thoughts")
    items = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return [
        text for each in items if (text := _text(each.get("content")) or _text(each.get("summary")))
    ]


def _chatgpt_message(node: Mapping[str, Any]) -> ChatMessage | None:
    """The message of a node; None if it is hidden or has no text."""
    message = node.get("message")
    if not isinstance(message, dict):
        return None
    metadata, author = _object(message.get("metadata")), _object(message.get("author"))
    text = _chatgpt_text(message.get("content"))
    if not text or metadata.get("is_visually_hidden_from_conversation") is True:
        return None
    return ChatMessage(
        id="",
        parent=None,
        role=_role(author.get("role")),
        content=text,
        tool_name=_text(author.get("name")) if author.get("role") == "tool" else "",
        model=_text(metadata.get("model_slug")),
        status="done",
        created_at=_time(message.get("create_time")),
    )


def _chatgpt_text(content: Any) -> str:
    """The text of a message's content; an image, which the file does not have, is named in brackets."""
    if not isinstance(content, dict):
        return ""
    kind = content.get("content_type")
    if kind in ("thoughts", "reasoning_recap", "user_editable_context"):
        return ""
    if kind == "code":
        return f"```\n{_text(content.get('text'))}\n```"
    if isinstance(parts := content.get("parts"), list):
        texts = [
            part if isinstance(part, str) else "[image]" if isinstance(part, dict) else ""
            for part in parts
        ]
        return "\n\n".join(text for text in texts if text.strip())
    return _text(content.get("text"))


def _renamed(
    chat: Chat, messages: Sequence[ChatMessage], files: tuple[tuple[str, bytes], ...], head: Any
) -> Imported:
    """A chat with new ids, its messages in an order in which each follows its parent. Raises NotImported."""
    if len(messages) > MOST_MESSAGES:
        raise NotImported(f"it has more than {MOST_MESSAGES:,} messages")
    children: dict[str | None, list[ChatMessage]] = {}
    known = {message.id: message for message in messages}
    for message in known.values():
        parent = message.parent if message.parent in known else None
        children.setdefault(parent, []).append(message)
    names: dict[str, str] = {}
    ordered: list[ChatMessage] = []
    places = {id: place for place, id in enumerate(known)}
    ready = [(each.created_at, places[each.id], each.id) for each in children.get(None, [])]
    heapify(ready)  # the oldest message whose parent has its place comes next
    while ready:
        message = known[heappop(ready)[2]]
        names[message.id] = new_id("msg")
        parent = names.get(message.parent or "")
        ordered.append(msgspec.structs.replace(message, id=names[message.id], parent=parent))
        for child in children.get(message.id, []):
            heappush(ready, (child.created_at, places[child.id], child.id))
    if not ordered:
        raise NotImported("it has no messages")
    first = next((message.content for message in ordered if message.role == "user"), "")
    kept = msgspec.structs.replace(
        chat,
        id=new_id("chat"),
        title=chat.title or title_of(first),
        head=names.get(head) if isinstance(head, str) and head in names else ordered[-1].id,
        temporary=False,
    )
    return Imported(kept, tuple(ordered), files)


_ROLES: Mapping[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "system": "system",
}


def _role(value: Any) -> Role:
    return _ROLES.get(value, "user") if isinstance(value, str) else "user"


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> str:
    """A time in seconds since 1970 as chats have it; the current one where there is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e11:
        return time_text(datetime.fromtimestamp(value, UTC))
    return now()

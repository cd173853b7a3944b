"""From a chat's messages to a request. Pure.

The settings of a chat are stored as Ollama's API has them, and were checked when they came.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ...digests import digest_of
from ...errors import ChatConflict, InvalidRequest
from ...request import Conversation, Request, constraint_of, keep_alive_of
from ...types import Document, Message, parse_options
from .values import Chat, ChatMessage, Part, Place, Role, new_id, now


class NewPart(msgspec.Struct, frozen=True):
    """A part of a new message: a text, or an attachment, which is stored already (``digest``) or given (``data``)."""

    type: Literal["text", "image", "file"]
    text: str = ""
    digest: str = ""
    name: str = ""
    data: bytes | None = None


class NewMessage(msgspec.Struct, frozen=True):
    """A message that is to be stored; ``parts`` only where it has attachments."""

    content: str
    role: Role = "user"
    parts: tuple[NewPart, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class Asked(msgspec.Struct, frozen=True):
    """What a request wants of a chat: to store ``new``, and an answer below it (``answers``).

    ``parent``: the message that ``new``, or the answer where there is none, follows (UNSET: the chat's head; None: it begins the
    chat). ``continues``: the id of an answer to be continued in place. The rest is for this answer, UNSET as the chat has it;
    ``tools`` are in OpenAI's form.
    """

    new: NewMessage | None = None
    parent: str | None | UnsetType = UNSET
    continues: str = ""
    answers: bool = True
    model: str = ""
    options: Mapping[str, Any] | UnsetType = UNSET
    format: Any = UNSET
    think: bool | str | None | UnsetType = UNSET
    keep_alive: str | float | None | UnsetType = UNSET
    tools: tuple[dict[str, Any], ...] = ()


def request_of(
    chat: Chat, branch: Sequence[ChatMessage], asked: Asked, contents: Mapping[str, bytes]
) -> Request:
    """The request whose answer comes after a branch of a chat, or continues its last message; ``contents`` are those of its
    attachments, by digest. Raises InvalidRequest."""
    if not any(message.role != "system" for message in branch):
        raise InvalidRequest("there is no message to answer: give a content")
    system = (Message("system", chat.system),) if chat.system else ()
    continues = bool(asked.continues) and bool(branch[-1].content)
    kept = branch if continues or not asked.continues else branch[:-1]
    options = {**chat.options, **(asked.options if asked.options is not UNSET else {})}
    think = chat.think if asked.think is UNSET else asked.think
    return Request(
        asked.model or chat.model,
        Conversation(
            (*system, *(message_of(message, contents) for message in kept)),
            tools=asked.tools,
            continues_last=continues,
        ),
        options=parse_options(options)[0],
        keep_alive=keep_alive_of(
            chat.keep_alive if asked.keep_alive is UNSET else asked.keep_alive
        ),
        think=think,
        think_is_optional=True,
        progress=True,
        explain_cache=True,
        is_private=chat.temporary,
        is_kept=True,
        constraint=constraint_of(chat.format if asked.format is UNSET else asked.format),
    )


def message_of(message: ChatMessage, contents: Mapping[str, bytes]) -> Message:
    """A stored message as a request has it. Raises InvalidRequest for an attachment whose type tells that it cannot be read."""
    parts = message.parts or (Part("text", message.content),)
    return Message.of(
        message.role,
        [_content(part, contents.get(part.digest, b"")) for part in parts],
        thinking=message.thinking,
        tool_calls=message.tool_calls,
        tool_name=message.tool_name,
        tool_call_id=message.tool_call_id,
    )


def _content(part: Part, content: bytes) -> str | bytes | Document:
    if part.type == "text":
        return part.text
    if part.type == "image":
        if not part.media_type.startswith("image/"):
            raise InvalidRequest(f"{_shown(part)} is no image: attach it as a file")
        return content
    if part.media_type in _UNREADABLE:
        raise InvalidRequest(
            f"{_shown(part)} is of type {part.media_type}, which cannot be read: leave it out"
        )
    return Document(content, part.name)


_UNREADABLE = ("application/octet-stream", "application/zip")


def _shown(part: Part) -> str:
    return f'the attachment "{part.name[:100]}"' if part.name else "an attachment"


def part_of(new: NewPart, content: bytes, media_type: str, name: str = "") -> Part:
    """The part that is stored for a new attachment."""
    return Part(new.type, digest=digest_of(content), name=new.name or name, media_type=media_type)


def stored(new: NewMessage, parent: str | None, parts: tuple[Part, ...]) -> ChatMessage:
    """The message that is stored for a new one, with its parts as they are stored."""
    return ChatMessage(
        id=new_id("msg"),
        parent=parent,
        role=new.role,
        content=new.content,
        status="done",
        created_at=now(),
        parts=parts,
        tool_name=new.tool_name,
        tool_call_id=new.tool_call_id,
    )


def answer_to(message: ChatMessage, model: str) -> ChatMessage:
    """The message of an answer that is to be written."""
    return ChatMessage(
        id=new_id("msg"),
        parent=message.id,
        role="assistant",
        content="",
        status="streaming",
        created_at=now(),
        model=model,
    )


def continued(message: ChatMessage) -> ChatMessage:
    """The message of an answer that is to be continued; one without text is written anew."""
    begun = bool(message.content)
    return msgspec.structs.replace(
        message,
        status="streaming",
        stop_reason=None,
        error=None,
        usage=None,
        thinking=message.thinking if begun else "",
        tool_calls=(),
        order=message.order if begun else (),
    )


def check_continues(message: ChatMessage) -> None:
    """Raise ChatConflict for a message that cannot be continued."""
    if message.role != "assistant":
        raise ChatConflict("only an answer can be continued")
    if message.status == "streaming":
        raise ChatConflict("the answer is being written")
    if message.status == "done" and message.stop_reason != "length":
        raise ChatConflict("the answer is complete: ask for another one instead")


def nothing_to_store() -> InvalidRequest:
    """The error of a request that wants neither a message nor an answer."""
    return InvalidRequest("content is required where no answer is wanted")


def cursor_of(place: Place) -> str:
    """A place as clients get it."""
    return urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """The place of a cursor. Raises InvalidRequest."""
    try:
        plain = urlsafe_b64decode(cursor[:200] + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(plain, type=Place)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidRequest("before is no cursor that a list of chats gave") from None

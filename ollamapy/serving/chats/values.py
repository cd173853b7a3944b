"""Chats and messages, as they are stored and as the API sends them. Pure.

Times are RFC 3339 in UTC with microseconds, so that they sort as text. An id is unguessable: 128 random bits.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from ...types import ToolCall

Role = Literal["user", "assistant", "tool", "system"]
Status = Literal["done", "streaming", "stopped", "failed"]
StopReason = Literal["stop", "length", "tool_calls", "cancelled"]
Kind = Literal["thinking", "text", "tool_call"]

Place = tuple[int, str, int]
"""Where a chat stands in the list: pinned, the time of its last change, its number."""
Snippet = tuple[tuple[str, bool], ...]
"""Pieces of a text in order; True: the piece is what was searched for."""

TITLE_LENGTH = 60
"""Characters of a title that is made from the first message."""


def new_id(kind: Literal["chat", "msg"]) -> str:
    """An id that no one can guess."""
    return f"{kind}_{secrets.token_urlsafe(16)}"


def now() -> str:
    """The current time as chats have it."""
    return time_text(datetime.now(UTC))


def time_text(time: datetime) -> str:
    """A time in UTC as chats have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def title_of(content: str) -> str:
    """A title: the first words of a message, at most TITLE_LENGTH characters."""
    words = " ".join(content[: 20 * TITLE_LENGTH].split())
    if len(words) <= TITLE_LENGTH:
        return words
    return (words[: TITLE_LENGTH - 1].rpartition(" ")[0] or words[: TITLE_LENGTH - 1]) + "…"


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation, without its messages. ``options`` are Ollama's; ``format``, ``think`` and ``keep_alive`` are as requests
    of Ollama's API have them, None where they are not set. ``head`` is the last message of the branch that is shown.
    """

    id: str
    title: str = ""
    model: str
    system: str = ""
    options: Mapping[str, Any] = {}
    format: Any = None
    think: bool | str | None = None
    keep_alive: str | float | None = None
    folder: str = ""
    pinned: bool = False
    archived: bool = False
    temporary: bool = False
    created_at: str
    updated_at: str
    head: str | None = None
    n_messages: int = 0


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a message: a text, or an attachment by its digest."""

    type: Literal["text", "image", "file"]
    text: str = ""
    digest: str = ""
    name: str = ""
    media_type: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why an answer failed; programs tell failures apart by ``code``."""

    code: str
    message: str


class AnswerUsage(msgspec.Struct, frozen=True):
    """The tokens and times of an answer, as in :class:`ollamapy.types.Usage`; ``context_used`` of ``context_length`` tokens are
    its prompt and its text. Durations in nanoseconds. ``cache_note``: why less was reused than the last turn's prompt; "" if
    not. ``notes``: what was left out of the attached files."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    restored_tokens: int = 0
    read_tokens: int = 0
    completion_tokens: int = 0
    truncated_tokens: int = 0
    dropped_messages: int = 0
    context_length: int = 0
    context_used: int = 0
    total_duration: int = 0
    load_duration: int = 0
    prompt_duration: int = 0
    completion_duration: int = 0
    first_token_duration: int = 0
    thinking_duration: int = 0
    cache_note: str = ""
    notes: tuple[str, ...] = ()


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of a chat; its children are branches. ``content`` is its text, of all ``parts`` where it has attachments.

    ``order`` has the kinds of an answer's pieces as they came, each with its number of characters (of calls: 1).
    """

    id: str
    parent: str | None
    role: Role
    content: str
    status: Status
    created_at: str
    parts: tuple[Part, ...] = ()
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    model: str = ""
    stop_reason: StopReason | None = None
    error: Failure | None = None
    usage: AnswerUsage | None = None
    order: tuple[tuple[Kind, int], ...] = ()


class Changes(msgspec.Struct, frozen=True):
    """What a request sets of a chat; UNSET stays as it is."""

    title: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    system: str | UnsetType = UNSET
    options: dict[str, Any] | None | UnsetType = UNSET
    format: Any = UNSET
    think: bool | str | None | UnsetType = UNSET
    keep_alive: str | float | None | UnsetType = UNSET
    folder: str | UnsetType = UNSET
    pinned: bool | UnsetType = UNSET
    archived: bool | UnsetType = UNSET
    head: str | UnsetType = UNSET

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are set."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in found.items() if value is not UNSET}


class Hit(msgspec.Struct, frozen=True):
    """Why a search found a chat: the message that fits best (None: the title), and a piece of it."""

    message: str | None
    snippet: Snippet


class Listed(msgspec.Struct, frozen=True):
    """A page of a list of chats. ``next`` continues it, None at the end; ``folders`` are those of all chats. ``hits``: of a
    search, by the chats' ids. ``running``: the ids of chats that an answer is being written for. ``notice``: what happened to the database, if anything.
    """

    chats: tuple[Chat, ...]
    next: str | None
    folders: tuple[str, ...]
    hits: Mapping[str, Hit] = {}
    running: frozenset[str] = frozenset()
    notice: str = ""

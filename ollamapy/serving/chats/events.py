"""What an answer consists of so far, as events from any place in it. Pure.

An event's number is a place in the answer: ``message`` is 1, and each piece adds its characters (a tool call: 1). So a reader
that has lost its connection gets exactly the rest, also from the database, after the pieces themselves are forgotten; pieces that
came meanwhile are joined to one event. ``queued``, ``loading`` and ``prefill`` describe only the present and have no number.

    event      message  thinking "ab"  text "c"  text "def"  done
    number        1          3            4          7         7
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ...types import ToolCall, Waiting
from .values import ChatMessage, Kind

FIRST = 1
"""The number of the event ``message``."""

_JOINED = 4096  # characters up to which pieces are kept as one


class Event(msgspec.Struct, frozen=True):
    """An event of an answer. ``number`` is None for one that only describes the present."""

    name: str
    data: dict[str, Any]
    number: int | None = None


class Transcript:
    """The pieces of an answer in the order in which they came: thinking, text and tool calls."""

    def __init__(self, message: ChatMessage) -> None:
        self._kinds: list[Kind] = []
        self._values: list[str | ToolCall] = []
        self._ends: list[int] = []
        for kind, value in _pieces(message):
            self.add(kind, value)

    @property
    def end(self) -> int:
        """The number of the last event so far."""
        return self._ends[-1] if self._ends else FIRST

    def add(self, kind: Kind, value: str | ToolCall) -> None:
        """Append a piece; an empty text is none."""
        size = len(value) if isinstance(value, str) else 1
        if not size:
            return
        end = self.end + size
        last = self._values[-1] if self._values else None
        if isinstance(value, str) and isinstance(last, str) and self._kinds[-1] == kind:
            if len(last) + size <= _JOINED:
                self._values[-1] = last + value
                self._ends[-1] = end
                return
        self._kinds.append(kind)
        self._values.append(value)
        self._ends.append(end)

    def since(self, place: int) -> list[Event]:
        """The events after a place; neighbouring pieces of one kind are one event."""
        found: list[tuple[Kind, list[str] | ToolCall, int]] = []
        first = bisect_right(self._ends, place)
        for kind, value, end in zip(
            self._kinds[first:], self._values[first:], self._ends[first:], strict=True
        ):
            if isinstance(value, ToolCall):
                found.append((kind, value, end))
                continue
            text = value[-(end - place) :] if end - place < len(value) else value
            if found and found[-1][0] == kind and isinstance(texts := found[-1][1], list):
                texts.append(text)
                found[-1] = (kind, texts, end)
            else:
                found.append((kind, [text], end))
        return [_event(kind, value, end) for kind, value, end in found]

    def text(self, kind: Kind) -> str:
        """All of the answer's text, or of its thinking."""
        return "".join(value for value in self._of(kind) if isinstance(value, str))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The complete calls."""
        return tuple(value for value in self._of("tool_call") if isinstance(value, ToolCall))

    @property
    def order(self) -> tuple[tuple[Kind, int], ...]:
        """The kinds and sizes of the pieces, to be stored; empty if the pieces come in the usual order."""
        found: list[tuple[Kind, int]] = []
        for kind, value in zip(self._kinds, self._values, strict=True):
            size = len(value) if isinstance(value, str) else 1
            if found and found[-1][0] == kind:
                size += found.pop()[1]
            found.append((kind, size))
        kinds = [kind for kind, _ in found]
        return () if kinds == sorted(kinds, key=_USUAL.index) else tuple(found)

    def _of(self, kind: Kind) -> Iterator[str | ToolCall]:
        return (
            value for each, value in zip(self._kinds, self._values, strict=True) if each == kind
        )


_USUAL: tuple[Kind, ...] = ("thinking", "text", "tool_call")


def _pieces(message: ChatMessage) -> Iterator[tuple[Kind, str | ToolCall]]:
    """The pieces of a stored message in their order."""
    texts = {"thinking": message.thinking, "text": message.content}
    calls = iter(message.tool_calls)
    usual = (
        ("thinking", len(message.thinking)),
        ("text", len(message.content)),
        ("tool_call", len(message.tool_calls)),
    )
    places = {"thinking": 0, "text": 0}
    order: Iterable[tuple[Kind, int]] = message.order or usual  # type: ignore[assignment]
    for kind, size in order:
        if kind == "tool_call":
            for _ in range(size):
                if (call := next(calls, None)) is not None:
                    yield kind, call
        else:
            yield kind, texts[kind][places[kind] : places[kind] + size]
            places[kind] += size


def _event(kind: Kind, value: list[str] | ToolCall, number: int) -> Event:
    if isinstance(value, ToolCall):
        call = {"id": value.id, "name": value.name, "arguments": value.arguments}
        return Event(kind, call, number)
    return Event(kind, {"text": "".join(value)}, number)


def waiting(for_what: Waiting) -> Event:
    """The event of what an answer waits for before its first token."""
    fields = msgspec.structs.asdict(for_what)
    return Event(str(type(for_what).__struct_config__.tag), fields)


def beginning(chat: str, message: ChatMessage, user: str | None) -> Event:
    """The first event: the ids of the messages. ``user`` is the message that was stored with the answer."""
    ids = {"chat": chat, "user": user, "assistant": message.id, "parent": message.parent}
    return Event("message", ids, FIRST)


def ending(message: ChatMessage, title: str, number: int) -> Event:
    """The last event of an answer that is no longer written."""
    if message.status == "failed":
        error = message.error
        failed = {
            "code": error.code if error else "failed",
            "message": error.message if error else "the answer failed",
            "status": "failed",
            "usage": message.usage,
        }
        return Event("error", failed, number)
    data: dict[str, Any] = {
        "stop_reason": message.stop_reason,
        "status": message.status,
        "usage": message.usage,
        "title": title,
    }
    return Event("done", data, number)


def replay(chat: str, title: str, message: ChatMessage, after: int) -> list[Event]:
    """The events of a stored message after a place."""
    pieces = Transcript(message)
    found = [beginning(chat, message, None)] if after < FIRST else []
    return [*found, *pieces.since(max(after, FIRST)), ending(message, title, pieces.end)]

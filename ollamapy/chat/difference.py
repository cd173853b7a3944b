"""Where a prompt first differs from an earlier one, and in which message that is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..types import Message

BEFORE, AFTER = 24, 48
"""Characters of an excerpt before and after a place."""


class Place(NamedTuple):
    """A place in a prompt: the index of its message (None: after all of them), and the character of that message's content.
    ``character`` None: the template wrote it around the contents: calls, thinking, tools, marks."""

    message: int | None
    character: int | None


def place_of(prompt: str, messages: Sequence[Message], at: int) -> Place:
    """The message that a character of a rendered prompt belongs to.

    Contents are looked for in their order, as templates print them; what lies between two of them belongs to a message that
    was not found (it has only calls), to the one before if that has calls, else to the one after.
    """
    position, last = 0, -1
    for index, message in enumerate(messages):
        content = message.content.strip()
        start = prompt.find(content, position) if content else -1
        if start < 0:
            continue
        if at < start:
            return Place(_between(messages, last, index), None)
        position, last = start + len(content), index
        if at < position:
            return Place(index, at - start)
    rest = last + 1 if last + 1 < len(messages) else None
    return Place(last if rest is None and _has_calls(messages, last) else rest, None)


def _between(messages: Sequence[Message], last: int, found: int) -> int:
    if last + 1 < found:
        return last + 1
    return last if _has_calls(messages, last) else found


def _has_calls(messages: Sequence[Message], index: int) -> bool:
    return index >= 0 and bool(messages[index].tool_calls)


def excerpt(text: str, at: int) -> str:
    """Some characters of a text around a place, with marks where it is cut."""
    start, end = max(at - BEFORE, 0), min(at + AFTER, len(text))
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")

"""Where a prompt first differs from an earlier one, and in which message that is. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from ..types import Message

BEFORE, AFTER = 24, 48
"""Characters of an excerpt before and after a place."""

MOST_MISSED = 16
"""Messages in a row that are looked for in vain, before the next one that is there is found by halves."""

MOST_SEARCHED = 50_000_000
"""Characters of a prompt that are searched for its messages, all searches together: some hundredths of a second."""


class Place(NamedTuple):
    """A place in a prompt: the index of its message (None: after all of them), and the character of that message's content.
    ``character`` None: the template wrote it around the contents: calls, thinking, tools, marks."""

    message: int | None
    character: int | None


def place_of(prompt: str, messages: Sequence[Message], at: int) -> Place:
    """The message that a character of a rendered prompt belongs to.

    Contents are looked for in their order, as templates print them; what lies between two of them belongs to a message that
    was not found (it has only calls), to the one before if that has calls, else to the one after. Of thousands of messages, the
    oldest of which are left out, few are looked for in vain.
    """
    position, last, searched, missed = 0, -1, 0, 0
    index = 0
    while index < len(messages) and searched <= MOST_SEARCHED:
        content = messages[index].content.strip()
        start = prompt.find(content, position) if content else -1
        if start >= 0:
            if at < start:
                return Place(_between(messages, last, index), None)
            searched += start + len(content) - position
            position, last, missed = start + len(content), index, 0
            if at < position:
                return Place(index, at - start)
        elif content:
            searched += len(prompt) - position
            missed += 1
        index += 1
        if missed == MOST_MISSED:
            index, missed = _next_found(prompt, messages, index, position), 0
            searched += (len(prompt) - position) * (len(messages) - index).bit_length()
    rest = last + 1 if last + 1 < len(messages) else None
    return Place(last if rest is None and _has_calls(messages, last) else rest, None)


def _next_found(prompt: str, messages: Sequence[Message], index: int, position: int) -> int:
    """The first message from ``index`` on whose content comes after a place, if none before it and all after it do."""

    def is_there(place: int) -> bool:
        content = messages[place].content.strip()
        return not content or prompt.find(content, position) >= 0

    return index + bisect_left(range(index, len(messages)), True, key=is_there)


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

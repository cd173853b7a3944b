"""What a parser of model output says, and the two rules all parsers share: how text that may become
a tag is held back, and what is known of the tools. No parser is in here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...types import ToolCall, ToolDelta


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the model's thinking."""

    text: str


Event = Text | Thought | ToolDelta | ToolCall
"""Deltas are a call while it is written; together they are the ToolCall that follows them. A call
that breaks off has deltas, no ToolCall, and all its text comes as Text."""


def held(text: str, tags: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of one of ``tags``."""
    longest = max(map(len, tags), default=1) - 1
    firsts = {tag[:1] for tag in tags}
    for length in range(min(longest, len(text)), 0, -1):
        if text[-length] in firsts and any(tag.startswith(text[-length:]) for tag in tags):
            return length
    return 0


def merged(events: Sequence[Event]) -> list[Event]:
    """``events`` with neighbouring texts, thoughts and pieces of one call's arguments joined."""
    joined: list[Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + event.text)
        elif isinstance(event, Thought) and isinstance(last, Thought):
            joined[-1] = Thought(last.text + event.text)
        elif (
            isinstance(event, ToolDelta)
            and isinstance(last, ToolDelta)
            and event.index == last.index
        ):
            joined[-1] = ToolDelta(last.index, last.id, last.name, last.arguments + event.arguments)
        elif not isinstance(event, (Text, Thought)) or event.text:
            joined.append(event)
    return joined


class Tools:
    """The functions that may be called, in OpenAI's form, and the ids of the calls made."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], new_id: Callable[[], str]) -> None:
        self.parameters: dict[str, Mapping[str, Any]] = {}
        for tool in tools:
            function = tool.get("function", tool)
            if isinstance(function, Mapping) and isinstance(function.get("name"), str):
                given = function.get("parameters")
                name = function["name"]
                self.parameters[name] = given if isinstance(given, Mapping) else {}
        self.new_id = new_id
        self.started = 0
        """Calls begun so far, broken off ones too: the index of the next call's deltas."""

    @property
    def names(self) -> tuple[str, ...]:
        """Longest first, so that an alternation of them finds the longest."""
        return tuple(sorted((name for name in self.parameters if name), key=len, reverse=True))

    def needs_arguments(self, name: str) -> bool:
        """Whether a call without arguments would lack something that is required."""
        return bool(self.parameters[name].get("required"))

    def properties(self, name: str) -> Mapping[str, Any]:
        """The schema of each parameter, in order; empty where the tool says nothing."""
        found = self.parameters[name].get("properties")
        return found if isinstance(found, Mapping) else {}

    def call(self, name: str, id: str = "") -> Call:
        """Begin a call of a known tool."""
        self.started += 1
        return Call(self.started - 1, name, id or self.new_id())


class Call:
    """One call while it is read; each method gives the events that say so."""

    def __init__(self, index: int, name: str, id: str) -> None:
        self._index, self._name, self._id = index, name, id
        self._begun = False

    def piece(self, arguments: str) -> list[Event]:
        """The next piece of the arguments' JSON text."""
        if self._begun:
            return [ToolDelta(self._index, arguments=arguments)] if arguments else []
        self._begun = True
        return [ToolDelta(self._index, self._id, self._name, arguments)]

    def done(self, arguments: dict[str, Any]) -> list[Event]:
        """The call is complete; all of its pieces have been given."""
        return [ToolCall(self._name, arguments, self._id)]

"""The tools that an answer may call, and a call while it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...types import ToolCall, ToolDelta
from .segments import Segment


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
        """The schema of each parameter, in order; empty where the tool has none."""
        found = self.parameters[name].get("properties")
        return found if isinstance(found, Mapping) else {}

    def call(self, name: str, id: str = "") -> Call:
        """Begin a call of a known tool."""
        self.started += 1
        return Call(self.started - 1, name, id or self.new_id())


class Call:
    """One call while it is read; each method gives its segments."""

    def __init__(self, index: int, name: str, id: str) -> None:
        self._index, self._name, self._id = index, name, id
        self._begun = False

    def piece(self, arguments: str) -> list[Segment]:
        """The next piece of the arguments' JSON text."""
        if self._begun:
            return [ToolDelta(self._index, arguments=arguments)] if arguments else []
        self._begun = True
        return [ToolDelta(self._index, self._id, self._name, arguments)]

    def done(self, arguments: dict[str, Any]) -> list[Segment]:
        """The call is complete; all of its pieces have been given."""
        return [ToolCall(self._name, arguments, self._id)]

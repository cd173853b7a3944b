"""Server-sent events as a client reads them, line by line. Pure.

The format is the HTML standard's (section 9.2.6, "Interpreting an event stream"), as far as our daemon uses it: every event has
JSON as its data. Comments keep the connection alive and are left out here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

LONGEST = 64 * 1024 * 1024
"""Characters of one event: more is no answer of ours, and would only fill the memory."""


class Event(NamedTuple):
    """One event; ``number`` is its id, 0 for one without."""

    number: int
    name: str
    data: Mapping[str, Any]


class Decoder:
    """Turns the lines of a stream into events. Raises ValueError for what is none."""

    def __init__(self) -> None:
        self._begin()

    def feed(self, line: str) -> Event | None:
        """Take the next line, without its end; an empty one completes an event."""
        if not line:
            return self._complete()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "id" if value.isascii() and value.isdigit() and len(value) < 16:
                self._number = int(value)
            case "event":
                self._name = value
            case "data":
                self._size += len(value)
                if self._size > LONGEST:
                    raise ValueError("an event is too long")
                self._lines.append(value)
        return None

    def _complete(self) -> Event | None:
        number, name, lines = self._number, self._name, self._lines
        self._begin()
        if not lines:
            return None
        data = json.loads("\n".join(lines))
        if not isinstance(data, dict):
            raise ValueError("the data of an event is no JSON object")
        return Event(number, name, data)

    def _begin(self) -> None:
        self._number, self._name, self._size = 0, "message", 0
        self._lines: list[str] = []

"""Tell a model's thinking from its answer by the tags around it. Finds no tool calls.

The rule is Ollama's: thinking is the text between the tags at the very beginning, white space
before it, after the opening and after the closing tag is dropped, and tags further on are text.
Models forget the closing tag where they call a tool: what begins a call ends a thought too.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

from .segments import Segment, Text, Thought
from .tags import held, without_mark


class _State(enum.Enum):
    LOOKING = enum.auto()  # nothing but white space so far
    OPENED = enum.auto()  # the tag, then white space
    THINKING = enum.auto()
    CLOSED = enum.auto()  # the tag, then white space
    DONE = enum.auto()


class ThinkingParser:
    """``inside``: the prompt has ended with the opening tag already. ``over``: it has ended with the
    closing tag, so all that comes is the answer. ``cuts`` end thinking as well, and belong to what
    follows."""

    def __init__(
        self,
        open: str,
        close: str,
        inside: bool = False,
        over: bool = False,
        cuts: Sequence[str] = (),
    ) -> None:
        self._open, self._close = open, close
        self._ends = (close, *cuts)
        self._end = re.compile("|".join(map(re.escape, sorted(self._ends, key=len, reverse=True))))
        self._state = _State.OPENED if inside else _State.DONE if over else _State.LOOKING
        self._buffer = ""
        self._blank: list[str] = []  # white space before anything else

    def feed(self, text: str) -> list[Segment]:
        """The segments that are complete after ``text``."""
        self._buffer += text
        segments: list[Segment] = []
        if self._state is _State.LOOKING:
            self._look()
        if self._state is _State.OPENED and self._skipped_space():
            self._state = _State.THINKING
        if self._state is _State.THINKING:
            segments += self._think()
        if self._state is _State.CLOSED and self._skipped_space():
            self._state = _State.DONE
        if self._state is _State.DONE and self._buffer:
            segments.append(Text(self._taken(len(self._buffer))))
        return segments

    cut_call = False

    def flush(self, cut: bool = False) -> list[Segment]:
        """What was held back, where the answer was ``cut`` without the beginning of a tag. Thinking without an end is thinking."""
        if self._state is _State.LOOKING:
            begun = self._buffer if not cut else without_mark(self._buffer, len(self._buffer))
            self._buffer = "".join(self._blank) + begun
            self._state = _State.DONE
        elif self._state is _State.THINKING and cut:
            self._buffer = without_mark(self._buffer, held(self._buffer, self._ends))
        rest = self._taken(len(self._buffer))
        if not rest or self._state is _State.CLOSED:
            return []
        return [Thought(rest) if self._state is _State.THINKING else Text(rest)]

    def _look(self) -> None:
        begun = self._buffer.lstrip()
        self._blank.append(self._buffer[: len(self._buffer) - len(begun)])
        self._buffer = begun
        tag = self._open.lstrip()
        if begun.startswith(tag):
            self._buffer = begun[len(tag) :]
            self._state = _State.OPENED
        elif not tag.startswith(begun):
            self._buffer = "".join(self._blank) + begun
            self._state = _State.DONE

    def _skipped_space(self) -> bool:
        self._buffer = self._buffer.lstrip()
        return bool(self._buffer)

    def _think(self) -> list[Segment]:
        end = self._end.search(self._buffer)
        if end is None:
            thought = self._taken(len(self._buffer) - held(self._buffer, self._ends))
        else:
            thought = self._taken(end.start())
            self._buffer = self._buffer.removeprefix(self._close)
            self._state = _State.CLOSED
        return [Thought(thought)] if thought else []

    def _taken(self, count: int) -> str:
        text, self._buffer = self._buffer[:count], self._buffer[count:]
        return text

"""Read gpt-oss's Harmony format: an answer is messages, each with a header that names its recipient.

    <|channel|>analysis<|message|>THINKING<|end|>
    <|start|>assistant<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{..}<|call|>
    <|start|>assistant<|channel|>final<|message|>ANSWER<|return|>

A commentary without a recipient is text. A message to an unknown tool is text with its header.
"""

from __future__ import annotations

import enum
import re

from .jsoncalls import JsonScanner, parsed_object
from .segments import Segment, Text, Thought
from .tags import held, without_mark
from .tools import Call, Tools

THINK_END = "<|end|><|start|>assistant<|channel|>final<|message|>"
"""Ends a thought and begins the answer."""

ANSWER_AFTER = "<|channel|>final<|message|>"

CALL_HEADER = "<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
"""The text before the arguments of a call."""

MAX_HEADER = 512

_BEGINS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>")
_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>")
_END = re.compile("|".join(map(re.escape, _ENDS)))
MARKS = (*_BEGINS, "<|end|>", "<|return|>", "<|call|>")
"""The control tokens of the format."""

_SKIPPED = ("<|end|>", "<|return|>", "<|call|>")
_TO = re.compile(r"\bto=(?:functions\.)?([\w.-]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


class _State(enum.Enum):
    BETWEEN = enum.auto()  # messages; a header may begin
    HEADER = enum.auto()
    TEXT = enum.auto()
    THOUGHT = enum.auto()
    ARGUMENTS = enum.auto()


class HarmonyParser:
    """``prompt_tail`` is the prompt's end: it has begun the first message's header."""

    def __init__(self, tools: Tools, prompt_tail: str = "") -> None:
        self._tools = tools
        self._state = _State.BETWEEN
        self._buffer = ""
        self._kept: list[str] = []  # header and arguments, should they be no call
        self._call: Call | None = None
        self._scanner = JsonScanner()
        self._pieces: list[str] = []
        _, begun, header = prompt_tail.rpartition("<|start|>")
        if begun and "<|message|>" in header:
            if _END.search(header.rpartition("<|message|>")[2]) is None:
                self._enter(header)
        elif begun and "<|channel|>" in header:
            self._state, self._buffer = _State.HEADER, header

    def feed(self, text: str) -> list[Segment]:
        """The segments that are complete after ``text``."""
        segments: list[Segment] = []
        self._buffer += text
        read = {
            _State.BETWEEN: self._read_between,
            _State.HEADER: self._read_header,
            _State.TEXT: self._read_text,
            _State.THOUGHT: self._read_text,
            _State.ARGUMENTS: self._read_arguments,
        }
        while self._buffer and read[self._state](segments):
            pass
        return segments

    @property
    def cut_call(self) -> bool:
        """Whether a message's arguments have begun and not ended."""
        return self._state is _State.ARGUMENTS

    def flush(self, cut: bool = False) -> list[Segment]:
        """What was held back until the end. Where that was ``cut``, a header and arguments are no text."""
        rest, self._buffer = self._buffer, ""
        if cut and self._state not in (_State.TEXT, _State.THOUGHT):
            return []
        if cut:
            rest = without_mark(rest, held(rest, _ENDS))
        if self._state is _State.THOUGHT:
            return [Thought(rest)] if rest else []
        text = "".join(self._kept) + rest
        is_mark = self._state is _State.BETWEEN and not text.strip()
        return [Text(text)] if text and not is_mark else []

    # Each takes what it understands off the buffer; False: more text is needed.

    def _read_between(self, segments: list[Segment]) -> bool:
        begun = self._buffer.lstrip()
        for mark in _SKIPPED:
            if begun.startswith(mark):
                self._buffer = begun[len(mark) :]
                return True
        if begun.startswith(_BEGINS) or begun.startswith("to="):
            self._buffer = begun
            self._state = _State.HEADER
            return True
        if held(begun, (*_BEGINS, *_SKIPPED, "to=")) == len(begun) and len(self._buffer) < 64:
            return False
        self._state = _State.TEXT  # a model that has forgotten the format
        return True

    def _read_header(self, segments: list[Segment]) -> bool:
        at = self._buffer.find("<|message|>", 0, MAX_HEADER)
        if at >= 0:
            size = at + len("<|message|>")
            header, self._buffer = self._buffer[:size], self._buffer[size:]
            self._enter(header)
            if self._state is _State.TEXT and self._kept:
                segments.append(Text("".join(self._kept)))
                self._kept = []
            return True
        if len(self._buffer) < MAX_HEADER:
            return False
        segments.append(Text(self._buffer[:1]))
        self._buffer = self._buffer[1:]
        self._state = _State.TEXT
        return True

    def _enter(self, header: str) -> None:
        """Read on as the header says. The text kept is given out where the recipient is unknown."""
        to = _TO.search(header)
        # a header may have two channels: the last one counts
        channel = next(reversed([*_CHANNEL.finditer(header)]), None)
        self._kept = []
        if to is not None and to[1] not in ("assistant", "user", "all"):
            self._kept = [header]
            self._state = _State.TEXT
            if to[1] in self._tools.parameters:
                self._state = _State.ARGUMENTS
                self._call = self._tools.call(to[1])
                self._scanner, self._pieces = JsonScanner(), []
        elif channel is not None and channel[1] == "analysis":
            self._state = _State.THOUGHT
        else:
            self._state = _State.TEXT

    def _read_text(self, segments: list[Segment]) -> bool:
        kind = Thought if self._state is _State.THOUGHT else Text
        end = _END.search(self._buffer)
        size = end.start() if end else len(self._buffer) - held(self._buffer, _ENDS)
        if size:
            segments.append(kind(self._buffer[:size]))
        self._buffer = self._buffer[size:]
        if end is None:
            return False
        self._state = _State.BETWEEN
        return True

    def _read_arguments(self, segments: list[Segment]) -> bool:
        assert self._call is not None
        begun = self._buffer.lstrip()
        if self._scanner.depth == 0 and begun:
            self._kept.append(self._buffer[: len(self._buffer) - len(begun)])
            self._buffer = begun
        if self._scanner.depth == 0 and not begun.startswith("{"):
            if not begun:
                return False
            return self._is_no_call(segments, 0)
        end, piece = self._scanner.feed(self._buffer)
        segments += self._call.piece(piece)
        self._pieces.append(piece)
        if end < 0:
            self._kept.append(self._buffer)
            self._buffer = ""
            return False
        arguments = None if self._scanner.depth else parsed_object("".join(self._pieces))
        if arguments is None:
            return self._is_no_call(segments, end)
        segments += self._call.done(arguments)
        self._buffer = self._buffer[end:]
        self._kept = []
        self._state = _State.BETWEEN
        return True

    def _is_no_call(self, segments: list[Segment], size: int) -> bool:
        """All of it is text, the next ``size`` characters too."""
        segments.append(Text("".join((*self._kept, self._buffer[:size]))))
        self._buffer = self._buffer[size:]
        self._kept = []
        self._state = _State.TEXT
        return True

"""What an answer consists of: segments of text, of thinking and of tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...types import ToolCall, ToolDelta


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of the model's thinking."""

    text: str


Segment = Text | Thought | ToolDelta | ToolCall
"""Deltas are a call while it is written; together they are the ToolCall that follows them. A call
that breaks off has deltas, no ToolCall, and all its text comes as Text."""


def merged(segments: Sequence[Segment]) -> list[Segment]:
    """``segments`` with neighbouring texts, thoughts and pieces of one call's arguments joined."""
    joined: list[Segment] = []
    for segment in segments:
        last = joined[-1] if joined else None
        if isinstance(segment, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + segment.text)
        elif isinstance(segment, Thought) and isinstance(last, Thought):
            joined[-1] = Thought(last.text + segment.text)
        elif (
            isinstance(segment, ToolDelta)
            and isinstance(last, ToolDelta)
            and segment.index == last.index
        ):
            joined[-1] = ToolDelta(
                last.index, last.id, last.name, last.arguments + segment.arguments
            )
        elif not isinstance(segment, (Text, Thought)) or segment.text:
            joined.append(segment)
    return joined

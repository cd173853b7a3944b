"""The figures of an answer while it is written, and once it has ended."""

from __future__ import annotations

import pytest

from ollamapy.serving.chats.figures import Figures
from ollamapy.serving.chats.values import AnswerUsage
from ollamapy.types import Chunk, Queued, ToolCall, Usage

READ = Usage(prompt_tokens=9, cached_tokens=4, context_length=100)
LAST = Usage(
    prompt_tokens=9, cached_tokens=4, completion_tokens=5, context_length=100, total_duration=70
)

SPEECH = [
    (10, Chunk(waiting=Queued(1))),
    (20, Chunk(thinking="hm", prompt_usage=READ, completion_tokens=1)),
    (30, Chunk(thinking="hm", completion_tokens=2)),
    (45, Chunk("text", completion_tokens=4)),
    (50, Chunk(tool_calls=(ToolCall("f", {}),), completion_tokens=5)),
    (60, Chunk(finish_reason="stop", usage=LAST)),
]  # fmt: skip
"""(when it comes, chunk)"""


def of_the_first(count: int) -> AnswerUsage | None:
    """The usage after so many chunks."""
    now = 1000
    figures = Figures(lambda: now)
    for passed, chunk in SPEECH[:count]:
        now = 1000 + passed
        figures.take(chunk)
    return figures.usage()


@pytest.mark.parametrize(
    ("count", "tokens", "used", "written_for", "thought_for", "total"),
    [(2, 1, 10, 0, 0, 20), (3, 2, 11, 10, 10, 30), (4, 4, 13, 25, 25, 45), (5, 5, 14, 30, 25, 50), (6, 5, 14, 0, 25, 70)],
)  # fmt: skip
def test_what_is_known_so_far(
    count: int, tokens: int, used: int, written_for: int, thought_for: int, total: int
) -> None:
    assert of_the_first(count) == AnswerUsage(
        prompt_tokens=9,
        cached_tokens=4,
        context_length=100,
        completion_tokens=tokens,
        context_used=used,
        first_token_duration=20,
        completion_duration=written_for,
        thinking_duration=thought_for,
        total_duration=total,
    )


def test_nothing_is_known_before_the_prompt_was_read() -> None:
    assert of_the_first(1) is None

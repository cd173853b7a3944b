"""What is shown of thinking."""

from __future__ import annotations

import pytest

from ollamapy.cli.thoughts import Thoughts, parse_think
from ollamapy.errors import InvalidRequest


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        ([("", "a"), ("", "b")], "ab"),
        ([("x", ""), ("y\n", ""), ("", "a")], "<Thinking...\nx><y\n><...done thinking.\n\n>a"),
        ([("x", "a")], "<Thinking...\nx><\n...done thinking.\n\n>a"),
        ([("x", "")], "<Thinking...\nx>"),
    ],
)
def test_thinking_is_shown_apart(chunks: list[tuple[str, str]], shown: str) -> None:
    thoughts = Thoughts()
    pieces = [piece for chunk in chunks for piece in thoughts.pieces(*chunk)]
    assert "".join(f"<{text}>" if dim else text for text, dim in pieces) == shown


def test_hidden_thinking() -> None:
    thoughts = Thoughts(hidden=True)
    assert [*thoughts.pieces("x", ""), *thoughts.pieces("y", "a")] == [("a", False)]


def test_values_of_think() -> None:
    assert [parse_think(v) for v in ("true", "false", "high")] == [True, False, "high"]
    with pytest.raises(InvalidRequest, match='invalid value for --think: "yes"'):
        parse_think("yes")

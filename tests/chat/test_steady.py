"""What changes with every request in a system prompt, and is made to agree."""

from __future__ import annotations

import pytest

from ollamapy.chat.steady import steady, steady_messages
from ollamapy.types import Message


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x-anthropic-billing-header: cc_version=2.1; cch=a1b2;\nYou are kind.", "You are kind."),
        ("x-anthropic-billing-header: cch=a1b2;", ""),
        ("You see x-anthropic-billing-header: here.", "You see x-anthropic-billing-header: here."),
        ("Current time: 2026-11-30T09:48:29Z", "Current time: 2026-11-30T09:48:00Z"),
        ("A\nCurrent time: 09:48:29.512+01:00\nB", "A\nCurrent time: 09:48:00+01:00\nB"),
        ("current_datetime = 2026-11-30 09:48:29,512", "current_datetime = 2026-11-30 09:48:00"),
        ("Current date and time: 11/30/2026, 9:48:29 AM", "Current date and time: 11/30/2026, 9:48:00 AM"),
        ("CURRENT DATE/TIME: 9:48:29", "CURRENT DATE/TIME: 9:48:00"),
        ("The current UTC time is 9:48:29.", "The current UTC time is 9:48:00."),
        ("Current time: 9:48", "Current time: 9:48"),
        ("Meet at 09:48:29.", "Meet at 09:48:29."),
        ("current times: 09:48:29", "current times: 09:48:29"),
        ("Current time: below\n09:48:29", "Current time: below\n09:48:29"),
        ("Current time: 1:09:48:29", "Current time: 1:09:48:29"),
    ],
)  # fmt: skip
def test_what_is_kept_of_a_system_prompt(given: str, kept: str) -> None:
    assert steady(given) == kept


def test_only_the_systems_messages_change() -> None:
    line = "Current time: 09:48:29"
    found = steady_messages(
        [Message(role, line) for role in ("system", "user", "assistant", "tool")]
    )
    assert [each.content for each in found] == ["Current time: 09:48:00", line, line, line]


def test_a_message_with_nothing_left_is_left_out() -> None:
    given = (Message("system", "x-anthropic-billing-header: cch=1;"), Message("user", "Hi"))
    assert steady_messages(given) == given[1:]

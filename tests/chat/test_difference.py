"""Where two prompts differ, and in which message that is."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.chat import difference
from ollamapy.chat.difference import excerpt, place_of
from ollamapy.prefix import common_prefix
from ollamapy.types import Message, ToolCall


@given(st.text("ab", max_size=12), st.text("ab", max_size=12), st.text(max_size=20))
def test_the_first_difference_is_the_end_of_what_is_common(a: str, b: str, common: str) -> None:
    one, other = common + a, common + b
    assert common_prefix(one, other) == len(os.path.commonprefix([one, other]))


CALL = Message("assistant", "", tool_calls=(ToolCall("look", {"at": 1}),))
MESSAGES = (
    Message("system", " Be kind. "),
    Message("user", "Look."),
    CALL,
    Message("tool", "A cat."),
    Message("assistant", "I see a cat."),
)
PROMPT = (
    "[system]Be kind.[tools...][user]Look.[assistant]<call at=1>[tool]A cat.[assistant]I see a cat."
    "[assistant]"
)


@pytest.mark.parametrize(
    ("at", "message", "character"),
    [
        ("kind", 0, 3),
        ("[tools", 1, None),
        ("Look.", 1, 0),
        ("<call", 2, None),
        ("cat.[a", 3, 2),
        ("see", 4, 2),
        ("[assistant]<", 2, None),
    ],
)
def test_a_place_belongs_to_a_message(at: str, message: int, character: int | None) -> None:
    assert place_of(PROMPT, MESSAGES, PROMPT.index(at)) == (message, character)


def test_what_comes_after_all_messages_belongs_to_none() -> None:
    assert place_of(PROMPT, MESSAGES, len(PROMPT) - 3) == (None, None)


@pytest.mark.parametrize("n_left_out", [3, difference.MOST_MISSED, 1000])
def test_messages_that_a_template_leaves_out(n_left_out: int) -> None:
    left_out = [Message("user", "left out")] * n_left_out
    messages = (MESSAGES[0], *left_out, *MESSAGES[1:])
    assert place_of(PROMPT, messages, PROMPT.index("see")) == (n_left_out + 4, 2)


def test_the_search_for_them_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the place is that of the message after the last that was found."""
    messages = (MESSAGES[0], *[Message("user", "left out")] * 9, *MESSAGES[1:])
    monkeypatch.setattr(difference, "MOST_SEARCHED", 5 * len(PROMPT))
    assert place_of(PROMPT, messages, PROMPT.index("see")) == (1, None)


def test_a_call_at_the_end_belongs_to_its_message() -> None:
    prompt = PROMPT[: PROMPT.index("[tool]")]
    assert place_of(prompt, MESSAGES[:3], prompt.index("<call")) == (2, None)


def test_an_excerpt_shows_where_it_is_cut() -> None:
    assert excerpt("abc", 1) == "abc"
    assert excerpt("a" * 30 + "b" * 60, 30) == "…" + "a" * 24 + "b" * 48 + "…"

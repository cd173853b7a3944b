"""Answers with calls as the model wrote them: what is taken of an output, and where it is put into a prompt."""

from __future__ import annotations

import pytest

from ollamapy.chat.verbatim import (
    Sampled,
    after_thinking,
    exchanged,
    lacking,
    marked,
    new_mark,
    prompt_parts,
    tail_tokens,
)
from ollamapy.types import Message, ToolCall

TAGS = ("<think>", "</think>")


@pytest.mark.parametrize(
    ("output", "thinking", "kept"),
    [
        ("<call>", ("", ""), "<call>"),
        ("\n<call>\n", ("", ""), "<call>\n"),
        ("<think>Hm</think>\n\n<call>", TAGS, "<call>"),
        ("Hm</think>\n\n<call>", TAGS, "<call>"),  # the prompt began the thinking
        ("Hm</think><call></think>", TAGS, "<call></think>"),
        ("<call>", TAGS, "<call>"),
        ("<think>Hm <call>", TAGS, None),
    ],
)
def test_what_comes_after_thinking(
    output: str, thinking: tuple[str, str], kept: str | None
) -> None:
    assert after_thinking(output, thinking) == kept


PROMPT = (
    "<user>Hi<assistant><call>{'a': 1}<end><tool>1<assistant><call>{'b': 2}<end><tool>2<assistant>"
)
MARKED = "<user>Hi<assistant>M1<end><tool>1<assistant>M2<end><tool>2<assistant>"


def test_marks_are_replaced_where_nothing_else_changes() -> None:
    found = exchanged(PROMPT, MARKED, {"M1": "Oh. <call>{'a':1}", "M2": "<call>{ 'b':2}"})
    assert found == (
        "<user>Hi<assistant>Oh. <call>{'a':1}<end><tool>1<assistant><call>{ 'b':2}<end><tool>2<assistant>"
    )


@pytest.mark.parametrize(
    "with_marks",
    [
        MARKED.replace("M2", ""),  # it left one out
        MARKED.replace("M2", "M2 M2"),
        MARKED.replace("M1", "m1"),
        MARKED.replace("<user>Hi", "<user>Hi "),
        MARKED.replace("<tool>1", "<tool>"),  # a result without its call
        MARKED.replace("<tool>2", "<user>2"),
        MARKED.replace("<assistant>M1", "<assistant> M1"),
    ],
)
def test_a_prompt_in_which_anything_else_changes_is_kept(with_marks: str) -> None:
    assert exchanged(PROMPT, with_marks, {"M1": "a", "M2": "b"}) == PROMPT


def test_the_pieces_must_not_overlap() -> None:
    assert exchanged("ab", "abMb", {"M": "x"}) == "ab"


def test_whether_texts_are_in_a_prompt() -> None:
    assert not lacking(PROMPT, {3: "<call>{'b': 2}", 1: "<call>{'a': 1}"})
    assert lacking(PROMPT, {1: "<call>{'b': 2}", 3: "<call>{'a': 1}"})
    assert lacking(PROMPT, {1: "<call>{'a':1}"})
    assert not lacking(PROMPT, {})


def test_a_marked_message_has_neither_content_nor_calls() -> None:
    call = Message("assistant", "Wait.", "Hm", (ToolCall("f", {}),))
    user, found = marked((Message("user", "Hi"), call), {1: "M"})
    assert user == Message("user", "Hi") and found == Message("assistant", "M", "Hm")
    assert new_mark() != new_mark()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ab\né<c>", (1, 2, 3, 9, 4)),
        ("é<c>", (3, 9, 4)),  # with the token between that has no text
        ("<c>", (9, 4)),
        ("c>", ()),  # within a token
    ],
)
def test_the_tokens_of_an_outputs_end(text: str, kept: tuple[int, ...]) -> None:
    assert tail_tokens("ab\né<c>", text, (1, 2, 3, 9, 4), (2, 1, 2, 0, 3)) == kept


def test_no_tokens_where_the_texts_are_not_theirs() -> None:
    assert tail_tokens("abc", "abc", (1, 2), (1, 1)) == ()


def test_a_prompt_has_the_answers_tokens() -> None:
    one, two = Sampled("<call>{'a': 1}", (1, 2), "<end>"), Sampled("<call>{'b': 2}", (3,), "<end>")
    assert prompt_parts(PROMPT, [one, two]) == (
        "<user>Hi<assistant>", (1, 2), "<end><tool>1<assistant>", (3,), "<end><tool>2<assistant>",
    )  # fmt: skip
    assert prompt_parts(PROMPT, [Sampled("<call>{'a': 1}", (1, 2), "<eos>"), two])[1] == (3,)
    assert prompt_parts(PROMPT, [Sampled("<call>{'a': 1}", (), "<end>")]) == (PROMPT,)
    assert prompt_parts(PROMPT, [Sampled("<call>{'c': 1}", (1,), "<end>")]) == (PROMPT,)
    assert prompt_parts(PROMPT, []) == (PROMPT,)

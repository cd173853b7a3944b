"""The texts of answers with calls: found by what clients send back of them, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from ollamapy.chat.verbatim import Sampled
from ollamapy.serving.sampled import MOST_BYTES, SampledCalls
from ollamapy.types import Message, ToolCall


def said(
    content: str = "", id: str = "call_1", role: str = "assistant", **arguments: Any
) -> Message:
    return Message(role, content, tool_calls=(ToolCall("look", arguments, id),))


def text_of(found: SampledCalls, message: Message, model: str = "m") -> str | None:
    sampled = found.of(model, message)
    return None if sampled is None else sampled.text


def kept(*answers: tuple[Message, str], model: str = "m") -> SampledCalls:
    found = SampledCalls()
    for message, text in answers:
        found.add(model, message.content, message.tool_calls, Sampled(text))
    return found


@pytest.mark.parametrize(
    "sent_back",
    [
        said("Wait.", at=1, on=2),
        said(" Wait.\n", at=1, on=2),
        said("Wait.", on=2, at=1),
        said("Wait.", "toolu_1", at=1, on=2),
        said("Wait.", "", at=1, on=2),  # Ollama's clients drop the id
    ],
)
def test_an_answer_is_found_by_what_clients_send_back(sent_back: Message) -> None:
    assert text_of(kept((said("Wait.", at=1, on=2), "raw")), sent_back) == "raw"


@pytest.mark.parametrize(
    "other",
    [
        said("Well.", at=1),
        said("Wait.", at=2),
        said("Wait.", at="1"),
        said("Wait.", role="user", at=1),
        Message("assistant", "Wait."),
    ],
)
def test_another_answer_is_not_found(other: Message) -> None:
    assert text_of(kept((said("Wait.", at=1), "raw")), other) is None


def test_each_model_has_its_own() -> None:
    assert text_of(kept((said(at=1), "raw")), said(at=1), "other") is None


def test_two_spellings_of_a_call_are_told_apart_by_its_id() -> None:
    found = kept((said(id="call_1", at=1), "one"), (said(id="call_2", at=1), "two"))
    assert text_of(found, said(id="toolu_1", at=1)) == "one"
    assert text_of(found, said(id="call_2", at=1)) == "two"
    assert text_of(found, said(id="", at=1)) == "two"


def test_what_json_has_and_utf8_has_not() -> None:
    odd = said(at="\ud800", n=2**70)
    assert text_of(kept((odd, "raw")), odd) == "raw"


def test_the_oldest_are_forgotten_where_there_is_no_room() -> None:
    large = "x" * (MOST_BYTES // 9)
    found = kept(*((said(at=n, id=f"call_{n}"), large) for n in range(6)))
    assert text_of(found, said(at=0, id="call_0")) is None
    assert text_of(found, said(at=5, id="call_5")) == large
    assert found.size <= MOST_BYTES

"""What is asked: the requests that follow from a conversation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ollamapy.cli.session import JOINS_MESSAGES, Message, Post, Session, is_base
from ollamapy.human import joined

CHAT = Session("m", {"template": "{{ .Messages }}"})
BASE = Session("m", {"model_info": {}})
TEXT = Session("m", {"model_info": {JOINS_MESSAGES: True}})


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("template", "base"),
    [(None, True), ("", True), ("{{ .Prompt }}", True), ("{{ .System }}{{ .Prompt }}", False)],
)
def test_a_base_model_has_no_template(template: str | None, base: bool) -> None:
    assert is_base({"template": template}) == base


def test_a_chat_sends_the_whole_list_each_time() -> None:
    session = CHAT.with_message("a").with_answer("b").with_message("c")
    messages = [user("a"), {"role": "assistant", "content": "b"}, user("c")]
    assert session.request() == Post(True, {"model": "m", "messages": messages})


def test_settings_go_with_every_request() -> None:
    session = replace(
        CHAT, system="Be kind.", parameters={"stop": ("x",), "seed": 1}, keep_alive="5m"
    )
    common = {"model": "m", "options": {"stop": ["x"], "seed": 1}, "keep_alive": "5m"}
    messages = [{"role": "system", "content": "Be kind."}, user("a")]
    assert session.with_message("a").request() == Post(True, {**common, "messages": messages})
    assert session.loading() == Post(False, {**common, "prompt": ""})


def test_a_stopped_answer_is_sent_without_its_mark() -> None:
    session = CHAT.with_message("a").with_answer("part of ", "stopped").with_message("c")
    assert session.messages[1] == Message("assistant", "part of ", "stopped")
    sent = session.request().body["messages"][1]
    assert sent == {"role": "assistant", "content": "part of "}


def test_format_and_thinking_are_asked_for() -> None:
    schema = {"type": "object"}
    session = replace(CHAT, format=schema, think="low")
    assert session.loading().body == {"model": "m", "think": "low", "prompt": ""}
    asked = (
        session.with_message("a")
        .with_answer("b", thinking="because")
        .with_message("c")
        .request()
        .body
    )
    assert (asked["format"], asked["think"]) == (schema, "low")
    assert asked["messages"][1] == {"role": "assistant", "content": "b", "thinking": "because"}
    assert replace(BASE, format="json").with_message("a").request().body["format"] == "json"


def test_pictures_go_with_what_was_said() -> None:
    [message] = CHAT.with_message("what is it?", ("aGk=",)).request().body["messages"]
    assert message == {**user("what is it?"), "images": ["aGk="]}
    assert CHAT.with_message("", ("aGk=",)).messages, "a picture alone is a question too"


def test_an_answer_at_its_limit_is_sent_as_it_is() -> None:
    session = CHAT.with_message("a").with_answer("part of ", "cut off").with_message("c")
    assert session.request().body["messages"][1]["content"] == "part of "


@pytest.mark.parametrize("session", [BASE, TEXT])
def test_a_base_model_is_sent_one_text(session: Session) -> None:
    def sent(session: Session) -> Any:
        body = session.request().body
        return body["messages"][0]["content"] if "messages" in body else body["prompt"]

    joins = session is TEXT
    session = session.with_message("Once upon")
    assert sent(session) == "Once upon"
    session = session.with_answer(" a ti", "stopped")
    assert sent(session.with_message("")) == "Once upon a ti", "an empty line goes on"
    session = session.with_message("").with_answer("me.")
    assert session.text == "Once upon a time." and len(session.messages) == 2
    then = "Then" if joins else "Once upon a time. Then"
    assert sent(session.with_message("Then")) == then, "the built-in model begins a new story"
    assert not session.with_message("").messages, "what came to its end is left for a new text"


@pytest.mark.parametrize("ending", ["cut off", "stopped", "broken off"])
def test_an_empty_line_goes_on_with_a_part(ending: Any) -> None:
    assert BASE.with_message("a").with_answer(" b", ending).with_message("").text == "a b"


def test_from_nothing() -> None:
    assert TEXT.with_message("").request().body["messages"] == [user("")]
    assert BASE.with_message("").request() == Post(
        False, {"model": "m", "prompt": "\n", "raw": True}
    )


def test_a_text_in_one_message_may_outgrow_the_context() -> None:
    told = TEXT.with_message("a").request()
    assert told.chat and told.body["options"] == {"context_policy": "shift"}
    own = (
        replace(TEXT, parameters={"seed": 1, "context_policy": "error"}).with_message("a").request()
    )
    assert own.body["options"] == {"seed": 1, "context_policy": "error"}
    models = replace(TEXT, show={**TEXT.show, "parameters": "context_policy  error"}).with_message(
        "a"
    )
    assert "options" not in models.request().body


def test_a_base_models_system_text_comes_first() -> None:
    own = replace(BASE, show={"system": "A tale."}).with_message("Once")
    assert own.request().body["prompt"] == "A tale. Once"
    assert replace(own, system="A poem.").request().body["prompt"] == "A poem. Once"
    messages = replace(TEXT, system="A poem.").with_message("Once").request().body["messages"]
    assert messages == [{"role": "system", "content": "A poem."}, user("Once")]


@pytest.mark.parametrize(
    ("text", "more", "whole"),
    [
        ("", "a", "a"),
        ("a", "", "a"),
        ("a", "b", "a b"),
        ("a\n", "b", "a\nb"),
        ("a", " b", "a b"),
        ("a", ", b", "a, b"),
        ("a", '"b', 'a "b'),
    ],
)
def test_a_seam(text: str, more: str, whole: str) -> None:
    assert joined(text, more) == whole


@pytest.mark.parametrize(
    ("chat", "chunk", "text"),
    [
        (True, {"message": {"role": "assistant", "content": "x"}}, "x"),
        (True, {"done": True}, ""),
        (True, {"message": None}, ""),
        (False, {"response": "x"}, "x"),
        (False, {"done": True}, ""),
    ],
)
def test_the_text_of_a_chunk(chat: bool, chunk: dict[str, Any], text: str) -> None:
    assert Post(chat, {}).text(chunk) == text

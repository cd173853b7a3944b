"""A chat as one terminal talks in it: what goes to the daemon, and what comes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli import thread as module
from ollamapy.cli.client import AnsweredError
from ollamapy.cli.session import Message, Session
from ollamapy.cli.thread import Thread, adopted, content, continued, message_of, settings
from ollamapy.errors import OllamapyError

SHOW = {"template": "{{ .Messages }}"}
SESSION = Session("llama3.2", SHOW, parameters={"seed": 7}, system="Be kind")


def stored(id: str, parent: str | None, role: str, text: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "id": id, "parent": parent, "role": role, "content": text, "status": "done", **fields
    }  # fmt: skip


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    head = messages[-1]["id"] if messages else None
    return {
        "id": "chat_1",
        "title": "Sky",
        "model": "llama3.2:latest",
        "system": "Be kind",
        "options": {"seed": 7},
        "format": None,
        "think": None,
        "keep_alive": None,
        "head": head,
        "messages": list(messages),
        **fields,
    }


class Keeper:
    """The daemon: its answers by method and path, and the requests that it got."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.got: list[tuple[str, str, Any]] = []

    def ask(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self.got.append((method, path, body))
        answer = self.answers.get(method, {})
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer.pop(0) if isinstance(answer, list) else answer
        return found


def entered(keeper: Keeper) -> Thread:
    thread = Thread(keeper.ask)
    thread.enter("chat_1")
    keeper.got.clear()
    return thread


# ---- between a chat's JSON and a session


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        ({"status": "done"}, ""),
        ({"status": "done", "stop_reason": "length"}, "cut off"),
        ({"status": "stopped"}, "stopped"),
        ({"status": "failed"}, "broken off"),
        ({"status": "streaming"}, ""),
    ],
)
def test_how_a_stored_message_ended(fields: dict[str, Any], ending: str) -> None:
    assert message_of(stored("a", None, "assistant", "Hi", **fields)).ending == ending


def test_a_stored_message_brings_its_files_and_thoughts() -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "file", "digest": "sha256:1"}]
    found = message_of(stored("a", None, "user", "Look", parts=parts, thinking="Hm."))
    assert found.files == (parts[1],) and found.thinking == "Hm." and found.id == "a"
    assert message_of(stored("a", None, "narrator", "Once")).role == "system"


def test_a_chat_brings_its_settings_to_a_session_that_has_none() -> None:
    given = chat(system="Be brief", options={"seed": 1, "stop": ["a"]}, think="low")
    found = continued(Session("mistral", SHOW, parameters={"top_k": 3}), given)
    assert found.model == "mistral", "the model of the command stays"
    assert (found.system, found.think) == ("Be brief", "low")
    assert found.parameters == {"seed": 1, "stop": ("a",), "top_k": 3}


def test_a_session_keeps_the_settings_of_its_flags() -> None:
    found = continued(SESSION, chat(system="Be brief", options={"seed": 1}))
    assert (found.system, found.parameters) == ("Be kind", {"seed": 7})


def test_settings_that_a_chat_does_not_name_stay() -> None:
    assert adopted(SESSION, {}) == SESSION
    assert adopted(SESSION, {"system": None, "options": None}) == replace(
        SESSION, system="", parameters={}
    )


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (Message("user", "Hi"), "Hi"),
        (
            Message("user", "Look", images=("AAA=",)),
            [{"type": "text", "text": "Look"}, {"type": "image", "data": "AAA="}],
        ),
        (Message("user", "", files=({"type": "file"},)), [{"type": "file"}]),
    ],
)
def test_what_is_sent_of_a_message(message: Message, sent: Any) -> None:
    assert content(message) == sent


@pytest.mark.parametrize(
    ("name", "shown"),
    [("notes.txt", "notes.txt"), ("a\x1bb", "ab"), ("x" * 300, "x" * 200), ("\x07", "file")],
)
def test_the_name_of_a_file_is_printable_and_short(name: str, shown: str) -> None:
    assert module.file_name(Path(name)) == shown


# ---- what has come elsewhere


def test_a_chat_that_nothing_happened_to_brings_nothing() -> None:
    asked, told = stored("q", None, "user", "Hi"), stored("a", "q", "assistant", "Yes")
    keeper = Keeper(GET=chat(asked, told))
    thread = entered(keeper)
    session = continued(SESSION, chat(asked, told))
    assert thread.news(session) == (session, ())


def test_messages_of_another_terminal_are_news() -> None:
    asked, told = stored("q", None, "user", "Hi"), stored("a", "q", "assistant", "Yes")
    more = [
        stored("r", "a", "user", "And?"),
        stored("b", "r", "assistant", "No", status="streaming"),
    ]
    keeper = Keeper(GET=[chat(asked, told), chat(asked, told, *more)])
    thread = entered(keeper)
    session, news = thread.news(continued(SESSION, chat(asked, told)))
    assert [each.id for each in news] == ["r", "b"] and thread.running == "b"
    assert [each.id for each in session.messages] == ["q", "a", "r", "b"]


def test_a_terminal_that_stands_elsewhere_stays_there() -> None:
    asked, told = stored("q", None, "user", "Hi"), stored("a", "q", "assistant", "Yes")
    other = stored("b", "q", "assistant", "No")
    keeper = Keeper(GET=[chat(asked, told), chat(asked, told, other)])
    thread = entered(keeper)
    session = replace(continued(SESSION, chat(asked, told)), messages=())
    assert thread.news(session) == (session, ())


def test_a_setting_that_was_changed_elsewhere_comes_here() -> None:
    keeper = Keeper(GET=[chat(), chat(system="Be brief", options={"seed": 7})])
    session, _ = entered(keeper).news(SESSION)
    assert session.system == "Be brief" and session.parameters == {"seed": 7}


def test_a_setting_that_was_changed_here_wins() -> None:
    keeper = Keeper(GET=[chat(), chat(system="Be brief")])
    session, _ = entered(keeper).news(replace(SESSION, system="Be loud"))
    assert session.system == "Be loud"


def test_a_deleted_chat_is_an_error_and_a_temporary_one_begins_anew() -> None:
    gone = AnsweredError("not found", 404)
    keeper = Keeper(GET=[chat(), chat()])
    thread = entered(keeper)
    keeper.answers["GET"] = gone
    with pytest.raises(OllamapyError, match="was deleted, continue with a new one: /clear"):
        thread.news(SESSION)
    keeper.answers["GET"] = chat(temporary=True)
    thread.enter("chat_1")
    keeper.answers["GET"] = gone
    session = replace(SESSION, messages=(Message("user", "Hi", id="q"),))
    found, news = thread.news(session)
    assert found.messages == (Message("user", "Hi"),) and thread.id == "" and news == ()
    assert thread.title == "Sky"


# ---- asking


def test_a_chat_begins_with_its_settings() -> None:
    keeper = Keeper(POST=chat())
    thread = Thread(keeper.ask, temporary=True)
    thread.rename("Weather")
    thread._settle(settings(SESSION))
    [(method, path, body)] = keeper.got
    assert (method, path) == ("POST", "/api/chats")
    assert (
        body["model"] == "llama3.2" and body["system"] == "Be kind" and body["title"] == "Weather"
    )
    assert body["temporary"] is True and "format" not in body and "think" not in body


def test_only_settings_that_have_changed_are_sent() -> None:
    keeper = Keeper(GET=chat(options=SESSION.chat_options()))
    thread = entered(keeper)
    thread._settle(settings(SESSION))
    assert keeper.got == [], "llama3.2 and llama3.2:latest are one model, and no setting is another"
    thread._settle(settings(replace(SESSION, think=False)))
    [(method, path, body)] = keeper.got
    assert (method, path, body) == ("PATCH", "/api/chats/chat_1", {"think": False})


def test_a_title_is_kept_for_a_chat_that_has_not_begun() -> None:
    keeper = Keeper(GET=chat())
    thread = Thread(keeper.ask)
    thread.rename("Weather")
    assert keeper.got == [] and thread.title == "Weather"
    thread.enter("chat_1")
    thread.rename("Rain")
    assert keeper.got[-1] == ("PATCH", "/api/chats/chat_1", {"title": "Rain"})


@pytest.mark.parametrize(
    ("fields", "is_deleted"),
    [({"temporary": True, "head": "q"}, True), ({"head": None}, True), ({"head": "q"}, False)],
)
def test_what_is_not_to_be_kept_goes_at_the_end(fields: dict[str, Any], is_deleted: bool) -> None:
    keeper = Keeper(GET=chat(**fields))
    thread = entered(keeper)
    thread.forget()
    assert [method for method, *_ in keeper.got] == (["DELETE"] if is_deleted else [])

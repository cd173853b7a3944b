"""The conversations' API over a real daemon with scripted models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import HELLO
from tests.served import Answer, Daemon, until


def ask(daemon: Daemon, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """The JSON of an answer with the expected status."""
    answer = daemon.ask(method, path, body)
    assert answer.status == status, answer.body
    return answer.json() if answer.body else None


def new_chat(daemon: Daemon, **fields: Any) -> str:
    return str(ask(daemon, "POST", "/api/chats", {"model": "hello", **fields}, 201)["id"])


def events(answer: Answer) -> Iterator[tuple[str, Any]]:
    """The events of a stream as they come; of numbered ones the data has "number"."""
    name, number, data = "", None, None
    assert answer.header("content-type") == "text/event-stream"
    for raw in answer.response:
        line = raw.decode().rstrip("\n")
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            number = int(value)
        elif field == "data":
            data = json.loads(value)
        elif not line and data is not None:
            yield name, data | ({"number": number} if number is not None else {})
            name, number, data = "", None, None


def said(found: list[tuple[str, Any]], kind: str = "text") -> str:
    return "".join(data["text"] for name, data in found if name == kind)


def send(
    daemon: Daemon, chat: str, content: str | None = "Hi", **body: Any
) -> list[tuple[str, Any]]:
    """Send a message, and read its answer to the end."""
    given = body if content is None else {"content": content, **body}
    answer = daemon.open("POST", f"/api/chats/{chat}/messages", given)
    assert answer.status == 200, answer.read()
    return list(events(answer))


def test_a_chat_from_its_first_message_to_its_deletion(daemon: Daemon) -> None:
    chat = ask(daemon, "POST", "/api/chats", {"model": "hello", "system": "Be kind."}, 201)
    assert chat["title"] == "" and chat["head"] is None and chat["n_messages"] == 0
    id = chat["id"]

    found = send(daemon, id, "  Who are\nyou? ")
    (first, ids), (last, end) = found[0], found[-1]
    assert (first, ids["number"], ids["chat"], ids["parent"]) == ("message", 1, id, ids["user"])
    assert said(found) == HELLO
    assert (last, end["stop_reason"], end["status"], end["title"]) == (
        "done",
        "stop",
        "done",
        "Who are you?",
    )
    assert end["number"] == 1 + len(HELLO)
    assert end["usage"]["completion_tokens"] > 3 and end["usage"]["first_token_duration"] > 0

    shown = ask(daemon, "GET", f"/api/chats/{id}")
    assert [(m["role"], m["content"]) for m in shown["messages"]] == [
        ("user", "  Who are\nyou? "),
        ("assistant", HELLO),
    ]
    assert shown["head"] == ids["assistant"] and shown["n_messages"] == 2
    assert ask(daemon, "GET", "/api/chats")["chats"][0]["id"] == id

    changed = ask(
        daemon,
        "PATCH",
        f"/api/chats/{id}",
        {"title": "T", "folder": "work", "options": {"seed": 1}},
    )
    assert (changed["title"], changed["folder"], changed["options"]) == ("T", "work", {"seed": 1})
    assert ask(daemon, "DELETE", f"/api/chats/{id}", status=204) is None
    error = ask(daemon, "GET", f"/api/chats/{id}", status=404)
    assert error["code"] == "not_found" and id in error["error"]


def test_events_are_taken_up_at_any_place(daemon: Daemon) -> None:
    id = new_chat(daemon)
    found = send(daemon, id)
    message = found[0][1]["assistant"]
    path = f"/api/chats/{id}/messages/{message}/events"
    for after in range(1 + len(HELLO) + 1):
        answer = daemon.open("GET", path, **{"Last-Event-ID": str(after)})
        rest = list(events(answer))
        assert said(rest) == HELLO[max(after - 1, 0) :], after
        assert rest[-1][0] == "done"
        assert (rest[0][0] == "message") == (after == 0)


def test_an_answer_goes_on_without_its_client_until_it_is_stopped(daemon: Daemon) -> None:
    id = new_chat(daemon, model="long")
    answer = daemon.open("POST", f"/api/chats/{id}/messages", {"content": "Hi"})
    stream = events(answer)
    message = next(stream)[1]["assistant"]
    next(event for event in stream if event[0] == "text")
    answer.leave()
    path = f"/api/chats/{id}/messages/{message}"

    def text() -> str:
        [stored] = [
            m for m in ask(daemon, "GET", f"/api/chats/{id}")["messages"] if m["id"] == message
        ]
        assert stored["status"] == "streaming"
        return str(stored["content"])

    begun = len(text())
    until(lambda: len(text()) > begun + 20, "the answer goes on")
    follower = daemon.open("GET", f"{path}/events?after=1")
    follower.response  # noqa: B018 - waits for its head
    stopped = ask(daemon, "POST", f"{path}/stop")
    assert (stopped["status"], stopped["stop_reason"]) == ("stopped", "cancelled")
    rest = list(events(follower))
    assert rest[-1][0] == "done" and rest[-1][1]["status"] == "stopped"
    assert said(rest) == stopped["content"]
    until(lambda: daemon.busy() == 0, "the lease is released")


@pytest.mark.parametrize(
    ("body", "status", "code", "part"),
    [
        ({"content": "Hi", "model": "absent"}, 404, "model_not_found", "absent"),
        ({}, 400, "invalid_request", "content"),
        ({"content": "Hi", "parent": "msg_unknown"}, 404, "not_found", "msg_unknown"),
        ({"content": "Hi", "options": {"seed": "x"}}, 400, "invalid_request", "seed"),
        ({"content": 1}, 400, "invalid_request", "content"),
        ({"continue": "msg_unknown"}, 404, "not_found", "msg_unknown"),
        ({"answer": False}, 400, "invalid_request", "content"),
    ],
)  # fmt: skip
def test_nothing_is_stored_of_a_request_that_cannot_be_answered(
    daemon: Daemon, body: dict[str, Any], status: int, code: str, part: str
) -> None:
    id = new_chat(daemon)
    error = ask(daemon, "POST", f"/api/chats/{id}/messages", body, status)
    assert error["code"] == code and part in error["error"]
    assert ask(daemon, "GET", f"/api/chats/{id}")["n_messages"] == 0

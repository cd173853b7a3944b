"""The conversations' API over a real daemon with scripted models."""

from __future__ import annotations

from typing import Any

import pytest

from ollamapy.serving.chats.chats import MOST_TEMPORARY
from tests.conftest import HELLO
from tests.served import Daemon, until

from .talk import ask, events, new_chat, said, send


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
    assert end["usage"]["context_length"] > end["usage"]["context_used"] > 0
    assert end["usage"]["thinking_duration"] == 0

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

    def running() -> list[str]:
        listed = ask(daemon, "GET", "/api/chats?limit=1000")["chats"]
        return [chat["id"] for chat in listed if chat.get("running")]

    assert id in running()
    begun = len(text())
    until(lambda: len(text()) > begun + 20, "the answer goes on")
    follower = daemon.open("GET", f"{path}/events?after=1")
    follower.response  # noqa: B018 - waits for its head
    stopped = ask(daemon, "POST", f"{path}/stop")
    assert (stopped["status"], stopped["stop_reason"]) == ("stopped", "cancelled")
    rest = list(events(follower))
    assert rest[-1][0] == "done" and rest[-1][1]["status"] == "stopped"
    assert said(rest) == stopped["content"] and id not in running()
    usage = stopped["usage"]
    assert rest[-1][1]["usage"] == usage and usage["completion_tokens"] > 1
    assert usage["context_used"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["context_length"] > usage["context_used"] > usage["completion_tokens"]
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


def contents(shown: Any) -> dict[str, str]:
    """Each message's content by its id."""
    return {m["id"]: m["content"] for m in shown["messages"]}


def test_an_answer_can_be_made_again_and_a_question_asked_anew(daemon: Daemon) -> None:
    id = new_chat(daemon)
    path = f"/api/chats/{id}"
    first = send(daemon, id, "One")[0][1]
    again = send(daemon, id, None, parent=first["user"], model="rules")[0][1]
    assert (again["user"], again["parent"]) == (None, first["user"])
    shown = ask(daemon, "GET", path)
    assert shown["head"] == again["assistant"] and shown["n_messages"] == 3
    assert [m["model"] for m in shown["messages"] if m["role"] == "assistant"] == ["hello", "rules"]

    edited = send(daemon, id, "Other", parent=None)[0][1]
    assert edited["parent"] == edited["user"]
    roots = [m["content"] for m in ask(daemon, "GET", path)["messages"] if m["parent"] is None]
    assert roots == ["One", "Other"]
    assert ask(daemon, "PATCH", path, {"head": first["user"]})["head"] == again["assistant"]
    ask(daemon, "DELETE", f"{path}/messages/{first['user']}", status=204)
    shown = ask(daemon, "GET", path)
    assert list(contents(shown).values()) == ["Other", HELLO]
    assert shown["head"] == edited["assistant"]


def test_messages_that_are_only_stored(daemon: Daemon) -> None:
    id = new_chat(daemon)
    path = f"/api/chats/{id}/messages"
    ask(daemon, "POST", path, {"content": "Weather?", "answer": False}, 201)
    tool = ask(
        daemon,
        "POST",
        path,
        {"content": "{}", "role": "tool", "tool_name": "w", "tool_call_id": "c1", "answer": False},
        201,
    )
    assert (tool["role"], tool["tool_name"], tool["tool_call_id"], tool["status"]) == (
        "tool",
        "w",
        "c1",
        "done",
    )
    answered = send(daemon, id, None)
    assert answered[0][1]["parent"] == tool["id"] and said(answered) == HELLO


def test_an_answer_that_was_cut_is_continued_in_place(daemon: Daemon) -> None:
    id = new_chat(daemon, model="long", options={"temperature": 0, "num_predict": 16})
    whole = send(daemon, id, "Hi")
    found = send(daemon, id, None, parent=whole[0][1]["user"], options={"num_predict": 8})
    message, begun = found[0][1]["assistant"], said(found)
    assert found[-1][1]["stop_reason"] == "length" and said(whole).startswith(begun)

    path = f"/api/chats/{id}/messages"
    rest = send(daemon, id, None, **{"continue": message}, options={"num_predict": 8})
    ids = {"chat": id, "user": None, "assistant": message, "parent": whole[0][1]["user"]}
    assert rest[0] == ("message", {**ids, "number": 1})
    assert begun + said(rest) == said(whole)
    assert rest[-1][1]["number"] == 1 + len(said(whole))
    shown = ask(daemon, "GET", f"/api/chats/{id}")
    assert shown["n_messages"] == 3 and contents(shown)[message] == said(whole)

    done = ask(daemon, "POST", path, {"content": "x", "answer": False}, 201)["id"]
    for mid, why in (
        (done, "only an answer"),
        (send(daemon, id, None, model="hello")[0][1]["assistant"], "complete"),
    ):
        error = ask(daemon, "POST", path, {"continue": mid}, 409)
        assert why in error["error"] and error["code"] == "conflict"


def test_nothing_follows_an_answer_while_it_is_written(daemon: Daemon) -> None:
    id = new_chat(daemon, model="long")
    path = f"/api/chats/{id}/messages"
    answer = daemon.open("POST", path, {"content": "Hi"})
    ids = next(events(answer))[1]
    for body in ({"content": "More"}, {"continue": ids["assistant"]}):
        error = ask(daemon, "POST", path, body, 409)
        assert "being written" in error["error"]
    other = daemon.open("POST", path, {"parent": ids["user"]})
    second = next(events(other))[1]["assistant"]
    ask(daemon, "DELETE", f"/api/chats/{id}", status=204)
    for stream in (answer, other):
        assert b"event: done" in stream.read()
    ask(daemon, "GET", f"{path}/{second}/events", status=404)
    until(lambda: daemon.busy() == 0, "both have ended")


def test_search(daemon: Daemon) -> None:
    id = new_chat(daemon)
    message = ask(
        daemon,
        "POST",
        f"/api/chats/{id}/messages",
        {"content": "a zebra and a gnu", "answer": False},
        201,
    )
    [found] = ask(daemon, "GET", "/api/chats?q=ZEBRA+gnu")["chats"]
    assert (found["id"], found["message"]) == (id, message["id"])
    assert found["snippet"] == [["a ", False], ["zebra", True], [" and a ", False], ["gnu", True]]
    assert ask(daemon, "GET", "/api/chats?q=zebra+absent")["chats"] == []
    ask(daemon, "PATCH", f"/api/chats/{id}", {"title": "Okapi", "archived": True})
    assert ask(daemon, "GET", "/api/chats?q=okapi")["chats"] == []
    [found] = ask(daemon, "GET", "/api/chats?q=okapi&archived=all")["chats"]
    assert (found["message"], found["snippet"]) == (None, [["Okapi", True]])


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "archived=maybe", "before=x", "q=" + "x" * 1001]
)
def test_queries_that_are_refused(daemon: Daemon, query: str) -> None:
    error = ask(daemon, "GET", f"/api/chats?{query}", status=400)
    assert query.partition("=")[0] in error["error"] and error["code"] == "invalid_request"


def test_pages(daemon: Daemon) -> None:
    ids = [new_chat(daemon, folder="paged") for _ in range(5)]
    seen, before = [], ""
    while True:
        page = ask(daemon, "GET", f"/api/chats?folder=paged&limit=2&before={before}")
        seen += [chat["id"] for chat in page["chats"]]
        before = page["next"]
        if before is None:
            break
    assert seen == ids[::-1] and "paged" in page["folders"]


def test_settings_are_kept_changed_and_reset(daemon: Daemon) -> None:
    given = {
        "system": "S", "options": {"seed": 3}, "format": {"type": "object"}, "think": "low", "keep_alive": "10m", "title": "T",
    }  # fmt: skip
    id = new_chat(daemon, **given)
    shown = ask(daemon, "GET", f"/api/chats/{id}")
    assert {name: shown[name] for name in given} == given
    nothing = {"options": None, "format": None, "think": None, "keep_alive": None, "system": ""}
    changed = ask(daemon, "PATCH", f"/api/chats/{id}", nothing)
    assert {name: changed[name] for name in nothing} == {**nothing, "options": {}}
    assert changed["title"] == "T"
    for body in (
        {"title": "x" * 201},
        {"options": {"seed": "x"}},
        {"think": 7},
        {"format": 1},
        {"keep_alive": "x"},
        {"pinned": 1},
        {"model": ""},
    ):
        ask(daemon, "PATCH", f"/api/chats/{id}", body, 400)
    assert ask(daemon, "GET", f"/api/chats/{id}") == {**changed, "messages": []}


def test_a_format_constrains_the_answers_of_a_chat(daemon: Daemon) -> None:
    id = new_chat(daemon, model="long", format="json", options={"num_predict": 20, "seed": 1})
    assert said(send(daemon, id)).lstrip().startswith("{")


def test_a_prompt_that_was_read_ahead_is_cached(daemon: Daemon) -> None:
    id = new_chat(daemon, model="long", options={"num_predict": 4})
    send(daemon, id, "Hi")  # loads the model
    text = "please tell me a story " * 30
    answer = daemon.ask("POST", f"/api/chats/{id}/prefill", {"content": text})
    assert (answer.status, answer.body) == (202, b"")
    until(lambda: daemon.busy() == 1, "it is read ahead")
    until(lambda: daemon.busy() == 0, "it was read ahead")
    shown = ask(daemon, "GET", f"/api/chats/{id}")
    assert shown["n_messages"] == 2, "nothing is stored"
    usage = send(daemon, id, text + "now")[-1][1]["usage"]
    assert usage["cached_tokens"] > 0.8 * usage["prompt_tokens"]
    ask(daemon, "POST", f"/api/chats/{id}/prefill", {"content": "x", "model": "absent"}, 404)


def test_the_oldest_temporary_chats_are_forgotten(daemon: Daemon) -> None:
    ids = [new_chat(daemon, temporary=True) for _ in range(MOST_TEMPORARY + 1)]
    ask(daemon, "GET", f"/api/chats/{ids[0]}", status=404)
    assert ask(daemon, "GET", f"/api/chats/{ids[1]}")["temporary"]
    assert not {chat["id"] for chat in ask(daemon, "GET", "/api/chats")["chats"]} & set(ids)

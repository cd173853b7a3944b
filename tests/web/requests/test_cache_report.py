"""What was reused of a prompt and why not more, through every API, over a real daemon with a real runner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, serve
from tests.small_models import CHATML, install, random_model

pytestmark = pytest.mark.llama

LONG = "The quick brown fox jumps over the lazy dog. " * 12
SYSTEM = f"You are kind. It is {{}}. {LONG}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache-report")
    model = random_model(folder / "model.gguf", n_ctx=4096, chat_template=CHATML)
    install(folder / "store", "cold", model)
    return folder / "store"


@pytest.fixture(scope="module")
def daemon(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serve(tmp_path_factory.mktemp("home"), store) as running:
        yield running


def turns(system: str, *more: str) -> list[dict[str, Any]]:
    roles = ("user", "assistant") * len(more)
    found = [{"role": role, "content": text} for role, text in zip(roles, more, strict=False)]
    return [{"role": "system", "content": system}, *found] if system else found


def ollama(daemon: Daemon, messages: list[dict[str, Any]], **more: Any) -> Any:
    options = {"num_predict": 2, "num_ctx": 4096}
    asked = {"model": "cold", "messages": messages, "stream": False, "options": options}
    return daemon.ask("POST", "/api/chat", {**asked, "explain_cache": True, **more}).json()


def test_a_turn_that_continues_is_reused_as_a_whole(daemon: Daemon) -> None:
    first = ollama(daemon, turns(SYSTEM.format("Monday"), "One?"))
    assert first["cache_report"]["reason"] == "first"
    answer = first["message"]["content"]
    second = ollama(daemon, turns(SYSTEM.format("Monday"), "One?", answer, "Two?"))
    report = second["cache_report"]
    assert report["reason"] == "whole"
    assert report["earlier_tokens"] == first["prompt_eval_count"]
    assert report["reused_tokens"] >= report["earlier_tokens"] - 2
    assert report["prompt_tokens"] == second["prompt_eval_count"]


def test_a_changed_line_is_named(daemon: Daemon) -> None:
    first = ollama(daemon, turns(SYSTEM.format("Tuesday"), "Three?"))
    answer = first["message"]["content"]
    report = ollama(daemon, turns(SYSTEM.format("Thursday"), "Three?", answer, "Four?"))[
        "cache_report"
    ]
    assert report["reason"] == "changed"
    found = report["difference"]
    assert (found["message"], found["role"]) == (0, "system")
    assert found["character"] == SYSTEM.index("{}") + 1  # T is common to both
    assert "It is Tuesday" in found["earlier"] and "It is Thursday" in found["now"]


def last_event(body: bytes) -> Any:
    """The last JSON of a stream of events that is about the answer's end."""
    data = [line[6:] for line in body.decode().split("\n") if line.startswith("data: {")]
    found = [json.loads(each) for each in data]
    return next(each for each in reversed(found) if "cache_report" in json.dumps(each))


DIALECTS = {
    "/v1/chat/completions": {"messages": turns("", "Who?"), "max_tokens": 2},
    "/v1/completions": {"prompt": "Who?", "max_tokens": 2},
    "/v1/responses": {"input": "Who?", "max_output_tokens": 2},
    "/v1/messages": {"messages": turns("", "Who?"), "max_tokens": 2},
}


@pytest.mark.parametrize("path", DIALECTS)
def test_every_api_has_the_report_where_it_is_asked_for(daemon: Daemon, path: str) -> None:
    asked = {"model": "cold", **DIALECTS[path]}
    plain = daemon.ask("POST", path, asked)
    assert plain.status == 200 and b"cache_report" not in plain.body
    whole = daemon.ask("POST", path, {**asked, "explain_cache": True}).json()
    assert whole["cache_report"]["prompt_tokens"] > 0
    streamed = daemon.ask("POST", path, {**asked, "explain_cache": True, "stream": True})
    event = last_event(streamed.body)
    report = event.get("cache_report") or event["response"]["cache_report"]
    assert report["prompt_tokens"] == whole["cache_report"]["prompt_tokens"]


def test_a_request_can_be_explained_later(daemon: Daemon) -> None:
    asked = {"model": "cold", "messages": turns("", "When?"), "stream": False}
    asked["options"] = {"num_predict": 1}
    daemon.ask("POST", "/api/chat", asked, **{"X-Request-Id": "mine/1"})
    found = daemon.ask("GET", "/api/requests/mine%2F1").json()
    assert found["id"] == "mine/1" and found["model"] == "cold:latest"
    assert found["cache_report"]["reason"] == "first"
    latest = daemon.ask("GET", "/api/requests").json()["requests"][0]
    assert latest["id"] == "mine/1" and "cache_report" not in latest
    missing = daemon.ask("GET", "/api/requests/none")
    assert missing.status == 404 and "is remembered" in missing.json()["error"]


def test_a_temporary_chat_is_not_remembered(daemon: Daemon) -> None:
    for temporary in (True, False):
        made = {"model": "cold", "temporary": temporary, "options": {"num_predict": 1}}
        chat = daemon.ask("POST", "/api/chats", made).json()["id"]
        told = {"X-Request-Id": f"chat-{temporary}"}
        daemon.ask("POST", f"/api/chats/{chat}/messages", {"content": "Hi"}, **told)
    assert daemon.ask("GET", "/api/requests/chat-True").status == 404
    assert daemon.ask("GET", "/api/requests/chat-False").status == 200

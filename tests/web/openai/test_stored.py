"""Stored responses over a daemon that ends, is killed, or is to keep nothing."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, serve, until


def ask(daemon: Daemon, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """The JSON of an answer with the expected status."""
    answer = daemon.ask(method, path, body)
    assert answer.status == status, answer.body
    return answer.json()


def written(found: Any) -> str:
    return "".join(
        part["text"]
        for item in found["output"]
        for part in item.get("content", ())
        if "text" in part
    )


def test_a_response_of_a_killed_daemon_has_failed_with_its_text(
    model_store: Path, tmp_path: Path
) -> None:
    with serve(tmp_path, model_store) as daemon:
        body = {"model": "long", "input": "Hi", "background": True}
        path = f"/v1/responses/{ask(daemon, 'POST', '/v1/responses', body)['id']}"
        text = until(lambda: written(ask(daemon, "GET", path)), "text has come")
        # What is on the disk lags by the time of a flush: wait until what was seen must be there
        until(lambda: len(written(ask(daemon, "GET", path))) > len(text) + 2000, "more has come")
        children = daemon.children()
        daemon.end(signal.SIGKILL)
        until(lambda: not any(child.is_running() for child in children), "its runner ends")
    with serve(tmp_path, model_store) as daemon:
        found = ask(daemon, "GET", path)
        assert found["status"] == "failed" and "the daemon ended" in found["error"]["message"]
        assert written(found).startswith(text) and found["output"][-1]["status"] == "incomplete"
        events = daemon.ask("GET", f"{path}?stream=true").body.decode()
        assert events.count("event: response.failed\n") == 1
        again: dict[str, Any] = {"model": "long", "input": "Go on", "max_output_tokens": 2}
        again["previous_response_id"] = path[14:]
        assert ask(daemon, "POST", "/v1/responses", again)["status"] == "incomplete"
        ask(daemon, "DELETE", path)
        state = [each for each in tmp_path.glob("chats.db*")]
        assert state
        until(
            lambda: not any(text[:60].encode() in each.read_bytes() for each in state),
            "its text is in no file any more",
        )


def test_a_response_is_kept_over_a_restart(model_store: Path, tmp_path: Path) -> None:
    with serve(tmp_path, model_store) as daemon:
        made = ask(daemon, "POST", "/v1/responses", {"model": "hello", "input": "Hi"})
    with serve(tmp_path, model_store) as daemon:
        assert ask(daemon, "GET", f"/v1/responses/{made['id']}") == made
    with serve(tmp_path, model_store, RESPONSES_DAYS="0") as daemon:
        path = f"/v1/responses/{made['id']}"
        assert daemon.ask("GET", path).status == 404


@pytest.mark.long
def test_where_nothing_is_to_be_kept_responses_are_in_memory(
    model_store: Path, tmp_path: Path
) -> None:
    for setting in ({"NOHISTORY": "1"}, {"RESPONSES_DAYS": "0"}):
        home = tmp_path / next(iter(setting))
        home.mkdir()
        with serve(home, model_store, **setting) as daemon:
            body = {"model": "hello", "input": "a zanzibar of words"}
            made = ask(daemon, "POST", "/v1/responses", body)
            more = {"model": "hello", "input": "And?", "previous_response_id": made["id"]}
            assert ask(daemon, "POST", "/v1/responses", more)["status"] == "completed"
            assert ask(daemon, "GET", f"/v1/responses/{made['id']}") == made
        assert not any(b"zanzibar" in p.read_bytes() for p in home.rglob("*") if p.is_file())

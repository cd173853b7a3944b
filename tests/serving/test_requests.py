"""Cancelling requests by their ids: a running one ends once, with an error of its API, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ollamapy.errors import CancelRequested, RequestNotFound
from ollamapy.serving.requests import Cancellation, Requests, id_for
from tests.served import Answer, Daemon, until


def test_ids() -> None:
    assert id_for("job-7/α".encode("ascii", "ignore").decode()) == "job-7/"
    for odd in ("", "a b", "x" * 129, "é", "a\n"):
        assert id_for(odd).startswith("req_") and id_for(odd) != id_for(odd)


def test_work_is_cancelled_once() -> None:
    async def run() -> None:
        running = Requests()
        with running.entered("a") as stop, running.entered("a") as other:
            task = asyncio.ensure_future(_forever(stop))
            await asyncio.sleep(0)
            running.cancel("a")
            running.cancel("a")
            with pytest.raises(CancelRequested):
                await task
            with pytest.raises(CancelRequested), other.within():
                raise AssertionError("it was cancelled before it began")
        with pytest.raises(RequestNotFound, match='id "a"'):
            running.cancel("a")

    asyncio.run(run())


def test_a_task_that_is_cancelled_otherwise_stays_cancelled() -> None:
    async def run() -> None:
        stop = Cancellation()
        task = asyncio.ensure_future(_forever(stop))
        await asyncio.sleep(0)
        stop.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


async def _forever(stop: Cancellation) -> None:
    with stop.within():
        await asyncio.Event().wait()


# ---- with a real daemon ----------------------------------------------------------------------------------------------

LONG: dict[str, Any] = {"model": "long", "options": {"num_predict": 8000}}
HI = [{"role": "user", "content": "Hi"}]


def cancel(daemon: Daemon, id: str | None) -> Answer:
    return daemon.ask("POST", f"/api/cancel/{id}")


def test_a_stream_ends_with_an_error(daemon: Daemon) -> None:
    answer = daemon.open("POST", "/api/generate", {"prompt": "Hi", **LONG})
    id = answer.header("X-Request-Id")
    assert answer.line()["response"] and id
    ended = cancel(daemon, id)
    assert (ended.status, ended.json()) == (200, {"status": "success"})
    *_, last = answer.lines()
    assert list(last) == ["error"] and last["error"].startswith("request canceled")
    until(lambda: daemon.busy() == 0, "the lease is given back")
    again = cancel(daemon, id)
    assert again.status == 404 and again.json() == {
        "error": f'no request with the id "{id}" is being answered'
    }


def test_an_answer_that_is_not_streamed(daemon: Daemon) -> None:
    body = {"messages": HI, "stream": False, **LONG}
    answer = daemon.open("POST", "/api/chat", body, **{"X-Request-Id": "mine/7"})
    until(lambda: cancel(daemon, "mine/7").status == 200, "it has begun")
    assert answer.status == 499 and answer.header("X-Request-Id") == "mine/7"
    answer.read()
    assert answer.json()["error"].startswith("request canceled")
    until(lambda: daemon.busy() == 0, "the lease is given back")


def test_openai_s_and_anthropic_s_streams(daemon: Daemon) -> None:
    chat = {"model": "long", "messages": HI, "max_tokens": 8000, "stream": True}
    answer = daemon.open("POST", "/v1/chat/completions", chat)
    answer.response.readline()
    cancel(daemon, answer.header("X-Request-Id"))
    *_, error, done = [line for line in answer.read().split(b"\n") if line.startswith(b"data:")]
    assert done == b"data: [DONE]" and "canceled" in json.loads(error[5:])["error"]["message"]

    answer = daemon.open("POST", "/v1/messages", chat)
    answer.response.readline()
    cancel(daemon, answer.header("X-Request-Id"))
    *_, event, last = answer.read().decode().strip().split("\n")
    assert event == "event: error" and "canceled" in json.loads(last[5:])["error"]["message"]
    until(lambda: daemon.busy() == 0, "the leases are given back")


def test_others_go_on(daemon: Daemon) -> None:
    one, other = (
        daemon.open("POST", "/api/generate", {"prompt": text, "model": "long", "options": options})
        for text, options in (("a", {"num_predict": 8000}), ("b", {"num_predict": 40}))
    )
    assert one.line() and other.line()
    cancel(daemon, one.header("X-Request-Id"))
    assert other.lines()[-1]["done_reason"] == "length"
    assert "error" in one.lines()[-1]


def test_a_request_cannot_cancel_itself_or_an_unknown_id(daemon: Daemon) -> None:
    for path in ("absent", "", "a/b", "x" * 500):
        assert cancel(daemon, path).status == 404
    own = daemon.ask("POST", "/api/cancel/self", **{"X-Request-Id": "self"})
    assert own.status == 200
    assert daemon.ask("GET", "/api/cancel/absent").status == 405

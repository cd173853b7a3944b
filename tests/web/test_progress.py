"""What a request waits for, as each dialect reports it before the first token; over runners whose steps the test releases."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import LoadFailed
from ollamapy.fleet import wait
from ollamapy.types import Loading, Prefill, Queued, Waiting
from ollamapy.web import stream
from ollamapy.web.pauses import described
from tests.fakes import FakeRunner

from .raw import STAGES, Client, run

_MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}
GENERATE = ("/api/generate", {"model": "plain", "prompt": "Hi"})
CHAT = ("/api/chat", {"model": "hello", **_MESSAGES})

WAITS = [{"type": "queued", "position": 1}, {"type": "prefill", "fraction": 0.5, "tokens": 4, "cached": 2}]  # fmt: skip


@pytest.mark.parametrize(
    ("waiting", "words"),
    [
        (None, "ping"),
        (Queued(3), "queued, place 3"),
        (Loading("starting", 0.0), "loading, starting"),
        (Loading("weights", 0.404), "loading, weights 40 %"),
        (Loading("warm-up", 1.0), "loading, warm-up"),
        (Prefill(0.999, 900, 300), "prefill 99 % of 900 tokens"),
    ],
)
def test_what_is_waited_for_in_words(waiting: Waiting | None, words: str) -> None:
    assert described(waiting) == words


def loading(runner: FakeRunner, fraction: float) -> None:
    assert runner.on_progress is not None
    runner.on_progress("weights", fraction)


@pytest.mark.parametrize(("path", "body"), [GENERATE, CHAT])
def test_ollamas_objects(model_store: Path, path: str, body: dict[str, Any]) -> None:
    async def test(client: Client) -> None:
        async with asyncio.timeout(30):
            await told(client)

    async def told(client: Client) -> None:
        reader, writer = await client.send("POST", path, {**body, "progress": True})
        runner = await client.made.runner()
        starting = json.loads((await reader.readuntil(b"}}\n")).splitlines()[-1])
        loading(runner, 0.25)
        half = json.loads((await reader.readuntil(b"}}\n")).splitlines()[-1])
        runner.loaded.set()
        rest = await reader.readuntil(b"0\r\n\r\n")
        lines = [json.loads(line) for line in rest.splitlines() if line.startswith(b"{")]
        writer.close()
        assert starting["progress"] == {"type": "loading", "stage": "starting", "fraction": 0.0}
        assert half["progress"] == {"type": "loading", "stage": "weights", "fraction": 0.25}
        assert [line["progress"] for line in lines[:2]] == WAITS
        for line in (starting, half, *lines[:2]):  # as one of an answer without text
            assert line["model"] == body["model"] and line["created_at"] and line["done"] is False
            assert line.get("response", line.get("message", {}).get("content")) == ""
        assert not any("progress" in line for line in lines[2:]) and lines[-1]["done"]

    run(model_store, test, STAGES["loading"])


@pytest.mark.parametrize(("path", "body"), [GENERATE, CHAT])
@pytest.mark.parametrize("more", [{}, {"progress": False}, {"progress": True, "stream": False}])
def test_nothing_is_reported_to_who_does_not_ask(
    model_store: Path, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask("POST", path, {**body, **more})
        assert reply.status == 200 and b"progress" not in reply.body
        runner = await client.made.runner()
        assert [each.progress for each in runner.generations] == [False]

    run(model_store, test)


def test_a_load_by_itself_is_reported_too(model_store: Path) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask("POST", "/api/generate", {"model": "plain", "progress": True})
        *reports, last = reply.lines
        assert reports[0]["progress"]["type"] == "loading"
        assert last["done"] and last["done_reason"] == "load"

    run(model_store, test)


def test_an_error_after_a_report_has_its_status(model_store: Path) -> None:
    def fails(runner: FakeRunner) -> None:
        async def ready() -> Any:
            raise LoadFailed("it is broken")

        runner.ready = ready  # type: ignore[method-assign]

    async def test(client: Client) -> None:
        reply = await client.generate(progress=True)
        assert reply.status in (200, 500)  # it may fail before the first report
        assert "it is broken" in reply.lines[-1]["error"]
        if reply.status == 200:
            assert reply.lines[-1]["status"] == 500

    run(model_store, test, fails)


def test_an_error_before_the_first_report_is_an_error_of_the_response(model_store: Path) -> None:
    async def test(client: Client) -> None:
        reply = await client.generate(model="missing", progress=True)
        assert reply.status == 404 and reply.error

    run(model_store, test)


@pytest.mark.parametrize("given", ["yes", 1, {}])
def test_progress_is_true_or_false(model_store: Path, given: Any) -> None:
    async def test(client: Client) -> None:
        assert (await client.generate(progress=given)).status == 400

    run(model_store, test)


EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat completions": ("/v1/chat/completions", {"model": "hello", **_MESSAGES}),
    "completions": ("/v1/completions", {"model": "plain", "prompt": "Hi"}),
    "echoed ids": ("/v1/completions", {"model": "plain", "prompt": [72, 105], "echo": True}),
    "responses": ("/v1/responses", {"model": "hello", "input": "Hi"}),
    "messages": ("/v1/messages", {"model": "hello", "max_tokens": 9, **_MESSAGES}),
}


@pytest.mark.parametrize("name", EVENTS)
def test_comments_before_the_first_token(
    model_store: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each stage that takes long: the load, the prompt."""
    monkeypatch.setattr(stream, "IDLE", 0.01)
    monkeypatch.setattr(wait, "PACE", 0.0)

    def slow(runner: FakeRunner) -> None:
        runner.loaded.clear()
        runner.prefilled.clear()

    async def test(client: Client) -> None:
        path, body = EVENTS[name]
        reader, writer = await client.send("POST", path, {**body, "stream": True})
        runner = await client.made.runner()
        if name != "echoed ids":  # whose text is asked for first
            await reader.readuntil(b"\n: loading, starting\n")
            loading(runner, 0.25)
            await reader.readuntil(b"\n: loading, weights 25 %\n")
        else:
            await reader.readuntil(b"\n: ping\n")
        runner.loaded.set()
        await reader.readuntil(b"\n: prefill 50 % of 4 tokens\n")
        runner.prefilled.set()
        rest = await reader.readuntil(b"0\r\n\r\n")
        assert b"one" in rest and b"three" in rest and b"prefill" not in rest.partition(b"one")[2]
        writer.close()

    async def bounded(client: Client) -> None:
        async with asyncio.timeout(30):
            await test(client)

    run(model_store, bounded, slow)


@pytest.mark.parametrize("name", EVENTS)
def test_a_fast_answer_has_no_comment_and_an_early_error_its_status(
    model_store: Path, name: str
) -> None:
    async def test(client: Client) -> None:
        path, body = EVENTS[name]
        reply = await client.ask("POST", path, {**body, "stream": True})
        assert reply.status == 200
        assert not [line for line in reply.body.splitlines() if line.startswith(b":")]
        reply = await client.ask("POST", path, {**body, "model": "missing", "stream": True})
        assert reply.status == 404

    run(model_store, test)


def test_a_load_that_fails_is_an_error_of_the_response_if_no_comment_came(
    model_store: Path,
) -> None:
    """Though what the request waited for was known."""

    def fails(runner: FakeRunner) -> None:
        async def ready() -> Any:
            await runner.loaded.wait()
            raise LoadFailed("it is broken")

        runner.loaded.clear()
        runner.ready = ready  # type: ignore[method-assign]

    async def test(client: Client) -> None:
        path, body = EVENTS["chat completions"]
        asked = asyncio.create_task(client.ask("POST", path, {**body, "stream": True}))
        runner = await client.made.runner()
        await asyncio.sleep(0.05)  # it has been told of the load
        runner.loaded.set()
        assert (await asked).status == 500

    run(model_store, test, fails)


def test_a_client_that_leaves_while_it_is_told_of_the_load(model_store: Path) -> None:
    async def test(client: Client) -> None:
        path, body = GENERATE
        reader, writer = await client.send("POST", path, {**body, "progress": True})
        runner = await client.made.runner()
        await reader.readuntil(b"}}\n")
        writer.close()
        await client.made.idle()
        runner.loaded.set()
        assert (await client.generate()).lines[-1]["done"]

    run(model_store, test, STAGES["loading"])

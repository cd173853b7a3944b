"""Rules for every dialect: a disconnect stops the work at every stage, and an error in the middle of a stream is reported in the
dialect's own form."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import RunnerCrashed
from tests.conftest import HELLO
from tests.fakes import FakeRunner
from tests.served import Daemon, serve, until

from .raw import STAGES, Client, run

_MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}


@dataclass(frozen=True)
class Dialect:
    """A request for a text: ``body`` is sent with the model and stream; ``text`` reads a stream's text, ``error`` an answer's
    message, ``ending`` the message at the end of a stream that failed."""

    path: str
    body: dict[str, Any]
    text: Callable[[list[Any]], str]
    error: Callable[[Any], str]
    ending: Callable[[bytes], str]

    def request(self, model: str, stream: bool) -> dict[str, Any]:
        return {"model": model, "stream": stream, **self.body}


def lines(body: bytes) -> list[Any]:
    """The JSON of a stream's lines or events."""
    found = [
        line.removeprefix(b"data: ") for line in body.splitlines() if line[:1] in b"{d" and line
    ]
    return [json.loads(line) for line in found if line.startswith(b"{")]  # fmt: skip


def _native_ending(body: bytes) -> str:
    last = lines(body)[-1]
    assert list(last) == ["error"]
    return str(last["error"])


def _openai_ending(body: bytes) -> str:
    assert body.endswith(b"data: [DONE]\n\n")
    return str(lines(body)[-1]["error"]["message"])


def _anthropic_ending(body: bytes) -> str:
    assert b"message_stop" not in body
    *_, name, _ = body.decode().rstrip().split("\n")
    last = lines(body)[-1]
    assert name == "event: error" and last["type"] == "error"
    assert last["error"]["type"] == "api_error"
    return str(last["error"]["message"])


def _responses_ending(body: bytes) -> str:
    last = lines(body)[-1]
    assert last["type"] == "response.failed" and last["response"]["status"] == "failed"
    return str(last["response"]["error"]["message"])


def _of_openai(answer: Any) -> str:
    return str(answer["error"]["message"])


DIALECTS = {
    "generate": Dialect(
        "/api/generate",
        {"prompt": "Hi"},
        lambda items: "".join(each["response"] for each in items),
        lambda answer: str(answer["error"]),
        _native_ending,
    ),
    "chat": Dialect(
        "/api/chat",
        _MESSAGES,
        lambda items: "".join(each["message"]["content"] for each in items),
        lambda answer: str(answer["error"]),
        _native_ending,
    ),
    "openai chat": Dialect(
        "/v1/chat/completions",
        _MESSAGES,
        lambda items: "".join(
            choice["delta"].get("content") or "" for each in items for choice in each["choices"]
        ),
        _of_openai,
        _openai_ending,
    ),
    "openai completion": Dialect(
        "/v1/completions",
        {"prompt": "Hi", "max_tokens": 8000},
        lambda items: "".join(choice["text"] for each in items for choice in each["choices"]),
        _of_openai,
        _openai_ending,
    ),
    "openai response": Dialect(
        "/v1/responses",
        {"input": "Hi"},
        lambda items: "".join(
            each["delta"] for each in items if each["type"] == "response.output_text.delta"
        ),
        _of_openai,
        _responses_ending,
    ),
    "anthropic": Dialect(
        "/v1/messages",
        {**_MESSAGES, "max_tokens": 8000},
        lambda items: "".join(
            each["delta"]["text"] for each in items if each["type"] == "content_block_delta"
        ),
        _of_openai,
        _anthropic_ending,
    ),
}

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)


# ---- clients that disconnect -----------------------------------------------------------------------------------------


@every_dialect
@pytest.mark.parametrize("stream", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_disconnect_stops_the_work(
    model_store: Path, stage: str, stream: bool, dialect: Dialect
) -> None:
    async def test(client: Client) -> None:
        _, writer = await client.send("POST", dialect.path, dialect.request("hello", stream))
        runner = await client.made.runner()
        if stage != "loading":
            await runner.has(lambda runner: bool(runner.generations))
        writer.close()
        await client.made.idle()
        assert runner.endings == ([] if stage == "loading" else ["cancelled"])

    run(model_store, test, STAGES[stage])


@pytest.mark.parametrize("stream", [True, False])
def test_a_disconnect_leaves_the_queue(model_store: Path, stream: bool) -> None:
    async def test(client: Client) -> None:
        first = await client.send("POST", "/api/generate", {"model": "hello", "prompt": "Hi"})
        runner = await client.made.runner()
        await runner.has(lambda runner: bool(runner.generations))
        waiting = [
            (await client.send("POST", each.path, each.request("plain", stream)))[1]
            for each in DIALECTS.values()
        ]
        async with asyncio.timeout(60):
            while client.made.services.scheduler.busy < 1 + len(DIALECTS):  # noqa: ASYNC110
                await asyncio.sleep(0)
        for writer in waiting:
            writer.close()
        async with asyncio.timeout(60):
            while client.made.services.scheduler.busy > 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
        runner.prefilled.set()
        assert b'"done":true' in await first[0].readuntil(b'"done":true')
        first[1].close()
        await client.made.idle()
        assert len(client.made.runners) == 1, "the other model was never loaded"

    run(model_store, test, STAGES["prefill"], MAX_LOADED_MODELS="1")


# ---- errors ----------------------------------------------------------------------------------------------------------


@every_dialect
def test_an_error_ends_a_stream(model_store: Path, dialect: Dialect) -> None:
    message = "the model runner ended by signal SIGKILL"

    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 2
        runner.error = RunnerCrashed(message)

    async def test(client: Client) -> None:
        streamed = await client.ask("POST", dialect.path, dialect.request("hello", True))
        assert streamed.status == 200 and b"one" in streamed.body and b"two" in streamed.body
        assert dialect.ending(streamed.body) == message
        reply = await client.ask("POST", dialect.path, dialect.request("hello", False))
        assert reply.status == 500 and dialect.error(json.loads(reply.body)) == message
        await client.made.idle()

    run(model_store, test, prepare)


@every_dialect
@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_the_first_text_has_a_status(
    model_store: Path, stream: bool, dialect: Dialect
) -> None:
    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 0
        runner.error = RunnerCrashed("the model runner ended")

    async def test(client: Client) -> None:
        reply = await client.ask("POST", dialect.path, dialect.request("hello", stream))
        assert reply.status == 500
        assert dialect.error(json.loads(reply.body)) == "the model runner ended"

    run(model_store, test, prepare)


@pytest.fixture(scope="module")
def own(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon for these tests, which kill its runners."""
    with serve(tmp_path_factory.mktemp("home"), model_store, NUM_PARALLEL="8") as running:
        yield running


@pytest.mark.llama
def test_all_dialects_share_a_runner_and_its_end(own: Daemon) -> None:
    answers = [
        (each, own.open("POST", each.path, each.request("long", True)))
        for each in DIALECTS.values()
    ]
    for _, answer in answers:
        assert answer.status == 200 and answer.response.readline()
    [runner] = own.runners()
    runner.send_signal(signal.SIGKILL)
    for each, answer in answers:
        assert "runner ended by signal SIGKILL" in each.ending(answer.read())
    until(lambda: own.busy() == 0, "all leases are released")
    for each in DIALECTS.values():
        answer = own.ask("POST", each.path, each.request("hello", True))
        assert each.text(lines(answer.body)) == HELLO


@pytest.mark.llama
def test_a_client_that_does_not_read_delays_no_other(own: Daemon) -> None:
    slow = [own.open("POST", each.path, each.request("long", True)) for each in DIALECTS.values()]
    for answer in slow:
        assert answer.status == 200
    assert own.generate("long", options={"num_predict": 20}).json()["eval_count"] == 20
    assert own.generate("hello").json()["response"] == HELLO
    for answer in slow:
        answer.leave()
    until(lambda: own.busy() == 0, "their requests are cancelled")

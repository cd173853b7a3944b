"""Clients that disconnect, that send nothing or too slowly, and thousands of them at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from ollamapy.web import server as web
from ollamapy.web import stream
from tests.fakes import FakeRunner

from .raw import STAGES, Client, Reply, run


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stage", STAGES)
def test_a_disconnect(model_store: Path, stage: str, stream: bool) -> None:
    async def test(client: Client) -> None:
        body = {"model": "plain", "prompt": "Hi", "stream": stream}
        _, writer = await client.send("POST", "/api/generate", body)
        runner = await client.made.runner()
        if stage != "loading":
            await runner.has(lambda runner: bool(runner.generations))
        assert client.made.services.scheduler.busy == 1
        writer.close()
        await client.made.idle()
        assert runner.endings == ([] if stage == "loading" else ["cancelled"])
        for event in (runner.loaded, runner.prefilled, runner.next_word):
            event.set()
        assert (await client.generate()).lines[-1]["done"]  # and the next is served

    run(model_store, test, STAGES[stage])


def test_a_disconnect_in_the_middle_of_a_stream(model_store: Path) -> None:
    """It reads one word of many: the others wait in the sockets' buffers, then in the runner."""

    def prepare(runner: FakeRunner) -> None:
        runner.words = ["one", *[" more" * 1000] * 100_000]

    async def test(client: Client) -> None:
        body = {"model": "plain", "prompt": "Hi"}
        reader, writer = await client.send("POST", "/api/generate", body)
        runner = await client.made.runner()
        await reader.readuntil(b"one")
        assert not runner.endings
        writer.close()
        await client.made.idle()
        assert runner.endings == ["cancelled"]

    run(model_store, test, prepare)


def test_disconnects_of_queued_requests(model_store: Path) -> None:
    async def test(client: Client) -> None:
        body = {"model": "plain", "prompt": "Hi"}
        writers = [(await client.send("POST", "/api/generate", body))[1] for _ in range(20)]
        runner = await client.made.runner()
        await runner.has(
            lambda runner: len(runner.generations) == 2
        )  # two for the one slot; others wait
        async with asyncio.timeout(60):
            while client.made.services.scheduler.busy < 20:  # noqa: ASYNC110
                await asyncio.sleep(0)
        for writer in writers[::-1]:
            writer.close()
        await client.made.idle()
        assert len(runner.generations) == 2 and runner.endings == ["cancelled"] * 2

    run(model_store, test, STAGES["prefill"], NUM_PARALLEL="1")


def test_a_disconnect_in_the_middle_of_a_request(model_store: Path) -> None:
    async def test(client: Client) -> None:
        _, writer = await client.send("POST", "/api/generate", b'{"model": "pl', length=100)
        writer.close()
        assert (await client.generate()).status == 200
        assert len(client.made.runners) == 1

    run(model_store, test)


HALF_A_HEAD = b"GET / HT"
HALF_A_BODY = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, HALF_A_BODY])
def test_an_idle_connection_does_not_delay_the_shutdown(
    model_store: Path, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    silent: list[Any] = []

    async def test(client: Client) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        silent.extend((reader, writer, time.monotonic()))
        writer.write(sent)
        assert (await client.generate()).status == 200  # now the first one has been read, too

    run(model_store, test)
    assert time.monotonic() - silent[-1] < 25  # it waits 30 s for a request
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /"])
def test_a_head_has_a_time_limit(
    model_store: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(web, "IDLE_SECONDS", 1)

    async def test(client: Client) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        async with asyncio.timeout(20):
            for byte in sent:
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            await reader.read()

    run(model_store, test)


def test_a_body_has_a_time_limit(model_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BODY_PATIENCE", 0.1)

    async def test(client: Client) -> None:
        reader, _ = await client.send("POST", "/api/generate", b"{", length=100)
        async with asyncio.timeout(20):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"no byte of the request came for 0.1 s, send it again" in answer

    run(model_store, test)


@pytest.mark.parametrize("each", [1, pytest.param(8, marks=pytest.mark.long)])
def test_hundreds_of_clients_are_all_answered(model_store: Path, each: int) -> None:
    """The queue takes 50 of them and two are served: the others get a 503, and nothing is left over."""

    async def test(client: Client) -> None:
        body = {"model": "plain", "prompt": "Hi", "stream": False}
        replies: list[Reply] = []

        async def worker(count: int) -> None:
            for _ in range(count):
                replies.append(await client.ask("POST", "/api/generate", body))

        workers = [asyncio.ensure_future(worker(each)) for _ in range(250)]
        held = [asyncio.ensure_future(worker(1)) for _ in range(10)]
        runner = await client.made.runner()
        async with asyncio.timeout(200):
            await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
            runner.prefilled.set()
            await asyncio.gather(*workers, *held)
        assert {reply.status for reply in replies} == {200, 503}
        assert all("retry-after" in reply.headers for reply in replies if reply.status == 503)
        await client.made.idle()

    run(model_store, test, STAGES["prefill"], NUM_PARALLEL="1", MAX_QUEUE="50")

"""Bounded bodies, work that ends when its client disconnects, and lines."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import pytest
from starlette.types import Message, Receive

from ollamapy.errors import OllamapyError, RequestCancelled
from ollamapy.types import Chunk
from ollamapy.web import body, stream


def receiving(messages: Iterable[Message]) -> Receive:
    """Gives the messages one after another, then blocks for ever."""
    left = iter(messages)

    async def receive() -> Message:
        for message in left:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def part(data: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


LEFT: Message = {"type": "http.disconnect"}


def received(receive: Receive) -> bytes:
    """The body that is received; in the end the budget is empty."""

    async def read() -> bytes:
        body = await stream.read_body(receive, budget)
        return await body.parse(bytes)

    budget = stream.BodyBudget()
    try:
        return asyncio.run(read())
    finally:
        assert budget.used == 0


def test_a_large_body_is_parsed_in_a_thread() -> None:
    threads = []

    def parse(body: bytes) -> int:
        threads.append(threading.current_thread())
        return len(body)

    for size in (stream.SMALL_BODY, stream.SMALL_BODY + 1):
        assert asyncio.run(stream.Body(bytes(size)).parse(parse)) == size
    assert threads[0] is threading.main_thread() is not threads[1]


def test_a_body_in_parts() -> None:
    parts = [part(b"a", True), part(b"", True), part(b"bc")]
    assert received(receiving(parts)) == b"abc"


def test_a_disconnect_in_the_middle_of_a_body() -> None:
    with pytest.raises(RequestCancelled):
        received(receiving([part(b"a", True), LEFT]))


def test_a_body_that_is_too_large_is_read_to_its_end_but_not_kept() -> None:
    megabyte = bytes(2**20)
    sent = 0

    def parts() -> Iterable[Message]:
        nonlocal sent
        for sent in range(1, 101):
            yield part(megabyte, more=sent < 100)

    with pytest.raises(body.BodyTooLarge, match="longer than 64 MiB") as error:
        received(receiving(parts()))
    assert error.value.status == 413 and sent == 100


def test_work_is_done_while_the_client_is_there() -> None:
    async def work() -> str:
        return "done"

    assert asyncio.run(stream.until_gone(receiving([]), work())) == "done"


def test_work_is_cancelled_when_the_client_disconnects() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def test() -> None:
        with pytest.raises(RequestCancelled):
            await stream.until_gone(receiving([part(b"late"), LEFT]), work())
        assert seen == ["ended"]

    asyncio.run(test())


def test_an_error_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise OllamapyError("no")

    with pytest.raises(OllamapyError, match="no"):
        asyncio.run(stream.until_gone(receiving([]), work()))


def test_cancelling_the_task_cancels_the_work() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    async def test() -> None:
        task = asyncio.ensure_future(stream.until_gone(receiving([]), work()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert ended


# ---- lines -------------------------------------------------------------------------------------


async def saying(words: Iterable[str | Exception]) -> AsyncGenerator[Chunk, None]:
    for word in words:
        if isinstance(word, Exception):
            raise word
        yield Chunk(word)


def written(chunks: AsyncGenerator[Chunk, None]) -> list[Message]:
    """The messages to the server for these chunks."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(lines(chunks)({"type": "http"}, receiving([]), send))
    return sent


def lines(chunks: AsyncGenerator[Chunk, None]) -> stream.Lines[Chunk]:
    def encode(chunk: Chunk) -> bytes:
        return json.dumps(chunk.text).encode()

    def failed(error: Exception) -> bytes:
        return json.dumps({"error": str(error)}).encode()

    return stream.Lines(chunks, encode, failed)


def bodies(sent: list[Message]) -> list[bytes]:
    assert [message["type"] for message in sent] == ["http.response.start"] + [
        "http.response.body"
    ] * (len(sent) - 1)
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    return [message["body"] for message in sent[1:-1]]


def test_a_line_for_each_chunk() -> None:
    sent = written(saying(["a", "b\n"]))
    assert sent[0]["status"] == 200
    assert sent[0]["headers"] == [(b"content-type", b"application/x-ndjson")]
    assert bodies(sent) == [b'"a"\n', b'"b\\n"\n']


@pytest.mark.parametrize("error", [OllamapyError("broke"), ValueError("broke")])
def test_a_late_error_is_the_last_line(error: Exception) -> None:
    assert bodies(written(saying(["a", error]))) == [b'"a"\n', b'{"error": "broke"}\n']


def test_an_early_error_is_raised_before_anything_is_sent() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(OllamapyError):
        asyncio.run(lines(saying([OllamapyError("no")]))({}, receiving([]), send))
    assert not sent


def test_pauses_are_filled_even_before_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "IDLE", 0.001)
    sent: list[Message] = []
    filled = asyncio.Event()

    async def slow() -> AsyncGenerator[Chunk, None]:
        for word in ("a", "b"):
            await filled.wait()
            filled.clear()
            yield Chunk(word)
        raise OllamapyError("broke")

    def idle() -> bytes:
        filled.set()
        return b"..."

    async def send(message: Message) -> None:
        sent.append(message)

    answer = stream.Lines(slow(), lambda chunk: chunk.text.encode(), lambda error: b"!", idle=idle)
    asyncio.run(answer({}, receiving([]), send))
    written = bodies(sent)
    assert written[0] == b"...\n" and written[-1] == b"!\n"
    assert [line for line in written if line != b"...\n"] == [b"a\n", b"b\n", b"!\n"]


def test_a_client_that_reads_nothing_counts_as_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "PATIENCE", 0.01)
    closed: list[Any] = []

    async def endless() -> AsyncGenerator[Chunk, None]:
        try:
            while True:
                yield Chunk("x")
        finally:
            closed.append(True)

    full: Callable[[int], bool] = lambda count: count > 3  # noqa: E731
    count = 0

    async def send(message: Message) -> None:
        nonlocal count
        count += 1
        if full(count):
            await asyncio.Event().wait()

    with pytest.raises(RequestCancelled, match="read nothing"):
        asyncio.run(lines(endless())({}, receiving([]), send))
    assert closed

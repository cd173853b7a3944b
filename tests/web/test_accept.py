"""Connections beyond the places wait for one; running out of files neither ends the server nor floods the log."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ollamapy.web import accept
from ollamapy.web.accept import Acceptor


class Greeter(asyncio.Protocol):
    """Sends a byte to each connection."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"!")

    def connection_lost(self, exc: Exception | None) -> None:
        self._places.release()


class Poor(socket.socket):
    """A listener that has no file for its first connections."""

    failures = 3

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@asynccontextmanager
async def accepting(
    n_places: int, listener: socket.socket, protocol: type[Greeter] = Greeter
) -> AsyncIterator[int]:
    places = asyncio.Semaphore(n_places)
    listener.bind(("127.0.0.1", 0))
    listener.listen(50)
    acceptor = Acceptor(listener, lambda: protocol(places), places)
    try:
        yield listener.getsockname()[1]
    finally:
        acceptor.close()
        listener.close()


def test_connections_beyond_the_places_wait_for_one() -> None:
    async def scenario() -> None:
        async with accepting(2, socket.socket()) as port, asyncio.timeout(20):
            streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            greetings = [asyncio.ensure_future(reader.read(1)) for reader, _ in streams]
            await asyncio.wait(greetings[:2])
            assert [each.done() for each in greetings] == [True, True, False, False, False]
            for at, (_, writer) in enumerate(streams):
                assert await greetings[at] == b"!"
                writer.close()

    asyncio.run(scenario())


def test_small_writes_are_sent_at_once() -> None:
    """The head and the body of an answer are two: the second must not wait for the client to acknowledge the first."""
    options: list[int] = []

    class Asked(Greeter):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            peer = transport.get_extra_info("socket")
            options.append(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            super().connection_made(transport)

    async def scenario() -> None:
        async with accepting(1, socket.socket(), Asked) as port, asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read(1) == b"!"
            writer.close()

    asyncio.run(scenario())
    assert len(options) == 1 and options[0] != 0


def test_running_out_of_files_is_retried_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accept, "_RETRY_SECONDS", 0.01)

    async def scenario() -> None:
        async with accepting(2, Poor()) as port, asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read(1) == b"!"
            writer.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept connections: Too many open files"
    ]

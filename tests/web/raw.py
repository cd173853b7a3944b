"""Raw HTTP to the application: the real web server and real sockets, over runners whose steps the test releases."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamapy.web import server as web
from ollamapy.web.app import Identify, create_app, everyone
from tests.fakes import FakeRunner, Made, made


@dataclass
class Reply:
    """A response as a client gets it; ``lines`` are the JSON lines of a stream."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def error(self) -> str:
        [line] = self.lines
        assert list(line) == ["error"]
        return str(line["error"])


class Client:
    """Raw HTTP over a socket of its own for each request."""

    def __init__(self, made: Made, port: int) -> None:
        self.made = made
        self.port = port

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: str = "",
        length: int | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request; ``length`` is a wrong length of the body."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        data = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        if "Host:" not in headers:
            headers += f"Host: 127.0.0.1:{self.port}\r\n"
        head = f"{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length or len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return reader, writer

    async def ask(self, method: str, path: str, body: Any = None, *, headers: str = "") -> Reply:
        """Send a request and read the response to its end."""
        headers += "Connection: close\r\n"
        reader, writer = await self.send(method, path, body, headers=headers)
        async with asyncio.timeout(120):
            head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        first, *lines = head.decode().split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        if found.get("transfer-encoding") == "chunked":
            rest = _unchunked(rest)
        return Reply(int(first.split()[1]), found, rest)

    async def generate(self, **body: Any) -> Reply:
        return await self.ask("POST", "/api/generate", {"model": "plain", "prompt": "Hi", **body})


def _unchunked(data: bytes) -> bytes:
    body = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + rest[:length], rest[length + 2 :]
    return body


@asynccontextmanager
async def served(
    store: Path,
    prepare: Callable[[FakeRunner], None] = lambda runner: None,
    identify: Identify = everyone,
    **environ: str,
) -> AsyncIterator[Client]:
    """The daemon's web server over fake runners, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with made(store, prepare, **environ) as services:
        server = web.Server(
            create_app(services.services, identify), drain_seconds=20, max_connections=2048
        )
        serving = asyncio.ensure_future(server.serve([listener]))
        try:
            yield Client(services, port)
        finally:
            server.should_exit = True
            await serving


def run(
    store: Path,
    test: Callable[[Client], Awaitable[None]],
    prepare: Callable[[FakeRunner], None] = lambda runner: None,
    identify: Identify = everyone,
    **environ: str,
) -> None:
    async def inside() -> None:
        async with served(store, prepare, identify, **environ) as client:
            await test(client)

    asyncio.run(inside())


STAGES = {
    "loading": lambda runner: runner.loaded.clear(),
    "prefill": lambda runner: runner.prefilled.clear(),
    "generating": lambda runner: runner.next_word.clear(),
}

"""The web server: uvicorn and h11 with limits, so that an idle connection neither stays open for ever nor delays a shutdown.

    incomplete head of a request    HEAD_SECONDS, on a kept connection from the head's first byte
    idle between requests           IDLE_SECONDS
    idle within a body              BODY_PATIENCE of stream.py
    reads nothing of its answer     PATIENCE of stream.py
    more connections than places    they wait to be accepted (accept.py)

On shutdown, connections whose request is incomplete are closed: only complete requests are in flight. This module imports
uvicorn, which is slow: only `serve` imports it, once it listens.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .accept import Acceptor

HEAD_SECONDS = 30.0
IDLE_SECONDS = 120
_HEADER_LIMIT = 64 * 1024  # bytes of a request's head


class Server(uvicorn.Server):
    """The server around an application; it handles no signals.

    ``drain_seconds`` is how long requests in flight may go on once ``should_exit`` is set, ``max_connections`` how many may be
    open at once.
    """

    def __init__(self, app: ASGIApp, *, drain_seconds: float, max_connections: int) -> None:
        super().__init__(
            uvicorn.Config(
                _one_length(app),
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEADER_LIMIT,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=round(drain_seconds),
            )
        )
        self._places = asyncio.Semaphore(max_connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections at the sockets, which already listen."""
        await self.lifespan.startup()
        # uvicorn only calls close() and wait_closed() of them
        self.servers = [self._acceptor(listener) for listener in sockets or ()]  # type: ignore[misc]
        self.started = True

    def _acceptor(self, listener: socket.socket) -> Acceptor:
        def connect() -> _Connection:
            return _Connection(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
                when_closed=self._places.release,
            )

        return Acceptor(listener, connect, self._places)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The daemon handles signals itself: uvicorn would raise them again at the end, and the daemon exits with 0."""
        yield


def _one_length(app: ASGIApp) -> ASGIApp:
    """Read a request that has both a Content-Length and chunks by its chunks, and close its connection after the answer: what
    follows may be smuggled (RFC 9112, section 6.3)."""

    async def framed(scope: Scope, receive: Receive, send: Send) -> None:
        names = {name for name, _ in scope.get("headers", ())}
        if {b"content-length", b"transfer-encoding"} <= names:
            kept = [each for each in scope["headers"] if each[0] != b"content-length"]
            scope["headers"][:] = [*kept, (b"connection", b"close")]  # uvicorn obeys the latter
        await app(scope, receive, send)

    return framed


_HUGE_LENGTH = re.compile(
    rb"^content-length:[ \t]*[0-9]{19,}[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)


class _Connection(H11Protocol):
    """One connection, with a time limit for the heads of its requests. ``cycle`` is its latest request, None before the first."""

    def __init__(self, *, when_closed: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._when_closed = when_closed
        self._head_timer: asyncio.TimerHandle | None = None
        self._head = b""  # what has come of a head, for when it cannot be parsed

    @property
    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        self._head = (self._head + data)[:_HEADER_LIMIT] if self._awaits_head else b""
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        self._when_closed()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP. h11 takes a length of more than 20 digits for that, too."""
        if not _HUGE_LENGTH.search(self._head):
            return super().send_400_response(msg)
        text = b"the request is too long"
        headers = [("content-length", str(len(text))), ("connection", "close")]
        answer = h11.Response(status_code=413, headers=headers, reason=b"Content Too Large")
        for event in (answer, h11.Data(data=text), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch_head(self) -> None:
        """The time limit starts at a head's first byte, not at its latest, so that sending slowly does not extend it."""
        if not self._awaits_head:
            self._stop_watching()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def shutdown(self) -> None:
        if not self._awaits_head and self.cycle.more_body:
            self.transport.close()
        else:
            super().shutdown()

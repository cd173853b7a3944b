"""The two ends of a request on the wire: its bounded body is read, and its answer is written as lines while it is made.

Detects that a client has disconnected, and then cancels the work for it, at any stage and also if the answer is not streamed.
The dialects encode the lines.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from ..errors import RequestCancelled, ServerBusy
from ..serving.requests import Cancellation
from .body import MAX_BODIES, MAX_BODY, AnnouncedTooLarge, BodyTooLarge, BodyTooSlow

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that a client may read nothing while its connection's buffer is full, until it counts as disconnected."""

IDLE = 10.0
"""Seconds without a line, after which an answer sends a ping, if its dialect has one."""

BODY_PATIENCE = 30.0
"""Seconds that a client may send nothing before its request is complete."""

SMALL_BODY = 64 * 1024
"""Bytes of a body up to which it is parsed on the event loop: 1 ms at most."""

_LINGER = 10.0  # seconds for reading and dropping the rest of a body that is too large

Result = TypeVar("Result")
Item = TypeVar("Item")


class BodyBudget:
    """Counts the bytes of all bodies that are being read or parsed, up to ``size``. For use on the event loop only."""

    def __init__(self, size: int = MAX_BODIES) -> None:
        self.size = size
        self.used = 0

    def take(self, n_bytes: int) -> None:
        """Count more bytes. Raises ServerBusy if the sum would exceed ``size``."""
        if self.used + n_bytes > self.size:
            raise ServerBusy("too many large requests at once, try again in a moment")
        self.used += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Release bytes that were counted."""
        self.used -= n_bytes


class Body:
    """A request's body; its data is dropped once it is parsed."""

    def __init__(self, data: bytes = b"", budget: BodyBudget | None = None) -> None:
        self._data = data
        self._budget = budget

    async def parse(self, parse: Callable[[bytes], Result]) -> Result:
        """The body, parsed by ``parse``; its data is dropped then. A large one is parsed in a thread, so that other requests
        go on meanwhile."""
        try:
            if len(self._data) <= SMALL_BODY:
                return parse(self._data)
            return await asyncio.to_thread(parse, self._data)
        finally:
            self.forget()

    def forget(self) -> None:
        """Drop the data, and release its bytes in the budget."""
        if self._budget is not None:
            self._budget.give_back(len(self._data))
        self._data = b""


_TOO_LONG = f"the request is longer than {MAX_BODY // 2**20} MiB"


async def read_body(receive: Receive, budget: BodyBudget) -> Body:
    """The body of a request. Raises BodyTooLarge, BodyTooSlow, ServerBusy if all bodies together are too large, and
    RequestCancelled when the client disconnects."""
    kept: list[bytes] = []
    size = 0
    parts = body_parts(receive)
    try:
        async for part in parts:
            if size + len(part) > MAX_BODY:
                raise BodyTooLarge(_TOO_LONG)
            budget.take(len(part))
            size += len(part)
            kept.append(part)
    except BaseException as error:
        budget.give_back(size)
        if isinstance(error, BodyTooLarge | ServerBusy):
            kept.clear()
            await drop_rest(parts)
        raise
    return Body(b"".join(kept), budget)


def check_announced(headers: Headers) -> None:
    """Raise AnnouncedTooLarge where a request announces more bytes than are read."""
    length = headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > MAX_BODY:
        raise AnnouncedTooLarge(_TOO_LONG)


async def body_parts(receive: Receive) -> AsyncIterator[bytes]:
    """The body of a request, in parts as they arrive. Raises BodyTooSlow, and RequestCancelled when the client disconnects."""
    more = True
    while more:
        try:
            async with asyncio.timeout(BODY_PATIENCE):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(
                f"no byte of the request came for {BODY_PATIENCE:g} s, send it again"
            ) from None
        if message["type"] == "http.disconnect":
            raise RequestCancelled("the client left before its request was complete")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def drop_rest(parts: AsyncIterator[bytes]) -> None:
    """Read and drop the rest of a body: a client that is still sending does not read the response yet, and closing the
    connection now would give it a broken pipe."""
    try:
        async with asyncio.timeout(_LINGER):
            async for _ in parts:
                pass
    except TimeoutError:
        pass  # the client gets the response, or a broken pipe


def before_the_rest(receive: Receive, send: Send) -> Send:
    """A `send` for an answer that is given before the body has come, which is dropped before the answer ends."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await send({**message, "more_body": True})
            with suppress(RequestCancelled):
                await drop_rest(body_parts(receive))
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return sent


async def until_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work; if the client disconnects before it is done, cancel it at once and raise RequestCancelled.

    Call it after :func:`read_body`: it consumes all further messages of ``receive``.
    """
    working = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RequestCancelled("the client left before its answer was complete")
        return working.result()
    finally:
        working.cancel()
        disconnect.cancel()
        # wait until the runner has its cancel message and the lease is released
        await asyncio.gather(working, disconnect, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Lines(Generic[Item]):
    """A streamed answer as an ASGI response: NDJSON, one line for each chunk, sent at once.

    An error before the first chunk is raised, so that it can set the status. A later one becomes the last line, encoded by
    ``failed``. ``ending`` is written at the end, also after an error. A chunk may be encoded as nothing. ``idle`` makes the
    line that is written after IDLE seconds without another, also before the first chunk: the status is 200 then.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[Item, None],
        encode: Callable[[Item], bytes],
        failed: Callable[[Exception], bytes],
        *,
        media_type: bytes = b"application/x-ndjson",
        headers: Mapping[str, str] | None = None,
        ending: bytes = b"",
        idle: Callable[[], bytes] | None = None,
    ) -> None:
        more = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self._headers = [(b"content-type", media_type), *more]
        self._ending = ending
        self._chunks = chunks
        self._encode = encode
        self._failed = failed
        self._idle = idle
        self.cancellation = Cancellation()
        """Ends the answer early, as an error does; the endpoint sets the request's own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the answer. Raises RequestCancelled when the client reads nothing for PATIENCE seconds."""
        writer = _Writer(send, self._headers)
        try:
            with self.cancellation.within():
                async with _idling(writer, self._idle), aclosing(self._chunks) as chunks:
                    async for chunk in chunks:
                        await writer.write(partial(self._encode, chunk))
        except RequestCancelled:
            raise
        except Exception as error:
            if not writer.begun:
                raise
            await writer.write(partial(self._failed, error))
        await writer.write(lambda: self._ending)  # also begins an answer without any line
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Writer:
    """Writes the lines of one answer, one task at a time; a line is made once the lock is held."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.begun = False
        self.written = time.monotonic()
        self._send = send
        self._headers = headers
        self._lock = asyncio.Lock()

    async def write(self, make: Callable[[], bytes]) -> None:
        async with self._lock:
            if not self.begun:
                start = {"type": "http.response.start", "status": 200, "headers": self._headers}
                await self._send(start)
                self.begun = True
            if line := make():
                await _send_line(self._send, line)
            self.written = time.monotonic()


@asynccontextmanager
async def _idling(writer: _Writer, make: Callable[[], bytes] | None) -> AsyncIterator[None]:
    """Write pings in the pauses of an answer while the block runs."""
    if make is None:
        yield
        return
    filling = asyncio.ensure_future(_fill_pauses(writer, make))
    try:
        yield
    finally:
        filling.cancel()
        # wait for a line that is half written; a client that reads nothing is detected by then
        await asyncio.gather(filling, return_exceptions=True)


async def _fill_pauses(writer: _Writer, make: Callable[[], bytes]) -> None:
    while True:
        await asyncio.sleep(writer.written + IDLE - time.monotonic())
        if time.monotonic() >= writer.written + IDLE:
            await writer.write(make)


async def _send_line(send: Send, line: bytes) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})
    except TimeoutError:
        raise RequestCancelled(f"the client read nothing for {PATIENCE:g} s") from None

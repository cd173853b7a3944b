"""The requests in flight, by their ids: any client that knows an id can cancel its request, in every API.

A request has the id that its client sent as X-Request-Id, else a random one; the response's headers carry it. Each dialect
decides how a cancelled stream ends. For use on the event loop only.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CancelRequested, RequestNotFound

_ID = re.compile(r"[!-~]{1,128}")


def id_for(given: str) -> str:
    """The id of a request: the one that its client sent, if it is valid, else a random one."""
    return given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


class Cancellation:
    """Cancels one request: the work ``within`` it then raises CancelRequested, once."""

    def __init__(self) -> None:
        self._requested = False
        self._task: asyncio.Task[object] | None = None

    def cancel(self) -> None:
        """Cancel the request; a second time does nothing."""
        if not self._requested:
            self._requested = True
            if self._task is not None and self._task is not asyncio.current_task():
                self._task.cancel()

    @contextmanager
    def within(self) -> Iterator[None]:
        """Work of the current task that may be cancelled. Raises CancelRequested, also if it was cancelled before."""
        task = asyncio.current_task()
        assert task is not None
        if self._requested:
            raise CancelRequested
        others = task.cancelling()
        self._task = task
        try:
            yield
        except asyncio.CancelledError:
            if self._requested and task.uncancel() <= others:
                raise CancelRequested from None
            raise
        finally:
            self._task = None


class Requests:
    """The requests in flight. Several may share an id, if their clients chose it: they are cancelled together."""

    def __init__(self) -> None:
        self._in_flight: dict[str, list[Cancellation]] = {}

    @contextmanager
    def entered(self, id: str) -> Iterator[Cancellation]:
        """Register a request under its id while the block runs."""
        cancellation = Cancellation()
        self._in_flight.setdefault(id, []).append(cancellation)
        try:
            yield cancellation
        finally:
            self._in_flight[id].remove(cancellation)
            if not self._in_flight[id]:
                del self._in_flight[id]

    def cancel(self, id: str) -> None:
        """Cancel the requests with this id. Raises RequestNotFound if there is none."""
        if not (found := self._in_flight.get(id)):
            raise RequestNotFound(f'no request with the id "{id[:128]}" is being answered')
        for cancellation in found:
            cancellation.cancel()

"""The requests that are being answered, by their ids: who knows an id can end its request, whichever API it came by.

A request gets the id that its client sends as X-Request-Id, else one of ours that nobody can guess; the answer's head tells it.
What an ended request says as its last word is the dialects' affair. Belongs to the event loop.
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
    """The id of a request whose client gave this one, or none that can be used."""
    return given if _ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"


class Stop:
    """A way to end one request: what runs ``within`` it is then broken off with CancelRequested, once."""

    def __init__(self) -> None:
        self._asked = False
        self._task: asyncio.Task[object] | None = None

    def ask(self) -> None:
        """End the request; a second time does nothing."""
        if not self._asked:
            self._asked = True
            if self._task is not None and self._task is not asyncio.current_task():
                self._task.cancel()

    @contextmanager
    def within(self) -> Iterator[None]:
        """Work of the current task that may be broken off. Raises CancelRequested, also where it was asked for before."""
        task = asyncio.current_task()
        assert task is not None
        if self._asked:
            raise CancelRequested
        others = task.cancelling()
        self._task = task
        try:
            yield
        except asyncio.CancelledError:
            if self._asked and task.uncancel() <= others:
                raise CancelRequested from None
            raise
        finally:
            self._task = None


class Running:
    """The requests in flight. Several may have one id, if their clients want it so: they end together."""

    def __init__(self) -> None:
        self._stops: dict[str, list[Stop]] = {}

    @contextmanager
    def noted(self, id: str) -> Iterator[Stop]:
        """Know a request by its id for as long as the block runs; gives what ends it."""
        stop = Stop()
        self._stops.setdefault(id, []).append(stop)
        try:
            yield stop
        finally:
            self._stops[id].remove(stop)
            if not self._stops[id]:
                del self._stops[id]

    def cancel(self, id: str) -> None:
        """End the requests with this id. Raises RequestNotFound where there is none."""
        if not (stops := self._stops.get(id)):
            raise RequestNotFound(f'no request with the id "{id[:128]}" is being answered')
        for stop in stops:
            stop.ask()

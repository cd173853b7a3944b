"""The requests that were answered lately: why the next turn of one was slow to begin can be explained from them, and they can be
answered again.

They are kept in memory, at most MOST_REQUESTS of them, MOST_BYTES and for MOST_SECONDS; none of private requests (those of
temporary chats), and none at all with OLLAMAPY_NOHISTORY. Those that promise the same answer again are in files, too, within the same
bounds, but for those of kept chats and responses: what is deleted there is in no file. For the event loop; what compares long texts is
pure (``reuse.py``).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import RequestNotFound
from ..types import Generation, Media, Message, Options, Provenance
from .logged import Logged

MOST_REQUESTS = 128
MOST_BYTES = 32 * 2**20
"""Of texts; a request with more than a quarter of it is not kept."""

MOST_SECONDS = 3600.0

_OVERHEAD, _TOKEN = 2000, 36
"""Bytes of a request beside its texts, and of a token id, about."""


@dataclass(frozen=True, slots=True)
class Recent:
    """An answered request. ``key`` identifies the loaded files, ``load`` the process that had them loaded. ``messages`` are
    those of the prompt, the model's own too; ``prompt`` is its text. ``at`` is seconds of the wall clock at the answer's end.
    ``tokens`` are the answer's, ``provenance`` what it depends on. ``is_logged``: it is kept in a file, too.
    """

    id: str
    owner: str
    at: float
    model: str
    key: str
    load: int | None
    messages: tuple[Message, ...]
    prompt: str
    generation: Generation
    prompt_tokens: int
    cached_tokens: int
    options: Options
    provenance: Provenance
    tokens: tuple[int, ...] = ()
    is_logged: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        texts = [self.prompt, *(text for m in self.messages for text in (m.content, m.thinking))]
        parts = self.generation.prompt.parts
        files = [part.data for part in parts if isinstance(part, Media)]
        files += [image for message in self.messages for image in message.images]
        distinct = {id(file): len(file) for file in files}  # a message's and its prompt's are one
        tokens = sum(len(part) for part in parts if isinstance(part, tuple)) + len(self.tokens)
        return _OVERHEAD + sum(map(sys.getsizeof, texts)) + sum(distinct.values()) + _TOKEN * tokens


def log_in(folder: Path) -> Logged[Recent]:
    """The files of recent requests."""
    return Logged(folder, Recent, MOST_REQUESTS, MOST_BYTES // 4)


class RecentRequests:
    """The recent requests by their ids; of those with one id the last. ``keeps``: False remembers none. ``log``: None for no files."""

    def __init__(
        self,
        log: Logged[Recent] | None = None,
        *,
        keeps: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._keeps = keeps
        self._clock = clock
        self._requests: OrderedDict[str, Recent] = OrderedDict()
        self._size = 0

    def add(self, request: Recent) -> None:
        """Remember a request, and forget those for which there is no room."""
        if not self._keeps or request.size > MOST_BYTES // 4:
            return
        self._drop_old()
        self._forget(request.id)
        self._remember(request)
        if request.is_logged and self._log is not None:
            self._log.put(request.id, request)

    async def restore(self) -> None:
        """Take back what an earlier daemon has logged, before anything is added; the runners of then are gone. Where nothing is
        remembered, it is deleted."""
        if self._log is None:
            return
        found = await asyncio.to_thread(self._log.read)
        for each in sorted(found, key=lambda request: request.at):
            if self._keeps:
                self._remember(replace(each, load=None))
            else:
                self._log.drop(each.id)
        self._drop_old()

    async def close(self) -> None:
        """Wait until the log is written."""
        if self._log is not None:
            await asyncio.to_thread(self._log.close)

    def _remember(self, request: Recent) -> None:
        """Keep a request in memory, and forget those for which there is no room."""
        self._requests[request.id] = request
        self._size += request.size
        while self._size > MOST_BYTES or len(self._requests) > MOST_REQUESTS:
            self._forget(next(iter(self._requests)))

    def of(self, owner: str) -> tuple[Recent, ...]:
        """An owner's requests, the latest last."""
        self._drop_old()
        return tuple(each for each in self._requests.values() if each.owner == owner)

    def get(self, owner: str, id: str) -> Recent:
        """One request of an owner. Raises RequestNotFound."""
        self._drop_old()
        found = self._requests.get(id)
        if found is None or found.owner != owner:
            raise RequestNotFound(
                f'no request with the id "{id[:128]}" is remembered: only the last {MOST_REQUESTS} of an hour are,'
                " none of temporary chats, and none with OLLAMAPY_NOHISTORY"
            )
        return found

    def before(self, request: Recent) -> tuple[Recent, ...]:
        """The owner's requests that were answered before one, the latest last."""
        return tuple(each for each in self.of(request.owner) if each.at < request.at)

    def _drop_old(self) -> None:
        oldest = self._clock() - MOST_SECONDS
        while self._requests and next(iter(self._requests.values())).at < oldest:
            self._forget(next(iter(self._requests)))

    def _forget(self, id: str) -> None:
        if (found := self._requests.pop(id, None)) is not None:
            self._size -= found.size
            if found.is_logged and self._log is not None:
                self._log.drop(id)

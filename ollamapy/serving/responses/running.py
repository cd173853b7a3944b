"""A response that is written in the background, and those that follow it. Belongs to the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from ...types import Chunk, Queued
from .values import Response, without_notes

BEGUN = Chunk()
"""The chunk that says that a response no longer waits in the queue."""


class Running:
    """A response that is being written. ``ended`` is set once it is stored as it ended."""

    def __init__(self, owner: str, response: Response) -> None:
        self.owner = owner
        self.response = response
        self.ended = asyncio.Event()
        self.cancel_requested = False
        self.last: Chunk | None = None
        """The chunk that ends it: part of it once it has ended."""
        self._chunks: list[Chunk] = []
        self._saved = 0
        self._changed = asyncio.Event()

    @property
    def chunks(self) -> list[Chunk]:
        """What has come so far."""
        return list(self._chunks)

    def take(self, chunk: Chunk) -> None:
        """Append a chunk, or take note that the work begins."""
        if self.response.status == "queued" and not isinstance(chunk.waiting, Queued):
            self.response = msgspec.structs.replace(self.response, status="in_progress")
            self._chunks.append(BEGUN)
        if chunk.finish_reason:
            self.last = without_notes(chunk)
        elif chunk.waiting is None:
            self._chunks.append(without_notes(chunk))
        self._notify()

    def unsaved(self) -> list[Chunk]:
        """The chunks after the ones that are saved."""
        return self._chunks[self._saved :]

    def saved(self, count: int) -> None:
        """So many more chunks were stored."""
        self._saved += count

    def end(self, response: Response) -> None:
        """Tell the followers how it ended."""
        self.response = response
        if self.last is not None:
            self._chunks.append(self.last)
        self.ended.set()
        self._notify()

    async def follow(self) -> AsyncGenerator[Chunk, None]:
        """All chunks from the first one, until the response has ended."""
        place = 0
        while True:
            # Taken before the chunks are read: what comes while one is being sent is not missed
            changed, has_ended = self._changed, self.ended.is_set()
            while place < len(self._chunks):
                place += 1
                yield self._chunks[place - 1]
            if has_ended:
                return
            await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

"""Whose template is rendered next: one place that requests take in turns, and a few that go on beside it.

Templates of installed models go first, then those that requests bring, last those that ran out of time recently. Within a
rank it is first come first served. Only a model's template takes the place while no other may go on beside it: it is quick,
or it ran out of time before, so that a model's template waits for others' slow ones for as long as it takes to see that they are slow.

Belongs to the event loop; knows nothing about templates or children.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum


class Rank(IntEnum):
    """Where a template comes from; the lowest is rendered first."""

    MODEL = 0
    REQUEST = 1
    TIMED_OUT = 2


def next_turn(waiting: Sequence[Rank], room_beside: int) -> int | None:
    """The index of the request that takes the free place; None: it stays free. ``room_beside``: so many more may go on beside."""
    if not waiting:
        return None
    best = min(range(len(waiting)), key=lambda index: (waiting[index], index))
    return best if room_beside > 0 or waiting[best] is Rank.MODEL else None


class Place:
    """The place; at most ``most_beside`` requests go on beside it at a time."""

    def __init__(self, most_beside: int) -> None:
        self._room_beside = most_beside
        self._taken = False
        self._waiting: list[tuple[Rank, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, rank: Rank) -> AsyncIterator[Callable[[], None]]:
        """Wait for the place and have it until the end, or until the function that this gives is
        called: it gives the place away, unless too many go on without one already."""
        await self._enter(rank)
        has_place = True

        def give_away() -> None:
            nonlocal has_place
            if has_place and self._room_beside > 0:
                has_place = False
                self._room_beside -= 1
                self._free()

        try:
            yield give_away
        finally:
            if has_place:
                self._free()
            else:
                self._room_beside += 1
                self._call_next()

    async def _enter(self, rank: Rank) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rank, turn))
        self._call_next()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the place was given to it in the same moment
                self._free()
            raise

    def _free(self) -> None:
        self._taken = False
        self._call_next()

    def _call_next(self) -> None:
        """Give a free place to the next request."""
        self._waiting = [entry for entry in self._waiting if not entry[1].done()]
        index = None
        if not self._taken:
            index = next_turn([rank for rank, _ in self._waiting], self._room_beside)
        if index is not None:
            self._taken = True
            self._waiting.pop(index)[1].set_result(None)

"""The comments in an answer of server-sent events while nothing else is sent: no proxy then takes its connection for a dead one.

Each says what the request waits for, for people who read the stream; programs skip comments.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from ..types import Chunk, Loading, Prefill, Queued, Waiting

Item = TypeVar("Item")


def described(waiting: Waiting | None) -> str:
    """What a request waits for, in a few words; None: its next token."""
    match waiting:
        case None:
            return "ping"
        case Queued(position):
            return f"queued, place {position}"
        case Loading("weights" as stage, fraction):
            return f"loading, {stage} {int(fraction * 100)} %"
        case Loading(stage):
            return f"loading, {stage}"
        case Prefill(fraction, tokens):
            return f"prefill {int(fraction * 100)} % of {tokens} tokens"


class Pauses:
    """What one answer waits for, taken from its chunks, and the comment that says it."""

    def __init__(self) -> None:
        self._waiting: Waiting | None = None

    async def without_waits(
        self, items: AsyncGenerator[Item, None], chunk_of: Callable[[Item], Chunk]
    ) -> AsyncGenerator[Item, None]:
        """The items without those that only say what the answer waits for; of several answers the last such item counts."""
        async with aclosing(items):
            async for item in items:
                self._waiting = chunk_of(item).waiting
                if self._waiting is None:
                    yield item

    def comment(self) -> bytes:
        """A comment, without the last line feed."""
        return b": %s\n" % described(self._waiting).encode()

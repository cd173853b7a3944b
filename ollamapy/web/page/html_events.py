"""The HTML of an answer beside its events: ``html`` events, made from its text while it is written.

They have no number, since the text is what is kept: a reader that reconnects gets all of them again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import cache, partial
from typing import TypeVar

import msgspec

from ...serving.chats.events import Event
from .kept import KeptHtml
from .markdown import Block, Markdown

PERIOD = 0.1
"""Seconds between two versions of the block that is being written, at least."""
_PATIENCE = 10  # times as long as making a version took, so that this takes a tenth of a processor
_RATE = 500_000  # characters of HTML in a second

_THREAD = ThreadPoolExecutor(1, "html")
"""Makes all HTML: it is work for a processor, so more threads would not make it quicker."""
_KEPT = KeptHtml()
"""Belongs to that thread."""

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result]) -> Result:
    """The result of work in the thread that makes HTML."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


async def html_of(text: str) -> list[str]:
    """The HTML of a stored text, block by block."""
    return await in_thread(partial(_KEPT.blocks, text))


@cache
def warm_up() -> None:
    """Have the libraries imported, which takes half a second, before the first HTML is needed. Returns at once."""
    _THREAD.submit(_KEPT.blocks, "`a` $b$\n\n```python\nc\n```\n")


async def with_html(
    events: AsyncGenerator[Event, None], *, after: int = 0, before: str = ""
) -> AsyncGenerator[Event, None]:
    """The events of an answer after a place, with the HTML of its whole text. ``events`` are those from its beginning, or from
    where the text ``before`` ends."""
    markdown = Markdown()
    markdown.feed(before)
    due = 0.0
    coming: asyncio.Task[Event] | None = None
    async with aclosing(events):
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(events))
                patience = max(0.0, due - time.monotonic()) if markdown.is_fresh else None
                if not coming.done():
                    await asyncio.wait((coming,), timeout=patience)
                if coming.done():
                    event, coming = coming.result(), None
                    if event.name in ("done", "error"):
                        for block in await in_thread(markdown.finish):
                            yield _event(block)
                        yield event
                        return
                    if event.name == "text":
                        markdown.feed(event.data["text"])
                    if (rest := after_place(event, after)) is not None:
                        yield rest
                if markdown.is_fresh and time.monotonic() >= due:
                    started = time.monotonic()
                    blocks, cost = await in_thread(partial(_timed, markdown))
                    due = started + _period(cost, blocks)
                    for block in blocks:
                        yield _event(block)
        except StopAsyncIteration:  # the events ended without an ending
            return
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait((coming,))


def _timed(markdown: Markdown) -> tuple[list[Block], float]:
    """The blocks so far, and the processor seconds that they took: on a busy machine they come as often as on an idle one."""
    started = time.thread_time()
    return markdown.blocks(), time.thread_time() - started


def _period(cost: float, blocks: list[Block]) -> float:
    """Seconds from one version of the open block to the next."""
    size = sum(len(block.html) for block in blocks if not block.final)
    return max(PERIOD, _PATIENCE * cost, size / _RATE)


def _event(block: Block) -> Event:
    return Event("html", {"index": block.index, "html": block.html, "final": block.final})


def after_place(event: Event, place: int) -> Event | None:
    """What of an event comes after a place: all of it, the rest of its text, or nothing."""
    if event.number is None or event.number > place + len(event.data.get("text", " ")) - 1:
        return event
    if event.number <= place:
        return None
    rest = event.data["text"][-(event.number - place) :]
    return msgspec.structs.replace(event, data={"text": rest})

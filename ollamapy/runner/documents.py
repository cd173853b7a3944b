"""Parent of the document readers: the text of a document, read in a child with limits, and kept for the next turn of its chat.

    a text file      decoded in a thread
    PDF, docx, HTML  a child for each (read_child.py), at most MOST_CHILDREN at a time

A chat sends its documents with each turn: what was read is kept by the digest of the content, up to MOST_KEPT.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from ..config import child_command
from ..digests import digest_of
from ..errors import InvalidRequest, RunnerError, ServerBusy, reason
from ..formats.documents.extract import Extract, extract
from ..formats.documents.kinds import Kind, kind_of, type_of
from .child import Child, Ending
from .frames import Frame, encode
from .protocol import Extracted, FromReader, Read, Refused

MOST_CONTENT = 32 * 2**20
"""Bytes of a document."""

MOST_CHARACTERS = 2_000_000
"""Of a document's text; longer ones are cut."""

MOST_CHILDREN = 2
MOST_WAITING = 32
"""Documents that wait for a child: each holds up to MOST_CONTENT."""

MOST_KEPT = 64 * 2**20
"""Characters and bytes of images of all documents that are kept."""

READ_SECONDS = 90.0
"""On a busy machine the child's seconds of a processor take longer."""


class Documents:
    """Reads documents. ``command`` starts a child, ``timeout`` is its time in seconds: both for tests."""

    def __init__(self, command: Sequence[str] | None = None, timeout: float = READ_SECONDS) -> None:
        self._command = list(command or child_command("ollamapy.runner.read_child"))
        self._timeout = timeout
        self._places = asyncio.Semaphore(MOST_CHILDREN)
        self._waiting = 0
        self._kept: dict[tuple[str, bool], Extract] = {}  # the one used last at the end

    async def read(self, content: bytes, *, images: bool = False) -> Extract:
        """The text of a document; ``images``: pages without text as images. Raises InvalidRequest whose message goes on a
        sentence that begins with the document's name; ServerBusy, RunnerError."""
        if len(content) > MOST_CONTENT:
            raise InvalidRequest(f"is larger than {MOST_CONTENT // 2**20} MiB")
        kind, digest = await asyncio.to_thread(_identified, content)
        if kind is None:
            raise InvalidRequest(
                f"is of type {type_of(content)}: PDF, Word (docx), HTML and text files can be read"
            )
        images = images and kind == "pdf"
        found = self._kept.pop((digest, images), None)
        if found is None:
            found = await self._extracted(Read(content, kind, MOST_CHARACTERS, images))
        self._keep((digest, images), found)
        return found

    async def _extracted(self, order: Read) -> Extract:
        if order.kind == "text":
            return await asyncio.to_thread(
                extract, order.content, order.kind, most=order.most, images=False
            )
        if self._waiting >= MOST_WAITING:
            raise ServerBusy("too many documents are being read, try again in a moment")
        self._waiting += 1
        try:
            async with self._places:
                return await self._in_child(order)
        finally:
            self._waiting -= 1

    async def _in_child(self, order: Read) -> Extract:
        """Have a child read a document; it is gone when this returns."""
        outcome: asyncio.Future[Frame | Ending] = asyncio.get_running_loop().create_future()

        def settle(found: Frame | Ending) -> None:
            if not outcome.done():
                outcome.set_result(found)

        data = await asyncio.to_thread(encode, order)
        child = Child(
            self._command, FromReader, settle, name="document reader", log_level=logging.DEBUG
        )
        child.when_ended(settle)
        try:
            async with asyncio.timeout(self._timeout):
                child.send_encoded(data)
                return _checked(await outcome)
        except TimeoutError:
            raise InvalidRequest("takes too long to read") from None
        finally:
            child.kill()
            await child.wait()

    def _keep(self, key: tuple[str, bool], found: Extract) -> None:
        """Keep what was read, and forget what was not used for longest."""
        self._kept[key] = found
        while len(self._kept) > 1 and sum(each.size for each in self._kept.values()) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]


def _identified(content: bytes) -> tuple[Kind | None, str]:
    return kind_of(content), digest_of(content)


def _checked(outcome: Frame | Ending) -> Extract:
    """What the child has read. Raises what went wrong."""
    match outcome:
        case Extracted(extract=found):
            return found
        case Refused(reason=why):
            raise InvalidRequest(why)
        case Ending(spawned=False, error=BaseException() as error):
            raise RunnerError(f"a document reader cannot be started: {reason(error)}") from error
        case Ending() as ending:
            raise InvalidRequest(
                f"takes too long or too much memory to read (its reader ended {ending.how})"
            )
    raise RunnerError("a document reader sent an answer of another kind")

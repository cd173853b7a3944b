"""The responses of OpenAI's API that the daemon keeps, as the web uses them.

Those of requests whose clients wait are stored when they have ended, those in the background as they are written: in the database
of the conversations, or in memory for an hour where nothing is to be written.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from ...errors import INTERNAL, InvalidRequest, OllamapyError
from ...request import Caller, Request
from ...types import Chunk
from ..background import Background, Work
from .conversations import Conversation, ConversationStore
from .running import Running
from .store import ResponseStore
from .values import (
    ENDED,
    Item,
    ItemPage,
    Link,
    Listing,
    Response,
    ResponseFailure,
    Status,
    merged,
    without_notes,
)

log = logging.getLogger(__name__)

DAY = 86_400
IN_MEMORY = 3600
"""Seconds for which responses are kept where nothing is to be written."""

MOST_BYTES, MOST_BYTES_IN_MEMORY = 4 * 2**30, 64 * 2**20
"""Bytes of all responses that are kept; the oldest go first."""

PRUNE_SECONDS = 600.0
"""How often responses that are too old are deleted."""

MOST_ADDED = 16 * 2**20
"""Bytes of new responses after which the oldest are deleted before that time."""

Answer = Callable[[Request, Caller], AsyncGenerator[Chunk, None]]
"""Answers a request (serving/answer.py)."""
Check = Callable[[Request], Awaitable[None]]
"""Raises what makes a request impossible to answer."""
OutputOf = Callable[[Response, Sequence[Chunk]], Sequence[Item]]
"""The items that a response adds to its conversation, its output after its input."""

Result = TypeVar("Result")


class InDatabase(Protocol):
    """Runs work in the database's thread (:meth:`Chats.in_database`)."""

    async def __call__(
        self, work: Callable[[sqlite3.Connection], Result], *, temporary: bool = False
    ) -> Result: ...


class Context(NamedTuple):
    """What comes before a request; ``base`` is the number of the last item of its conversation."""

    links: Sequence[Link] = ()
    base: int = 0


class Responses:
    """All responses and their conversations. Belongs to the event loop.

    ``days``: how long responses are kept; 0: they are not written to the disk.
    """

    def __init__(
        self, in_database: InDatabase, answer: Answer, check: Check, *, days: int, is_kept: bool
    ) -> None:
        self._in_database = in_database
        self._answer = answer
        self._check = check
        self._is_kept = is_kept and days > 0
        self._days = days
        self._running: dict[str, Running] = {}
        self._background = Background("a response", self._save_all)
        self._added = 0  # bytes since the last pruning
        self._crowded = asyncio.Event()
        self._housekeeping = asyncio.create_task(self._keep_house())
        self._saving = asyncio.Lock()

    async def end_running(self) -> None:
        """End the responses in the background, with their text stored: the daemon stops."""
        await self._background.close()

    async def close(self) -> None:
        """End the responses in the background."""
        await self.end_running()
        self._housekeeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._housekeeping

    # ---- making responses ------------------------------------------------------------------------------------------

    async def context(self, owner: str, previous: str | None, conversation: str | None) -> Context:
        """What comes before a response. Raises PreviousNotFound, ResponseNotFound; InvalidRequest for what is too long."""
        if previous is not None:
            return Context(await self._do(lambda store: store.chain(owner, previous)))
        if conversation is not None:
            found = await self._talk(lambda store: store.numbered(owner, conversation))
            return Context([Link(found.items)], found.last)
        return Context()

    async def keep(
        self,
        owner: str,
        response: Response,
        items: Sequence[Item],
        chunks: Sequence[Chunk],
        added: Sequence[Item],
    ) -> bool:
        """Store a response that has ended; ``added`` are the items that its conversation gets. False where it cannot be
        stored, which is logged: its answer is valid all the same."""
        kept = merged([without_notes(chunk) for chunk in chunks])
        try:
            await self._do(lambda store: store.add(owner, response, items, kept, added))
            self._note_added(response, items)
        except OllamapyError as error:
            log.error("a response cannot be stored: %s", error)
            return False
        return True

    async def start(
        self,
        caller: Caller,
        response: Response,
        items: Sequence[Item],
        request: Request,
        output_of: OutputOf,
    ) -> Running:
        """Store a response and write it in the background. Raises what makes the request impossible to answer, ChatsFull."""
        # A task of its own: a client that leaves now must not leave a response that no one writes
        starting = self._start(caller, response, items, request, output_of)
        return await asyncio.shield(asyncio.ensure_future(starting))

    async def _start(
        self,
        caller: Caller,
        response: Response,
        items: Sequence[Item],
        request: Request,
        output_of: OutputOf,
    ) -> Running:
        await self._check(request)
        await self._do(lambda store: store.add(caller.owner, response, items))
        self._note_added(response, items)
        running = self._running[response.id] = Running(caller.owner, response)
        chunks = self._answer(request, caller)
        finish = partial(self._ends, running, output_of)
        self._background.start(response.id, chunks, running.take, finish)
        return running

    async def _ends(self, running: Running, output_of: OutputOf, work: Work) -> None:
        """Store how a response ended, and tell its followers."""
        response = self._ended(running, work)
        last = [] if running.last is None else [running.last]
        added: Sequence[Item] = ()
        if response.conversation is not None and last:
            added = await asyncio.to_thread(output_of, response, running.chunks + last)

        async def store() -> None:
            async with self._saving:
                rest = running.unsaved() + last
                await self._do(lambda store: store.finish(running.owner, response, rest, added))

        await self._background.stored(store)
        del self._running[response.id]
        running.end(response)

    def _ended(self, running: Running, work: Work) -> Response:
        """The response whose work has ended in one way or another."""
        status: Status
        error: ResponseFailure | None = None
        failed = None if work.cancelled() else work.exception()
        if running.cancel_requested and work.cancelled():
            status = "cancelled"
        elif work.cancelled() or (failed is not None and self._background.is_closing):
            status, error = "failed", ENDED
        elif failed is not None:
            assert isinstance(failed, Exception)
            status, error = "failed", failure_of(failed)
        else:
            assert running.last is not None  # what every answer ends with
            status = status_of(running.last)
        return msgspec.structs.replace(
            running.response, status=status, ended_at=int(time.time()), error=error
        )

    async def _save_all(self) -> None:
        """Write what has come of all responses. Raises OllamapyError."""
        async with self._saving:
            states = [(each, each.unsaved()) for each in self._running.values()]
            rows = [(each.response, chunks) for each, chunks in states if chunks]
            if rows:
                await self._do(lambda store: store.save(rows))
            for each, chunks in states:
                each.saved(len(chunks))

    # ---- reading and ending them -----------------------------------------------------------------------------------

    async def get(self, owner: str, id: str) -> tuple[Response, list[Chunk]]:
        """A response as it is now. Raises ResponseNotFound."""
        if (running := self._of(owner, id)) is not None:
            return running.response, running.chunks
        return await self._do(lambda store: (store.get(owner, id), store.chunks(owner, id)))

    async def follow(
        self, owner: str, id: str
    ) -> tuple[Callable[[], Response], AsyncGenerator[Chunk, None]]:
        """All chunks of a response, and those to come while it is written; the response as it then is. Raises
        ResponseNotFound."""
        if (running := self._of(owner, id)) is not None:
            return lambda: running.response, running.follow()
        response, chunks = await self.get(owner, id)
        return lambda: response, _each(chunks)

    async def cancel(self, owner: str, id: str) -> tuple[Response, list[Chunk]]:
        """End a response in the background; one that has ended stays as it is. Raises ResponseNotFound, InvalidRequest."""
        if (running := self._of(owner, id)) is not None:
            await self._cancel(running)
        response, chunks = await self.get(owner, id)
        if not response.background:
            raise InvalidRequest("Cannot cancel a synchronous response.")
        return response, chunks

    async def _cancel(self, running: Running) -> None:
        if not running.cancel_requested:
            running.cancel_requested = True
            self._background.cancel(running.response.id)
        await running.ended.wait()

    async def delete(self, owner: str, id: str) -> None:
        """Delete a response; one that is being written ends. Raises ResponseNotFound."""
        if (running := self._of(owner, id)) is not None:
            await self._cancel(running)
        await self._do(lambda store: store.delete(owner, id))

    async def input_items(self, owner: str, id: str, listing: Listing) -> ItemPage:
        """A page of the items of a response's request. Raises ResponseNotFound."""
        return await self._do(lambda store: store.input_items(owner, id, listing))

    async def item(self, owner: str, id: str) -> bytes:
        """The item of a request or a conversation with an id. Raises ResponseNotFound."""
        return await self._do(lambda store: store.item(owner, id))

    def _of(self, owner: str, id: str) -> Running | None:
        running = self._running.get(id)
        return running if running is not None and running.owner == owner else None

    # ---- conversations ---------------------------------------------------------------------------------------------

    async def create_conversation(
        self, owner: str, metadata: Mapping[str, Any], items: Sequence[Item]
    ) -> Conversation:
        """A new conversation with items."""
        return await self._talk(lambda store: store.create(owner, metadata, items))

    async def conversation(self, owner: str, id: str) -> Conversation:
        """A conversation. Raises ResponseNotFound."""
        return await self._talk(lambda store: store.get(owner, id))

    async def update_conversation(
        self, owner: str, id: str, metadata: Mapping[str, Any]
    ) -> Conversation:
        """Replace a conversation's metadata. Raises ResponseNotFound."""
        return await self._talk(lambda store: store.update(owner, id, metadata))

    async def delete_conversation(self, owner: str, id: str) -> None:
        """Delete a conversation with its items. Raises ResponseNotFound."""
        await self._talk(lambda store: store.delete(owner, id))

    async def add_items(self, owner: str, id: str, items: Sequence[Item]) -> None:
        """Append items to a conversation. Raises ResponseNotFound."""
        await self._talk(lambda store: store.add(owner, id, items))

    async def items(self, owner: str, id: str, listing: Listing) -> ItemPage:
        """A page of a conversation's items. Raises ResponseNotFound."""
        return await self._talk(lambda store: store.items(owner, id, listing))

    async def conversation_item(self, owner: str, id: str, item: str) -> Item:
        """One item of a conversation. Raises ResponseNotFound."""
        return await self._talk(lambda store: store.item(owner, id, item))

    async def delete_item(self, owner: str, id: str, item: str) -> Conversation:
        """Delete one item of a conversation. Raises ResponseNotFound."""
        return await self._talk(lambda store: store.delete_item(owner, id, item))

    # ---- the thread of the database --------------------------------------------------------------------------------

    async def _keep_house(self) -> None:
        """Mark what the last daemon left unfinished as failed; delete what is too old, periodically."""
        with suppress(OllamapyError):  # logged where it was opened, and every request says it
            await self._in_database(lambda c: ResponseStore(c).fail_unfinished())
        while True:
            await self._prune(DAY * self._days, MOST_BYTES, temporary=False)
            await self._prune(IN_MEMORY, MOST_BYTES_IN_MEMORY, temporary=True)
            self._added = 0
            self._crowded.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(PRUNE_SECONDS):
                    await self._crowded.wait()

    async def _prune(self, seconds: int, most_bytes: int, *, temporary: bool) -> None:
        oldest = int(time.time()) - seconds
        try:
            found = await self._in_database(
                lambda c: ResponseStore(c).prune(oldest, most_bytes), temporary=temporary
            )
        except OllamapyError as error:
            log.debug("old responses cannot be deleted: %s", error)
            return
        if found:
            log.info("deleted %d responses that were too old, or too many", found)

    def _note_added(self, response: Response, items: Sequence[Item]) -> None:
        self._added += len(response.head) + sum(len(item.json) for item in items)
        if self._added > MOST_ADDED:
            self._crowded.set()

    async def _do(self, work: Callable[[ResponseStore], Result]) -> Result:
        temporary = not self._is_kept
        return await self._in_database(lambda c: work(ResponseStore(c)), temporary=temporary)

    async def _talk(self, work: Callable[[ConversationStore], Result]) -> Result:
        temporary = not self._is_kept
        return await self._in_database(lambda c: work(ConversationStore(c)), temporary=temporary)


def status_of(last: Chunk) -> Status:
    """The status of a response, from its last chunk."""
    return "incomplete" if last.finish_reason == "length" else "completed"


def failure_of(error: Exception) -> ResponseFailure:
    """What is stored of an error; an unexpected one is logged."""
    if isinstance(error, OllamapyError):
        return ResponseFailure(error.status, error.code, str(error))
    log.error("a response failed with an unexpected error", exc_info=error)
    return ResponseFailure(500, "", INTERNAL)


async def _each(chunks: Sequence[Chunk]) -> AsyncGenerator[Chunk, None]:
    for chunk in chunks:
        yield chunk

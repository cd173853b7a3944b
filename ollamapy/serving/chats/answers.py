"""The answers of chats that are being written, in the background. Belongs to the event loop.

Each follower of an answer reads it from its transcript, at a pace of its own. An answer continues without
followers, but in a temporary chat only for ABANDONED_SECONDS: a page that was closed cannot find such a chat again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

import msgspec

from ...errors import INTERNAL, OllamapyError, code_of
from ...types import Chunk
from ..background import Background, Work
from .events import FIRST, Event, Transcript, beginning, ending, waiting
from .figures import Figures
from .store import ENDED, ChatStore
from .values import Chat, ChatMessage, Failure, Status, StopReason

log = logging.getLogger(__name__)

ABANDONED_SECONDS = 300.0
"""How long an answer in a temporary chat continues without followers."""

Chunks = AsyncGenerator[Chunk, None]
Save = Callable[[ChatStore, Sequence[ChatMessage]], Awaitable[None]]
"""Writes the state of messages. Raises OllamapyError."""
Finish = Callable[[ChatStore, Chat, ChatMessage], Awaitable[str]]
"""Writes the last state of a message; the title of its chat. Raises OllamapyError."""


class Writing:
    """An answer that is being written.

    ``user``: the message that was stored with it. Followers see the transcript grow; ``is_over``: no more will come, and its last
    state is being stored; ``ended`` is set once that is done.
    """

    def __init__(
        self, store: ChatStore, chat: Chat, message: ChatMessage, user: str | None
    ) -> None:
        self.store = store
        self.chat = chat
        self.ended = asyncio.Event()
        self.stop_requested = False
        self.is_over = False
        self._base = message
        self._user = user
        self._transcript = Transcript(message)
        self._saved = self._transcript.end
        self._waiting: Event | None = None
        self._ending: Event | None = None
        self._changed = asyncio.Event()
        self._figures = Figures()
        self._last = Chunk()
        self._n_followers = 0
        self._left = asyncio.get_running_loop().time()

    @property
    def id(self) -> str:
        """The message's id."""
        return self._base.id

    @property
    def text_before(self) -> str:
        """The text that the message had before: of an answer that is continued."""
        return self._base.content

    @property
    def place(self) -> int:
        """How far the answer is."""
        return self._transcript.end

    @property
    def is_unsaved(self) -> bool:
        """Is there text that the database does not have, nor is about to get?"""
        return not self.is_over and self.place > self._saved

    def is_abandoned(self, now: float) -> bool:
        """Is the chat temporary, and has the answer had no followers for ABANDONED_SECONDS? ``now``: the event loop's time."""
        return (
            self.chat.temporary and self._n_followers == 0 and now - self._left > ABANDONED_SECONDS
        )

    def saved(self, place: int) -> None:
        """The message is stored as far as this place."""
        self._saved = place

    def message(self) -> ChatMessage:
        """The message as it is now."""
        return msgspec.structs.replace(
            self._base,
            content=self._transcript.text("text"),
            thinking=self._transcript.text("thinking"),
            tool_calls=self._transcript.tool_calls,
            order=self._transcript.order,
            usage=self._figures.usage(),
        )

    def take(self, chunk: Chunk) -> None:
        """Append a piece of the answer, or take note of what it waits for."""
        self._waiting = waiting(chunk.waiting) if chunk.waiting else None
        self._figures.take(chunk)
        self._transcript.add("thinking", chunk.thinking)
        self._transcript.add("text", chunk.text)
        for call in chunk.tool_calls:
            named = (
                call
                if call.id
                else msgspec.structs.replace(call, id=f"call_{secrets.token_hex(8)}")
            )
            self._transcript.add("tool_call", named)
        if chunk.finish_reason:
            self._last = chunk
        self._notify()

    def finished(self) -> ChatMessage:
        """The message once the model has ended it."""
        message = self.message()
        reason: StopReason = "length" if self._last.finish_reason == "length" else "stop"
        if reason == "stop" and message.tool_calls:
            reason = "tool_calls"
        return msgspec.structs.replace(message, status="done", stop_reason=reason)

    def interrupted(self, status: Status, error: Failure | None = None) -> ChatMessage:
        """The message where something else ended it."""
        reason: StopReason | None = "cancelled" if status == "stopped" else None
        return msgspec.structs.replace(
            self.message(), status=status, stop_reason=reason, error=error
        )

    def end(self, message: ChatMessage, title: str) -> None:
        """Tell the followers how the answer ended."""
        self._ending = ending(message, title, self._transcript.end)
        self._notify()
        self.ended.set()

    async def follow_new(self) -> AsyncGenerator[Event, None]:
        """The events of the part that is new: of a continued answer not what it had before."""
        yield beginning(self.chat.id, self._base, self._user)
        async with aclosing(self.follow(Transcript(self._base).end)) as events:
            async for event in events:
                yield event

    async def follow(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events after a place, until the last one."""
        self._n_followers += 1
        try:
            async for event in self._events(after):
                yield event
        finally:
            self._n_followers -= 1
            self._left = asyncio.get_running_loop().time()

    async def _events(self, after: int) -> AsyncGenerator[Event, None]:
        place = max(after, FIRST)
        sent: Event | None = None
        if after < FIRST:
            yield beginning(self.chat.id, self._base, self._user)
        while True:
            # Taken before the transcript is read: what comes while an event is being sent is not missed
            changed, news, last = self._changed, self._waiting, self._ending
            for event in self._transcript.since(place):
                place = event.number or place
                yield event
            if last is not None:
                yield last
                return
            if news is not None and news is not sent:
                sent = news
                yield news
            await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Answers:
    """All answers that are being written."""

    def __init__(self, save: Save, finish: Finish) -> None:
        self._save = save
        self._finish = finish
        self._writing: dict[str, Writing] = {}
        self._background = Background("an answer", self._tend)

    def start(self, writing: Writing, chunks: Chunks) -> None:
        """Write an answer: its message is stored with the status "streaming"."""
        self._writing[writing.id] = writing
        finish = partial(self._ends, writing)
        self._background.start(writing.id, chunks, writing.take, finish)

    def get(self, id: str) -> Writing | None:
        """The answer that is being written under this message's id."""
        return self._writing.get(id)

    def all(self) -> list[Writing]:
        """All answers that are being written."""
        return list(self._writing.values())

    def of_chat(self, chat: str) -> list[Writing]:
        """The answers that are being written for a chat."""
        return [each for each in self.all() if each.chat.id == chat]

    async def stop(self, writings: Iterable[Writing]) -> None:
        """End answers; their text is kept. Returns when they are stored."""
        writings = list(writings)
        for each in writings:
            self._cancel(each)
        for each in writings:
            await each.ended.wait()

    async def close(self) -> None:
        """End all answers: the daemon stops."""
        await self._background.close()

    async def _ends(self, writing: Writing, work: Work) -> None:
        """Store how an answer ended, and tell its followers."""
        message = self._ended(writing, work)
        writing.is_over = True
        title = await self._background.stored(
            lambda: self._finish(writing.store, writing.chat, message)
        )
        del self._writing[writing.id]
        writing.end(message, writing.chat.title if title is None else title)

    def _ended(self, writing: Writing, work: Work) -> ChatMessage:
        """The message of an answer whose work has ended in one way or another."""
        if work.cancelled():
            if writing.stop_requested:
                return writing.interrupted("stopped")
            return writing.interrupted("failed", ENDED)
        error = work.exception()
        if error is None:
            return writing.finished()
        if self._background.is_closing:
            return writing.interrupted("failed", ENDED)
        assert isinstance(error, Exception)
        text = str(error)
        if not isinstance(error, OllamapyError):
            log.error("an answer failed with an unexpected error", exc_info=error)
            text = INTERNAL
        return writing.interrupted("failed", Failure(code_of(error), text))

    def _cancel(self, writing: Writing) -> None:
        if not writing.stop_requested:
            writing.stop_requested = True
            self._background.cancel(writing.id)

    async def _tend(self) -> None:
        """Cancel abandoned answers and save the others. Raises OllamapyError."""
        now = asyncio.get_running_loop().time()
        for each in self.all():
            if each.is_abandoned(now):
                self._cancel(each)
        await self._save_all()

    async def _save_all(self) -> None:
        """Write what has come, to all stores that can be written. Raises OllamapyError for one that cannot."""
        failed: OllamapyError | None = None
        for store in {each.store for each in self._writing.values()}:
            try:
                await self._save_to(store)
            except OllamapyError as error:
                failed = error
        if failed is not None:
            raise failed

    async def _save_to(self, store: ChatStore) -> None:
        """Write what has come for one store. Raises OllamapyError."""
        mine = [each for each in self._writing.values() if each.store is store and each.is_unsaved]
        if not mine:
            return
        places = [each.place for each in mine]
        await self._save(store, [each.message() for each in mine])
        for each, place in zip(mine, places, strict=True):
            each.saved(place)

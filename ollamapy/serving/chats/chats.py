"""The conversations of the daemon, as the web uses them.

They are kept in the state folder; temporary ones, and with OLLAMAPY_NOHISTORY all of them, in memory. The database has one
thread of its own, so that the event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from msgspec import UNSET

from ...errors import (
    ChatError,
    ChatNotFound,
    ChatsFull,
    ChatsUnavailable,
    OllamapyError,
    ServerBusy,
    reason,
)
from ...formats.documents.kinds import type_of
from ...request import Caller, Request
from ...types import Chunk
from . import asking, exchange
from .answers import Answers, Writing
from .asking import Asked, NewPart
from .attachments import Attachment
from .events import Event, replay
from .search import snippet
from .store import ChatStore, Row, is_full
from .values import Changes, Chat, ChatMessage, Hit, Listed, Part, new_id, now

log = logging.getLogger(__name__)

Answer = Callable[[Request, Caller], AsyncGenerator[Chunk, None]]
"""Answers a request (serving/answer.py)."""
Check = Callable[[Request], Awaitable[None]]
"""Raises what makes a request impossible to answer: no such model, images that it cannot read."""

Preread = Callable[[Request, Caller], Awaitable[None]]
"""Computes a prompt ahead, while nothing else is to be done (serving/preread.py)."""

MOST_TEMPORARY = 200
"""Temporary chats at a time; the ones that were changed first are forgotten."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Answering:
    """What chats need of the rest of the daemon."""

    answer: Answer
    check: Check
    preread: Preread


class Chats:
    """All conversations. Belongs to the event loop.

    ``path`` is their database, None where nothing is kept; ``attachments`` the folder of the files attached to them.
    """

    def __init__(self, path: Path | None, attachments: Path | None, answering: Answering) -> None:
        self._path = path
        self._folder = attachments
        self._answering = answering
        self._prereading: dict[str, asyncio.Task[None]] = {}
        self._thread = ThreadPoolExecutor(1, "chats")
        self._answers = Answers(self._save, self._finish)
        self._taking_in = asyncio.Lock()
        # These belong to the thread
        self._kept: ChatStore | None = None
        self._temporary: ChatStore | None = None
        self._thread.submit(self._open)

    async def end_answers(self) -> None:
        """End the answers that are being written, with their text stored: the daemon stops."""
        for task in self._prereading.values():
            task.cancel()
        await self._answers.close()

    async def close(self) -> None:
        """End the answers that are being written, and close the database."""
        await self.end_answers()
        await self._do(self._close)
        self._thread.shutdown()

    # ---- chats -----------------------------------------------------------------------------------------------------

    async def page(
        self,
        owner: str,
        *,
        query: str = "",
        folder: str | None = None,
        archived: bool | None = False,
        limit: int = 100,
        before: str = "",
    ) -> Listed:
        """A page of an owner's chats, as :meth:`ChatStore.page`. Raises InvalidRequest for a ``before`` that is none."""
        place = asking.place_of(before) if before else None
        running = frozenset(each.chat.id for each in self._answers.all())

        def read() -> Listed:
            store = self._keeping()
            rows = store.page(
                owner, query=query, folder=folder, archived=archived, limit=limit + 1, before=place
            )
            more = asking.cursor_of(rows[limit - 1].place) if len(rows) > limit else None
            rows = rows[:limit]
            hits = {row.chat.id: _hit(store, row, query) for row in rows} if query else {}
            chats = tuple(row.chat for row in rows)
            return Listed(chats, more, store.folders(owner), hits, running, store.notice)

        return await self._do(read)

    async def create(self, owner: str, given: Changes, *, temporary: bool) -> Chat:
        """A new chat; ``model`` must be given."""
        time = now()
        fields = {name: value for name, value in given.given.items() if value is not None}
        chat = Chat(id=new_id("chat"), created_at=time, updated_at=time, **fields)
        made = await self._do(lambda: self._storing(temporary).create(owner, chat))
        if made.temporary:
            for old in await self._do(lambda: self._storing(True).oldest(MOST_TEMPORARY)):
                if not self._answers.of_chat(old.id):
                    await self.delete(old.owner, old.id)
        return made

    async def get(self, owner: str, id: str) -> tuple[Chat, list[ChatMessage]]:
        """A chat and all its messages. Raises ChatNotFound."""

        def read() -> tuple[Chat, list[ChatMessage]]:
            store = self._store_of(owner, id)
            return store.get(owner, id), store.messages(id)

        chat, messages = await self._do(read)
        return chat, [self._current(message) for message in messages]

    async def texts(self, owner: str, id: str, messages: Sequence[str]) -> dict[str, str]:
        """The texts of those of these messages that a chat has, by their ids. Raises ChatNotFound."""
        return await self._do(lambda: self._store_of(owner, id).texts(owner, id, messages))

    async def update(self, owner: str, id: str, changes: Changes) -> Chat:
        """Change a chat's settings. Raises ChatNotFound."""
        return await self._do(lambda: self._store_of(owner, id).update(owner, id, changes))

    async def delete(self, owner: str, id: str) -> None:
        """Delete a chat; its answers that are being written end. Raises ChatNotFound."""
        await self._do(lambda: self._store_of(owner, id))
        await self._answers.stop(self._answers.of_chat(id))

        def remove() -> None:
            store = self._store_of(owner, id)
            store.delete(owner, id)
            store.erase()

        await self._do(remove)

    async def delete_all(self, owner: str) -> None:
        """Delete all chats of an owner; the answers that are being written end."""
        ids = set(await self._do(lambda: self._each_store(lambda store: store.ids(owner))))
        await self._answers.stop(each for each in self._answers.all() if each.chat.id in ids)

        def remove(store: ChatStore) -> list[str]:
            store.delete_all(owner)
            store.erase()
            return []

        await self._do(lambda: self._each_store(remove))

    # ---- files -----------------------------------------------------------------------------------------------------

    async def export(self, owner: str, id: str) -> tuple[Chat, bytes]:
        """A chat, and all of it in our own format. Raises ChatNotFound."""

        def read() -> tuple[Chat, bytes]:
            store = self._store_of(owner, id)
            chat, messages = store.get(owner, id), store.messages(id)
            digests = {part.digest for each in messages for part in each.parts if part.digest}
            files = [store.attachments.read(owner, digest) for digest in sorted(digests)]
            return chat, exchange.encode_chat(chat, messages, files)

        return await self._do(read)

    async def export_all(self, owner: str) -> AsyncGenerator[bytes, None]:
        """All chats of an owner as one file in our own format, in pieces."""
        yield exchange.HEAD
        comma = b""
        for id in await self._do(lambda: self._keeping().ids(owner)):
            with suppress(ChatNotFound):  # it was deleted meanwhile
                yield comma + (await self.export(owner, id))[1]
                comma = b",\n"
        yield exchange.TAIL

    async def markdown(self, owner: str, id: str) -> tuple[Chat, str]:
        """A chat, and the branch that it shows as Markdown. Raises ChatNotFound."""

        def read() -> tuple[Chat, str]:
            store = self._store_of(owner, id)
            chat = store.get(owner, id)
            return chat, exchange.markdown(chat, store.branch(id, chat.head) if chat.head else [])

        return await self._do(read)

    async def take_in(
        self, owner: str, pieces: AsyncIterator[bytes]
    ) -> tuple[list[str], list[exchange.Skipped]]:
        """Import the chats of a file, all of them or none; the ids of the new ones, and those that were left out.

        Raises InvalidRequest for a file that is none, ServerBusy while another one is imported, ChatsFull.
        """
        if self._taking_in.locked():
            raise ServerBusy("another file is being imported, try again when it is done")
        async with self._taking_in:
            reader = exchange.Reader()
            async for piece in pieces:
                await asyncio.to_thread(reader.feed, piece)
            await asyncio.to_thread(reader.finish)
            stored: list[str] = []
            try:
                for given in reader.chats:
                    await self._do(partial(self._take_in, owner, given))
                    stored.append(given.chat.id)
            except BaseException:
                await asyncio.shield(self._do(lambda: self._remove(owner, stored)))
                raise
            return stored, reader.skipped

    def _take_in(self, owner: str, given: exchange.Imported) -> None:
        self._keeping().take_in(owner, given)

    def _remove(self, owner: str, ids: Sequence[str]) -> None:
        store = self._keeping()
        for id in ids:
            with suppress(ChatNotFound):
                store.delete(owner, id)
        store.erase()

    # ---- messages --------------------------------------------------------------------------------------------------

    async def ask(self, caller: Caller, id: str, asked: Asked) -> Writing | ChatMessage:
        """Store a message and begin its answer, or continue one; only the message, where no answer is wanted.

        Raises ChatNotFound, ChatConflict, InvalidRequest, ChatsFull, and ModelNotFound and the like before anything is stored.
        """
        # A task of its own: a client that leaves now must not leave an answer that no one writes
        return await asyncio.shield(asyncio.ensure_future(self._ask(caller, id, asked)))

    async def _ask(self, caller: Caller, id: str, asked: Asked) -> Writing | ChatMessage:
        owner = caller.owner

        # 1) what it follows, with the new message at its end
        store, chat, branch, given = await self._do(lambda: self._read(owner, id, asked))
        new = branch[-1] if asked.new is not None else None
        if asked.continues:
            asking.check_continues(branch[-1])

        # 2) can it be answered?
        if asked.answers:
            request = asking.request_of(chat, branch, asked, given.contents)
            await self._answering.check(request)
            self._end_preread(id)
        elif new is not None:
            asking.message_of(new, given.contents)
            await self._do(lambda: store.add(owner, id, [new], given.files))
            return new
        else:
            raise asking.nothing_to_store()

        # 3) the answer's message
        if asked.continues:
            message = asking.continued(branch[-1])
            await self._do(lambda: store.reopen(message))
        else:
            message = asking.answer_to(branch[-1], request.model)
            added = [each for each in (new, message) if each is not None]
            chat = await self._do(lambda: store.add(owner, id, added, given.files))
        writing = Writing(store, chat, message, new.id if new else None)
        self._answers.start(writing, self._answering.answer(request, caller))
        return writing

    async def preread(self, caller: Caller, id: str, asked: Asked) -> None:
        """Begin to compute the prompt of what will be asked, with what is written of it so far; instead of the last such text
        of this chat. Raises ChatNotFound, InvalidRequest."""
        _, chat, branch, given = await self._do(lambda: self._read(caller.owner, id, asked))
        request = asking.request_of(chat, branch, asked, given.contents)
        await self._answering.check(request)
        self._end_preread(id)
        task = asyncio.create_task(_quietly(self._answering.preread(request, caller)))
        self._prereading[id] = task
        task.add_done_callback(lambda _: self._forget_preread(id, task))

    def _end_preread(self, id: str) -> None:
        if (task := self._prereading.pop(id, None)) is not None:
            task.cancel()

    def _forget_preread(self, id: str, task: asyncio.Task[None]) -> None:
        if self._prereading.get(id) is task:
            del self._prereading[id]

    async def events(
        self, owner: str, id: str, message: str, after: int
    ) -> AsyncGenerator[Event, None]:
        """The events of an answer after a place, and those to come while it is written. Raises ChatNotFound."""

        def read() -> tuple[Chat, ChatMessage]:
            store = self._store_of(owner, id)
            return store.get(owner, id), store.message(id, message)

        chat, stored = await self._do(read)
        while stored.status == "streaming":
            if (writing := self._answers.get(message)) is not None:
                async with aclosing(writing.follow(after)) as events:
                    async for event in events:
                        yield event
                return
            chat, stored = await self._do(read)  # it begins or ends just now
        for event in replay(id, chat.title, stored, after):
            yield event

    async def stop(self, owner: str, id: str, message: str) -> ChatMessage:
        """End an answer; its text is kept. Raises ChatNotFound."""
        await self._do(lambda: self._store_of(owner, id).message(id, message))
        if (writing := self._answers.get(message)) is not None:
            await self._answers.stop([writing])
        return await self._do(lambda: self._store_of(owner, id).message(id, message))

    async def attach(self, owner: str, content: bytes, name: str, *, temporary: bool) -> Attachment:
        """Store a file that messages can use. Raises ChatsFull."""
        return await self._do(lambda: self._storing(temporary).attach(owner, content, name))

    async def attachment(self, owner: str, digest: str) -> tuple[Attachment, bytes]:
        """A file with its content. Raises ChatNotFound."""

        def read() -> tuple[Attachment, bytes]:
            memory = self._storing(temporary=True)
            found = memory if memory.attachments.has(owner, digest) else self._keeping()
            return found.attachments.read(owner, digest)

        return await self._do(read)

    async def delete_message(self, owner: str, id: str, message: str) -> None:
        """Delete a message and everything below it; answers below it that are being written end. Raises ChatNotFound."""
        below = await self._do(lambda: self._store_of(owner, id).below(id, message))
        await self._answers.stop(
            [each for each in map(self._answers.get, below) if each is not None]
        )

        def remove() -> None:
            store = self._store_of(owner, id)
            store.delete_message(owner, id, message)
            store.erase()

        await self._do(remove)

    def _current(self, message: ChatMessage) -> ChatMessage:
        writing = self._answers.get(message.id)
        return message if writing is None else writing.message()

    # ---- the thread of the database --------------------------------------------------------------------------------

    def _open(self) -> None:
        self._temporary = ChatStore(None)
        if self._path is not None:
            try:
                self._keeping()
            except ChatsUnavailable as error:
                log.error("%s", error)

    def _close(self) -> None:
        for store in (self._kept, self._temporary):
            if store is not None:
                store.close()

    def _keeping(self) -> ChatStore:
        """The store of the chats that are kept. Raises ChatsUnavailable."""
        if self._path is None:
            assert self._temporary is not None
            return self._temporary
        if self._kept is None:
            try:
                self._kept = ChatStore(self._path, self._folder)
            except (OSError, sqlite3.Error) as error:
                raise ChatsUnavailable(
                    f"the conversations in {self._path} cannot be opened: {reason(error)}"
                ) from error
        return self._kept

    def _storing(self, temporary: bool) -> ChatStore:
        assert self._temporary is not None
        return self._temporary if temporary else self._keeping()

    def _store_of(self, owner: str, id: str) -> ChatStore:
        """The store that has the chat, if there is one."""
        assert self._temporary is not None
        return self._temporary if self._temporary.has(owner, id) else self._keeping()

    def _read(
        self, owner: str, id: str, asked: Asked
    ) -> tuple[ChatStore, Chat, list[ChatMessage], Given]:
        """The store of a chat, the chat, and the branch that is asked for with the new message at its end."""
        store = self._store_of(owner, id)
        chat = store.get(owner, id)
        last = asked.continues or (chat.head if asked.parent is UNSET else asked.parent)
        branch = store.branch(id, last) if last else []
        given = Given({}, [])
        for part in (part for message in branch for part in message.parts if part.digest):
            if asked.answers:
                given.contents[part.digest] = store.attachments.read(owner, part.digest)[1]
        if asked.new is not None and not asked.continues:
            parts = tuple(self._part(owner, store, part, given) for part in asked.new.parts)
            branch.append(asking.stored(asked.new, last, parts))
        return store, chat, branch, given

    def _part(self, owner: str, store: ChatStore, new: NewPart, given: Given) -> Part:
        """A new part as it is stored. Raises ChatNotFound for an attachment that the owner does not have."""
        if new.type == "text":
            return Part("text", new.text)
        if new.data is not None:
            content, media_type, name = new.data, type_of(new.data), new.name
            given.files.append((name, content))
        else:
            home = store if store.attachments.has(owner, new.digest) else self._other(store)
            found, content = home.attachments.read(owner, new.digest)
            media_type, name = found.media_type, found.name
            if home is not store:
                given.files.append((name, content))
        part = asking.part_of(new, content, media_type, name)
        given.contents[part.digest] = content
        return part

    def _other(self, store: ChatStore) -> ChatStore:
        """The store that may have what this one lacks."""
        return self._keeping() if store.temporary else self._storing(temporary=True)

    def _each_store(self, work: Callable[[ChatStore], list[str]]) -> list[str]:
        """The results of work with all stores."""
        stores = {self._keeping(), self._storing(temporary=True)}
        return [each for store in stores for each in work(store)]

    async def _save(self, store: ChatStore, messages: Sequence[ChatMessage]) -> None:
        await self._do(lambda: store.save(messages))

    async def _finish(self, store: ChatStore, chat: Chat, message: ChatMessage) -> str:
        return await self._do(lambda: store.finish(chat.id, message))

    async def in_database(
        self, work: Callable[[sqlite3.Connection], Result], *, temporary: bool = False
    ) -> Result:
        """The result of work with the database, in which others have tables, too. Raises ChatError where it fails."""
        return await self._do(lambda: work(self._storing(temporary).connection))

    async def _do(self, work: Callable[[], Result]) -> Result:
        """The result of work in the database's thread. Raises ChatError where the database fails."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(_translated, work))


class Given(NamedTuple):
    """The contents of a branch's attachments by digest; the names and contents of those that are to be stored."""

    contents: dict[str, bytes]
    files: list[tuple[str, bytes]]


def _hit(store: ChatStore, row: Row, query: str) -> Hit:
    """What is shown of a chat that a search found."""
    if row.message is None:
        return Hit(None, snippet(row.chat.title, query))
    return Hit(row.message, snippet(store.message(row.chat.id, row.message).content, query))


async def _quietly(work: Awaitable[None]) -> None:
    """Work that no one waits for."""
    try:
        await work
    except OllamapyError as error:
        log.debug("a prompt was not read ahead: %s", error)


def _translated(work: Callable[[], Result]) -> Result:
    """The result of work with a database, its errors as ours."""
    try:
        return work()
    except sqlite3.Error as error:
        raise _error_of(error) from error
    except OSError as error:
        raise ChatsUnavailable(f"conversations cannot be written: {reason(error)}") from error


def _error_of(error: sqlite3.Error) -> ChatError:
    if is_full(error):
        return ChatsFull("the disk has no room for the conversation: make room, and send it again")
    return ChatsUnavailable(f"the conversations cannot be read or written: {error}")

"""The database of the conversations: all that is read from it and written to it. Synchronous, for one thread.

Every change is one transaction. A chat of another owner is not found, like one that does not exist.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from filelock import BaseFileLock

from ...errors import ChatConflict, ChatNotFound, ChatsFull, ChatsUnavailable
from ...files import make_folder
from .attachments import Attachment, Attachments
from .database import noted_deletion, transaction
from .exchange import Imported
from .schema import MEMORY, open_database
from .search import match_of
from .values import Changes, Chat, ChatMessage, Failure, Place, now, title_of

_json = msgspec.json.Encoder().encode

_CHAT_JSON = ("options", "format", "think", "keep_alive")
_MESSAGE_JSON = ("parts", "tool_calls", "error", "usage", "order")
_CHAT_FLAGS = ("pinned", "archived")
_SETTINGS = ("title", "model", "system", "folder", *_CHAT_JSON, *_CHAT_FLAGS)
_CHAT_COLUMNS = ("id", *_SETTINGS, "created_at", "updated_at", "head")
_MESSAGE_FIELDS = tuple(name for name in ChatMessage.__struct_fields__)
_SAVED = tuple(
    name for name in _MESSAGE_FIELDS if name not in ("id", "parent", "role", "created_at")
)
_COLUMN = {"order": "pieces"}
_MESSAGE_COLUMNS = tuple(_COLUMN.get(name, name) for name in _MESSAGE_FIELDS)

LOCK_SECONDS = 0.5
"""How long an ending daemon is waited for, which still has the database open."""

ENDED = Failure("daemon_ended", "the daemon ended while it wrote this answer")
"""The failure of answers that were being written when the daemon was killed."""


class ChatStore:
    """The conversations of one database: a file, or memory for those that are never written.

    ``attachments``: the folder of the files attached to them. ``notice`` tells what was done with a database that could not be
    used. Raises OSError, sqlite3.Error; ChatsUnavailable while another daemon has the file open.
    """

    def __init__(self, path: Path | None, attachments: Path | None = None) -> None:
        self._lock = _locked(path) if path is not None else None
        try:
            self._connection, self.notice = open_database(MEMORY if path is None else path)
        except BaseException:
            self._unlock()
            raise
        self.temporary = path is None
        self.attachments = Attachments(self._connection, attachments)
        self._fail_unfinished()
        if self._connection.execute("SELECT 1 FROM erasures").fetchone():
            with suppress(ChatsFull):
                self.erase()

    @property
    def connection(self) -> sqlite3.Connection:
        """The database, for others that have tables in it."""
        return self._connection

    def close(self) -> None:
        """Write everything into the one file and close it."""
        self._connection.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _fail_unfinished(self) -> None:
        self._connection.execute(
            "UPDATE messages SET status = 'failed', error = ? WHERE status = 'streaming'",
            (_json(ENDED).decode(),),
        )

    # ---- chats -----------------------------------------------------------------------------------------------------

    def create(self, owner: str, chat: Chat) -> Chat:
        """Store a new chat."""
        with self._transaction():
            values = [owner, *(_column(chat, name) for name in _CHAT_COLUMNS)]
            self._insert("chats", ("owner", *_CHAT_COLUMNS), values)
        return self.get(owner, chat.id)

    def get(self, owner: str, id: str) -> Chat:
        """A chat. Raises ChatNotFound."""
        return self._chat(self._row(owner, id))

    def has(self, owner: str, id: str) -> bool:
        """Is there such a chat of this owner?"""
        sql = "SELECT 1 FROM chats WHERE id = ? AND owner = ?"
        return self._connection.execute(sql, (id, owner)).fetchone() is not None

    def page(
        self,
        owner: str,
        *,
        query: str = "",
        folder: str | None = None,
        archived: bool | None = False,
        limit: int = 100,
        before: Place | None = None,
    ) -> list[Row]:
        """Chats of a list: the pinned ones first, then the ones changed last. ``query``: those whose title or messages have its
        words. ``archived`` None: both kinds. ``before``: the place after which to go on."""
        conditions, values = ["owner = ?"], list[Any]((owner,))
        for condition, value in (
            ("folder = ?", folder),
            ("archived = ?", archived),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if before is not None:
            conditions.append("(pinned, updated_at, chats.n) < (?, ?, ?)")
            values += before
        table, best = "chats", "NULL"
        if query:
            if not (match := match_of(query)):
                return []
            table, best = f"chats JOIN ({_HITS}) hit ON hit.chat = chats.id", "hit.message"
            values = [match, match, *values]
        rows = self._connection.execute(
            f"SELECT {_CHAT_ROW}, {best} AS best FROM {table} WHERE {' AND '.join(conditions)}"
            " ORDER BY pinned DESC, updated_at DESC, chats.n DESC LIMIT ?",
            (*values, limit),
        )
        return [
            Row(self._chat(row), (row["pinned"], row["updated_at"], row["n"]), row["best"])
            for row in _dicts(rows)
        ]

    def folders(self, owner: str) -> tuple[str, ...]:
        """The folders of an owner's chats, sorted."""
        rows = self._connection.execute(
            "SELECT DISTINCT folder FROM chats WHERE owner = ? AND folder != '' ORDER BY folder",
            (owner,),
        )
        return tuple(folder for (folder,) in rows)

    def take_in(self, owner: str, given: Imported) -> None:
        """Store a chat that was imported, as a whole. Raises ChatsFull."""
        with self._transaction():
            values = [owner, *(_column(given.chat, name) for name in _CHAT_COLUMNS)]
            self._insert("chats", ("owner", *_CHAT_COLUMNS), values)
            for name, content in given.files:
                self.attachments.put(owner, content, name)
            for message in given.messages:
                self._add_message(owner, given.chat.id, message)

    def update(self, owner: str, id: str, changes: Changes) -> Chat:
        """Change a chat's settings. A new ``head`` becomes the newest leaf below it. Raises ChatNotFound."""
        given = changes.given
        with self._transaction():
            chat = self.get(owner, id)
            if "head" in given:
                self._message_row(id, given["head"])
                given["head"] = self._leaf(given["head"])
            for name in ("options",):
                if name in given and given[name] is None:
                    given[name] = {}
            changed = msgspec.structs.replace(chat, **given)
            names = [*given, "updated_at"] if _is_content(given) else list(given)
            changed = msgspec.structs.replace(changed, updated_at=now())
            if names:
                assignments = ", ".join(f"{name} = ?" for name in names)
                values = [_column(changed, name) for name in names]
                self._connection.execute(
                    f"UPDATE chats SET {assignments} WHERE id = ?", (*values, id)
                )
        return self.get(owner, id)

    def delete(self, owner: str, id: str) -> None:
        """Delete a chat with its messages. Raises ChatNotFound. Call :meth:`erase` then."""
        with self._deletion():
            self._row(owner, id)
            self._connection.execute("DELETE FROM messages WHERE chat = ?", (id,))
            self._connection.execute("DELETE FROM chats WHERE id = ?", (id,))

    def ids(self, owner: str) -> list[str]:
        """The ids of all chats of an owner."""
        rows = self._connection.execute("SELECT id FROM chats WHERE owner = ?", (owner,))
        return [id for (id,) in rows]

    def oldest(self, most: int) -> list[Owned]:
        """The chats beyond the ``most`` ones that were changed last."""
        rows = self._connection.execute(
            "SELECT owner, id FROM chats ORDER BY updated_at DESC, n DESC LIMIT -1 OFFSET ?",
            (most,),
        )
        return [Owned(*row) for row in rows]

    def delete_all(self, owner: str) -> None:
        """Delete all chats of an owner. Call :meth:`erase` then."""
        with self._deletion():
            self._connection.execute(
                "DELETE FROM messages WHERE chat IN (SELECT id FROM chats WHERE owner = ?)",
                (owner,),
            )
            self._connection.execute("DELETE FROM chats WHERE owner = ?", (owner,))

    def erase(self) -> None:
        """Leave nothing of what was deleted in any file: merge the full-text index, and write the log back into the file.

        Raises ChatsFull where the disk has no room for that; it is done at the next deletion or start then.
        """
        try:
            for table in ("title_words", "message_words"):
                self._connection.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")
            self.attachments.sweep()
            self._connection.execute("DELETE FROM erasures")
        except sqlite3.OperationalError as error:
            if is_full(error):
                raise ChatsFull(
                    "it is deleted, but the disk has no room to take its words out of the search index: make room, and delete"
                    " something else or restart the daemon"
                ) from None
            raise
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # ---- messages --------------------------------------------------------------------------------------------------

    def messages(self, chat: str) -> list[ChatMessage]:
        """All messages of a chat, the oldest first."""
        rows = self._connection.execute(
            f"SELECT {_MESSAGE_ROW} FROM messages WHERE chat = ? ORDER BY n", (chat,)
        )
        return [_message(row) for row in _dicts(rows)]

    def message(self, chat: str, id: str) -> ChatMessage:
        """One message. Raises ChatNotFound."""
        return _message(self._message_row(chat, id))

    def texts(self, owner: str, chat: str, ids: Sequence[str]) -> dict[str, str]:
        """The texts of those of these messages that a chat has, by their ids. Raises ChatNotFound."""
        self._row(owner, chat)
        marks = ", ".join("?" for _ in ids)
        rows = self._connection.execute(
            f"SELECT id, content FROM messages WHERE chat = ? AND id IN ({marks})", (chat, *ids)
        )
        return dict(rows.fetchall())

    def branch(self, chat: str, last: str) -> list[ChatMessage]:
        """The messages from the beginning to ``last``. Raises ChatNotFound."""
        self._message_row(chat, last)
        rows = self._connection.execute(
            "WITH RECURSIVE up (id, parent, depth) AS ("
            " SELECT id, parent, 0 FROM messages WHERE id = ?"
            " UNION ALL SELECT m.id, m.parent, depth + 1 FROM messages m JOIN up ON m.id = up.parent)"
            f" SELECT {_columns(_MESSAGE_COLUMNS, 'm')} FROM up JOIN messages m ON m.id = up.id ORDER BY up.depth DESC",
            (last,),
        )
        return [_message(row) for row in _dicts(rows)]

    def add(
        self,
        owner: str,
        chat: str,
        messages: Sequence[ChatMessage],
        files: Iterable[tuple[str, bytes]] = (),
    ) -> Chat:
        """Append messages, each below its parent, and show the branch of the last one. ``files``: names and contents of new
        attachments of these messages. Raises ChatNotFound; ChatConflict if the parent is being written."""
        with self._transaction():
            found = self.get(owner, chat)
            if messages and (parent := messages[0].parent) is not None:
                if self._message_row(chat, parent)["status"] == "streaming":
                    raise ChatConflict("the message is still being written: stop it first, or wait")
            for name, content in files:
                self.attachments.put(owner, content, name)
            for message in messages:
                self._add_message(owner, chat, message)
            title = found.title or next(
                (title_of(each.content) for each in messages if each.role == "user"), ""
            )
            self._connection.execute(
                "UPDATE chats SET head = ?, title = ?, updated_at = ? WHERE id = ?",
                (messages[-1].id, title, now(), chat),
            )
        return self.get(owner, chat)

    def _add_message(self, owner: str, chat: str, message: ChatMessage) -> None:
        values = [chat, *(_message_column(message, name) for name in _MESSAGE_FIELDS)]
        number = self._insert("messages", ("chat", *_MESSAGE_COLUMNS), values)
        self.attachments.use(owner, number, (part.digest for part in message.parts if part.digest))

    def save(self, messages: Iterable[ChatMessage]) -> None:
        """Write the state of messages; those that were deleted meanwhile stay deleted."""
        with self._transaction():
            for message in messages:
                self._save(message)

    def _save(self, message: ChatMessage) -> None:
        assignments = ", ".join(f"{_COLUMN.get(name, name)} = ?" for name in _SAVED)
        values = [_message_column(message, name) for name in _SAVED]
        self._connection.execute(
            f"UPDATE messages SET {assignments} WHERE id = ?", (*values, message.id)
        )

    def finish(self, chat: str, message: ChatMessage) -> str:
        """Write the last state of an answer; the title of its chat, "" if it was deleted meanwhile."""
        self.save([message])
        row = self._connection.execute("SELECT title FROM chats WHERE id = ?", (chat,)).fetchone()
        return row[0] if row else ""

    def reopen(self, message: ChatMessage) -> None:
        """Write the state of an answer that is to be continued. Raises ChatConflict if it is being written already."""
        with self._transaction():
            rows = self._connection.execute(
                "SELECT status FROM messages WHERE id = ?", (message.id,)
            )
            if rows.fetchone() in (None, ("streaming",)):
                raise ChatConflict("the answer is being written")
            self._save(message)

    def attach(self, owner: str, content: bytes, name: str) -> Attachment:
        """Store a file that messages can use; what was not used for too long is deleted. Raises ChatsFull."""
        with self._transaction():
            self.attachments.forget_unused()
            found = self.attachments.put(owner, content, name)
        self.attachments.sweep()
        return found

    def delete_message(self, owner: str, chat: str, id: str) -> None:
        """Delete a message and everything below it; the head moves to its neighbours. Raises ChatNotFound. Call :meth:`erase`
        then."""
        with self._deletion():
            head = self.get(owner, chat).head
            parent = self._message_row(chat, id)["parent"]
            below = self.below(chat, id)
            self._connection.executemany("DELETE FROM messages WHERE id = ?", [(x,) for x in below])
            if head in below:
                left = self._leaf(parent) if parent else self._newest_root(chat)
                self._connection.execute("UPDATE chats SET head = ? WHERE id = ?", (left, chat))

    def below(self, chat: str, id: str) -> list[str]:
        """The ids of a message and of everything below it. Raises ChatNotFound."""
        self._message_row(chat, id)
        rows = self._connection.execute(
            "WITH RECURSIVE down (id) AS (SELECT ? UNION ALL"
            " SELECT m.id FROM messages m JOIN down ON m.parent = down.id) SELECT id FROM down",
            (id,),
        )
        return [found for (found,) in rows]

    def _newest_root(self, chat: str) -> str | None:
        row = self._connection.execute(
            "SELECT id FROM messages WHERE chat = ? AND parent IS NULL ORDER BY n DESC LIMIT 1",
            (chat,),
        ).fetchone()
        return self._leaf(row[0]) if row else None

    def _leaf(self, id: str) -> str:
        """The leaf that is reached by the newest children."""
        sql = "SELECT id FROM messages WHERE parent = ? ORDER BY n DESC LIMIT 1"
        while (row := self._connection.execute(sql, (id,)).fetchone()) is not None:
            [id] = row
        return id

    # ---- rows ------------------------------------------------------------------------------------------------------

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._connection)

    @contextmanager
    def _deletion(self) -> Iterator[None]:
        """A transaction after which :meth:`erase` has to be called."""
        with noted_deletion(self._connection):
            yield
            self.attachments.forget_unused()

    def _insert(self, table: str, columns: Sequence[str], values: Sequence[Any]) -> int:
        """Insert a row; its number."""
        marks = ", ".join("?" for _ in columns)
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        return self._connection.execute(sql, values).lastrowid or 0

    def _row(self, owner: str, id: str) -> dict[str, Any]:
        rows = self._connection.execute(
            f"SELECT {_CHAT_ROW} FROM chats WHERE id = ? AND owner = ?", (id, owner)
        )
        for row in _dicts(rows):
            return row
        raise ChatNotFound(f'no chat has the id "{id[:60]}"')

    def _message_row(self, chat: str, id: str) -> dict[str, Any]:
        rows = self._connection.execute(
            f"SELECT {_MESSAGE_ROW} FROM messages WHERE id = ? AND chat = ?", (id, chat)
        )
        for row in _dicts(rows):
            return row
        raise ChatNotFound(f'no message of this chat has the id "{id[:60]}"')

    def _chat(self, row: Mapping[str, Any]) -> Chat:
        fields = {name: row[name] for name in (*_CHAT_COLUMNS, "n_messages")}
        for name in _CHAT_JSON:
            fields[name] = msgspec.json.decode(fields[name])
        for name in _CHAT_FLAGS:
            fields[name] = bool(fields[name])
        return Chat(**fields, temporary=self.temporary)


def _locked(path: Path) -> BaseFileLock:
    """The right to use a database, for this process alone. Raises ChatsUnavailable, OSError."""
    from filelock import FileLock, Timeout  # imports half of asyncio: only the daemon pays for it

    make_folder(path.parent)
    lock = FileLock(f"{path}.lock", mode=0o600)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise ChatsUnavailable(
            f"another ollamapy daemon has the conversations in {path} open: use that one, or set OLLAMAPY_HOME"
        ) from None
    return lock


def is_full(error: BaseException) -> bool:
    """Is a disk without room the reason of an error?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


class Owned(NamedTuple):
    """A chat and its owner."""

    owner: str
    id: str


class Row(NamedTuple):
    """A chat of a list, its place, and the message in which a search found it (None: its title)."""

    chat: Chat
    place: Place
    message: str | None


_HITS = (
    "SELECT chat, message, min(rank) FROM ("
    " SELECT m.chat AS chat, m.id AS message, bm25(message_words) AS rank FROM message_words"
    " JOIN messages m ON m.n = message_words.rowid WHERE message_words MATCH ?"
    " UNION ALL SELECT c.id, NULL, 0 FROM title_words"
    " JOIN chats c ON c.n = title_words.rowid WHERE title_words MATCH ?) GROUP BY chat"
)
"""The best message of each chat that has the words."""


def _columns(names: Iterable[str], table: str) -> str:
    return ", ".join(f"{table}.{name}" for name in names)


_CHAT_ROW = (
    f"{_columns(_CHAT_COLUMNS, 'chats')}, chats.n,"
    " (SELECT count(*) FROM messages WHERE messages.chat = chats.id) AS n_messages"
)
_MESSAGE_ROW = _columns(_MESSAGE_COLUMNS, "messages")


def _dicts(rows: sqlite3.Cursor) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in rows.description]
    return (dict(zip(names, row, strict=True)) for row in rows)


def _column(chat: Chat, name: str) -> Any:
    value = getattr(chat, name)
    return _json(value).decode() if name in _CHAT_JSON else value


def _message_column(message: ChatMessage, name: str) -> Any:
    value = getattr(message, name)
    return _json(value).decode() if name in _MESSAGE_JSON else value


def _message(row: Mapping[str, Any]) -> ChatMessage:
    fields = {name: row[_COLUMN.get(name, name)] for name in _MESSAGE_FIELDS}
    for name in _MESSAGE_JSON:
        fields[name] = msgspec.json.decode(fields[name])
    return msgspec.convert(fields, ChatMessage)


def _is_content(given: Mapping[str, Any]) -> bool:
    """Does a change make the chat a recent one? Looking at another branch or sorting it away does not."""
    return bool(given.keys() - {"head", "pinned", "archived", "folder"})

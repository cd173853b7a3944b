"""The tables of the responses that are kept. Synchronous, for the database's thread.

A response of another owner is not found, like one that does not exist. One that others continue is kept as long as they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...types import Chunk
from ..chats.database import deletion, transaction
from . import conversations
from .values import (
    ENDED,
    MOST_CONTEXT,
    MOST_EARLIER,
    RUNNING,
    Item,
    ItemPage,
    Link,
    Listing,
    PreviousNotFound,
    Response,
    ResponseNotFound,
)

_encode = msgspec.json.Encoder().encode
_COLUMNS = Response.__struct_fields__
_ROW = ", ".join(f"r.{name}" for name in _COLUMNS)
_RUNNING = f"({', '.join(repr(each) for each in RUNNING)})"

_CHAIN = (
    "WITH RECURSIVE up (n, previous, depth) AS ("
    " SELECT n, previous, 0 FROM responses WHERE id = ? AND owner = ?"
    " UNION ALL SELECT r.n, r.previous, depth + 1 FROM responses r"
    " JOIN up ON r.id = up.previous WHERE r.owner = ? AND depth < ?)"
)
"""A response and those that it continues."""

_KEPT = (
    "WITH RECURSIVE kept (id, previous) AS ("
    f" SELECT id, previous FROM responses WHERE created_at >= ? OR status IN {_RUNNING}"
    " UNION SELECT r.id, r.previous FROM responses r JOIN kept ON r.id = kept.previous)"
)
"""The responses that are not too old, and those that they continue."""


class ResponseStore:
    """The responses of one database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def fail_unfinished(self) -> None:
        """Responses that the last daemon was writing have failed; their text is kept."""
        self._connection.execute(
            f"UPDATE responses SET status = 'failed', error = ? WHERE status IN {_RUNNING}",
            (_encode(ENDED).decode(),),
        )

    def add(
        self,
        owner: str,
        response: Response,
        items: Sequence[Item],
        chunks: Sequence[Chunk] = (),
        added: Sequence[Item] = (),
    ) -> None:
        """Store a response with the items of its request. ``added`` are the items that its conversation gets."""
        with transaction(self._connection):
            values = [owner, *(_column(response, name) for name in _COLUMNS)]
            marks = ", ".join("?" for _ in values)
            number = self._connection.execute(
                f"INSERT INTO responses (owner, {', '.join(_COLUMNS)}) VALUES ({marks})", values
            ).lastrowid
            self._connection.executemany(
                "INSERT INTO response_items (response, id, item) VALUES (?, ?, ?)",
                [(number, each.id, each.json) for each in items],
            )
            self._connection.execute(
                "UPDATE responses SET size = ? WHERE n = ?",
                (len(response.head) + sum(len(each.json) for each in items), number),
            )
            self._append(response.id, chunks)
            self._extend(owner, response, added)

    def save(self, states: Iterable[tuple[Response, Sequence[Chunk]]]) -> None:
        """Write the status of responses, and chunks that have come; those that were deleted meanwhile stay deleted."""
        with transaction(self._connection):
            for response, chunks in states:
                self._save(response, chunks)

    def finish(
        self, owner: str, response: Response, chunks: Sequence[Chunk], added: Sequence[Item]
    ) -> None:
        """Write how a response ended. ``added`` are the items that its conversation gets."""
        with transaction(self._connection):
            if self._save(response, chunks):
                self._extend(owner, response, added)

    def _save(self, response: Response, chunks: Sequence[Chunk]) -> bool:
        names = ("status", "ended_at", "error")
        found = self._connection.execute(
            f"UPDATE responses SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?",
            (*(_column(response, name) for name in names), response.id),
        )
        self._append(response.id, chunks)
        return found.rowcount > 0

    def _append(self, id: str, chunks: Sequence[Chunk]) -> None:
        if not chunks:
            return
        data = _encode(chunks)
        self._connection.execute(
            "INSERT INTO response_chunks (response, chunks) SELECT n, ? FROM responses WHERE id = ?",
            (data, id),
        )
        self._connection.execute(
            "UPDATE responses SET size = size + ? WHERE id = ?", (len(data), id)
        )

    def _extend(self, owner: str, response: Response, added: Sequence[Item]) -> None:
        if response.conversation is not None and added:
            with suppress(ResponseNotFound):  # deleted meanwhile
                conversations.append(self._connection, owner, response.conversation, added)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def get(self, owner: str, id: str) -> Response:
        """A response. Raises ResponseNotFound."""
        return _response(self._row(owner, id)[1:])

    def chunks(self, owner: str, id: str) -> list[Chunk]:
        """What the model wrote. Raises ResponseNotFound."""
        return self._chunks(self._row(owner, id)[0])

    def input_items(self, owner: str, id: str, listing: Listing) -> ItemPage:
        """A page of the items of the response's request. Raises ResponseNotFound."""
        number = self._row(owner, id)[0]
        return conversations.page(self._connection, "response_items", "response", number, listing)

    def item(self, owner: str, id: str) -> bytes:
        """The item of a request or a conversation with an id. Raises ResponseNotFound."""
        for table, parent, owned in (
            ("response_items", "response", "responses"),
            ("conversation_items", "conversation", "conversations"),
        ):
            row = self._connection.execute(
                f"SELECT i.item FROM {table} i JOIN {owned} o ON o.n = i.{parent}"
                " WHERE i.id = ? AND o.owner = ? ORDER BY i.n DESC LIMIT 1",
                (id, owner),
            ).fetchone()
            if row is not None:
                found: bytes = row[0]
                return found
        raise ResponseNotFound(f"Item with id '{id[:80]}' not found.")

    def chain(self, owner: str, id: str) -> list[Link]:
        """A response after those that it continues, the first one first.

        Raises PreviousNotFound; InvalidRequest for one that is still being written, and for a chain that is too long.
        """
        _, size = self._connection.execute(
            f"{_CHAIN} SELECT count(*), coalesce(sum(size), 0) FROM up JOIN responses USING (n)",
            (id, owner, owner, MOST_EARLIER),
        ).fetchone()
        if size > MOST_CONTEXT:
            raise InvalidRequest(
                f"the responses before this one have more than {MOST_CONTEXT // 2**20} MiB: begin a new conversation"
            )
        rows = self._connection.execute(
            f"{_CHAIN} SELECT r.n, {_ROW} FROM up JOIN responses r ON r.n = up.n ORDER BY up.depth DESC",
            (id, owner, owner, MOST_EARLIER),
        ).fetchall()
        found = [(number, _response(fields)) for number, *fields in rows]
        self._check_chain(id, [response for _, response in found])
        first = found[0][1]
        base = [] if first.conversation is None else [self._base(owner, first)]
        return base + [
            Link(self._items(number), response, self._chunks(number)) for number, response in found
        ]

    def _check_chain(self, id: str, chain: Sequence[Response]) -> None:
        if not chain:
            raise PreviousNotFound(f"Previous response with id '{id[:80]}' not found.")
        if len(chain) > MOST_EARLIER:
            raise InvalidRequest(
                f"more than {MOST_EARLIER:,} responses come before this one: begin a new conversation"
            )
        if (gone := chain[0].previous) is not None:
            raise PreviousNotFound(
                f"Previous response with id '{gone}' not found: it was deleted, and response '{id[:80]}' continues it."
            )
        if chain[-1].is_running:
            raise InvalidRequest(
                f"response '{id[:80]}' is still being written: wait until it ends, or cancel it"
            )

    def _base(self, owner: str, response: Response) -> Link:
        """The conversation of a response as it was when it began."""
        assert response.conversation is not None
        try:
            found = conversations.numbered(
                self._connection, owner, response.conversation, response.base
            )
        except ResponseNotFound:
            return Link(())  # deleted since
        return Link(found.items)

    def _items(self, number: int) -> list[bytes]:
        rows = self._connection.execute(
            "SELECT item FROM response_items WHERE response = ? ORDER BY n", (number,)
        )
        return [item for (item,) in rows]

    def _chunks(self, number: int) -> list[Chunk]:
        rows = self._connection.execute(
            "SELECT chunks FROM response_chunks WHERE response = ? ORDER BY n", (number,)
        )
        return [each for (data,) in rows for each in msgspec.json.decode(data, type=list[Chunk])]

    # ---- deletion --------------------------------------------------------------------------------------------------

    def delete(self, owner: str, id: str) -> None:
        """Delete a response. Raises ResponseNotFound."""
        with deletion(self._connection):
            number = self._row(owner, id)[0]
            self._delete("SELECT ?", (number,))

    def prune(self, oldest: int, most_bytes: int) -> int:
        """Delete the responses from before ``oldest`` that no later one continues, and the oldest ones beyond ``most_bytes``
        altogether; how many."""
        old = f"{_KEPT} SELECT n FROM responses WHERE id NOT IN (SELECT id FROM kept)"
        over = (
            "SELECT n FROM (SELECT n, status, sum(size) OVER (ORDER BY n DESC) AS total FROM responses)"
            f" WHERE total > ? AND status NOT IN {_RUNNING}"
        )
        found = 0
        for sql, value in ((old, oldest), (over, most_bytes)):
            numbers = [n for (n,) in self._connection.execute(sql, (value,))]
            if numbers:
                with deletion(self._connection):
                    marks = msgspec.json.encode(numbers).decode()
                    self._delete("SELECT value FROM json_each(?)", (marks,))
            found += len(numbers)
        return found

    def _delete(self, numbers: str, values: Sequence[Any]) -> None:
        """Delete the responses of a query for their numbers."""
        for table, column in (
            ("response_items", "response"),
            ("response_chunks", "response"),
            ("responses", "n"),
        ):
            self._connection.execute(f"DELETE FROM {table} WHERE {column} IN ({numbers})", values)

    def _row(self, owner: str, id: str) -> list[Any]:
        row = self._connection.execute(
            f"SELECT r.n, {_ROW} FROM responses r WHERE r.id = ? AND r.owner = ?", (id, owner)
        ).fetchone()
        if row is None:
            raise ResponseNotFound(f"Response with id '{id[:80]}' not found.")
        return list(row)


def _column(response: Response, name: str) -> Any:
    value = getattr(response, name)
    return _encode(value).decode() if name == "error" else value


def _response(fields: Sequence[Any]) -> Response:
    values = dict(zip(_COLUMNS, fields, strict=True))
    values["error"] = msgspec.json.decode(values["error"])
    return msgspec.convert(values, Response, strict=False)

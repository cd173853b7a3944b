"""The tables of conversations of OpenAI's API, and lists of items. Synchronous, for the database's thread.

A conversation of another owner is not found, like one that does not exist.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ...errors import InvalidRequest
from ..chats.database import deletion, transaction
from .values import MOST_CONTEXT, Item, ItemPage, Listing, ResponseNotFound, new_id


class Conversation(msgspec.Struct, frozen=True):
    """A conversation without its items."""

    id: str
    created_at: int
    metadata: Mapping[str, Any]


class NumberedItems(NamedTuple):
    """The items of a conversation, and the number of the last one."""

    items: list[bytes]
    last: int


class ConversationStore:
    """The conversations of one database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def create(
        self, owner: str, metadata: Mapping[str, Any], items: Sequence[Item]
    ) -> Conversation:
        """A new conversation."""
        made = Conversation(new_id("conv"), int(time.time()), metadata)
        with transaction(self._connection):
            self._connection.execute(
                "INSERT INTO conversations (owner, id, created_at, metadata) VALUES (?, ?, ?, ?)",
                (owner, made.id, made.created_at, _json(metadata)),
            )
            append(self._connection, owner, made.id, items)
        return made

    def get(self, owner: str, id: str) -> Conversation:
        """A conversation. Raises ResponseNotFound."""
        _, created_at, metadata = _row(self._connection, owner, id)
        return Conversation(id, created_at, msgspec.json.decode(metadata))

    def update(self, owner: str, id: str, metadata: Mapping[str, Any]) -> Conversation:
        """Replace the metadata. Raises ResponseNotFound."""
        number, *_ = _row(self._connection, owner, id)
        self._connection.execute(
            "UPDATE conversations SET metadata = ? WHERE n = ?", (_json(metadata), number)
        )
        return self.get(owner, id)

    def delete(self, owner: str, id: str) -> None:
        """Delete a conversation with its items. Raises ResponseNotFound."""
        with deletion(self._connection):
            number, *_ = _row(self._connection, owner, id)
            self._connection.execute(
                "DELETE FROM conversation_items WHERE conversation = ?", (number,)
            )
            self._connection.execute("DELETE FROM conversations WHERE n = ?", (number,))

    def add(self, owner: str, id: str, items: Sequence[Item]) -> None:
        """Append items. Raises ResponseNotFound."""
        with transaction(self._connection):
            append(self._connection, owner, id, items)

    def items(self, owner: str, id: str, listing: Listing) -> ItemPage:
        """A page of the items. Raises ResponseNotFound."""
        number, *_ = _row(self._connection, owner, id)
        return page(self._connection, "conversation_items", "conversation", number, listing)

    def item(self, owner: str, id: str, item: str) -> Item:
        """One item. Raises ResponseNotFound."""
        number, *_ = _row(self._connection, owner, id)
        row = self._connection.execute(
            "SELECT id, item FROM conversation_items WHERE conversation = ? AND id = ?",
            (number, item),
        ).fetchone()
        if row is None:
            raise _no_item(item)
        return Item(*row)

    def delete_item(self, owner: str, id: str, item: str) -> Conversation:
        """Delete one item. Raises ResponseNotFound."""
        with deletion(self._connection):
            number, *_ = _row(self._connection, owner, id)
            deleted = self._connection.execute(
                "DELETE FROM conversation_items WHERE conversation = ? AND id = ?", (number, item)
            )
            if not deleted.rowcount:
                raise _no_item(item)
        return self.get(owner, id)

    def numbered(self, owner: str, id: str) -> NumberedItems:
        """All items. Raises ResponseNotFound; InvalidRequest for too many."""
        return numbered(self._connection, owner, id)


def append(connection: sqlite3.Connection, owner: str, id: str, items: Sequence[Item]) -> None:
    """Append items to a conversation, within a transaction. Raises ResponseNotFound."""
    number, *_ = _row(connection, owner, id)
    connection.executemany(
        "INSERT INTO conversation_items (conversation, id, item) VALUES (?, ?, ?)",
        [(number, each.id, each.json) for each in items],
    )


def numbered(
    connection: sqlite3.Connection, owner: str, id: str, last: int = 2**62
) -> NumberedItems:
    """The items of a conversation up to the number ``last``. Raises ResponseNotFound; InvalidRequest for too many."""
    number, *_ = _row(connection, owner, id)
    where = "FROM conversation_items WHERE conversation = ? AND n <= ?"
    [size] = connection.execute(
        f"SELECT coalesce(sum(length(item)), 0) {where}", (number, last)
    ).fetchone()
    if size > MOST_CONTEXT:
        raise InvalidRequest(
            f"the conversation has more than {MOST_CONTEXT // 2**20} MiB: begin a new one"
        )
    rows = connection.execute(f"SELECT n, item {where} ORDER BY n", (number, last)).fetchall()
    return NumberedItems([item for _, item in rows], rows[-1][0] if rows else 0)


def page(
    connection: sqlite3.Connection, table: str, parent: str, number: int, listing: Listing
) -> ItemPage:
    """A page of the items whose ``parent`` has a number. Raises ResponseNotFound for an ``after`` that is none of them."""
    start = _number_of(connection, table, parent, number, listing.after) if listing.after else None
    compare, order = (">", "ASC") if listing.ascending else ("<", "DESC")
    after, values = (f" AND n {compare} ?", [start]) if start is not None else ("", [])
    rows = connection.execute(
        f"SELECT id, item FROM {table} WHERE {parent} = ?{after} ORDER BY n {order} LIMIT ?",
        (number, *values, listing.limit + 1),
    ).fetchall()
    return ItemPage([Item(*row) for row in rows[: listing.limit]], len(rows) > listing.limit)


def _number_of(
    connection: sqlite3.Connection, table: str, parent: str, number: int, id: str
) -> int:
    [found] = connection.execute(
        f"SELECT max(n) FROM {table} WHERE {parent} = ? AND id = ?", (number, id)
    ).fetchone()
    if found is None:
        raise _no_item(id)
    return int(found)


def _row(connection: sqlite3.Connection, owner: str, id: str) -> tuple[int, int, str]:
    row = connection.execute(
        "SELECT n, created_at, metadata FROM conversations WHERE id = ? AND owner = ?", (id, owner)
    ).fetchone()
    if row is None:
        raise ResponseNotFound(f"Conversation with id '{id[:80]}' not found.")
    found: tuple[int, int, str] = row
    return found


def _no_item(id: str) -> ResponseNotFound:
    return ResponseNotFound(f"Item with id '{id[:80]}' not found.")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

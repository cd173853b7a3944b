"""Transactions of the database, and deletion that leaves nothing. Synchronous, for the database's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from .values import now


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All changes of the block, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def deletion(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction after which nothing of the deleted rows is in any file. Where this process is killed before, the next one
    sees to it (:class:`ChatStore`)."""
    with transaction(connection):
        cursor = connection.execute("INSERT INTO erasures VALUES (?)", (now(),))
        yield
    connection.execute("DELETE FROM erasures WHERE rowid = ?", (cursor.lastrowid,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

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
def noted_deletion(connection: sqlite3.Connection) -> Iterator[int]:
    """A transaction with a note that something of the deleted rows is still in a file: its number. Where this process is killed
    before it erases that, the next one does (:class:`ChatStore`)."""
    with transaction(connection):
        note = connection.execute("INSERT INTO erasures VALUES (?)", (now(),)).lastrowid
        yield note or 0


@contextmanager
def deletion(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction after which nothing of the deleted rows is in any file."""
    with noted_deletion(connection) as note:
        yield
    connection.execute("DELETE FROM erasures WHERE rowid = ?", (note,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

"""Transactions, and what deletion leaves: nothing in the file, or a note for the next process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamapy.serving.chats.database import deletion, noted_deletion, transaction
from ollamapy.serving.chats.schema import open_database

SECRET = "a sentence that no one may find again"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "chats.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    opened, _ = open_database(path)
    yield opened
    opened.close()


def conversations(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM conversations").fetchone()[0])


def add(connection: sqlite3.Connection, id: str) -> None:
    connection.execute(
        "INSERT INTO conversations (owner, id, created_at, metadata) VALUES ('', ?, 1, ?)",
        (id, f'{{"text":"{SECRET}"}}'),
    )


def notes(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM erasures").fetchone()[0])


def contents(path: Path) -> bytes:
    return b"".join(each.read_bytes() for each in path.parent.iterdir() if each.is_file())


def test_a_block_is_stored_as_a_whole(connection: sqlite3.Connection) -> None:
    with transaction(connection):
        add(connection, "a")
        add(connection, "b")
    assert conversations(connection) == 2


def test_a_block_that_fails_leaves_nothing(connection: sqlite3.Connection) -> None:
    with pytest.raises(KeyError), transaction(connection):
        add(connection, "a")
        raise KeyError("bug")
    assert conversations(connection) == 0 and not connection.in_transaction


def test_a_transaction_that_ended_by_itself_does_not_hide_the_error(
    connection: sqlite3.Connection,
) -> None:
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        add(connection, "a")
        connection.execute("ROLLBACK")
        raise sqlite3.IntegrityError("twice")
    assert conversations(connection) == 0


def test_deletion_leaves_no_byte_and_no_note(connection: sqlite3.Connection, path: Path) -> None:
    with transaction(connection):
        add(connection, "a")
    assert SECRET.encode() in contents(path)
    with deletion(connection):
        connection.execute("DELETE FROM conversations")
    assert SECRET.encode() not in contents(path) and notes(connection) == 0


def test_a_process_that_is_killed_after_the_deletion_leaves_a_note(
    connection: sqlite3.Connection, path: Path
) -> None:
    with transaction(connection):
        add(connection, "a")
    with noted_deletion(connection) as note:
        connection.execute("DELETE FROM conversations")
    assert note and notes(connection) == 1
    again, _ = open_database(path)
    assert notes(again) == 1 and conversations(again) == 0
    again.close()


def test_a_deletion_that_fails_leaves_neither_a_note_nor_a_gap(
    connection: sqlite3.Connection,
) -> None:
    with transaction(connection):
        add(connection, "a")
    with pytest.raises(KeyError), deletion(connection):
        connection.execute("DELETE FROM conversations")
        raise KeyError("bug")
    assert conversations(connection) == 1 and notes(connection) == 0

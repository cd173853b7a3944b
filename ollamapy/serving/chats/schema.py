"""The tables of the conversations, and opening their file: made where it is missing, set aside where it cannot be used.

A file of a newer version or a damaged one is renamed, with the reason logged, and a new one begun: nothing of it is lost. The
file is readable by its user alone; deleted content is overwritten (secure_delete), and nothing is written to temporary files.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import suppress
from pathlib import Path

from ...files import make_folder

log = logging.getLogger(__name__)

VERSION = 2
"""The version of the tables (PRAGMA user_version)."""

LOG_PAGES = 256
"""Pages of 4,096 bytes in the log, after which it is written back into the file."""

MEMORY = ":memory:"
"""In place of a path: a database that is never written."""

MOST_PAGES_IN_MEMORY = 2**16
"""Pages of 4,096 bytes of that database."""

_TABLES = """
CREATE TABLE chats (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, title TEXT NOT NULL, model TEXT NOT NULL,
    system TEXT NOT NULL, options TEXT NOT NULL, format TEXT NOT NULL, think TEXT NOT NULL, keep_alive TEXT NOT NULL,
    folder TEXT NOT NULL, pinned INTEGER NOT NULL, archived INTEGER NOT NULL, created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, head TEXT
);
CREATE INDEX chats_by_time ON chats (owner, pinned, updated_at);
CREATE TABLE messages (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, chat TEXT NOT NULL, parent TEXT, role TEXT NOT NULL,
    content TEXT NOT NULL, parts TEXT NOT NULL, thinking TEXT NOT NULL, tool_calls TEXT NOT NULL, tool_name TEXT NOT NULL,
    tool_call_id TEXT NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, stop_reason TEXT, error TEXT NOT NULL,
    usage TEXT NOT NULL, pieces TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE INDEX messages_by_chat ON messages (chat, n);
CREATE INDEX messages_by_parent ON messages (parent, n);
CREATE INDEX messages_by_status ON messages (status) WHERE status = 'streaming';
CREATE TABLE erasures (since TEXT NOT NULL);

CREATE TABLE attachments (
    digest TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    created_at TEXT NOT NULL, was_used INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (digest, owner)
);
CREATE TABLE uses (message INTEGER NOT NULL, digest TEXT NOT NULL, owner TEXT NOT NULL);
CREATE INDEX uses_by_digest ON uses (digest, owner);
CREATE INDEX uses_by_message ON uses (message);
CREATE TRIGGER uses_end AFTER DELETE ON messages BEGIN
    DELETE FROM uses WHERE message = old.n;
END;

CREATE VIRTUAL TABLE title_words USING fts5 (title, content='', tokenize='unicode61 remove_diacritics 2');
CREATE TRIGGER title_added AFTER INSERT ON chats BEGIN
    INSERT INTO title_words (rowid, title) VALUES (new.n, words(new.title));
END;
CREATE TRIGGER title_changed AFTER UPDATE OF title ON chats BEGIN
    INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.n, words(old.title));
    INSERT INTO title_words (rowid, title) VALUES (new.n, words(new.title));
END;
CREATE TRIGGER title_removed AFTER DELETE ON chats BEGIN
    INSERT INTO title_words (title_words, rowid, title) VALUES ('delete', old.n, words(old.title));
END;

CREATE VIRTUAL TABLE message_words USING fts5 (content, content='', tokenize='unicode61 remove_diacritics 2');
CREATE TRIGGER message_added AFTER INSERT ON messages WHEN new.status != 'streaming' BEGIN
    INSERT INTO message_words (rowid, content) VALUES (new.n, words(new.content));
END;
CREATE TRIGGER message_left AFTER UPDATE OF content, status ON messages WHEN old.status != 'streaming' BEGIN
    INSERT INTO message_words (message_words, rowid, content) VALUES ('delete', old.n, words(old.content));
END;
CREATE TRIGGER message_changed AFTER UPDATE OF content, status ON messages WHEN new.status != 'streaming' BEGIN
    INSERT INTO message_words (rowid, content) VALUES (new.n, words(new.content));
END;
CREATE TRIGGER message_removed AFTER DELETE ON messages WHEN old.status != 'streaming' BEGIN
    INSERT INTO message_words (message_words, rowid, content) VALUES ('delete', old.n, words(old.content));
END;
"""

_RESPONSE_TABLES = """
CREATE TABLE responses (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, status TEXT NOT NULL, created_at INTEGER NOT NULL,
    head BLOB NOT NULL, background INTEGER NOT NULL, previous TEXT, conversation TEXT, base INTEGER NOT NULL,
    ended_at INTEGER, error TEXT NOT NULL, size INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX responses_by_time ON responses (created_at);
CREATE INDEX responses_by_status ON responses (status) WHERE status IN ('queued', 'in_progress');
CREATE TABLE response_items (n INTEGER PRIMARY KEY, response INTEGER NOT NULL, id TEXT NOT NULL, item BLOB NOT NULL);
CREATE INDEX response_items_by_response ON response_items (response, n);
CREATE INDEX response_items_by_id ON response_items (id);
CREATE TABLE response_chunks (n INTEGER PRIMARY KEY, response INTEGER NOT NULL, chunks BLOB NOT NULL);
CREATE INDEX response_chunks_by_response ON response_chunks (response, n);
CREATE TABLE conversations (
    n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, created_at INTEGER NOT NULL, metadata TEXT NOT NULL
);
CREATE TABLE conversation_items (
    n INTEGER PRIMARY KEY AUTOINCREMENT, conversation INTEGER NOT NULL, id TEXT NOT NULL, item BLOB NOT NULL
);
CREATE INDEX conversation_items_by_conversation ON conversation_items (conversation, n);
CREATE INDEX conversation_items_by_id ON conversation_items (id);
"""

_STEPS = (_TABLES, _RESPONSE_TABLES)
"""What makes the tables of each version from those of the version before."""

# The index holds the messages that are not being written; `words` (indexed) must give the same for the same text for ever.

_WITHOUT_SPACES = re.compile(
    "([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f])"
)


def indexed(text: str) -> str:
    """A text as the full-text index has it: characters of scripts without spaces between words stand alone, so that any part of
    such a text can be found."""
    return _WITHOUT_SPACES.sub(r" \1 ", text)


class Unusable(Exception):
    """The file is damaged, or of a newer version."""


def open_database(path: Path | str) -> tuple[sqlite3.Connection, str]:
    """The database of a file, and a notice for the user where an unusable one was set aside ("" otherwise).

    Raises OSError and sqlite3.Error where none can be made.
    """
    if isinstance(path, str):
        connection = _opened(path)
        connection.execute(f"PRAGMA max_page_count = {MOST_PAGES_IN_MEMORY}")
        return connection, ""
    make_folder(path.parent)
    try:
        return _opened(path), ""
    except Unusable as error:
        aside = _set_aside(path)
        notice = f"the conversations in {path.name} {error}: the file was renamed to {aside.name}, and a new one begun"
        log.warning("%s", notice)
        return _opened(path), notice


def _opened(path: Path | str) -> sqlite3.Connection:
    if isinstance(path, Path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with suppress(OSError):
            path.chmod(0o600)  # -wal and -shm get the file's mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        if isinstance(
            error, sqlite3.OperationalError
        ):  # locked, full, not readable: no fault of its content
            raise
        raise Unusable(f"cannot be read ({error})") from None
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Set the connection up and make the tables. Raises Unusable, sqlite3.Error."""
    connection.create_function("words", 1, indexed, deterministic=True)
    for pragma in (
        "busy_timeout = 5000",
        "secure_delete = ON",
        "temp_store = MEMORY",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        f"wal_autocheckpoint = {LOG_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise Unusable(f"are of version {version}, this program reads up to version {VERSION}")
    [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Unusable(f"are damaged ({found[:200]})")
    for number, step in enumerate(_STEPS[version:], version + 1):
        connection.executescript(f"BEGIN;{step}PRAGMA user_version = {number};COMMIT;")


def _set_aside(path: Path) -> Path:
    """Rename a file and what belongs to it; its new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    return aside

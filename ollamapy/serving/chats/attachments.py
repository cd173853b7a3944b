"""Files attached to conversations: their content by digest beside the database, or in memory, and who has them.

Each owner has an attachment of their own, though two with the same content share a file. One that no message uses is deleted
after KEPT_SECONDS; one that was used, with the last message that uses it. Synchronous, in the database's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from ...digests import digest_of, is_digest
from ...errors import ChatNotFound, ChatsFull
from ...files import replace_file
from ...formats.documents.kinds import type_of
from .values import now, time_text

KEPT_SECONDS = 24 * 3600
"""How long an attachment is kept that no message uses."""

MOST_IN_MEMORY = 256 * 2**20
"""Bytes of all attachments of temporary chats."""


class Attachment(msgspec.Struct, frozen=True):
    """A stored file; ``size`` in bytes."""

    digest: str
    size: int
    media_type: str
    name: str


class Attachments:
    """The attachments of one database. ``folder``: where their content lies, None for memory.

    ``connection`` is the database's; the caller begins and ends transactions.
    """

    def __init__(self, connection: sqlite3.Connection, folder: Path | None) -> None:
        self._connection = connection
        self._folder = folder
        self._memory: dict[str, bytes] = {}

    def put(self, owner: str, content: bytes, name: str) -> Attachment:
        """Store a file; the same content once more gets the new name. Raises OSError, ChatsFull."""
        digest = digest_of(content)
        self._write(digest, content)
        found = Attachment(digest, len(content), type_of(content), name)
        self._connection.execute(
            "INSERT INTO attachments (digest, owner, name, media_type, size, created_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET name = excluded.name, created_at = excluded.created_at",
            (digest, owner, name, found.media_type, found.size, now()),
        )
        return found

    def has(self, owner: str, digest: str) -> bool:
        """Is there such an attachment of this owner?"""
        sql = "SELECT 1 FROM attachments WHERE digest = ? AND owner = ?"
        return self._connection.execute(sql, (digest, owner)).fetchone() is not None

    def get(self, owner: str, digest: str) -> Attachment:
        """An owner's attachment. Raises ChatNotFound."""
        row = self._connection.execute(
            "SELECT digest, size, media_type, name FROM attachments WHERE digest = ? AND owner = ?",
            (digest, owner),
        ).fetchone()
        if row is None:
            raise ChatNotFound(f'no attachment has the digest "{digest[:80]}"')
        return Attachment(*row)

    def read(self, owner: str, digest: str) -> tuple[Attachment, bytes]:
        """An owner's attachment with its content. Raises ChatNotFound, OSError."""
        found = self.get(owner, digest)
        if self._folder is None:
            return found, self._memory[digest]
        return found, self._path(digest).read_bytes()

    def use(self, owner: str, message: int, digests: Iterable[str]) -> None:
        """A message (its number) uses attachments. Raises ChatNotFound."""
        for digest in set(digests):
            self.get(owner, digest)
            values = (message, digest, owner)
            self._connection.execute("INSERT INTO uses VALUES (?, ?, ?)", values)
            self._connection.execute(
                "UPDATE attachments SET was_used = 1 WHERE digest = ? AND owner = ?",
                (digest, owner),
            )

    def forget_unused(self) -> None:
        """Delete the attachments that no message uses any more, and those that none has used for too long."""
        limit = time_text(datetime.now(UTC) - timedelta(seconds=KEPT_SECONDS))
        self._connection.execute(
            "DELETE FROM attachments WHERE (was_used OR created_at < ?) AND NOT EXISTS"
            " (SELECT 1 FROM uses WHERE uses.digest = attachments.digest AND uses.owner = attachments.owner)",
            (limit,),
        )

    def sweep(self) -> None:
        """Remove the content that belongs to no attachment. Raises OSError."""
        rows = self._connection.execute("SELECT DISTINCT digest FROM attachments")
        kept = {digest for (digest,) in rows}
        for digest in self._memory.keys() - kept:
            del self._memory[digest]
        if self._folder is None or not self._folder.is_dir():
            return
        names = {self._path(digest).name for digest in kept}
        for path in self._folder.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _write(self, digest: str, content: bytes) -> None:
        if self._folder is None:
            size = sum(map(len, self._memory.values())) + len(content)
            if digest not in self._memory and size > MOST_IN_MEMORY:
                raise ChatsFull(
                    "temporary chats have too many attachments: delete some of these chats"
                )
            self._memory[digest] = content
        elif not (path := self._path(digest)).exists():
            replace_file(path, content, mode=0o600)

    def _path(self, digest: str) -> Path:
        assert self._folder is not None and is_digest(digest)
        return self._folder / digest.replace(":", "-")

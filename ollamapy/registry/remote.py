"""A file on another machine: its name, address, size and digest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..digests import sha256_hex

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A remote file: its name there (never used as a path here), address, size in bytes and sha256.

    `sha256` (64 hex digits) is None where the server does not know it; then `git_sha1`, the name of
    a git blob, or `etag` tell whether an unfinished download is of the same content. `page` is
    where a person can see it.
    """

    path: str
    url: str = field(repr=False)
    size: int
    sha256: str | None
    git_sha1: str | None = None
    etag: str = ""
    page: str = ""

    @property
    def digest(self) -> str:
        """Its digest; "" where the server does not know it."""
        return f"sha256:{self.sha256}" if self.sha256 is not None else ""

    @property
    def key(self) -> str:
        """The name of its work files, made from its content rather than its address."""
        if self.sha256 is not None:
            return f"sha256-{self.sha256}"
        if self.git_sha1 is not None:
            return f"git-{self.git_sha1}"
        identity = f"{self.url}\n{self.size}\n{self.etag}"
        return f"url-{sha256_hex(identity.encode())}"


def linked_file(headers: Mapping[str, str]) -> tuple[str, int | None] | None:
    """The sha256 and size of a large file, from the headers of the hub's redirect."""
    etag = headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"').lower()
    size = headers.get("X-Linked-Size", "")
    if not _SHA256.fullmatch(etag):
        return None
    return etag, int(size) if size.isdigit() else None

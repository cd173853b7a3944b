"""Read about one remote file without a download: the size behind an address, the content of a small file.

Nothing is written to the disk.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from ..digests import sha256_hex
from ..errors import DigestMismatch, TransferError
from .http import Access, BrokenConnection, Session
from .patience import Patience, ask
from .refusal import refusal, unreachable
from .remote import RemoteFile, linked_file
from .route import IDENTITY, RANGE
from .store import MAX_SMALL


def read_small(
    file: RemoteFile, access: Access, patience: Patience | None = None, limit: int = MAX_SMALL
) -> bytes:
    """The content of a small file, verified; it is not stored. Raises as `fetch` does."""
    if file.size > limit:
        raise TransferError(f"{file.path} has {file.size} bytes, more than the {limit} allowed")
    with Session(access) as session:
        response = ask(session, file.url, patience or Patience())
        if response.status != 200:
            raise refusal(response, access, file.path, file.page)
        try:
            content = response.content(limit)
        except BrokenConnection as error:
            raise unreachable(access.host, str(error)) from None
    check_sums(file, access, sha256_hex(content), git_sum(file.size, content))
    return content


def probe(url: str, access: Access, patience: Patience | None = None) -> RemoteFile:
    """The file at an address that a user typed: its size, and its sha256 if the server sends it.

    Raises TransferError, also if the server does not send the size.
    """
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "model"
    path = "".join(each for each in name if each.isprintable())[:200]
    patience = patience or Patience()
    with Session(access) as session:
        head = None
        with suppress(BrokenConnection):  # some servers refuse HEAD; the GET below decides
            head = session.open(url, method="HEAD", leave_home=False)
            head.close()
        linked = linked_file(head.headers) if head is not None else None
        if linked and linked[1] is not None:
            return RemoteFile(path, url, linked[1], linked[0])
        response = ask(session, url, patience, headers={**IDENTITY, "Range": "bytes=0-0"})
        if response.status not in (200, 206):
            raise refusal(response, access, path, url.partition("?")[0])
        response.close()
        found = RANGE.fullmatch(response.headers.get("Content-Range", ""))
        length = response.headers.get("Content-Length", "")
        if response.status == 206 and found:
            size = int(found[3])
        elif response.status == 200 and length.isdigit():
            size = int(length)
        else:
            raise TransferError(f"{access.host} does not send the size of {path}")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise TransferError(f"{access.host} answers with a web page instead of {path}")
        etag = response.headers.get("ETag") or response.headers.get("Last-Modified", "")
        return RemoteFile(path, url, size, None, etag=etag)


def git_sum(size: int, content: bytes = b"") -> Any:
    return hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False)


def check_sums(file: RemoteFile, access: Access, sha256: str, git: Any) -> None:
    """Raise DigestMismatch unless the sums match the expected ones."""
    if file.sha256 is not None:
        expected, got = file.digest, f"sha256:{sha256}"
    elif file.git_sha1 is not None:
        expected, got = f"git:{file.git_sha1}", f"git:{git.hexdigest()}"
    else:
        return
    if expected != got:
        raise DigestMismatch(
            f"{file.path} from {access.host} is damaged, expected {expected}, got {got}: a proxy or"
            " a mirror may have changed it, try again or from another network"
        )

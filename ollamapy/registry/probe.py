"""Questions about one file elsewhere that need no download: what an address holds, the content of a small file.

Nothing is written.
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
from .route import IDENTITY, RANGE, RemoteFile, linked_file
from .store import MAX_SMALL


def read_small(
    file: RemoteFile, access: Access, patience: Patience | None = None, limit: int = MAX_SMALL
) -> bytes:
    """A small file's content, verified, kept out of the store. Raises as `fetch` does."""
    if file.size > limit:
        raise TransferError(f"{file.path} has {file.size} bytes, more than the {limit} allowed")
    with Session(access) as session:
        answer = ask(session, file.url, patience or Patience())
        if answer.status != 200:
            raise refusal(answer, access, file.path, file.page)
        try:
            content = answer.content(limit)
        except BrokenConnection as error:
            raise unreachable(access.host, str(error)) from None
    check_sums(file, access, sha256_hex(content), git_sum(file.size, content))
    return content


def probe(url: str, access: Access, patience: Patience | None = None) -> RemoteFile:
    """What lies at an address that somebody typed: its size, and its sha256 if the server says.

    Raises TransferError, also if the server does not say how large it is.
    """
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "model"
    path = "".join(each for each in name if each.isprintable())[:200]
    patience = patience or Patience()
    with Session(access) as session:
        head = None
        with suppress(BrokenConnection):  # not everybody answers HEAD; GET has the last word
            head = session.open(url, method="HEAD", leave_home=False)
            head.close()
        linked = linked_file(head.headers) if head is not None else None
        if linked and linked[1] is not None:
            return RemoteFile(path, url, linked[1], linked[0])
        answer = ask(session, url, patience, headers={**IDENTITY, "Range": "bytes=0-0"})
        if answer.status not in (200, 206):
            raise refusal(answer, access, path, url.partition("?")[0])
        answer.close()
        found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        length = answer.headers.get("Content-Length", "")
        if answer.status == 206 and found:
            size = int(found[3])
        elif answer.status == 200 and length.isdigit():
            size = int(length)
        else:
            raise TransferError(f"{access.host} does not say how large {path} is")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise TransferError(f"{access.host} answers with a web page instead of {path}")
        etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
        return RemoteFile(path, url, size, None, etag=etag)


def git_sum(size: int, content: bytes = b"") -> Any:
    return hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False)


def check_sums(file: RemoteFile, access: Access, sha256: str, git: Any) -> None:
    """Raise DigestMismatch unless it is what was announced."""
    if file.sha256 is not None:
        expected, got = f"sha256:{file.sha256}", f"sha256:{sha256}"
    elif file.git_sha1 is not None:
        expected, got = f"git:{file.git_sha1}", f"git:{git.hexdigest()}"
    else:
        return
    if expected != got:
        raise DigestMismatch(
            f"{file.path} from {access.host} is damaged, expected {expected}, got {got}: a proxy or"
            " a mirror may have changed it, try again or from another network"
        )

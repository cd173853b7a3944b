"""A file that a request links to: fetched from public https addresses only, for daemons that are set to do so.

The rules are those of http.Session for a guarded endpoint: https on every hop, at most ten redirects, and no byte is sent to an
address that is not public. Here the size, the type and the time are bounded, and no text of the server gets into an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from ..errors import InvalidRequest, TransferError
from .addresses import host_of, is_public_https, split
from .http import Access, BrokenConnection, Response, Session

MOST_FETCHED = 32 * 2**20
"""Bytes of a file."""

_SECONDS = 10.0  # to connect, and of silence
_TYPES = (
    "image/",
    "text/",
    "audio/",
    "application/pdf",
    "application/octet-stream",
    "binary/octet-stream",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
)


def fetch(url: str, access: Callable[[str], Access] | None = None) -> bytes:
    """The content at an address. Raises InvalidRequest. ``access`` is for tests: how the server is reached."""
    parts = split(url)
    if parts is None or (access is None and not is_public_https(url)):
        raise InvalidRequest(
            f"{host_of(url)[:100]} is refused: files are fetched from public https addresses"
        )
    try:
        with Session((access or _guarded)(url)) as session:
            return _content(session.open(url))
    except (TransferError, BrokenConnection) as error:
        raise InvalidRequest(
            f"the file at {host_of(url)[:100]} cannot be fetched: {error}"
        ) from None


def _guarded(url: str) -> Access:
    parts = urlsplit(url)
    return Access(
        f"{parts.scheme}://{parts.netloc}",
        guarded=True,
        connect_timeout=_SECONDS,
        read_timeout=_SECONDS,
    )


def _content(response: Response) -> bytes:
    """The body of an answer that is a file. Raises TransferError, BrokenConnection."""
    if why := refusal(response.status, response.headers):
        response.close()
        raise TransferError(why)
    return response.content(MOST_FETCHED)


def refusal(status: int, headers: Mapping[str, str]) -> str:
    """Why an answer is not read, from its head; "" if it is."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    length = headers.get("Content-Length", "")
    if status != 200:
        return f"its server answers {status}"
    if kind and not kind.startswith(_TYPES):
        return f"it is of type {ascii(kind[:60])}"
    if length.isdigit() and int(length[:18]) > MOST_FETCHED:
        return f"it is larger than {MOST_FETCHED // 2**20} MiB"
    return ""

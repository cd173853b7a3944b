"""Upload a model: its blobs and manifest to a registry, or its files in a commit to the hub. Blocking.

    registry   HEAD  /v2/{ns}/{model}/blobs/{digest}            200 if it exists
               POST  /v2/{ns}/{model}/blobs/uploads/            202 and a Location
               PATCH {location}   a piece, Content-Range        202 and the next Location; GET returns how much arrived
               PUT   {location}?digest={digest}                 201
               PUT   /v2/{ns}/{model}/manifests/{tag}           201
    hub        POST  /api/repos/create                          200, or 409 if it exists
               POST  /{repo}.git/info/lfs/objects/batch         where each large file goes: one PUT, or a PUT for each part
               POST  /api/models/{repo}/commit/{branch}         NDJSON: a header, small files in base64, large ones by sha256

A piece that did not arrive is sent again, from the offset that the server reports. Tokens come from the registry's token server,
and are sent to the endpoint only (http.py). This module knows nothing about the meaning of a model's layers.

Sources: the OCI distribution specification; Hugging Face's huggingface_hub (LFS batch, commit API).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import SEEK_CUR, SEEK_END, SEEK_SET
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urljoin

from ..errors import AccessDenied, OllamapyError, TransferError, Unauthorized
from ..names import Name
from .http import RETRYABLE, Access, BrokenConnection, Response, Session
from .manifest import MANIFEST_TYPE
from .oci import bearer, token_for
from .patience import Patience, backoff
from .refusal import refusal, server_message, unreachable

PIECE = 64 * 2**20
"""Bytes of one request to a registry."""

TRIES = 5
_MAX_ANSWER = 4 * 2**20
_LFS = "application/vnd.git-lfs+json"


@dataclass(frozen=True, slots=True)
class Blob:
    """A file to upload: `name` is its path on the hub, `digest` is "sha256:<hex>"."""

    path: Path
    digest: str
    size: int
    name: str = ""


Report = Callable[[Blob, int], None]
"""Called with the bytes of a blob that have arrived. What it raises ends the upload."""


class _Slice:
    """A part of a file as the body of a request: it has a length, and reports how much was read."""

    def __init__(
        self, file: BinaryIO, start: int, length: int, sent: Callable[[int], None]
    ) -> None:
        self._file, self._start, self._length, self._sent = file, start, length, sent
        self._at = 0

    def __len__(self) -> int:
        return self._length - self._at

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        base = {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._length}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._at
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        self._sent(self._at)
        return data


class _Remote:
    """One endpoint, with retries: after broken connections, when it is busy, and with a token when it requires one."""

    def __init__(self, access: Access, what: str, page: str, patience: Patience) -> None:
        self._access, self._what, self._page, self._patience = access, what, page, patience
        self._session = Session(access)

    def close(self) -> None:
        self._session.close()

    def once(
        self, method: str, url: str, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a request, and again with a token if one is required. Raises BrokenConnection."""
        if self._patience.cancelled.is_set():
            self._patience.pause(0, "cancelled")
        response = self._session.open(url, method=method, headers=headers, data=data)
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status != 401 or not challenge.lower().startswith("bearer "):
            return response
        response.drain()
        # Requested with the user's credentials, then used instead of them
        with Session(self._access) as asking:
            token = token_for(asking, challenge, self._patience)
        self._session.close()
        self._session = Session(replace(self._access, authorization=bearer(token)))
        if hasattr(data, "seek"):
            data.seek(0)
        return self._session.open(url, method=method, headers=headers, data=data)

    def ask(
        self, method: str, url: str, data: Any = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Send a request; retries broken connections and busy servers. Raises TransferError."""
        for number in range(1, TRIES + 1):
            try:
                response = self.once(method, url, data, headers)
                if response.status not in RETRYABLE or number == TRIES:
                    return response
                why = f"{self._access.host} answers {response.status}"
                response.drain()
            except BrokenConnection as error:
                if error.hopeless or number == TRIES:
                    raise unreachable(self._access.host, str(error)) from None
                why = f"waiting for {self._access.host}: {error}"
            if hasattr(data, "seek"):
                data.seek(0)
            self.wait(number, why)
        raise AssertionError("the last try returns")

    def ask_json(self, url: str, value: Any, headers: Mapping[str, str] | None = None) -> Any:
        """POST a JSON value; returns the JSON value of the response. Raises TransferError."""
        headers = {"Content-Type": "application/json", **(headers or {})}
        response = self.ask("POST", url, json.dumps(value).encode(), headers)
        if response.status not in (200, 201):
            raise self.refused(response)
        return self.value(response)

    def value(self, response: Response) -> Any:
        try:
            return json.loads(response.content(_MAX_ANSWER) or b"null")
        except (ValueError, RecursionError, BrokenConnection):
            raise TransferError(f"{self._access.host} does not answer with JSON") from None

    def wait(self, number: int, why: str) -> None:
        self._patience.pause(backoff(number - 1), why)

    def refused(self, response: Response) -> OllamapyError:
        """The error for a refusal."""
        if response.status == 401:
            return Unauthorized(
                f"{self._access.host} does not let you write {self._what}: give a token that may (for the hub"
                " HF_TOKEN, for a registry what docker login stores)"
            )
        if response.status in (403, 405):
            message = server_message(response, self._access)
            return AccessDenied(
                f"you are not authorized to push {self._what} to {self._access.host}"
                f"{f' ({message})' if message else ''}, create it under a namespace you own"
            )
        return refusal(response, self._access, self._what, self._page)


# A registry


def push_to_registry(
    name: Name,
    manifest: bytes,
    blobs: Sequence[Blob],
    access: Access,
    report: Report,
    patience: Patience | None = None,
    piece: int = PIECE,
) -> None:
    """Upload the blobs that a registry lacks, then the manifest, byte for byte.

    Raises TransferError and its children, what `report` raises, RequestCancelled.
    """
    base = f"{access.endpoint}/v2/{name.namespace}/{name.model}"
    page = f"{access.endpoint}/{name.namespace}/{name.model}"
    remote = _Remote(access, f"'{name.display}'", page, patience or Patience())
    try:
        for blob in blobs:
            _push_blob(remote, base, blob, report, piece)
        url = f"{base}/manifests/{name.tag}"
        response = remote.ask("PUT", url, manifest, {"Content-Type": MANIFEST_TYPE})
        if response.status not in (200, 201, 202):
            raise remote.refused(response)
        response.drain()
    finally:
        remote.close()


def _push_blob(remote: _Remote, base: str, blob: Blob, report: Report, piece: int) -> None:
    response = remote.ask("HEAD", f"{base}/blobs/{blob.digest}")
    response.drain()
    if response.status == 200:
        report(blob, blob.size)
        return
    response = remote.ask("POST", f"{base}/blobs/uploads/", b"")
    if response.status != 202:
        raise remote.refused(response)
    location = _location(response)
    response.drain()
    report(blob, 0)
    with blob.path.open("rb") as file:
        if blob.size > piece:
            location = _push_pieces(remote, location, blob, file, report, piece)
            body: Any = b""
        else:
            body = _Slice(file, 0, blob.size, lambda sent: report(blob, sent))
        end = f"{location}{'&' if '?' in location else '?'}digest={quote(blob.digest, safe='')}"
        response = remote.ask("PUT", end, body, {"Content-Type": "application/octet-stream"})
    if response.status not in (200, 201, 202, 204):
        raise remote.refused(response)
    response.drain()
    report(blob, blob.size)


def _push_pieces(
    remote: _Remote, location: str, blob: Blob, file: BinaryIO, report: Report, most: int
) -> str:
    """Upload a large blob in pieces; returns the address for the final request."""
    offset = failures = 0
    while offset < blob.size:
        length = min(most, blob.size - offset)
        at = offset
        piece = _Slice(file, at, length, lambda sent, at=at: report(blob, at + sent))  # type: ignore[misc]
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{at}-{at + length - 1}",
        }
        try:
            response = remote.once("PATCH", location, piece, headers)
        except BrokenConnection as error:
            failures += 1
            if error.hopeless or failures >= TRIES:
                raise TransferError(f"the upload broke off: {error}, try again later") from None
            remote.wait(failures, f"the upload broke off: {error}")
            location, offset = _stand(remote, location)
            continue
        if response.status in (*RETRYABLE, 416) and failures < TRIES:
            failures += 1
            response.drain()
            remote.wait(failures, f"the registry answers {response.status}")
            location, offset = _stand(remote, location)
            continue
        if response.status not in (200, 201, 202, 204):
            raise remote.refused(response)
        location = _location(response, location)
        response.drain()
        offset += length
        failures = 0
    return location


def _stand(remote: _Remote, location: str) -> tuple[str, int]:
    """The address and offset to resume an upload at, as the registry reports them."""
    response = remote.ask("GET", location)
    if response.status not in (200, 202, 204):
        raise remote.refused(response)
    location = _location(response, location)
    last = response.headers.get("Range", "").rpartition("-")[2]
    response.drain()
    return location, int(last) + 1 if last.isdigit() and last != "0" else 0


def _location(response: Response, before: str = "") -> str:
    found = response.headers.get("Location") or response.headers.get("Docker-Upload-Location", "")
    if not found and before:
        return before
    if not found:
        raise TransferError("the registry does not send an upload address")
    return urljoin(response.url, found)


# The hub


def push_to_hub(
    repo: str,
    files: Sequence[Blob],
    texts: Mapping[str, bytes],
    access: Access,
    report: Report,
    *,
    summary: str,
    branch: str = "main",
    patience: Patience | None = None,
) -> str:
    """Commit large files and small texts, by their paths, to a repository, which is created if missing; returns the commit's page.

    Raises as `push_to_registry`.
    """
    page = f"{access.endpoint}/{repo}"
    remote = _Remote(access, f"'{repo}'", page, patience or Patience())
    try:
        if not access.authorization:
            raise Unauthorized(
                f"pushing to the hub needs a token that may write: make one at"
                f" {access.endpoint}/settings/tokens and set HF_TOKEN"
            )
        _make_repository(remote, access, repo)
        _push_large(remote, access, repo, files, branch, report)
        return _commit(remote, access, repo, files, texts, summary, branch) or page
    finally:
        remote.close()


def _make_repository(remote: _Remote, access: Access, repo: str) -> None:
    user, _, name = repo.partition("/")
    request = {"name": name, "organization": user, "type": "model"}
    headers = {"Content-Type": "application/json"}
    url = f"{access.endpoint}/api/repos/create"
    response = remote.ask("POST", url, json.dumps(request).encode(), headers)
    if response.status == 403:
        # Some hubs refuse the user's own namespace as an organization; and a token may write without the right to create
        found = remote.ask("GET", f"{access.endpoint}/api/models/{repo}")
        found.drain()
        if found.status == 200:
            response.drain()
            return
    if response.status not in (200, 201, 409):
        raise remote.refused(response)
    response.drain()


def _push_large(
    remote: _Remote,
    access: Access,
    repo: str,
    files: Sequence[Blob],
    branch: str,
    report: Report,
) -> None:
    request = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": _hex(file), "size": file.size} for file in files],
        "hash_algo": "sha256",
        "ref": {"name": branch},
    }
    url = f"{access.endpoint}/{repo}.git/info/lfs/objects/batch"
    value = remote.ask_json(url, request, {"Accept": _LFS, "Content-Type": _LFS})
    objects = value.get("objects") if isinstance(value, dict) else None
    found = {each.get("oid"): each for each in objects or () if isinstance(each, dict)}
    for file in files:
        target = found.get(_hex(file))
        if target is None:
            raise TransferError(f"{access.host} does not send an upload address for {file.name}")
        if error := target.get("error"):
            message = error.get("message", "") if isinstance(error, dict) else error
            raise TransferError(f"{access.host} refuses {file.name} ({str(message)[:200]})")
        actions = target.get("actions") or {}
        if upload := actions.get("upload"):
            report(file, 0)
            _push_file(remote, file, upload, report)
            if verify := actions.get("verify"):
                remote.ask_json(
                    urljoin(url, str(verify["href"])), {"oid": _hex(file), "size": file.size}
                )
        report(file, file.size)


def _push_file(remote: _Remote, file: Blob, upload: Mapping[str, Any], report: Report) -> None:
    """Upload a file in one PUT, or in the parts that the hub signed addresses for."""
    href, header = str(upload.get("href")), upload.get("header") or {}
    chunk = str(header.get("chunk_size", ""))
    with file.path.open("rb") as opened:
        if not chunk.isdigit() or not int(chunk):
            body = _Slice(opened, 0, file.size, lambda sent: report(file, sent))
            _put(remote, href, body, {str(k): str(v) for k, v in header.items()})
            return
        parts = []
        for number, start in enumerate(range(0, file.size, int(chunk)), 1):
            length = min(int(chunk), file.size - start)
            body = _Slice(
                opened,
                start,
                length,
                lambda sent, at=start: report(file, at + sent),  # type: ignore[misc]
            )
            address = next((header[k] for k in header if k.isdigit() and int(k) == number), None)
            if address is None:
                raise TransferError(f"the hub sends no address for part {number} of {file.name}")
            response = _put(remote, str(address), body, {})
            parts.append({"partNumber": number, "etag": response.headers.get("ETag", "")})
        remote.ask_json(
            href, {"oid": _hex(file), "parts": parts}, {"Accept": _LFS, "Content-Type": _LFS}
        )


def _put(remote: _Remote, url: str, body: Any, headers: Mapping[str, str]) -> Response:
    response = remote.ask("PUT", url, body, headers)
    if response.status not in (200, 201, 204):
        raise remote.refused(response)
    response.drain()
    return response


def _commit(
    remote: _Remote,
    access: Access,
    repo: str,
    files: Sequence[Blob],
    texts: Mapping[str, bytes],
    summary: str,
    branch: str,
) -> str:
    lines: list[dict[str, Any]] = [
        {"key": "header", "value": {"summary": summary, "description": ""}}
    ]
    for path, text in texts.items():
        encoded = b64encode(text).decode()
        lines.append(
            {"key": "file", "value": {"content": encoded, "path": path, "encoding": "base64"}}
        )
    for file in files:
        large = {"path": file.name, "algo": "sha256", "oid": _hex(file), "size": file.size}
        lines.append({"key": "lfsFile", "value": large})
    body = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    url = f"{access.endpoint}/api/models/{repo}/commit/{quote(branch, safe='')}"
    response = remote.ask("POST", url, body, {"Content-Type": "application/x-ndjson"})
    if response.status not in (200, 201):
        raise remote.refused(response)
    value = remote.value(response)
    return str(value.get("commitUrl", "")) if isinstance(value, dict) else ""


def _hex(blob: Blob) -> str:
    return blob.digest.removeprefix("sha256:")

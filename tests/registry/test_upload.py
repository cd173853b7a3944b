"""Pushes, against a registry and a hub of a few lines on loopback: what arrives, what is asked for, what a refusal says."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ollamapy.errors import AccessDenied, RequestCancelled, TransferError, Unauthorized
from ollamapy.names import Name
from ollamapy.registry.http import Access
from ollamapy.registry.oci import basic
from ollamapy.registry.patience import Patience
from ollamapy.registry.upload import Blob, push_to_hub, push_to_registry

NAME = Name.parse("registry.test/me/model:1")
TOKEN = "Bearer secret"


@dataclass
class Elsewhere:
    """What the other side has got, and how it behaves."""

    url: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    commits: list[list[Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    wants_token: bool = False
    denies: bool = False
    chunk: int = 0  # the hub's parts
    breaks: int = 0  # pieces that are taken in half


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    there: Elsewhere

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode(), Content_Type="application/json")

    def _any(self) -> None:
        there, path = self.there, urlsplit(self.path).path
        there.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/token":
            right = self.headers.get("Authorization") == basic("me", "pass")
            self._json(200 if right else 401, {"token": "secret"} if right else {"error": "who?"})
        elif there.wants_token and self.headers.get("Authorization") != TOKEN:
            realm = f'Bearer realm="{there.url}/token",service="s",scope="repository:me/model:pull,push"'
            self._answer(401, WWW_Authenticate=realm)
        elif there.denies and self.command != "HEAD":
            self._json(403, {"errors": [{"message": "denied"}]})
        elif path.startswith("/v2/"):
            self._registry(path, body)
        else:
            self._hub(path, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _any

    def _registry(self, path: str, body: bytes) -> None:
        there = self.there
        if self.command == "HEAD":
            self._answer(200 if path.rpartition("/")[2] in there.blobs else 404)
        elif self.command == "POST":
            there.uploads[str(len(there.uploads))] = bytearray()
            self._answer(202, Location=f"/v2/up/{len(there.uploads) - 1}?state=a")
        elif path.startswith("/v2/up/"):
            upload = there.uploads[path.rpartition("/")[2]]
            if self.command == "PATCH" and there.breaks:
                there.breaks -= 1
                upload += body[: len(body) // 2]
                self.close_connection = True
                return
            if self.command != "GET":
                upload += body
            if self.command == "PUT":
                digest = parse_qs(urlsplit(self.path).query)["digest"][0]
                right = digest == f"sha256:{hashlib.sha256(upload).hexdigest()}"
                there.blobs[digest] = bytes(upload)
                self._answer(201 if right else 400)
                return
            status = 204 if self.command == "GET" else 202
            self._answer(status, Location=self.path, Range=f"0-{max(len(upload) - 1, 0)}")
        else:
            there.manifests[path] = body
            self._answer(201)

    def _hub(self, path: str, body: bytes) -> None:
        there = self.there
        if path == "/api/repos/create":
            self._json(200, {})
        elif path.endswith("/objects/batch"):
            self._json(200, {"objects": [self._object(e) for e in json.loads(body)["objects"]]})
        elif path.startswith("/lfs/"):
            oid, _, part = path.removeprefix("/lfs/").partition("/")
            if self.command == "POST":  # all parts are there
                parts = sorted(json.loads(body)["parts"], key=lambda each: each["partNumber"])
                joined = b"".join(bytes(there.uploads[f"{oid}/{e['etag']}"]) for e in parts)
                there.blobs[oid] = joined
                self._json(200, {})
            elif part:
                there.uploads[f"{oid}/tag{part}"] = bytearray(body)
                self._answer(200, ETag=f"tag{part}")
            else:
                there.blobs[oid] = body
                self._answer(200)
        elif path == "/verify":
            self._json(200 if json.loads(body)["oid"] in there.blobs else 404, {})
        elif "/commit/" in path:
            there.commits.append([json.loads(line) for line in body.splitlines()])
            self._json(200, {"commitUrl": f"{there.url}/me/model/commit/1"})

    def _object(self, asked: Any) -> Any:
        there, oid = self.there, asked["oid"]
        if oid in there.blobs:
            return asked
        href, header = f"{there.url}/lfs/{oid}", {}
        if there.chunk:
            count = -(-asked["size"] // there.chunk)
            header = {f"{i:05}": f"{href}/{i}" for i in range(1, count + 1)}
            header["chunk_size"] = str(there.chunk)
        actions = {
            "upload": {"href": href, "header": header},
            "verify": {"href": f"{there.url}/verify"},
        }
        return {**asked, "actions": actions}


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    """A registry, and a hub, that take models."""
    found = Elsewhere()
    handler = type("Ours", (Handler,), {"there": found})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def there() -> Iterator[Elsewhere]:
    with elsewhere() as found:
        yield found


def blob(folder: Path, data: bytes, name: str = "") -> Blob:
    path = folder / hashlib.sha256(data).hexdigest()
    path.write_bytes(data)
    return Blob(path, f"sha256:{path.name}", len(data), name)


def impatient(cancelled: threading.Event | None = None) -> Patience:
    return Patience(cancelled or threading.Event(), wait=lambda event, seconds: event.is_set())


def nothing(blob: Blob, done: int) -> None:
    pass


@pytest.mark.parametrize("piece", [1 << 20, 1000, 999])
def test_a_registry_gets_what_it_lacks_and_then_the_manifest(
    there: Elsewhere, tmp_path: Path, piece: int
) -> None:
    large, small = blob(tmp_path, bytes(range(256)) * 16), blob(tmp_path, b"small")
    there.blobs[small.digest] = b"small"
    reports: list[tuple[str, int]] = []
    push_to_registry(
        NAME,
        b"{the manifest}",
        [large, small],
        Access(there.url),
        lambda one, done: reports.append((one.digest, done)),
        impatient(),
        piece,
    )
    assert there.blobs[large.digest] == large.path.read_bytes()
    assert there.manifests == {"/v2/me/model/manifests/1": b"{the manifest}"}
    assert there.requests[-1] == ("PUT", "/v2/me/model/manifests/1")
    assert len(there.uploads) == 1
    assert reports[-1] == (small.digest, small.size) and (large.digest, large.size) in reports


def test_a_piece_that_broke_off_is_sent_again_from_where_it_stands(
    there: Elsewhere, tmp_path: Path
) -> None:
    there.breaks = 3
    large = blob(tmp_path, bytes(range(256)) * 16)
    push_to_registry(NAME, b"m", [large], Access(there.url), nothing, impatient(), 1000)
    assert there.blobs[large.digest] == large.path.read_bytes()
    assert ("GET", "/v2/up/0") in there.requests


def test_a_registry_that_breaks_off_for_ever(there: Elsewhere, tmp_path: Path) -> None:
    there.breaks = 1000
    large = blob(tmp_path, b"x" * 4000)
    with pytest.raises(TransferError, match="broke off"):
        push_to_registry(NAME, b"m", [large], Access(there.url), nothing, impatient(), 1000)
    assert not there.manifests


def test_a_token_is_got_where_the_registry_sends_us(there: Elsewhere, tmp_path: Path) -> None:
    there.wants_token = True
    access = Access(there.url, basic("me", "pass"))
    large = blob(tmp_path, b"x" * 4000)
    push_to_registry(NAME, b"m", [large], access, nothing, impatient(), 1000)
    assert there.manifests and there.requests.count(("GET", "/token")) == 1
    with pytest.raises(Unauthorized):
        push_to_registry(NAME, b"m", [large], Access(there.url), nothing, impatient())


def test_who_may_not_write_is_told(there: Elsewhere, tmp_path: Path) -> None:
    there.denies = True
    with pytest.raises(AccessDenied, match=r"not authorized to push .* \(denied\)"):
        push_to_registry(NAME, b"m", [blob(tmp_path, b"x")], Access(there.url), nothing)


def test_who_leaves_ends_it(there: Elsewhere, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(RequestCancelled):
        push_to_registry(
            NAME, b"m", [blob(tmp_path, b"x")], Access(there.url), nothing, impatient(cancelled)
        )
    assert not there.blobs


@pytest.mark.parametrize("chunk", [0, 1000, 4096])
def test_the_hub_gets_large_files_by_lfs_and_texts_in_the_commit(
    there: Elsewhere, tmp_path: Path, chunk: int
) -> None:
    there.chunk = chunk
    model = blob(tmp_path, bytes(range(256)) * 16, "model-F32.gguf")
    page = push_to_hub(
        "me/model",
        [model],
        {"template": b"{{ .Prompt }}"},
        Access(there.url, TOKEN),
        nothing,
        summary="Upload",
        patience=impatient(),
    )
    assert page.endswith("/commit/1")
    assert there.blobs[model.digest[7:]] == model.path.read_bytes()
    header, text, large = there.commits[0]
    assert header == {"key": "header", "value": {"summary": "Upload", "description": ""}}
    assert b64decode(text["value"]["content"]) == b"{{ .Prompt }}"
    assert large["value"] == {
        "path": "model-F32.gguf",
        "algo": "sha256",
        "oid": model.digest[7:],
        "size": model.size,
    }
    n_put = len([path for method, path in there.requests if re.match("PUT", method)])
    assert n_put == (1 if not chunk else -(-model.size // chunk))


def test_the_hub_wants_a_token(there: Elsewhere, tmp_path: Path) -> None:
    with pytest.raises(Unauthorized, match="set HF_TOKEN"):
        push_to_hub("me/m", [], {}, Access(there.url), nothing, summary="")
    assert not there.requests

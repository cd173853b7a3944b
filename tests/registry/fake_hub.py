"""A hub of our own: the Hugging Face hub, an OCI registry and the servers behind them, on loopback.

    hub    http://127.0.0.1:A   listings, resolve (a redirect), manifests, blobs
    cdn    http://localhost:B   signed addresses; another host name, so that rules about hosts are tried
    alias  http://127.0.0.1:C   the hub by another name: redirects everything to it

Real sockets, real threads. Faults are matched by the order of requests and the offset of bytes, never
by the time of day. Every request is recorded; a token that reaches the CDN or the alias is a leak,
and the fixture in conftest.py fails the test for it.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import math
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from ollamapy.registry.http import Access
from tests.registry.faults import ACTIONS, Fault, Record
from tests.registry.faulty_server import FaultyHandler, Pace

SECRET = b"of the cdn"


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that look like weights: the same for the same numbers."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class _Repo:
    id: str
    branches: dict[str, str]
    commits: dict[str, dict[str, bytes]]
    private: bool = False
    gated: bool = False
    disabled: bool = False


class FakeHub:
    """All three servers. Options are plain attributes, to be set before or between requests."""

    def __init__(self) -> None:
        self.requests: list[Record] = []
        self.leaks: list[str] = []
        self.tokens = {"hf_good"}
        self.faults: list[Fault] = []
        self.page_size = 1000
        self.link_origin = ""  # of the next page; "" is the hub's own
        self.plain_listing = False  # an old mirror that does not know blobs=true
        self.url_life = 3600
        self.url_uses = 0  # responses until a signed address is refused; 0: any number
        self.expiries = math.inf  # how many addresses end that way
        self.head_forbidden = False  # on the CDN, as S3 has it
        self.no_head = False  # on the hub
        self.signed_range = False
        self.direct = False  # the hub sends large files itself
        self.plain: dict[str, bytes] = {}  # files at any path, as on any web server
        self.found: Any = None  # what a search answers, instead of the repositories
        self.realm = ""  # of the registry's tokens; "" asks for none
        self.pace = Pace()
        self._lock = threading.Lock()
        self._repos: dict[str, _Repo] = {}
        self._blobs: dict[str, bytes] = {}
        self._manifests: dict[str, bytes] = {}
        self._uses: dict[str, int] = {}
        self._dead: set[str] = set()
        self._serial = 0
        self._busy = 0
        self._servers = {name: self._serve(name) for name in ("hub", "cdn", "alias")}

    # Addresses

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._servers['hub'].server_port}"

    @property
    def cdn_url(self) -> str:
        return f"http://localhost:{self._servers['cdn'].server_port}"

    @property
    def alias_url(self) -> str:
        return f"http://127.0.0.1:{self._servers['alias'].server_port}"

    def access(self, token: str = "", **changes: Any) -> Access:
        """How to reach the hub, with short times of silence."""
        settings: dict[str, Any] = {
            "endpoint": self.url,
            "authorization": f"Bearer {token}" if token else "",
            "aliases": (self.alias_url,),
            "read_timeout": 5.0,
        }
        return Access(**{**settings, **changes})

    # What there is

    def add_repo(
        self, id: str, files: Mapping[str, bytes], *, branch: str = "main", **state: bool
    ) -> str:
        """A repository, or one more commit of it; the commit."""
        repo = self._repos.setdefault(id.lower(), _Repo(id, {}, {}))
        for key, value in state.items():
            setattr(repo, key, value)
        told = repr((id, len(repo.commits), sorted(files)))
        commit = hashlib.sha1(told.encode()).hexdigest()
        repo.commits[commit] = dict(files)
        repo.branches[branch] = commit
        self._blobs.update({sha256(data): data for data in files.values()})
        return commit

    def add_ollama(
        self, name: str, tag: str, layers: Sequence[tuple[str, bytes]], config: bytes = b"{}"
    ) -> bytes:
        """A model in the registry ("library/gemma"); the manifest."""
        blobs = [config, *(data for _, data in layers)]
        self._blobs.update({sha256(data): data for data in blobs})

        def layer(media_type: str, data: bytes) -> dict[str, Any]:
            return {
                "mediaType": media_type,
                "digest": f"sha256:{sha256(data)}",
                "size": len(data),
            }

        value = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layer("application/vnd.docker.container.image.v1+json", config),
            "layers": [
                layer(f"application/vnd.ollama.image.{kind}", data) for kind, data in layers
            ],
        }
        manifest = json.dumps(value, separators=(",", ":")).encode()
        self.put_manifest(name, tag, manifest)
        return manifest

    def put_manifest(self, name: str, tag: str, manifest: bytes) -> None:
        self._manifests[f"{name}:{tag}"] = manifest

    def fault(self, server: str = "cdn", **action: Any) -> Fault:
        """Let something go wrong, once unless `times` says more."""
        fault = Fault(server, **action)
        self.pace.hurried.clear()
        self.faults.append(fault)
        return fault

    def hurry(self) -> None:
        """Let nothing go wrong any more, and what a ``cap`` slows down go on at full speed."""
        self.faults.clear()
        self.pace.hurried.set()

    # What was asked

    def asked(self, server: str, part: str = "", method: str = "") -> list[Record]:
        return [
            each
            for each in list(self.requests)
            if each.server == server and part in each.path and method in each.method
        ]

    def sent(self, server: str) -> int:
        return sum(each.sent for each in self.asked(server))

    # Life

    def stop(self, name: str) -> int:
        """Let a server be gone: connections are refused. Its port, for `start`."""
        server = self._servers[name]
        server.shutdown()
        server.server_close()
        return server.server_port

    def start(self, name: str, port: int) -> None:
        self._servers[name] = self._serve(name, port)

    def close(self) -> None:
        self.pace.closing.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def _serve(self, name: str, port: int = 0) -> ThreadingHTTPServer:
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub, Handler.name, Handler.pace = hub, name, hub.pace

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass  # clients go away: that is half of what is tested

        server = Server(("127.0.0.1", port), Handler)
        # a poll is what `shutdown` waits for
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        return server

    def match(self, record: Record) -> Fault:
        """All faults that this request meets, as one."""
        met = Fault()
        start = re.match(r"bytes=(\d+)", record.range)
        with self._lock:
            for fault in self.faults:
                if fault.server != record.server or fault.path not in unquote(record.path):
                    continue
                if fault.method not in record.method:
                    continue
                if fault.starts is not None and (not start or int(start[1]) != fault.starts):
                    continue
                fault.seen += 1
                if (fault.nth and fault.seen != fault.nth) or fault.used >= fault.times:
                    continue
                fault.used += 1
                for name in ACTIONS:
                    if value := getattr(fault, name):
                        setattr(met, name, value)
                    elif value == 0 and getattr(met, name) is None:
                        setattr(met, name, value)
                if fault.status:
                    break  # this is the response; what else goes wrong is for the next request
        return met

    def sign(self, digest: str, signed_range: str = "") -> str:
        """A new address of a blob on the CDN."""
        with self._lock:
            self._serial += 1
            serial = self._serial
        expires = int(time.time()) + self.url_life
        signature = _signature(digest, expires, serial, signed_range)
        return (
            f"{self.cdn_url}/xet-bridge/{digest}?Expires={expires}&Serial={serial}"
            f"&Range={quote(signed_range)}&Signature={signature}&Key-Pair-Id=K"
        )

    def expired(self, serial: str) -> bool:
        """Whether a signed address has been used up."""
        with self._lock:
            spent = self.url_uses and self._uses.get(serial, 0) >= self.url_uses
            if spent and serial not in self._dead:
                if self.expiries > 0:
                    self.expiries -= 1
                    self._dead.add(serial)
            return serial in self._dead

    def used(self, serial: str) -> None:
        """Count a use of a signed address, once its response is sent: who is refused later has seen that it worked."""
        with self._lock:
            self._uses[serial] = self._uses.get(serial, 0) + 1


def _signature(digest: str, expires: int, serial: int, signed_range: str) -> str:
    told = f"{digest} {expires} {serial} {signed_range}".encode()
    return hmac.new(SECRET, told, "sha256").hexdigest()


class _Handler(FaultyHandler):
    hub: FakeHub
    name: str

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.record = Record(
            self.name,
            self.command,
            parts.path,
            parse_qs(parts.query, keep_blank_values=True),
            {key.lower(): value for key, value in self.headers.items()},
            self.client_address[1],
            time.monotonic(),
        )
        self.hub.requests.append(self.record)
        self.fault = self.hub.match(self.record)
        token = self.record.headers.get("authorization", "")
        if token and self.name != "hub":
            self.hub.leaks.append(f"{self.name} {self.path}")
            return self.reply(400, text="InvalidArgument: only one auth mechanism allowed")
        if self.fault.hang:
            self.pace.closing.wait(30)
            self.close_connection = True
            return None
        if self.fault.status:
            return self.reply(self.fault.status, self.fault.headers, text=self.fault.text)
        if self.fault.html:
            return self.reply(200, {"Content-Type": "text/html"}, text="<html>Log in here</html>")
        if self.fault.redirect:
            return self.reply(302, {"Location": self.fault.redirect})
        return getattr(self, f"serve_{self.name}")(unquote(parts.path))  # type: ignore[no-any-return]

    # The servers

    def serve_alias(self, path: str) -> None:
        self.reply(307, {"Location": self.hub.url + self.path})

    def serve_hub(self, path: str) -> None:
        if path == "/api/models":
            return self.search()
        if found := re.fullmatch(r"/api/models/((?:[^/]+/)?[^/]+)/revision/(.+)", path):
            return self.listing(found[1], found[2])
        if found := re.fullmatch(r"/api/models/((?:[^/]+/)?[^/]+)/tree/(.+)", path):
            return self.tree(found[1], found[2])
        if found := re.fullmatch(r"/((?:[^/]+/)?[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(found[1], found[2], found[3])
        if found := re.fullmatch(r"/api/resolve-cache/models/(.+)/([0-9a-f]{40})/(.+)", path):
            return self.resolve_cache(found[1], found[2], found[3])
        if path == "/v2/token":
            good = self.record.query.get("scope") == ["repository:library/private:pull"]
            return self.json({"token": "registry-token"} if good else {}, 200 if good else 403)
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            return self.manifest(found[1], found[2])
        if found := re.fullmatch(r"/v2/.+/blobs/sha256:([0-9a-f]{64})", path):
            return self.blob(found[1])
        if path in self.hub.plain:
            return self.ranged(self.hub.plain[path], {"ETag": '"of a plain file"'})
        return self.reply(404, text="Not Found")

    def serve_cdn(self, path: str) -> None:
        digest = path.rpartition("/")[2]
        query = {key: values[0] for key, values in self.record.query.items()}
        try:
            signed = query["Range"]
            expires, serial = int(query["Expires"]), int(query["Serial"])
        except (KeyError, ValueError):
            return self.reply(403, text="<Error><Code>AccessDenied</Code></Error>")
        right = query.get("Signature") == _signature(digest, expires, serial, signed)
        forbidden = self.command == "HEAD" and self.hub.head_forbidden
        if not right or forbidden or self.hub.expired(query["Serial"]):
            return self.reply(403, text="<Error><Code>AccessDenied</Code></Error>")
        if signed and signed != self.record.range:
            return self.reply(403, text="Auth failed: invalid range")
        with self.hub._lock:
            self.hub._busy += 1
            busy = self.hub._busy
        try:
            if self.fault.concurrent and busy > self.fault.concurrent:
                return self.reply(403, text="Too many connections")
            tag = sha256(f"{digest}{self.record.at}".encode())  # 64 digits, and not the content's
            self.ranged(self.hub._blobs[digest], {"ETag": f'"{tag}"'})
            self.hub.used(query["Serial"])
        finally:
            with self.hub._lock:
                self.hub._busy -= 1

    # The hub's answers

    def repo(self, id: str, revision: str) -> tuple[_Repo, str] | None:
        """The repository and commit that are asked for; None when the refusal has been sent."""
        token = self.record.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            message = "Invalid credentials in Authorization header"
            self.refuse(401, "", message)
            return None
        repo = self.hub._repos.get(id.lower())
        if repo is None or (repo.private and not token):
            if token:
                self.refuse(404, "RepoNotFound", "Repository not found")
            else:
                self.refuse(401, "RepoNotFound", "Invalid username or password.")
            return None
        if repo.gated and token != "hf_accepted":
            message = f"Access to model {repo.id} is restricted."
            self.refuse(403 if token else 401, "GatedRepo", message)
            return None
        if repo.disabled:
            self.refuse(403, "", "Access to this resource is disabled.")
            return None
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, commit

    def search(self) -> None:
        token = self.record.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if self.hub.found is not None:
            return self.json(self.hub.found)
        [text], [limit] = self.record.query["search"], self.record.query["limit"]
        hits = [repo for id, repo in self.hub._repos.items() if text.lower() in id]
        values = [
            {
                "id": repo.id,
                "downloads": 7,
                "likes": 1,
                "gated": "auto" if repo.gated else False,
                "private": repo.private,
                "pipeline_tag": "text-generation",
                "lastModified": "2026-01-02T03:04:05.000Z",
                "tags": ["gguf"],
            }
            for repo in hits
            if token or not repo.private
        ]
        return self.json(values[: int(limit)])

    def listing(self, id: str, revision: str) -> None:
        if (found := self.repo(id, revision)) is None:
            return
        repo, commit = found
        blobs = self.record.query.get("blobs") == ["true"] and not self.hub.plain_listing
        siblings = []
        for path, data in repo.commits[commit].items():
            value: dict[str, Any] = {"rfilename": path}
            if blobs:
                value |= {"size": len(data), "blobId": git_sha1(data)}
                if is_large(path):
                    lfs = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
                    value |= {"lfs": lfs, "blobId": git_sha1(b"the pointer of " + data)}
            siblings.append(value)
        self.json({"id": repo.id, "sha": commit, "private": repo.private, "siblings": siblings})

    def tree(self, id: str, revision: str) -> None:
        if (found := self.repo(id, revision)) is None:
            return
        repo, commit = found
        entries: list[dict[str, Any]] = []
        for path, data in sorted(repo.commits[commit].items()):
            if "/" in path:
                folder = path.rpartition("/")[0]
                if not any(each["path"] == folder for each in entries):
                    entries.append({"type": "directory", "path": folder, "size": 0, "oid": "0"})
            entry = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
            if is_large(path):
                entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 135}
            entries.append(entry)
        first = int(self.record.query.get("cursor", ["0"])[0])
        after = first + self.hub.page_size
        headers = {}
        if after < len(entries):
            base = self.hub.link_origin or self.hub.url
            link = f"{base}{self.record.path}?recursive=true&expand=false&cursor={after}"
            headers["Link"] = f'<{link}>; rel="next"'
        self.json(entries[first:after], headers=headers)

    def resolve(self, id: str, revision: str, path: str) -> None:
        if self.command == "HEAD" and self.hub.no_head:
            return self.reply(405)
        if (found := self.repo(id, revision)) is None:
            return None
        repo, commit = found
        data = repo.commits[commit].get(path)
        if data is None:
            return self.refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        if is_large(path) and not self.hub.direct:
            signed = self.record.range if self.hub.signed_range else ""
            headers = {
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(len(data)),
                "X-Linked-Etag": f'"{sha256(data)}"',
                "X-Xet-Hash": sha256(b"xet" + data),
                "Accept-Ranges": "bytes",
                "Location": self.hub.sign(sha256(data), signed),
            }
            return self.reply(302, headers, text="Found. Redirecting to elsewhere")
        if repo.private or "/" not in repo.id or is_large(path):
            return self.ranged(data, {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(data)}"'})
        target = f"/api/resolve-cache/models/{repo.id}/{commit}/{quote(path)}?etag=%22x%22"
        return self.reply(307, {"Location": target})

    def resolve_cache(self, id: str, commit: str, path: str) -> None:
        data = self.hub._repos[id.lower()].commits[commit][path]
        headers = {"ETag": f'"{git_sha1(data)}"', "X-Repo-Commit": commit}
        if self.record.headers.get("accept-encoding", "identity") == "identity":
            return self.ranged(data, headers)
        headers["Content-Encoding"] = "gzip"
        return self.reply(200, headers, body=gzip.compress(data))

    # The registry's

    def manifest(self, name: str, tag: str) -> None:
        if "docker.distribution.manifest.v2" not in self.record.headers.get("accept", ""):
            return self.errors(400, "MANIFEST_INVALID", "manifest invalid")
        authorized = self.record.headers.get("authorization") == "Bearer registry-token"
        if self.record.headers["user-agent"].startswith("ollama") or (
            self.hub.realm and not authorized
        ):
            realm = self.hub.realm or f"{self.hub.url}/v2/token"
            scope = f"repository:{name}:pull"
            challenge = f'Bearer realm="{realm}",service="fake",scope="{scope}"'
            return self.errors(
                401, "UNAUTHORIZED", "access denied", {"WWW-Authenticate": challenge}
            )
        found = self.hub._manifests.get(f"{name}:{tag}")
        if found is None:
            return self.errors(404, "MANIFEST_UNKNOWN", "manifest unknown")
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return self.reply(200, headers, body=found)

    def blob(self, digest: str) -> None:
        data = self.hub._blobs.get(digest)
        if data is None:
            return self.errors(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if len(data) >= 64 * 1024 and not self.hub.direct:
            return self.reply(307, {"Location": self.hub.sign(digest)})
        return self.ranged(data, {})


def is_large(path: str) -> bool:
    """Whether the hub keeps such a file in its large file storage."""
    return path.endswith((".gguf", ".bin", ".safetensors"))

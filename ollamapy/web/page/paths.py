"""The paths of the page: ``GET /`` for a browser, and the page's static files.

A browser accepts text/html and gets the page; every other client of ``GET /`` gets "Ollama is running", as from Ollama. The
files are read once and kept, so a name from outside only selects one of them: it is never a path of the file system. The ETag
of the page itself is the digest of all its files: a page that is open compares it, and reloads after an update.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path as FilePath

from starlette.datastructures import Headers
from starlette.responses import Response

from ...digests import Sha256, sha256_hex
from ...errors import OllamapyError
from ...serving.services import Services
from ..call import Call, Path, Reply
from .html_events import warm_up

STATIC = FilePath(__file__).parent / "static"
INDEX = "index.html"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
"""The media types of the static files; files with other endings are not served."""

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types daemon-html",
    )
)
"""What the page may do: load from this daemon only. HTML enters it in one place (static/blocks.js), by that trusted type."""

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of every file. ``no-cache``: a browser asks each time whether its copy is still the current one."""


class NoSuchFile(OllamapyError):
    """The page has no file of this name."""

    status = 404


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, as it is and compressed. ``etag`` is quoted, as in the header."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


@cache
def static_files(folder: FilePath = STATIC) -> Mapping[str, StaticFile]:
    """The page's files by name. The page itself has the digest of all of them as its ETag. Raises OSError."""
    contents = {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in TYPES
    }
    whole = Sha256()
    for name, content in contents.items():
        whole.update(f"{name} {sha256_hex(content)}\n".encode())
    return {
        name: StaticFile(
            content,
            gzip.compress(content, mtime=0),
            TYPES[FilePath(name).suffix],
            f'"{whole.hex if name == INDEX else sha256_hex(content)}"',
        )
        for name, content in contents.items()
    }


def accepts_html(accept: str) -> bool:
    """Does an Accept header name text/html? ``*/*`` does not: programs send it, too."""
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in ("text/html", "application/xhtml+xml"):
            return not any(_is_zero(each) for each in parameters)
    return False


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", "0.", ".")


def file_answer(file: StaticFile, headers: Headers) -> Response:
    """The response with a file, compressed for clients that accept gzip; 304 without content for those that have it."""
    common = {**HEADERS, "ETag": file.etag, "Vary": "Accept, Accept-Encoding"}
    if file.etag in headers.get("if-none-match", ""):
        return Response(status_code=304, headers=common)
    if "gzip" in headers.get("accept-encoding", ""):
        common["Content-Encoding"] = "gzip"
        return Response(file.compressed, headers=common, media_type=file.media_type)
    return Response(file.content, headers=common, media_type=file.media_type)


async def _root(services: Services, call: Call) -> Reply:
    if accepts_html(call.headers.get("accept", "")):
        warm_up()
        files = await asyncio.to_thread(static_files)
        return file_answer(files[INDEX], call.headers)
    return Response("Ollama is running", media_type="text/plain", headers={"Vary": "Accept"})


async def _file(services: Services, call: Call) -> Reply:
    files = await asyncio.to_thread(static_files)
    name = call.path["name"]
    if name not in files:
        raise NoSuchFile(f"the page has no file {name[:100]!r}")
    return file_answer(files[name], call.headers)


PATHS = (
    Path("/", "GET", _root, "infer"),
    Path("/page/{name}", "GET", _file, "infer"),
)

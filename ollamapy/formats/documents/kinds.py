"""What a file is, by its content: its name and what its sender claims do not count. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from ..media import Format, format_of

Kind = Literal["pdf", "docx", "html", "text"]
"""The kinds of files that have a text. A docx is a zip archive here; its reader sees whether it is one of Word."""

_HEAD = 1024  # bytes in which a PDF's mark may stand, as in its readers

_TYPES: Mapping[Format, str] = {
    "png": "image/png", "jpeg": "image/jpeg", "gif": "image/gif", "bmp": "image/bmp", "webp": "image/webp",
    "heic": "image/heic", "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac",
}  # fmt: skip

_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<!--.{0,2000}?-->|<\?xml.{0,200}?\?>)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def media_type(content: bytes) -> str:
    """The type of an image or a sound; "" for everything else."""
    format = format_of(content)
    return _TYPES[format] if format else ""


def kind_of(content: bytes) -> Kind | None:
    """The kind of a document; None for what has no text that is known here. Decodes the whole of a text: 1 ms for a MB."""
    if b"%PDF-" in content[:_HEAD]:
        return "pdf"
    if content.startswith(b"PK\x03\x04"):
        return "docx"
    if media_type(content) or not is_text(content):
        return None
    return "html" if _HTML.match(content) else "text"


def is_text(content: bytes) -> bool:
    """Whether a file is UTF-8 without NUL, or UTF-16 with a mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding, body = "utf-16", content
    else:
        encoding, body = "utf-8", content
    try:
        return "\0" not in body.decode(encoding)
    except UnicodeDecodeError:
        return False


def type_of(content: bytes) -> str:
    """The media type of any file, for its storage and for messages."""
    if found := media_type(content):
        return found
    match kind_of(content):
        case "pdf":
            return "application/pdf"
        case "docx":
            return _DOCX if b"word/document.xml" in content else "application/zip"
        case None:
            return "application/octet-stream"
    return "text/plain"  # HTML too: no browser shall show it as a page

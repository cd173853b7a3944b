"""What a file is, by its content: its name and what its sender claims do not count. Pure."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["pdf", "docx", "html", "text"]
"""The kinds of files that have a text. A docx is a zip archive here; its reader sees whether it is one of Word."""

_HEAD = 1024  # bytes in which a PDF's mark may stand, as in its readers

_MEDIA = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}

_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:\s|<!--.{0,2000}?-->|<\?xml.{0,200}?\?>)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)

_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def media_type(content: bytes) -> str:
    """The type of an image or a sound; "" for everything else."""
    for signature, found in _MEDIA:
        if content.startswith(signature):
            return found
    if content.startswith(b"RIFF"):
        return _RIFF.get(content[8:12], "")
    if content[4:8] == b"ftyp":
        return "image/heic" if content[8:12] in _HEIF else ""
    if _is_bmp(content):
        return "image/bmp"
    return "audio/mpeg" if _is_mp3(content) else ""


def _is_bmp(content: bytes) -> bool:
    """Two letters are no mark of their own: the size of the second header must be one of the format's."""
    return content.startswith(b"BM") and content[14:18] in (
        b"\x0c\0\0\0", b"\x28\0\0\0", b"\x34\0\0\0", b"\x38\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0",
    )  # fmt: skip


def _is_mp3(content: bytes) -> bool:
    """A frame of layer III without a tag before it: eleven bits of sync, and no reserved value."""
    if len(content) < 4 or content[0] != 0xFF or content[1] & 0xE6 != 0xE2:
        return False
    return content[1] & 0x18 != 0x08 and content[2] >> 4 not in (0, 15) and content[2] & 0x0C != 12


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

"""The pages of a PDF: their texts by pypdf, and as images by pypdfium2. Both are parts of the extra `media`.

Their errors are many, and a damaged file raises what no one foresaw: all become an InvalidRequest. Time and memory are
bounded by the child that this runs in (runner/read_child.py).
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from ...errors import InvalidRequest

_MOST_PAGES = 5_000
_MOST_IMAGES = 20
"""Pages of a document that become images: each takes hundreds of tokens of the context."""
_SIDE = 1024
"""Pixels of the longer side of a page's image."""


@contextmanager
def opened(content: bytes) -> Iterator[Document]:
    """The document. Raises InvalidRequest for one that cannot be read, also while its pages are."""
    try:
        import pypdf
    except ImportError:
        raise InvalidRequest(
            "is a PDF, for which the daemon lacks pypdf: pip install 'ollamapy[media]'"
        ) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # a file could fill the log
    try:
        reader = pypdf.PdfReader(BytesIO(content))
        if reader.is_encrypted and not _unlocks(reader):
            raise InvalidRequest("is encrypted: save it without a password")
        yield Document(content, reader)
    except InvalidRequest:
        raise
    except (MemoryError, RecursionError):
        raise InvalidRequest("is too complex to read") from None
    except Exception as error:  # pypdf's own, and whatever a damaged file makes it raise
        raise InvalidRequest(f"is a damaged PDF ({type(error).__name__})") from None


def _unlocks(reader: Any) -> bool:
    """Whether an encrypted document needs no password to be read. Some ciphers need a package that is not installed."""
    try:
        return bool(reader.decrypt(""))
    except Exception:  # the cipher is not known, or the entry is damaged: neither can be read
        return False


class Document:
    """A PDF that is being read."""

    def __init__(self, content: bytes, reader: Any) -> None:
        self._content = content
        self._reader = reader
        self.n_pages = len(reader.pages)
        if self.n_pages > _MOST_PAGES:
            raise InvalidRequest(f"has {self.n_pages:,} pages, at most {_MOST_PAGES:,} are read")

    def pages(self, images: bool) -> Iterator[tuple[str, bytes]]:
        """The text of each page; with ``images`` the PNG of one without text, of at most _MOST_IMAGES."""
        images_left = _MOST_IMAGES if images else 0
        for number, page in enumerate(self._reader.pages):
            text = str(page.extract_text())
            image = b"" if text.strip() or not images_left else _drawn(self._content, number)
            images_left -= bool(image)
            yield text, image


def _drawn(content: bytes, number: int) -> bytes:
    """A page as a PNG; empty where pypdfium2 is not installed, or cannot draw it."""
    try:
        import pypdfium2
    except ImportError:
        return b""
    try:
        document = pypdfium2.PdfDocument(content)
        page = document[number]
        scale = _SIDE / max(*page.get_size(), 1)
        bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
        channels = bitmap.n_channels
        return png(
            bytes(bitmap.buffer),
            int(bitmap.width),
            int(bitmap.height),
            int(bitmap.stride),
            channels,
        )
    except pypdfium2.PdfiumError:
        return b""


_COLOURS = {1: 0, 3: 2, 4: 6}
"""Channels of a pixel -> PNG's type of colour: grey, RGB, RGBA."""


def png(pixels: bytes, width: int, height: int, stride: int, channels: int) -> bytes:
    """A PNG (RFC 2083) of rows of 8-bit channels, each ``stride`` bytes long."""
    rows = b"".join(
        b"\0" + pixels[at : at + width * channels] for at in range(0, height * stride, stride)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    chunks = (
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(rows, 6)),
        _chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

"""Files of images written byte by byte, so that tests need no library and can lie about the size."""

from __future__ import annotations

import struct
import zlib

_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}


def png(
    width: int,
    height: int,
    *,
    rows: int | None = None,
    depth: int = 8,
    colour: int = 2,
    shade: int = 128,
) -> bytes:
    """A PNG of one shade. ``rows``: how many rows it really has."""
    row = b"\0" + bytes([shade]) * (width * _CHANNELS[colour] * depth // 8)
    pixels = zlib.compress(row * (height if rows is None else rows), 9)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def gif(width: int, height: int) -> bytes:
    """A GIF without a frame."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


def jpeg_head(width: int, height: int) -> bytes:
    """The beginning of a JPEG: what says its size."""
    frame = struct.pack(">HBHHB", 8 + 3 * 3, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"JF" + b"\xff\xc0" + frame

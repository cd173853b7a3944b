"""What a file of an image or a sound says of itself in its first bytes: its format, and how large it is when it is decoded.

Decoders have no useful limit: a PNG of 187 kB can be 64 megapixels, a FLAC of 100 bytes can claim a month. So the size is read
here, out of the header, before a decoder sees the file. Pure; sources: the PNG specification (chunks IHDR and IDAT), ITU T.81 B.2.2
(JPEG's frame header), GIF89a, BITMAPINFOHEADER, RIFF WAVE, and the FLAC format's STREAMINFO.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from ..errors import InvalidRequest

MOST_PIXELS = 50_000_000
MOST_SECONDS = 1800.0
_MOST_SIDE = 65_535
_MOST_DECODED = 4 * MOST_PIXELS
"""Bytes of a decoded PNG, before it becomes 8 bits of red, green and blue."""

ImageFormat = Literal["png", "jpeg", "gif", "bmp", "webp", "heic"]
SoundFormat = Literal["wav", "mp3", "flac"]
Format = ImageFormat | SoundFormat
SOUNDS: tuple[Format, ...] = ("wav", "mp3", "flac")

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif")


_BMP_HEADERS = tuple(struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124))
"""The sizes of the second header: two letters alone are the beginning of many a text."""


class Size(NamedTuple):
    """Pixels of an image."""

    width: int
    height: int


def format_of(data: bytes) -> Format | None:
    """The format of a file by its first bytes; None for one that no model reads."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith(b"RIFF"):
        return {b"WEBP": "webp", b"WAVE": "wav"}.get(data[8:12])  # type: ignore[return-value]
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return "heic"
    if data.startswith(b"BM") and data[14:18] in _BMP_HEADERS:
        return "bmp"
    if data.startswith(b"fLaC"):
        return "flac"
    if data.startswith(b"ID3") or _is_frame(data):
        return "mp3"
    return None


def _is_frame(data: bytes) -> bool:
    """A frame of MPEG audio's layer III: eleven bits of sync, and no reserved version, rate of bits or rate of samples. A text in
    UTF-16 begins with nearly the same bits."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return False
    return data[1] & 0x18 != 0x08 and data[2] >> 4 not in (0, 15) and data[2] & 0x0C != 0x0C


def is_sound(format: Format) -> bool:
    """Is it something to hear, and not to see?"""
    return format in SOUNDS


def check(data: bytes) -> Format:
    """The format of an image or a sound that may be decoded. Raises InvalidRequest for one of no known format, for one that is
    broken where its size is, and for one that is too large."""
    format = format_of(data)
    if format is None:
        raise InvalidRequest(
            "a file is no image (PNG, JPEG, GIF, BMP, WebP, HEIC) and no sound (WAV, MP3, FLAC)"
        )
    if is_sound(format):
        check_seconds(format, data)
    elif (size := image_size(format, data)) is not None:
        check_pixels(size)
    return format


def check_pixels(size: Size) -> None:
    """Raise InvalidRequest for an image that has no pixels or too many."""
    width, height = size
    if not (0 < width <= _MOST_SIDE and 0 < height <= _MOST_SIDE):
        raise InvalidRequest(f"an image of {width} x {height} pixels cannot be read")
    if width * height > MOST_PIXELS:
        raise InvalidRequest(
            f"an image has {width} x {height} pixels, at most {MOST_PIXELS // 1_000_000} megapixels"
            " can be read: make it smaller"
        )


def image_size(format: Format, data: bytes) -> Size | None:
    """The pixels of an image; None where its format does not say them in a fixed place (WebP, HEIC). Raises InvalidRequest."""
    try:
        match format:
            case "png":
                return _png_size(data)
            case "jpeg":
                return _jpeg_size(data)
            case "gif":
                return Size(*struct.unpack_from("<HH", data, 6))
            case "bmp":
                return _bmp_size(data)
    except struct.error:
        raise InvalidRequest(
            f"an image is broken: its {format.upper()} header ends too soon"
        ) from None
    return None


# ---- PNG -------------------------------------------------------------------------------------------------------------

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""A PNG's colour type -> numbers of a pixel."""


def _png_size(data: bytes) -> Size:
    if data[12:16] != b"IHDR":
        raise InvalidRequest("an image is broken: a PNG without its header")
    return Size(*struct.unpack_from(">II", data, 16))


def check_png(data: bytes) -> None:
    """Raise InvalidRequest for a PNG whose pixels are more bytes than its header says: decoders take memory for all of them.

    It is unpacked for that, piece by piece, and nothing of it is kept.
    """
    width, height = _png_size(data)
    depth, colour = data[24], data[25]
    row = (width * _CHANNELS.get(colour, 4) * depth + 7) // 8 + 8
    if row * height > _MOST_DECODED:
        raise InvalidRequest(f"an image has {width} x {height} pixels of {depth} bits, too many")
    left = 2 * row * height + 4096  # twice: interlaced images have shorter rows, but more of them
    unpacker = zlib.decompressobj()
    try:
        for part in _png_parts(data):
            while part:
                left -= len(unpacker.decompress(part, _PIECE))
                part = unpacker.unconsumed_tail
                if left < 0:
                    raise InvalidRequest("an image has more pixels than its PNG header says")
    except zlib.error:
        raise InvalidRequest("an image is broken: the pixels of a PNG cannot be unpacked") from None


_PIECE = 1 << 20


def _png_parts(data: bytes) -> Iterator[bytes]:
    """The bodies of the chunks with pixels."""
    at = 8
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            yield data[at + 8 : at + 8 + size]
        at += 12 + size


# ---- JPEG, BMP -------------------------------------------------------------------------------------------------------

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""JPEG's markers of frame headers."""


def _jpeg_size(data: bytes) -> Size:
    """The first frame header's size."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # alone, or a filling byte
            at += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return Size(width, height)
        (size,) = struct.unpack_from(">H", data, at + 2)
        at += 2 + max(size, 2)
    raise InvalidRequest("an image is broken: a JPEG without a size")


def _bmp_size(data: bytes) -> Size:
    (header,) = struct.unpack_from("<I", data, 14)
    if header == 12:
        return Size(*struct.unpack_from("<HH", data, 18))
    width, height = struct.unpack_from("<ii", data, 18)
    return Size(abs(width), abs(height))  # rows from the top have a negative height


# ---- sounds ----------------------------------------------------------------------------------------------------------

_LEAST_RATE, _MOST_RATE = 4_000, 400_000


def seconds_of(format: Format, data: bytes) -> float:
    """How long a sound is. Raises InvalidRequest for one that is broken where its length is."""
    try:
        return {"wav": _wav_seconds, "flac": _flac_seconds, "mp3": _mp3_seconds}[format](data)
    except struct.error:
        raise InvalidRequest(
            f"a sound is broken: its {format.upper()} header ends too soon"
        ) from None


def check_seconds(format: Format, data: bytes) -> None:
    """Raise InvalidRequest for a sound that is broken where its length is, or longer than MOST_SECONDS."""
    if (seconds := seconds_of(format, data)) > MOST_SECONDS:
        raise InvalidRequest(
            f"a sound has {seconds:,.0f} seconds, at most {MOST_SECONDS:,.0f}: send it in parts"
        )


def _wav_seconds(data: bytes) -> float:
    at, rate, block = 12, 0, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == b"fmt ":
            _, channels, rate, _, block = struct.unpack_from("<HHIIH", data, at + 8)
            _check_rate(rate)
            if not (0 < channels <= 32 and 0 < block <= 1024):
                break
        elif kind == b"data" and block:
            return float(min(size, len(data)) / block / rate)
        at += 8 + size + size % 2
    raise InvalidRequest("a sound is broken: a WAV without samples")


def _flac_seconds(data: bytes) -> float:
    """By the first block, which must be STREAMINFO."""
    if len(data) < 42 or data[4] & 0x7F != 0:
        raise InvalidRequest("a sound is broken: a FLAC without its header")
    (packed,) = struct.unpack_from(">Q", data, 18)
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    _check_rate(rate)
    return float(samples / rate)


_MP3_RATES = (44_100, 48_000, 32_000)
_MP3_KBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5, layer III
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1, layer III
)


def _mp3_seconds(data: bytes) -> float:
    """The sum of the frames, or what the first one claims of all (Xing's header), whichever is more."""
    at, seconds, claimed = _after_id3(data), 0.0, 0.0
    while at + 4 <= len(data) and seconds <= MOST_SECONDS:
        frame = _mp3_frame(data, at)
        if frame is None:
            at = data.find(b"\xff", at + 1)
            if at < 0:
                break
            continue
        size, duration = frame
        if not seconds:
            claimed = _xing_frames(data[at : at + size]) * duration
        seconds += duration
        at += size
    if not seconds:
        raise InvalidRequest("a sound is broken: an MP3 without frames")
    return max(seconds, claimed)


def _after_id3(data: bytes) -> int:
    """Where the frames begin: after the tag, whose size has seven bits in a byte."""
    if not data.startswith(b"ID3") or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _mp3_frame(data: bytes, at: int) -> tuple[int, float] | None:
    """The bytes and the seconds of the frame of layer III that begins here; None where none does."""
    if data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    version, bits, index = data[at + 1] >> 3 & 3, data[at + 2] >> 4, data[at + 2] >> 2 & 3
    if version == 1 or bits in (0, 15) or index == 3:
        return None
    first = version == 3
    rate = _MP3_RATES[index] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if first else 576
    size = samples // 8 * _MP3_KBITS[first][bits] * 1000 // rate + (data[at + 2] >> 1 & 1)
    return size, samples / rate


def _xing_frames(frame: bytes) -> int:
    at = max(frame.find(b"Xing", 4, 64), frame.find(b"Info", 4, 64))
    return int.from_bytes(frame[at + 8 : at + 12]) if at >= 0 and frame[at + 7 : at + 8] else 0


def _check_rate(rate: int) -> None:
    if not _LEAST_RATE <= rate <= _MOST_RATE:
        raise InvalidRequest(
            f"a sound has {rate} samples a second, from {_LEAST_RATE:,} can be read"
        )

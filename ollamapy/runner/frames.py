"""Frames: how messages travel on the pipes between the daemon and its child processes, in both directions.

    length: 4 bytes, little endian | body: one msgpack map, whose "type" names the message; paths are bytes

All children use this format, and both ends use this module. A length above the limit is refused before memory is taken for it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

MAX_FRAME = 256 * 1024 * 1024
"""Bytes of a body. A longer frame is a defect or an attack, and ends the connection."""

_LENGTH = struct.Struct("<I")


def _encode_path(value: Any) -> bytes:
    """A path as the system has it: not all of them are UTF-8."""
    if isinstance(value, Path):
        return os.fsencode(value)
    raise NotImplementedError(f"a frame cannot hold a {type(value).__name__}")


def _decode_path(kind: type, value: Any) -> Any:
    if kind is not Path or not isinstance(value, bytes):
        raise ValueError("a path must be bytes")
    return Path(os.fsdecode(value))


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)


class Frame(msgspec.Struct, frozen=True, omit_defaults=True, array_like=False, tag=True):
    """Base of all messages."""


class FrameTooLong(ValueError):
    """A message that is longer than its reader accepts."""


def encode(frame: Frame, limit: int = MAX_FRAME) -> bytes:
    """The frame as it goes on the pipe, its length before it. Raises FrameTooLong."""
    body = _encoder.encode(frame)
    if len(body) > limit:
        raise FrameTooLong(f"frame of {len(body)} bytes, at most {limit}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cut a byte stream back into messages: ``feed`` what arrived, get the messages that it completes.

    ``messages`` is the union of the frames that may come. Raises ValueError when the bytes cannot be such frames (msgspec's
    errors are ValueErrors too); a reader that has raised is of no further use.
    """

    def __init__(self, messages: Any, limit: int = MAX_FRAME) -> None:
        self._decode = _decoder(messages)
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The messages that are complete with ``data``, in order."""
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > self._limit:
                raise FrameTooLong(f"frame of {length} bytes, at most {self._limit}")
            begin, end = start + _LENGTH.size, start + _LENGTH.size + length
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                frames.append(self._decode(view[begin:end]))
            start = end
        del self._buffer[:start]
        return frames


@cache
def _decoder(messages: Any) -> Callable[[Any], Frame]:
    return msgspec.msgpack.Decoder(messages, dec_hook=_decode_path).decode

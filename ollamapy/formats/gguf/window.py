"""The part of a file that is being read, moved forward as needed. No count or length is trusted before it is checked."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from .refusal import refuse

MAX_STRING_BYTES = 16 * 2**20
_WINDOW = 256 * 2**10
_U64 = struct.Struct("<Q")


class Window:
    """The part of the file in memory, moved forward as needed.

    `data` are the bytes at file position `start`; `position` counts within `data` and may be past
    its end after a skip, but never past the file's.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        self.data = b""
        self.start = 0
        self.position = 0

    @property
    def offset(self) -> int:
        return self.start + self.position

    @property
    def left(self) -> int:
        return self.size - self.offset

    def fill(self, length: int) -> None:
        """Make the next `length` bytes available in `data` at `position`."""
        if len(self.data) - self.position >= length:
            return
        if length > self.left:
            refuse("it ends in the middle of its header")
        self.start, self.position = self.offset, 0
        self.file.seek(self.start)
        self.data = _read_fully(self.file, max(length, _WINDOW))
        if len(self.data) < length:  # it was cut short while we read
            refuse("it ends in the middle of its header")

    def peek(self, length: int) -> bytes:
        if length > self.left:
            refuse("it is too short to be a GGUF file")
        self.fill(length)
        return self.data[self.position : self.position + length]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        self.fill(layout.size)
        values = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values

    def take(self, length: int) -> bytes:
        self.fill(length)
        self.position += length
        return self.data[self.position - length : self.position]

    def skip(self, length: int) -> None:
        if length > self.left:
            refuse("it ends in the middle of its header")
        self.position += length

    def string(self, longest: int) -> bytes:
        (length,) = self.unpack(_U64)
        if length > longest:
            refuse(f"it has a string of {length} bytes")
        return self.take(length)

    def skip_distinct_strings(self, count: int) -> bytes | None:
        """Pass over `count` strings; the first that is there a second time, None where all differ."""
        seen: set[bytes] = set()
        twice = None
        for _ in range(count):
            text = self.string(MAX_STRING_BYTES)
            if text in seen and twice is None:
                twice = text
            seen.add(text)
        return twice

    def skip_strings(self, count: int) -> None:
        """Pass over `count` strings. The loop that vocabularies spend their time in."""
        unpack, data, position = _U64.unpack_from, self.data, self.position
        last = len(data) - 8
        for _ in range(count):
            if position > last:
                self.position = position
                self.fill(8)
                data, position = self.data, self.position
                last = len(data) - 8
            length = unpack(data, position)[0]
            if length > MAX_STRING_BYTES:
                refuse(f"it has a string of {length} bytes")
            position += 8 + length
        self.position = position
        self.skip(0)  # did the last string end inside the file?


def _read_fully(file: BinaryIO, length: int) -> bytes:
    """Up to `length` bytes: an unbuffered file may give fewer at a time."""
    data = file.read(length)
    while len(data) < length and (more := file.read(length - len(data))):
        data += more
    return data

"""Split a large JSON file into its chats while it arrives, without decoding it as a whole. Pure.

    [{...}, {...}]                      each object of the list
    {"version": 1, "chats": [{...}]}    each object of the list "chats"
    {...}                               the object itself, if it has no such list

Only strings and brackets are looked at: whether an element is JSON, its decoder finds out.
"""

from __future__ import annotations

import re

from ...errors import InvalidRequest

MOST_ELEMENT = 64 * 2**20
"""Bytes of one chat."""

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)
_REST = re.compile(rb'(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_KEY = b'"chats"'
_NOWHERE = -1


class Elements:
    """Feed the pieces of a file; each call returns the elements that are complete."""

    def __init__(self) -> None:
        self._depth = 0
        self._level = 1  # the depth in which the elements lie; 0: the file's one object
        self._open: list[bytes] | None = None  # the pieces of the element that has begun
        self._size = 0
        self._in_string = self._escaped = False
        self._string = b""  # the last string of the file's one object, which may be a key

    @property
    def is_open(self) -> bool:
        """Is something still to be closed?"""
        return self._in_string or self._depth != 0

    def feed(self, data: bytes) -> list[bytes]:
        """The elements that end in this piece. Raises InvalidRequest for one that is too large."""
        found: list[bytes] = []
        at = self._end_string(data) if self._in_string else 0
        kept = 0  # what is before was taken into the open element, or belongs to none
        while not self._in_string and (token := _TOKEN.search(data, at)):
            at = token.end()
            first = token[0][:1]
            if first == b'"':
                self._begin_string(token[0])
            elif first in b"[{":
                if self._begins(first):
                    self._open, self._size, kept = [], 0, token.start()
                self._depth += 1
            else:
                self._depth -= 1
                if self._open is not None and self._depth == self._level:
                    found.append(b"".join([*self._open, data[kept:at]]))
                    self._open = None
                if self._level == 2 and self._depth == 1:
                    self._level = _NOWHERE  # the list of chats has ended
        self._keep(data[kept:])
        return found

    def _begins(self, bracket: bytes) -> bool:
        """Does an element begin with this bracket?"""
        if self._depth == 0:
            self._level = 0 if bracket == b"{" else 1
            return bracket == b"{"
        if self._depth == 1 and self._level == 0 and bracket == b"[" and self._string == _KEY:
            self._open, self._level = None, 2
        return bracket == b"{" and self._depth == self._level and self._open is None

    def _begin_string(self, text: bytes) -> None:
        """Take note of a string, or of the part of it that is in this piece."""
        closed = len(text) > 1 and text.endswith(b'"') and not _is_escaped(text)
        self._in_string = not closed
        self._escaped = not closed and _is_escaped(text + b'"')
        if self._depth == 1:
            self._string = text[: len(_KEY) + 1]

    def _end_string(self, data: bytes) -> int:
        """Where the string that began in an earlier piece ends; the end of the data if it goes on."""
        start = 1 if self._escaped and data else 0
        rest = _REST.match(data, start)
        assert rest is not None
        closed = rest[0].endswith(b'"') and not _is_escaped(rest[0])
        self._in_string = not closed
        self._escaped = not closed and _is_escaped(rest[0] + b'"')
        if self._depth == 1:
            self._string = (self._string + data[: rest.end()])[: len(_KEY) + 1]
        return rest.end()

    def _keep(self, data: bytes) -> None:
        if self._open is None:
            return
        self._size += len(data)
        if self._size > MOST_ELEMENT:
            raise InvalidRequest(f"a chat of the file has more than {MOST_ELEMENT // 2**20} MiB")
        self._open.append(data)


def _is_escaped(text: bytes) -> bool:
    """Is the last character of a text escaped by a backslash before it?"""
    before = text[:-1]
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1

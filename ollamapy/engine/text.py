"""Tokens' bytes in, clean text out: UTF-8 characters cut across tokens, and stop strings.

Pure. ``feed`` returns what may be shown; what could still become part of a character or of a stop string is held back.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer as it grows; ``stopped`` is the stop string that is complete, if one is.

    Invalid UTF-8 becomes U+FFFD; an incomplete character at the very end is dropped. Text from a stop string on is dropped.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._bytes = b""
        self._held = ""
        self.stopped = ""

    def feed(self, piece: bytes) -> str:
        """The text that is safe to show after another token's bytes."""
        data = self._bytes + piece if self._bytes else piece
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._bytes = data[used:]
        return self._until_stop(text) if self._stops else text

    def flush(self) -> str:
        """What was held back, when no more tokens come."""
        held, self._held, self._bytes = self._held, "", b""
        return held

    def _until_stop(self, text: str) -> str:
        text = self._held + text
        self._held = ""
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            at, self.stopped = min(found)
            return text[:at]
        keep = max(_overlap(text, stop) for stop in self._stops)
        if keep:
            self._held = text[-keep:]
            return text[:-keep]
        return text


class Awaited:
    """Looks for a text in an answer while it grows."""

    def __init__(self, text: str) -> None:
        self._wanted = text.encode()
        self._tail = b""

    def feed(self, piece: bytes) -> bytes | None:
        """What follows the text in these bytes, once it is complete; None before."""
        data = self._tail + piece
        at = data.find(self._wanted)
        if at >= 0:
            return data[at + len(self._wanted) :]
        self._tail = data[max(0, len(data) - len(self._wanted) + 1) :]
        return None


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning of ``stop`` (never all of it)."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0

"""The HTML of stored texts: what was asked for lately is kept in memory, so that a page that opens again need not wait for it."""

from __future__ import annotations

from collections import OrderedDict

from ...digests import digest_of
from .markdown import rendered

MOST_KEPT = 8_000_000
"""Characters of HTML that are kept."""


class KeptHtml:
    """The HTML of texts, found by their digests. What was not asked for longest is forgotten first. For one thread."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._size = 0
        self._found: OrderedDict[str, list[str]] = OrderedDict()

    def blocks(self, text: str) -> list[str]:
        """The HTML of a complete text, block by block."""
        digest = digest_of(text.encode("utf-8", "replace"))
        if digest in self._found:
            self._found.move_to_end(digest)
            return self._found[digest]
        made = self._found[digest] = rendered(text)
        self._size += _size(made)
        while self._size > self._most:
            _, forgotten = self._found.popitem(last=False)
            self._size -= _size(forgotten)
        return made


def _size(blocks: list[str]) -> int:
    return 200 + sum(map(len, blocks))  # an empty text takes some memory, too

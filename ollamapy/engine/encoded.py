"""Encoded images and sounds: the rows that the projector made of them, kept so that nothing is encoded twice.

A question about the image of an earlier one needs its rows again where the slot that had them is taken. Pure, but for a lock: the
engine's thread adds, the threads that read prompts ask.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any


class Encoded:
    """Rows by the digest of their inset, of at most ``budget`` bytes together; those unused for longest go first."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._rows: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> int:
        """Bytes that they take."""
        return self._size

    def has(self, digest: bytes) -> bool:
        """Are the rows of this inset there?"""
        with self._lock:
            return digest in self._rows

    def get(self, digest: bytes) -> Any:
        """The rows of an inset; None where they are not there."""
        with self._lock:
            found = self._rows.get(digest)
            if found is None:
                return None
            self._rows.move_to_end(digest)
            return found[0]

    def add(self, digest: bytes, rows: Any, size: int) -> None:
        """Keep rows of ``size`` bytes, unless they are more than the budget."""
        with self._lock:
            if size > self._budget or digest in self._rows:
                return
            self._rows[digest] = rows, size
            self._size += size
            while self._size > self._budget:
                _, (_, gone) = self._rows.popitem(last=False)
                self._size -= gone

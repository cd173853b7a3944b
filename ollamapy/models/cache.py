"""A cache of values by digest, kept on the disk: the next process need not derive them again.

A value belongs to a digest and so stays right while the program stays the same; another version begins with an empty cache. A file
that is missing, damaged or cannot be written costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from .. import __version__
from ..files import replace_file

MAX_FILE = 64 * 2**20
"""Bytes: a hundred thousand models."""

_FORMAT = f"2 {__version__}"

Value = TypeVar("Value")


class DigestCache(Generic[Value]):
    """Values of one type, by digest. With ``path`` None they last as long as the process.

    For several threads: two that derive the same value at once derive equal ones.
    """

    def __init__(self, path: Path | None, kind: type[Value]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(tuple[str, dict[str, kind]])  # type: ignore[valid-type]
        self._values: dict[str, Value] | None = None
        self._changed = False

    def get(self, digest: str) -> Value | None:
        return self._all().get(digest)

    def put(self, digest: str, value: Value) -> None:
        self._all()[digest] = value
        self._changed = True

    def keep(self, digests: Iterable[str]) -> None:
        """Forget all others, and write the file if anything changed."""
        values = self._all()
        for digest in set(values) - set(digests):
            values.pop(digest, None)
            self._changed = True
        if self._changed and self._path is not None:
            self._changed = False
            with suppress(OSError):
                replace_file(self._path, msgspec.json.encode((_FORMAT, dict(values))))

    def _all(self) -> dict[str, Value]:
        if self._values is None:
            self._values = self._read()
        return self._values

    def _read(self) -> dict[str, Value]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                format, values = self._decoder.decode(file.read(MAX_FILE))
        except (OSError, ValueError, RecursionError):
            return {}
        return values if format == _FORMAT else {}

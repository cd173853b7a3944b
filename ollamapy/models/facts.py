"""What the list of models says of each, remembered on the disk: a thousand headers take a second or two to read.

A fact is kept by the digest of the model's manifest and so cannot become wrong while the program stays the same; another
version of it begins anew. The file is a cache: one that is missing, damaged or cannot be written costs time and nothing else.
Knows nothing of how facts are found out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from .. import __version__

MAX_FILE = 64 * 2**20
"""Bytes: a hundred thousand models."""

_FORMAT = f"1 {__version__}"

Fact = TypeVar("Fact")


class Facts(Generic[Fact]):
    """Values of one type, by digest. ``path`` is None for facts that last as long as the process.

    For several threads: what two of them find out at once is the same.
    """

    def __init__(self, path: Path | None, kind: type[Fact]) -> None:
        self._path = path
        self._decoder = msgspec.json.Decoder(tuple[str, dict[str, kind]])  # type: ignore[valid-type]
        self._known: dict[str, Fact] | None = None
        self._changed = False

    def get(self, digest: str) -> Fact | None:
        return self._all().get(digest)

    def put(self, digest: str, fact: Fact) -> None:
        self._all()[digest] = fact
        self._changed = True

    def keep(self, digests: Iterable[str]) -> None:
        """Forget all others, and write what is new to the disk."""
        known = self._all()
        for digest in set(known) - set(digests):
            known.pop(digest, None)
            self._changed = True
        if self._changed and self._path is not None:
            self._changed = False
            with suppress(OSError):
                self._write(self._path, dict(known))

    def _all(self) -> dict[str, Fact]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> dict[str, Fact]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                format, known = self._decoder.decode(file.read(MAX_FILE))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if format == _FORMAT else {}

    def _write(self, path: Path, known: dict[str, Fact]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(msgspec.json.encode((_FORMAT, known)))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

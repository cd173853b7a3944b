"""Values in a folder, a file for each, so that they outlive the process.

    <folder>/                       0700
      <digest of the name>.value    0600; msgpack, written whole or not at all

Any file may vanish at any time; one that cannot be read is deleted. All work with files happens in one thread, in the order of the
calls. Which values are kept, and for how long, is decided by who calls.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from ..digests import sha256_hex
from ..files import replace_file

log = logging.getLogger(__name__)

T = TypeVar("T")

_SUFFIX = ".value"


class Logged(Generic[T]):
    """The values of one type in a folder: of what is read back at most ``most`` values, and none of more than ``most_bytes``."""

    def __init__(self, folder: Path, type: type[T], most: int, most_bytes: int) -> None:
        self._folder, self._most, self._most_bytes = folder, most, most_bytes
        self._decoder = msgspec.msgpack.Decoder(type)
        self._wanted: dict[str, T | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="logged values")

    def put(self, name: str, value: T) -> None:
        """Write a value in place of the one with its name, soon."""
        self._want(name, value)

    def drop(self, name: str) -> None:
        """Delete a value, soon."""
        self._want(name, None)

    def read(self) -> list[T]:
        """All values, in no order; waits for what is being written. Others than these are deleted."""
        return self._thread.submit(self._read).result()

    def close(self) -> None:
        """Wait until all is written."""
        self._thread.shutdown()

    # ---- in the thread ---------------------------------------------------------------------------------------------

    def _want(self, name: str, value: T | None) -> None:
        """Let the thread write or delete; of several orders for one name, it carries out the last."""
        self._wanted[name] = value
        self._thread.submit(self._settle, name)

    def _settle(self, name: str) -> None:
        if name not in self._wanted:
            return
        value = self._wanted.pop(name)
        path = self._path(name)
        try:
            if value is None:
                path.unlink(missing_ok=True)
                return
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(path, msgspec.msgpack.encode(value), mode=0o600)
        except (OSError, ValueError, OverflowError) as error:
            log.debug("%s is not logged: %s", name[:128], error)

    def _path(self, name: str) -> Path:
        return self._folder / f"{sha256_hex(name.encode(errors='replace'))[:40]}{_SUFFIX}"

    def _read(self) -> list[T]:
        found = []
        for number, path in enumerate(self._newest_first()):
            value = self._value(path) if number < self._most else None
            if value is not None:
                found.append(value)
            else:
                with suppress(OSError):
                    path.unlink()
        return found

    def _newest_first(self) -> Iterator[Path]:
        """The files of the folder, also those that were never finished."""
        try:
            with os.scandir(self._folder) as entries:
                files = [each for each in entries if each.is_file(follow_symlinks=False)]
                files.sort(key=lambda each: each.stat(follow_symlinks=False).st_mtime, reverse=True)
        except OSError:
            return iter(())
        return (Path(each.path) for each in files)

    def _value(self, path: Path) -> T | None:
        """The value of a file; None where it is none, or too large."""
        try:
            if path.suffix != _SUFFIX or path.stat().st_size > self._most_bytes:
                return None
            return self._decoder.decode(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

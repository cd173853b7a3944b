"""The hasher of a download: sha256 over the disk's own bytes, close behind the first missing one."""

from __future__ import annotations

import zlib
from io import FileIO
from typing import Any

from ..digests import Sha256
from ..errors import DigestMismatch, TransferError
from .attempt import Attempt
from .pieces import MIB, Segment
from .probe import check_sums, git_sum


class Hasher:
    """Reads an attempt's file from its first byte to its last, and finishes the attempt when all is right."""

    def __init__(self, attempt: Attempt) -> None:
        self._try = attempt

    def run(self) -> None:
        """The hasher: sums over the disk's own bytes, from the first to the last.

        A segment of an earlier run that is not what the journal says goes back to the workers, and
        the sums back to where it begins.
        """
        sums = [Sha256(), git_sum(self._try.file.size)]
        saved = [each.copy() for each in sums]
        buffer = memoryview(bytearray(MIB))
        start = position = crc = 0
        with FileIO(self._try.data, "rb") as source:
            while position < self._try.file.size:
                found = self._reach(start, position)
                if found is None:
                    return
                end, segment, unchecked = found
                damaged = False
                while position < end and not damaged:
                    source.seek(position)
                    n = source.readinto(buffer[: end - position]) or 0
                    for each in sums[: 1 if self._try.file.sha256 else 2]:
                        each.update(buffer[:n])
                    crc = zlib.crc32(buffer[:n], crc) if unchecked else 0
                    position += n
                    damaged = n == 0  # somebody cut the file
                    if self._try.stop.is_set():
                        return
                if segment is None and not damaged:
                    continue
                if damaged or (unchecked and segment is not None and crc != segment.crc):
                    if not unchecked:
                        raise DigestMismatch(f"{self._try.data} was changed by another program")
                    with self._try.changed:
                        self._try.pieces.reject(start)
                    sums, position = [each.copy() for each in saved], start
                else:
                    start, saved = position, [each.copy() for each in sums]
                crc = 0
        self._finish(sums)

    def _reach(self, start: int, position: int) -> tuple[int, Segment | None, bool] | None:
        """Wait until bytes after `position` can be hashed, or their segment is done; None: stop."""
        with self._try.changed:
            while not self._try.stop.is_set():
                found = self._try.pieces.reach(start)
                if found is not None and (found[0] > position or found[1] is not None):
                    return *found, self._try.pieces.is_unchecked(start)
                self._try.changed.wait(0.02)
        return None

    def _finish(self, sums: list[Any]) -> None:
        sha256, git = sums
        check_sums(self._try.file, self._try.access, sha256.hex, git)
        if self._try.file.sha256 is None and self._try.file.size < 1024:
            if self._try.data.read_bytes().startswith(b"version https://git-lfs"):
                raise TransferError(
                    f"{self._try.file.path} is only a pointer to the file (Git LFS), use another address"
                )
        self._try.finish(sha256.digest)

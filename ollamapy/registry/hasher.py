"""The hasher of a download: computes sha256 from the disk, close behind the first missing byte."""

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
    """Reads an attempt's file from first to last byte, and finishes the attempt if the digest matches."""

    def __init__(self, attempt: Attempt) -> None:
        self._try = attempt

    def run(self) -> None:
        """Hash the file from the disk, from the first byte to the last.

        If a segment from an earlier run does not match its checksum in the journal, it is downloaded
        again, and hashing restarts where it begins.
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
                    damaged = n == 0  # the file was truncated
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
        """Wait until bytes after `position` can be hashed or their segment is complete; None means stop."""
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

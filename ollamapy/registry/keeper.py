"""The keeper of a download: writes its journal every few seconds, never ahead of the disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from io import FileIO

from . import journal
from .attempt import Attempt
from .pieces import MIB, Segment
from .work import DISK_FULL

_JOURNAL_BYTES = 256 * MIB
_JOURNAL_ROOM = 64 * 1024  # bytes on the disk that a journal may take


class Keeper:
    """Records which bytes of an attempt are safely on the disk."""

    def __init__(self, attempt: Attempt) -> None:
        self._try = attempt
        self._writing = threading.Lock()
        self._closed = False

    def run(self) -> None:
        """Write the journal periodically, until the attempt ends."""
        written, at = self._try.pieces.present, time.monotonic()
        while not self._try.stop.wait(min(0.25, self._try.limits.journal_after)):
            new = self._try.pieces.present - written
            due = time.monotonic() - at >= self._try.limits.journal_after
            if (new and due) or new >= _JOURNAL_BYTES:
                written = self._try.pieces.present
                try:
                    self._keep(self._flushed())
                except OSError as error:
                    raise self._try.disk_error(error) from None
                at = time.monotonic()

    def close(self) -> None:
        """Stop `run` from writing: a slow disk may delay it until after the file was published."""
        with self._writing:
            self._closed = True

    def write_last(self) -> None:
        """Write the journal of an attempt that failed. Raises OSError.

        On a full disk, the file is truncated to make space for its journal.
        """
        try:
            self._write(self._flushed())
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            segments, freed = self._try.pieces.segments(), 0
            while segments and freed < _JOURNAL_ROOM:
                last = segments.pop()
                freed += last.end - last.start
                os.truncate(self._try.data, last.start)
            self._write(segments)

    def _flushed(self) -> list[Segment]:
        """Flush the file; returns the segments that are then on the disk."""
        with self._try.changed:
            segments = self._try.pieces.segments()
        with FileIO(self._try.data, "r+b") as data:
            getattr(os, "fdatasync", os.fsync)(data.fileno())
        return segments

    def _keep(self, segments: Sequence[Segment]) -> None:
        with self._writing:
            if not self._closed:
                self._write(segments)

    def _write(self, segments: Sequence[Segment]) -> None:
        journal.write(self._try.journal, self._try.file.size, self._try.file.path, segments)

"""The keeper of a download: its journal, written every few seconds and never ahead of the disk."""

from __future__ import annotations

import os
import time
from io import FileIO

from . import journal
from .attempt import Attempt
from .pieces import MIB
from .work import DISK_FULL

_JOURNAL_BYTES = 256 * MIB
_JOURNAL_ROOM = 64 * 1024  # bytes on the disk that a journal may take


class Keeper:
    """Writes down which bytes of an attempt are on the disk for certain."""

    def __init__(self, attempt: Attempt) -> None:
        self._try = attempt

    def run(self) -> None:
        """The keeper: the journal, every so often, never ahead of the disk."""
        written, at = self._try.pieces.present, time.monotonic()
        while not self._try.stop.wait(min(0.25, self._try.limits.journal_after)):
            new = self._try.pieces.present - written
            due = time.monotonic() - at >= self._try.limits.journal_after
            if (new and due) or new >= _JOURNAL_BYTES:
                written = self._try.pieces.present
                try:
                    self._write()
                except OSError as error:
                    raise self._try.disk_error(error) from None
                at = time.monotonic()

    def write_last(self) -> None:
        """On a disk that is full, the last bytes of the file make room for what knows of the others."""
        try:
            self._write()
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            segments, freed = self._try.pieces.segments(), 0
            while segments and freed < _JOURNAL_ROOM:
                last = segments.pop()
                freed += last.end - last.start
                os.truncate(self._try.data, last.start)
            journal.write(self._try.journal, self._try.file.size, self._try.file.path, segments)

    def _write(self) -> None:
        with self._try.changed:
            segments = self._try.pieces.segments()
        with FileIO(self._try.data, "r+b") as data:
            getattr(os, "fdatasync", os.fsync)(data.fileno())
        journal.write(self._try.journal, self._try.file.size, self._try.file.path, segments)

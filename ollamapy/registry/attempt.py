"""One attempt to download a file: the state that its threads share, and how it ends.

`Attempt` is the only state that the connections, the hasher and the keeper share. `changed` guards every
field that changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import DiskFull, OllamapyError
from ..human import format_bytes
from . import journal
from .http import Access
from .limits import Limits
from .patience import Patience
from .pieces import Pieces, Segment, piece_size
from .remote import RemoteFile
from .store import Store
from .work import DISK_FULL, cannot_write

TICK = 0.1
"""Seconds between two checks of progress, speed and cancellation."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """How much of a file is downloaded: bytes on the disk, bytes received in this call, and why it waits."""

    digest: str
    total: int
    completed: int
    received: int
    note: str = ""


class Attempt:
    """One attempt to download a file; a `careful` one starts over, with one connection."""

    def __init__(
        self,
        file: RemoteFile,
        access: Access,
        store: Store,
        patience: Patience,
        limits: Limits,
        careful: bool,
    ) -> None:
        folder = store.roots[0] / "partial"
        self.file, self.access, self.store = file, access, store
        self.patience, self.limits, self.careful = patience, limits, careful
        self.data = folder / file.key
        self.journal = folder / f"{file.key}.json"
        segments = [] if careful else self._resumed()
        self.pieces = Pieces(file.size, limits.piece or piece_size(file.size), segments)
        self.changed = threading.Condition()
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []
        self.failure: BaseException | None = None
        self.digest: str | None = None
        self.received = 0  # bytes
        self.note = ""

    def start(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run `work` in a thread of this attempt. If it raises, the attempt ends with that error."""

        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._fail(error)

        thread = threading.Thread(target=run, name="download", daemon=True)
        self.threads.append(thread)
        thread.start()

    def finish(self, digest: str) -> None:
        """Record that the whole file is on the disk and verified."""
        with self.changed:
            self.digest = digest
            self.stop.set()
            self.changed.notify_all()

    def report(self) -> Downloaded:
        """The current progress."""
        digest = self.file.digest or self.digest or ""
        return Downloaded(digest, self.file.size, self.pieces.present, self.received, self.note)

    def discard(self) -> None:
        """Delete the downloaded bytes: they are wrong."""
        for path in (self.data, self.journal):
            path.unlink(missing_ok=True)

    def resume_hint(self) -> str:
        """How to resume, for an error message."""
        percent = 100 * self.pieces.present // max(self.file.size, 1)
        return f"the same command goes on from {percent} %"

    def disk_error(self, error: OSError) -> OllamapyError:
        """The error for a failed write."""
        folder = self.data.parent
        if error.errno not in DISK_FULL:
            return cannot_write(self.store.roots[0], folder, error)
        missing = self.file.size - self.pieces.present
        return DiskFull(
            f"the disk is full, {format_bytes(missing)} of {self.file.path} are missing: free some space"
            f" in {folder}, {self.resume_hint()}",
            missing,
        )

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            if self.failure is None:
                self.failure = error
            self.stop.set()
            self.changed.notify_all()

    def _resumed(self) -> list[Segment]:
        try:
            size = self.data.stat().st_size
        except OSError:
            return []
        return [each for each in journal.read(self.journal, self.file.size) if each.end <= size]

"""Reservations: which blobs and work files of a store are in use, across all processes.

    <root>/partial/reservation-<id>           the digests that the holder needs, one per line
    <root>/partial/reservation-<id>.lock      locked by the holder; the lock ends with its process
    <root>/partial/reservation-<id>.work-<n>  work files and folders of the holder

While its holder lives, no process deletes a blob that the reservation lists: `rm`, `prune` and the replacement
of a manifest all check `reserved` first. The files of a dead reservation are removed by prune.py. Reservations are
changed and checked under the root's lock (work.py), so a blob that is found after its digest was added
will stay.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..digests import is_digest
from ..files import replace_file
from .work import GRACE, age, locked, remove_tree, writing

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

_PREFIX = "reservation-"


class Reservation:
    """Keeps blobs from being deleted, and removes its work files at the end. For one thread at a time.

    Use it as ``with store.reserve(digests) as reservation:``, or with `open` and `close`. All methods but
    `work_path` block on the disk. Do not call them while holding the root's lock.
    """

    def __init__(self, root: Path, digests: Iterable[str] = ()) -> None:
        self._root = root
        self._path = root / "partial" / f"{_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
        self._digests = set(digests)
        self._lock: BaseFileLock | None = None
        self._n_work = 0

    def open(self) -> Reservation:
        """Take the reservation. Raises StoreError."""
        from filelock import FileLock  # imports half of asyncio: only writers pay for it

        with locked(self._root), writing(self._root, self._path):
            lock = FileLock(_lock_path(self._path), mode=0o644, thread_local=False)
            with suppress(
                OSError, NotImplementedError
            ):  # no locks on this disk: the reservation counts as alive by its age
                lock.acquire(blocking=False)
            self._lock = lock
            self._write()
        return self

    def add(self, *digests: str) -> None:
        """Reserve more blobs, existing or not. Raises StoreError."""
        if not self._digests.issuperset(digests):
            self._digests.update(digests)
            with locked(self._root), writing(self._root, self._path):
                self._write()

    def drop(self, *digests: str) -> None:
        """Stop reserving these blobs. Raises StoreError."""
        if self._digests.intersection(digests):
            self._digests.difference_update(digests)
            with locked(self._root), writing(self._root, self._path):
                self._write()

    def work_path(self) -> Path:
        """A new path in partial/ for a file or folder, which is removed when the reservation ends."""
        self._n_work += 1
        return self._path.with_name(f"{self._path.name}.work-{self._n_work}")

    def close(self) -> None:
        """End the reservation and remove its work files."""
        if self._lock is None:
            return
        for each in files_of(self._path)[:-1]:
            with suppress(OSError):  # what remains is swept later
                remove_tree(each)
        self._lock.release()
        self._lock = None
        with suppress(OSError):
            _lock_path(self._path).unlink(missing_ok=True)

    def __enter__(self) -> Reservation:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        replace_file(self._path, "".join(f"{each}\n" for each in sorted(self._digests)).encode())


def reserved(root: Path, now: float) -> set[str]:
    """The digests that live reservations list. Call it with the root's lock held."""
    digests: set[str] = set()
    for path in _reservations(root):
        if _lives(path, now):
            with suppress(OSError):
                digests.update(line for line in path.read_text().split() if is_digest(line))
    return digests


def dead_reservations(root: Path, now: float) -> list[Path]:
    """The reservations whose holders have ended. Call it with the root's lock held."""
    return [path for path in _reservations(root) if not _lives(path, now)]


def files_of(path: Path) -> list[Path]:
    """The existing files of a reservation: the reservation, its work and, last, its lock."""
    found = [path, *sorted(path.parent.glob(f"{path.name}.*"))]
    lock = _lock_path(path)
    return [each for each in (*(f for f in found if f != lock), lock) if os.path.lexists(each)]


def is_reservation(name: str) -> bool:
    """Whether a file in partial/ belongs to a reservation."""
    return name.startswith(_PREFIX)


def _reservations(root: Path) -> Iterator[Path]:
    """The paths of all reservations, including those with only a lock or work files left."""
    try:
        names = {each.partition(".")[0] for each in os.listdir(root / "partial")}
    except OSError:
        return
    for name in sorted(names):
        if is_reservation(name):
            yield root / "partial" / name


def _lives(path: Path, now: float) -> bool:
    """Whether the holder lives; on a disk without locks, whether the reservation is younger than `GRACE`."""
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_path(path), mode=0o644)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except (OSError, NotImplementedError):
        with suppress(OSError):
            return age(path.stat(), now) <= GRACE
        return False
    lock.release()
    return False


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")

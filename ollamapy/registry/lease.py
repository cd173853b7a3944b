"""Leases: which blobs and which work of a store somebody needs now, whatever the process.

    <root>/partial/lease-<id>           the digests that its holder needs, one a line
    <root>/partial/lease-<id>.lock      locked by the holder: the lock ends with its process
    <root>/partial/lease-<id>.work-<n>  files and folders that the holder works on

While a lease lives, no process deletes a blob that it names: `rm`, `prune` and the replacement of a
manifest all ask `reserved` first. What belongs to a dead lease is swept (prune.py). A lease changes,
and is judged, under the lock of the root (work.py): whoever has added a digest and then finds its blob
can rely on it.
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

_PREFIX = "lease-"


class Lease:
    """Blobs that must stay, and work files that are removed at the end. For one thread at a time.

    ``with store.reserve(digests) as lease:`` or `open` and `close`, which wait for the disk. Nothing is to be
    called with the lock of the root held.
    """

    def __init__(self, root: Path, digests: Iterable[str] = ()) -> None:
        self._root = root
        self._path = root / "partial" / f"{_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
        self._digests = set(digests)
        self._lock: BaseFileLock | None = None
        self._n_work = 0

    def open(self) -> Lease:
        """Take the lease. Raises StoreError."""
        from filelock import FileLock  # imports half of asyncio: only writers pay for it

        with locked(self._root), writing(self._root, self._path):
            lock = FileLock(_lock_path(self._path), mode=0o644, thread_local=False)
            with suppress(OSError, NotImplementedError):  # no locks here: its age has to do
                lock.acquire(blocking=False)
            self._lock = lock
            self._write()
        return self

    def add(self, *digests: str) -> None:
        """Reserve more blobs, whether they are there yet or not. Raises StoreError."""
        if not self._digests.issuperset(digests):
            self._digests.update(digests)
            with locked(self._root), writing(self._root, self._path):
                self._write()

    def drop(self, *digests: str) -> None:
        """Reserve these no more. Raises StoreError."""
        if self._digests.intersection(digests):
            self._digests.difference_update(digests)
            with locked(self._root), writing(self._root, self._path):
                self._write()

    def work_path(self) -> Path:
        """A new name in partial/ for a file or a folder, which is removed when the lease ends."""
        self._n_work += 1
        return self._path.with_name(f"{self._path.name}.work-{self._n_work}")

    def close(self) -> None:
        """Give the lease up; its work files go."""
        if self._lock is None:
            return
        for each in files_of(self._path)[:-1]:
            with suppress(OSError):  # what is left behind is swept later
                remove_tree(each)
        self._lock.release()
        self._lock = None
        with suppress(OSError):
            _lock_path(self._path).unlink(missing_ok=True)

    def __enter__(self) -> Lease:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        replace_file(self._path, "".join(f"{each}\n" for each in sorted(self._digests)).encode())


def reserved(root: Path, now: float) -> set[str]:
    """The digests that living leases name. Called with the lock of the root held."""
    digests: set[str] = set()
    for path in _leases(root):
        if _lives(path, now):
            with suppress(OSError):
                digests.update(line for line in path.read_text().split() if is_digest(line))
    return digests


def dead_leases(root: Path, now: float) -> list[Path]:
    """The leases whose holders have ended. Called with the lock of the root held."""
    return [path for path in _leases(root) if not _lives(path, now)]


def files_of(path: Path) -> list[Path]:
    """A lease, its work and, as the last, its lock: what of them is there."""
    found = [path, *sorted(path.parent.glob(f"{path.name}.*"))]
    lock = _lock_path(path)
    return [each for each in (*(f for f in found if f != lock), lock) if os.path.lexists(each)]


def is_lease(name: str) -> bool:
    """Whether a file in partial/ belongs to a lease."""
    return name.startswith(_PREFIX)


def _leases(root: Path) -> Iterator[Path]:
    """The paths of all leases, also of those of which only a lock or some work is left."""
    try:
        names = {each.partition(".")[0] for each in os.listdir(root / "partial")}
    except OSError:
        return
    for name in sorted(names):
        if is_lease(name):
            yield root / "partial" / name


def _lives(path: Path, now: float) -> bool:
    """Whether its holder does; where there are no locks, whether it is young."""
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

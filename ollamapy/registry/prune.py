"""Remove unused files from the store: blobs that no manifest lists, abandoned downloads and work.

Other files in blobs/ are left alone: they belong to an Ollama on the same store.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..digests import is_digest, parse_digest
from . import reservation
from .store import Store
from .work import GRACE, age, is_work, remove_abandoned, remove_tree

_DOWNLOAD = re.compile(r"((?:sha256|git|url)-[0-9a-f]{40,64})(\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Waste:
    """A removed or removable item: "blob", "download" (unfinished) or "work" (its process has ended)."""

    kind: str
    name: str
    size: int
    paths: tuple[Path, ...]


def prune(store: Store, *, dry_run: bool = False) -> list[Waste]:
    """Remove unused files from the first root; returns what was, or with `dry_run` would be, removed.

    Unused are: the work of processes that have ended; blobs that no manifest of any root lists, and
    unfinished downloads that no process works on. The latter two only if no reservation lists them and they
    are older than an hour (`GRACE`): another process may be about to write a manifest. Raises StoreError,
    also if a manifest is damaged, because its blobs are then unknown.
    """
    with store.locked():
        reserved = reservation.reserved(store.roots[0], store.now())
        found = [
            *_unused_blobs(store, reserved),
            *_old_downloads(store, reserved),
            *_work(store),
        ]
        return found if dry_run else [each for each in found if _remove(each, store)]


def sweep(store: Store) -> list[Waste]:
    """Remove the work files and folders of ended processes from the first root; returns what was removed.

    Fast, and safe at any time: unfinished downloads stay. If there is nothing to remove, nothing is
    written. Raises StoreError.
    """
    try:
        names = os.listdir(store.roots[0] / "partial")
    except OSError:
        return []
    if not any(reservation.is_reservation(name) or is_work(name) for name in names):
        return []
    with store.locked():
        return [each for each in _work(store) if _remove(each, store)]


def _unused_blobs(store: Store, reserved: Set[str]) -> Iterator[Waste]:
    used = store.used() | reserved
    for path, status in files_in(store.roots[0] / "blobs"):
        if not is_digest(path.name) or parse_digest(path.name) in used:
            continue
        if age(status, store.now()) > GRACE:
            sums = store.sums_path(path.name)
            yield Waste("blob", path.name, status.st_size, (path, sums))


def _old_downloads(store: Store, reserved: Set[str]) -> Iterator[Waste]:
    """Unfinished downloads in partial/ that are older than `GRACE`, with all of their files."""
    groups: dict[str, list[tuple[Path, os.stat_result]]] = {}
    for path, status in files_in(store.roots[0] / "partial"):
        if found := _DOWNLOAD.fullmatch(path.name):
            groups.setdefault(found[1], []).append((path, status))
    for name, files in groups.items():
        wanted = is_digest(name) and parse_digest(name) in reserved
        if not wanted and all(age(status, store.now()) > GRACE for _, status in files):
            size = sum(taken(status) for _, status in files)
            yield Waste("download", name, size, tuple(path for path, _ in files))


def _work(store: Store) -> Iterator[Waste]:
    """Reservations and work files whose processes have ended."""
    root, now = store.roots[0], store.now()
    for each in reservation.dead_reservations(root, now):
        paths = reservation.files_of(each)
        size = sum(taken(path.lstat()) for path in paths)
        yield Waste("work", each.name, size, tuple(paths))
    with suppress(OSError):
        for path in sorted((root / "partial").iterdir()):
            with suppress(OSError):  # deleted meanwhile
                if is_work(path.name) and remove_abandoned(path, now, dry_run=True):
                    yield Waste("work", path.name, taken(path.lstat()), (path,))


def files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Files and links in a folder with their status: a link's own, because the link would be removed."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        with suppress(OSError):  # deleted meanwhile
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield path, status


def taken(status: os.stat_result) -> int:
    """Bytes on the disk: an unfinished download is a sparse file."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)


def _remove(waste: Waste, store: Store) -> bool:
    """Remove it; returns False while another process works on it, or on Windows has it open."""
    from filelock import FileLock, Timeout

    try:
        if waste.kind == "work" and is_work(waste.name):
            return remove_abandoned(waste.paths[0], store.now())
        if waste.kind != "download":
            _remove_all(waste.paths)
            return True
        lock_path = store.roots[0] / "partial" / f"{waste.name}.lock"
        with FileLock(lock_path).acquire(blocking=False):
            _remove_all(waste.paths)
            lock_path.unlink(missing_ok=True)
        return True
    except (OSError, Timeout):
        return False


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        remove_tree(path)

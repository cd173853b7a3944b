"""Remove what is of no use from the store: blobs that no manifest names, work that was given up.

Files in blobs/ with other names are left alone, they belong to an Ollama on the same store.
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
from . import lease
from .store import Store
from .work import GRACE, age, is_work, remove_abandoned, remove_tree

_DOWNLOAD = re.compile(r"((?:sha256|git|url)-[0-9a-f]{40,64})(\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Waste:
    """Something to be removed, or removed: "blob", "download" (unfinished) or "work" (its process ended)."""

    kind: str
    name: str
    size: int
    paths: tuple[Path, ...]


def prune(store: Store, *, dry_run: bool = False) -> list[Waste]:
    """Remove from the first root what is of no use; what was removed. `dry_run`: what would be.

    That is: the work of processes that have ended; blobs that no manifest of any root names and
    downloads that no process works on, both only if no lease names them and nothing was done to them
    for an hour (`GRACE`), because another process may have a manifest to write. Raises StoreError, also
    if a manifest is damaged: what it names is then not known.
    """
    with store.locked():
        reserved = lease.reserved(store.roots[0], store.now())
        found = [
            *_unused_blobs(store, reserved),
            *_old_downloads(store, reserved),
            *_work(store),
        ]
        return found if dry_run else [each for each in found if _remove(each, store)]


def sweep(store: Store) -> list[Waste]:
    """Remove from the first root the files and folders of work whose processes have ended; what was removed.

    Quick, and safe at any time: unfinished downloads stay. Where there is nothing, nothing is written.
    Raises StoreError.
    """
    try:
        names = os.listdir(store.roots[0] / "partial")
    except OSError:
        return []
    if not any(lease.is_lease(name) or is_work(name) for name in names):
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
    """Old files of downloads in partial/, those of one together."""
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
    """Leases, work files and folders whose processes have ended."""
    root, now = store.roots[0], store.now()
    for each in lease.dead_leases(root, now):
        paths = lease.files_of(each)
        size = sum(taken(path.lstat()) for path in paths)
        yield Waste("work", each.name, size, tuple(paths))
    with suppress(OSError):
        for path in sorted((root / "partial").iterdir()):
            with suppress(OSError):  # gone since
                if is_work(path.name) and remove_abandoned(path, now, dry_run=True):
                    yield Waste("work", path.name, taken(path.lstat()), (path,))


def files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Files and links in a folder with their state: a link's own, for it is what would be removed."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for path in entries:
        with suppress(OSError):  # gone since
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield path, status


def taken(status: os.stat_result) -> int:
    """Bytes on the disk: a download begun has holes."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)


def _remove(waste: Waste, store: Store) -> bool:
    """Whether it could be removed: not while another process works on it, nor while it is open on Windows."""
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

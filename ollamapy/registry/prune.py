"""Remove what is of no use from the store: blobs that no manifest names, work that was given up.

Files in blobs/ with other names are left alone, they belong to an Ollama on the same store.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..digests import is_digest, parse_digest
from .store import Store
from .work import GRACE, age, is_work

_DOWNLOAD = re.compile(r"((?:sha256|git|url)-[0-9a-f]{40,64})(\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Waste:
    """Something to be removed, or removed: "blob", "download" (unfinished) or "work" (of the dead)."""

    kind: str
    name: str
    size: int
    paths: tuple[Path, ...]


def prune(store: Store, *, dry_run: bool = False) -> list[Waste]:
    """Remove from the first root what is of no use; what was removed. `dry_run`: would be.

    No use have blobs that no manifest of any root names, and downloads that nobody works on: both
    only when nothing was done to them for an hour (`GRACE`), for another process may have a
    manifest to write. Files in blobs/ that are none of ours are left alone, they are an Ollama's.
    Raises StoreError; also if a manifest is damaged, because it is not known what it names.
    """
    with store.locked():
        waste = [*_unused_blobs(store), *_abandoned(store)]
        return waste if dry_run else [each for each in waste if _remove(each, store)]


def _unused_blobs(store: Store) -> Iterator[Waste]:
    used = store.used()
    for path, status in files_in(store.roots[0] / "blobs"):
        if not is_digest(path.name) or parse_digest(path.name) in used:
            continue
        if age(status, store.now()) > GRACE:
            sums = store.sums_path(path.name)
            yield Waste("blob", path.name, status.st_size, (path, sums))


def _abandoned(store: Store) -> Iterator[Waste]:
    """Old files in partial/, those of one download together."""
    groups: dict[tuple[str, str], list[tuple[Path, os.stat_result]]] = {}
    for path, status in files_in(store.roots[0] / "partial"):
        if found := _DOWNLOAD.fullmatch(path.name):
            groups.setdefault(("download", found[1]), []).append((path, status))
        elif is_work(path.name):
            groups.setdefault(("work", path.name), []).append((path, status))
    for (kind, name), files in groups.items():
        if all(age(status, store.now()) > GRACE for _, status in files):
            size = sum(taken(status) for _, status in files)
            yield Waste(kind, name, size, tuple(path for path, _ in files))


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

    partial = store.roots[0] / "partial"
    try:
        if waste.kind != "download":
            _unlink(waste.paths)
            return True
        lock = FileLock(partial / f"{waste.name}.lock")
        with lock.acquire(blocking=False):
            _unlink(waste.paths)
            lock_path = partial / f"{waste.name}.lock"
            lock_path.unlink(missing_ok=True)
        return True
    except (OSError, Timeout):
        return False


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)

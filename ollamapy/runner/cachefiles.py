"""The files of saved prefixes as anyone may see them: how much they take, and which are to go. Their content is ``disk.py``'s.

cache/                  0700; what is in it may be deleted at any time
  <model>-<root>/       the first digits of the weights' digest, and of the root of the tree
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .protocol import CacheFolder

SHARE, MOST = 10, 20 * 10**9
"""Where no setting gives a size: at most this part of the disk, and at most so many bytes."""

FLOOR_SHARE, FLOOR = 20, 2 * 10**9
"""Bytes of the disk that stay free: this part of it, at least so many."""

MODEL_DIGITS = 16
"""Digits of the weights' digest in a folder's name."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the cache: when it was last used, and its bytes."""

    used: float
    size: int
    path: Path

    @property
    def model(self) -> str:
        """The first digits of the digest of its model's weights."""
        return self.path.parent.name[:MODEL_DIGITS]


def model_of(digest: str) -> str:
    """How folders name a model, from the digest of its weights."""
    return digest.removeprefix("sha256:")[:MODEL_DIGITS] or "model"


def cache_folder(path: Path, size: int | None, salt: str) -> CacheFolder | None:
    """The folder for saved prefixes, with what it may take: ``size`` bytes, or by the disk's size; None where that is nothing, or
    there can be no folder."""
    if size == 0:
        return None
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        total = shutil.disk_usage(path).total
    except OSError:
        return None
    budget = min(total // SHARE, MOST) if size is None else size
    return CacheFolder(path, budget, max(total // FLOOR_SHARE, FLOOR), salt)


def files_of(cache: Path) -> list[Found]:
    """All files of all folders; none where there is no cache."""
    found = []
    for folder in _folders(cache):
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append(Found(status.st_mtime, status.st_size, Path(entry.path)))
    return found


def _folders(cache: Path) -> list[Path]:
    try:
        with os.scandir(cache) as entries:
            return [Path(each.path) for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def surplus(
    files: Iterable[Found], size: int, budget: int, free: int, floor: int
) -> list[Found] | None:
    """The files to delete, the oldest first, so that ``size`` more bytes fit into the budget and leave ``floor`` bytes free; None
    where they cannot."""
    files = sorted(files, key=lambda each: each.used)
    total = sum(each.size for each in files)
    excess = max(total + size - budget, floor + size - free)
    gone = []
    for each in files:
        if excess <= 0:
            break
        gone.append(each)
        excess -= each.size
    return gone if excess <= 0 else None


def clear(cache: Path, model: str = "") -> tuple[int, int]:
    """Delete the files of one model (:func:`model_of`), or all; how many were deleted, and their bytes."""
    count = size = 0
    for each in files_of(cache):
        if not model or each.model == model:
            with suppress(OSError):
                each.path.unlink()
                count, size = count + 1, size + each.size
    for folder in _folders(cache):
        with suppress(OSError):  # not empty
            folder.rmdir()
    return count, size

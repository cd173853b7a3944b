"""Work files: new content in partial/ that becomes a file of the store when complete, or is removed.

Errors of the operating system become a StoreError that names a solution. A lock in the same folder
serialises the processes that write manifests or delete.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import InvalidModel, StoreError, reason
from ..files import make_folder, sync_folder

GRACE = 3600.0
"""Seconds for which an unused file is kept: its writer may not have finished."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORK_PREFIX = "work-"  # files that are never resumed; downloads have other names
_LOCK_TIMEOUT = 60.0  # seconds; work under the lock takes milliseconds


class WorkFile:
    """A new file in partial/ that `put` moves to its place; without `put` it is removed at the end.

    Errors of the operating system become a StoreError.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        name = f"{_WORK_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
        self._path = root / "partial" / name

    def __enter__(self) -> WorkFile:
        with writing(self._root, self._path):
            make_folder(self._path.parent)
            self._file = self._path.open("xb")
            while not _hold(self._file):  # removed by a sweep before it was locked
                self._file.close()
                self._file = self._path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a failed write is reported already
            self._file.close()
        with suppress(OSError):
            self._path.unlink()

    def write(self, chunk: bytes) -> None:
        with writing(self._root, self._path):
            self._file.write(chunk)

    def put(self, target: Path) -> None:
        """Rename it to `target`, after its content is flushed to the disk."""
        with writing(self._root, target):
            self._file.flush()
            os.fsync(self._file.fileno())
            if os.name == "nt":  # which cannot rename an open file; elsewhere it stays locked
                self._file.close()
            make_folder(target.parent)
            os.replace(self._path, target)
            sync_folder(target.parent)


def _hold(file: IO[bytes]) -> bool:
    """Lock a new work file while it is open; False if a sweep removed it first."""
    return _lock(file.fileno(), wait=True) is None or os.fstat(file.fileno()).st_nlink > 0


def _lock(file: int, *, wait: bool) -> bool | None:
    """Lock an open file; returns whether it is locked now, or None without support (Windows, some disks)."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_abandoned(path: Path, now: float, *, dry_run: bool = False) -> bool:
    """Remove a work file whose writer has ended; returns whether it was, or would be, removed. Raises OSError.

    Its writer has ended when no process locks it. Where locks tell nothing (no support for them, or an empty file,
    which is created before it is locked), the writer counts as ended when the file is older than `GRACE`.
    """
    file = None
    with suppress(OSError):  # a folder, a link, another user's
        file = os.open(
            path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        )
    try:
        ours = None if file is None else _lock(file, wait=False)
        status = path.lstat()  # raises OSError if the file was put in its place meanwhile
        unsure = ours is None or status.st_size == 0
        if ours is False or (unsure and age(status, now) <= GRACE):
            return False
        if not dry_run:
            remove_tree(path)
        return True
    finally:
        if file is not None:
            os.close(file)


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_work(name: str) -> bool:
    """Whether a file in partial/ is a work file, which is never resumed."""
    return name.startswith(_WORK_PREFIX)


def age(status: os.stat_result, now: float) -> float:
    """Seconds since a file or its status changed: a new hard link to an old file counts as new."""
    return now - max(status.st_mtime, status.st_ctime)


def remove_empty(folder: Path, top: Path) -> None:
    """Remove empty folders from `folder` upwards, below `top`."""
    with suppress(OSError):  # stops at the first that is not empty
        while folder != top:
            folder.rmdir()
            folder = folder.parent


def read_file(path: Path | str, limit: int) -> tuple[bytes, float]:
    """A regular file's content and modification time in seconds. Raises OSError, InvalidModel."""
    # O_NONBLOCK: opening a pipe must not wait for its other end
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidModel("it is not a regular file")
        if status.st_size > limit:
            raise InvalidModel(f"it is larger than {limit} bytes")
        content = b""
        while more := os.read(file, status.st_size - len(content)):
            content += more
    finally:
        os.close(file)
    return content, status.st_mtime


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the root's lock, which serialises writing manifests and deleting."""
    from filelock import FileLock  # imports half of asyncio: only writers pay for it

    path = root / "partial" / "lock"
    with writing(root, path):
        make_folder(path.parent)
        lock = FileLock(path, timeout=_LOCK_TIMEOUT)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(root: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(root, target, error) from error


def cannot_write(root: Path, target: Path, error: OSError) -> StoreError:
    elsewhere = "point OLLAMAPY_MODELS at another folder"
    if error.errno in DISK_FULL:
        return StoreError(
            f"the disk is full, cannot write {target}: free some space or {elsewhere}"
        )
    if error.errno == errno.EXDEV:
        return StoreError(
            f"{target.parent} and {root / 'partial'} must be on one file system: {elsewhere}"
        )
    if isinstance(error, TimeoutError):
        return StoreError(
            f"another process holds the lock {root / 'partial' / 'lock'}, end it and try again"
        )
    return StoreError(
        f"cannot write to the models directory {root} ({reason(error)}): make it writable or {elsewhere}"
    )


def cannot_read(path: Path | str, error: OSError) -> StoreError:
    return StoreError(f"cannot read {path} ({reason(error)}), make it readable")

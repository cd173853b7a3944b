"""Small files that are complete or absent, also after a crash or a power cut.

The one way to write a state file: beside its final path, flushed to the disk, then renamed. Large
content is written the same way in pieces, see registry/work.py.
"""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write `content` to the file `path`, and make its folder if it is missing. The umask applies to `mode`.

    Raises OSError; the file is then unchanged.
    """
    make_folder(path.parent)
    # A later writer uses the same name as a dead one: leftover files do not pile up
    work = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}")
    with suppress(FileNotFoundError):
        work.unlink()
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(work, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(work, path)
    except BaseException:
        with suppress(OSError):
            work.unlink()
        raise
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, so that they survive a power cut. Raises OSError."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Write a folder's entries to the disk; Windows and some file systems cannot. Raises OSError."""
    if os.name == "nt":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(folder)

"""Saved blocks on the disk: one folder for a model with its settings, one file a block, and one budget for all folders together.

    cache/                  0700; what is in it may be deleted at any time
      .lock                 held while files are added and others are deleted for them
      <model>-<root>/       the first digits of the weights' digest, and of the root of the tree
        <name>.rows .end    written as .part, flushed, renamed; 0600

Files that were unused for longest are deleted first, whosever they are. A file that is wrong in any way is deleted and never used.
Everything here waits for the disk: it is called by threads of the runner that nothing else waits for.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..engine.cells import Layout
from ..engine.saved import Block
from .blockfile import MOST_HEAD, Wrong, body_of, decode, encode
from .cachefiles import Found, files_of, surplus

LOCK_SECONDS = 10.0
"""How long a write waits for that of another process."""

_PART = ".part"


class Disk:
    """The folder of one tree (``root``) in ``cache``; ``budget`` and ``floor`` are bytes. Safe for threads."""

    def __init__(
        self,
        cache: Path,
        model: str,
        root: bytes,
        budget: int,
        floor: int,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self._cache, self._root = cache, root
        self._budget, self._floor, self._free = budget, floor, free
        self.folder = cache / f"{model}-{root.hex()[:32]}"
        self.rate = 200e6
        """Bytes a second of the last reads."""

    def scan(self) -> Iterator[tuple[Block, Layout]]:
        """The blocks of the folder, from their heads; what is no block is deleted."""
        try:
            with os.scandir(self.folder) as entries:
                paths = [Path(entry.path) for entry in entries]
        except OSError:
            return
        for path in paths:
            try:
                with path.open("rb") as file:
                    block, layout, at = decode(file.read(MOST_HEAD), self._root)
                    whole = os.fstat(file.fileno()).st_size == at + block.size
                if path.name != _name(block) or not whole:
                    raise Wrong("it has another name or length")
            except (OSError, Wrong):
                _unlink(path)
                continue
            yield block, layout

    def read(self, block: Block) -> bytes | None:
        """The body of a block; None, and no file any more, where it is not what was written."""
        path = self.folder / _name(block)
        began = time.monotonic()
        try:
            content = path.read_bytes()
            found, _, body = body_of(content, self._root)
            if (found.name, found.parent) != (block.name, block.parent):
                raise Wrong("it is another block")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, Wrong):
            _unlink(path)
            return None
        self.rate = (self.rate + len(content) / max(time.monotonic() - began, 1e-6)) / 2
        return body

    def write(self, blocks: Sequence[tuple[Block, bytes]], layout: Layout) -> list[Block]:
        """Write a file for each block with its body; those for which there was room, and that the disk took."""
        from filelock import FileLock, Timeout

        written: list[Block] = []
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self._cache / ".lock", timeout=LOCK_SECONDS, mode=0o600):
                files = files_of(self._cache)
                for block, body in blocks:
                    head = encode(block, body, layout, self._root)
                    size = len(head) + len(body)
                    if (kept := self._make_room(files, size)) is None:
                        continue
                    path = self.folder / _name(block)
                    _write_whole(path, head, body)
                    files = [*kept, Found(time.time(), size, path)]
                    written.append(block)
        except (OSError, Timeout):
            pass  # what is not written is computed again
        return written

    def _make_room(self, files: list[Found], size: int) -> list[Found] | None:
        """Delete of all the files what leaves room for ``size`` bytes; the rest of them, or None where there never is."""
        gone = surplus(files, size, self._budget, self._free(self._cache), self._floor)
        if gone is None:
            return None
        for each in gone:
            _unlink(each.path)
        paths = {each.path for each in gone}
        return [each for each in files if each.path not in paths] if gone else files

    def remove(self, block: Block) -> None:
        """Delete a block's file."""
        _unlink(self.folder / _name(block))


def _name(block: Block) -> str:
    return f"{block.name.hex()[:40]}.{block.kind}"


def _write_whole(path: Path, head: bytes, body: bytes) -> None:
    """Write a file that is there whole or not at all."""
    work = path.with_name(path.name + _PART)
    descriptor = os.open(
        work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(head)
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(work, path)
    except OSError:
        _unlink(work)
        raise


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()

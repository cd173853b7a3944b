"""The journal of an unfinished download: which bytes are safely on the disk.

    <root>/partial/<key>         the bytes, each at its offset
    <root>/partial/<key>.json    {"v": 1, "size": ..., "source": "...", "done": [[start, end, crc32], ...]}
    <root>/partial/<key>.lock    locked by the process that downloads it

The key is made from the content's digest, not its address, so a download can resume from another
server. Addresses and tokens are not written. A segment is added after its bytes were flushed, and its
checksum is verified before it is used. An unreadable journal counts as empty.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path

from ..files import replace_file
from .pieces import MIB, Segment, tidy

SUMS_FROM = 4 * MIB
"""Bytes from which on the checksums of a blob's pieces are kept: a smaller one is fetched whole."""

_LIMIT = 4 * MIB


def read(path: Path, size: int) -> list[Segment]:
    """The segments in the journal of a file of that size, ascending; [] if it is missing or invalid."""
    try:
        if not stat.S_ISREG(path.stat().st_mode) or path.stat().st_size > _LIMIT:
            return []
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(value, dict) or value.get("v") != 1 or value.get("size") != size:
        return []
    done = value.get("done")
    if not isinstance(done, list):
        return []
    segments = [
        Segment(*each)
        for each in done
        if isinstance(each, list) and len(each) == 3 and all(type(n) is int for n in each)
    ]
    return tidy(segments, size)


def write(path: Path, size: int, source: str, segments: Sequence[Segment]) -> None:
    """Replace a journal. `source` is for people who read it: the file's name. Raises OSError."""
    value = {
        "v": 1,
        "size": size,
        "source": source,
        "done": [[each.start, each.end, each.crc] for each in segments],
    }
    replace_file(path, json.dumps(value, separators=(",", ":")).encode())


def kept(path: Path, size: int) -> int:
    """How many bytes of the file a journal lists."""
    return sum(each.end - each.start for each in read(path, size))

"""The layout of a root of the store, and how a name is found there.

    <root>/manifests/<host>/<namespace>/<model>/<tag>
    <root>/blobs/sha256-<64 hex>

Names are validated before they become paths. A symbolic link below manifests/ is followed only if its
target is below manifests/ too. This module reads folders and writes nothing.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import InvalidName
from ..names import Name

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # shell completion sets up no logging, and must not print


def manifest_path(root: Path, name: Name) -> Path:
    """The path of a manifest."""
    return Path(os.path.realpath(root / "manifests"), name.path)


def blob_name(digest: str) -> str:
    """The file name of a blob."""
    return digest.replace(":", "-")


def installed(root: Path) -> list[tuple[Name, str]]:
    """The names in a root and the paths of their manifests; invalid names are skipped."""
    manifests = os.path.realpath(root / "manifests")
    level: list[tuple[tuple[str, ...], str]] = [((), manifests)]
    for _ in range(4):  # host, namespace, model, tag
        deeper = []
        for parts, folder in level:
            try:
                entries = _entries(folder, manifests)
            except OSError as error:
                log.warning("cannot read %s: %s", folder, error.strerror)
                continue
            deeper += [((*parts, entry.name), entry.path) for entry in entries]
        level = deeper
    found = []
    for parts, path in level:
        with suppress(InvalidName):
            found.append((Name(*parts), path))
    return found


def find(root: Path, name: Name) -> Name | None:
    """Find a name without regard to case; returns the spelling in this root. An exact match wins.

    Raises OSError if a folder cannot be read.
    """
    manifests = os.path.realpath(root / "manifests")
    if _is_there(manifests, name.path.parts) and not _ignores_case(manifests):
        return name
    parts = _find_parts(manifests, name.path.parts, manifests)
    return Name(*parts) if parts else None


def _is_there(manifests: str, parts: tuple[str, ...]) -> bool:
    """Whether the manifest is at exactly this path, with no link on the way. Takes microseconds.

    Scanning the folders takes milliseconds with a thousand models.
    """
    path, mode = manifests, 0
    try:
        for part in parts:
            path = f"{path}{os.sep}{part}"
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                return False
    except OSError:
        return False
    return stat.S_ISREG(mode)


def _ignores_case(manifests: str) -> bool:
    """Whether the file system ignores case, so that an existing path does not prove its spelling."""
    folder, name = os.path.split(manifests)
    return os.path.lexists(os.path.join(folder, name.swapcase()))


def _find_parts(folder: str, wanted: tuple[str, ...], inside: str) -> tuple[str, ...] | None:
    """The spelling of the parts `wanted` below `folder`; an exact match wins."""
    if not wanted:
        return () if os.path.isfile(folder) else None
    for entry in _spellings(wanted[0], _entries(folder, inside)):
        rest = _find_parts(entry.path, wanted[1:], inside)
        if rest is not None:
            return (entry.name, *rest)
    return None


def spelling(root: Path, name: Name) -> Name:
    """The name to write: each part as the root already spells it, so that no two differ only in case."""
    manifests = folder = os.path.realpath(root / "manifests")
    parts = []
    for part in name.path.parts:
        entries = _spellings(part, _entries(folder, manifests))
        parts.append(entries[0].name if entries else part)
        folder = os.path.join(folder, parts[-1])
    return Name(*parts)


def _spellings(part: str, entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """The entries that equal a part of a name without regard to case, the exact match first."""
    equal = [each for each in entries if each.name.lower() == part.lower() and each.name.isascii()]
    return sorted(equal, key=lambda each: (each.name != part, each.name))


def _entries(folder: str, inside: str) -> list[os.DirEntry[str]]:
    """The entries of a folder (none if it is missing), without links that lead out of `inside`."""
    try:
        with os.scandir(folder) as entries:
            return [
                entry
                for entry in entries
                if not entry.is_symlink()
                or os.path.realpath(entry.path).startswith(inside + os.sep)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []

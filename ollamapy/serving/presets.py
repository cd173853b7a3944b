"""Presets: named settings for chats, of each owner, in one small file of the state folder.

They are kept by the daemon and not by a browser, so that they are the same in every browser, on every device and in the terminal.
Synchronous: call it in a thread. Several threads may.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InvalidRequest, PresetNotFound, StoreError, reason
from ..files import replace_file

log = logging.getLogger(__name__)

MOST = 200
"""Presets of one owner."""

MAX_PRESET = 64 * 1024
"""Bytes of one preset in the file."""

_MAX_FILE = 256 * 2**20
_VERSION = 1


class Preset(msgspec.Struct, frozen=True, omit_defaults=True):
    """Settings of a chat under a name, in the form in which the API has them; what is not set is left as it is in a chat."""

    name: str
    model: str = ""
    system: str | None = None
    options: dict[str, Any] = {}
    format: Any = None
    think: bool | str | None = None
    keep_alive: str | float | None = None


class _File(msgspec.Struct):
    version: int
    owners: dict[str, dict[str, Preset]]


class Presets:
    """The presets in a file; with None they last as long as the process."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._owners: dict[str, dict[str, Preset]] | None = None

    def list(self, owner: str) -> tuple[Preset, ...]:
        """An owner's presets, by name. Raises StoreError."""
        with self._lock:
            found = self._all().get(owner, {})
            return tuple(sorted(found.values(), key=lambda preset: preset.name.casefold()))

    def put(self, owner: str, preset: Preset) -> None:
        """Keep a preset in place of the one with its name. Raises InvalidRequest for one too many or too large, StoreError."""
        if len(msgspec.json.encode(preset)) > MAX_PRESET:
            raise InvalidRequest(f"a preset has at most {MAX_PRESET} bytes")
        with self._lock:
            owners = self._all()
            mine = owners.get(owner, {})
            if preset.name not in mine and len(mine) >= MOST:
                raise InvalidRequest(f"there are at most {MOST} presets, delete one first")
            self._write({**owners, owner: {**mine, preset.name: preset}})

    def delete(self, owner: str, name: str) -> None:
        """Delete a preset. Raises PresetNotFound, StoreError."""
        with self._lock:
            owners = self._all()
            mine = owners.get(owner, {})
            if name not in mine:
                raise PresetNotFound(f"there is no preset {ascii(name[:100])}")
            kept = {key: value for key, value in mine.items() if key != name}
            self._write({**owners, owner: kept})

    def _all(self) -> dict[str, dict[str, Preset]]:
        if self._owners is None:
            self._owners = {} if self._path is None else _read(self._path)
        return self._owners

    def _write(self, owners: dict[str, dict[str, Preset]]) -> None:
        """Keep what is in the file: after an error nothing has changed."""
        if self._path is not None:
            try:
                content = msgspec.json.encode(_File(_VERSION, owners))
                replace_file(self._path, content, mode=0o600)
            except OSError as error:
                raise StoreError(f"cannot write {self._path}: {reason(error)}") from error
        self._owners = owners


def _read(path: Path) -> dict[str, dict[str, Preset]]:
    """The presets in a file. One that is damaged or of a newer version is set aside, and a new one is begun."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"cannot read {path}: {reason(error)}") from error
    try:
        found = msgspec.json.decode(content, type=_File)
        if found.version == _VERSION:
            return found.owners
        why = f"is of version {found.version}"
    except (ValueError, RecursionError) as error:
        why = f"is damaged ({error})"
    aside = path.with_name(f"{path.name}.aside")
    try:
        path.replace(aside)
    except OSError as error:
        raise StoreError(f"cannot rename {path}: {reason(error)}") from error
    log.warning("%s %s: it lies in %s now, and there are no presets", path, why, aside)
    return {}

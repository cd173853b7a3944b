"""The model store: manifests by name and content by digest, in Ollama's layout, true after a crash.

    <root>/manifests/<host>/<namespace>/<model>/<tag>   JSON: which blobs make the model
    <root>/blobs/sha256-<64 hex>                        content, named by its hash
    <root>/partial/                                     work in progress, never in blobs/: an Ollama
                                                        on the same store deletes strangers there
    <root>/sums/sha256-<64 hex>.json                    checksums of a blob's pieces (journal.py): a
                                                        damaged one need not be fetched whole

A store has one or more roots. The first is written; the others are only read, and what the first
holds under a name hides what they hold. Reading never writes, so a root that is missing or
read-only is fine. Writing goes to a work file, is flushed to the disk and renamed into place, and a
manifest is written after everything that it names: at any moment, also after a power cut, what can
be found is complete. Several processes may use a store at once; a lock orders those that write
manifests and delete.

Nothing found in a root is believed. Names and digests are checked before they become paths; a
manifest is limited in size and its every field checked; what is not a regular file is not read. A
link below manifests/ is followed only as far as manifests/; `manifests`, `blobs` and single blobs
may be links to anywhere, because people move weights to another disk. Deleting removes the link.

Nothing is removed unasked but what a deleted model was the last to use. Whoever removes more (see
upkeep.py) leaves alone what is younger than `GRACE`: another process may be about to name it in a
manifest. What is found instead of written again is made young by `touch`.

This module knows nothing of what a model's layers mean, imports nothing slow (`serve` and shell
completion use it before anything else), and downloads nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ..config import Paths, builtin_models
from ..errors import (
    DiskFull,
    InvalidModel,
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    ReadOnlyModel,
    StoreError,
    reason,
)
from ..human import format_bytes
from ..names import Name

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # shell completion sets up no logging, and must not print

MAX_MANIFEST = 4 * 2**20
"""Bytes: what registries allow. A model of a thousand separate tensors takes 250 kB."""

MAX_SMALL = 8 * 2**20
"""Bytes of a layer that is read whole: configuration, template, parameters, licence, messages."""

GRACE = 3600.0
"""Seconds that a file which nothing names is left alone: its writer may not be done."""

LAYER_PREFIX = "application/vnd.ollama.image."
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORK_PREFIX = "work-"  # files that nobody resumes; downloads, which are resumed, have other names
_LOCK_TIMEOUT = 60.0  # seconds; what is done under the lock takes milliseconds


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model. `digest` is "sha256:" and 64 lower-case hex digits; `size` is bytes.

    `from_` is the model that a weights layer was taken from, `name` a tensor's; "" where not said.
    """

    media_type: str
    digest: str
    size: int
    from_: str = ""
    name: str = ""

    @property
    def kind(self) -> str:
        """ "model", "params", "template"...; "" for what is not a layer of Ollama's."""
        found = self.media_type.startswith(LAYER_PREFIX)
        return self.media_type[len(LAYER_PREFIX) :] if found else ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model consists of. `digest` (bare hex) and `modified_at` (seconds) are the file's."""

    config: Layer
    layers: tuple[Layer, ...]
    digest: str
    modified_at: float

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """All that must be in the store: the configuration and the layers."""
        return (self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(layer.size for layer in self.blobs)


# Digests and manifests, as text


def parse_digest(text: str) -> str:
    """A digest as "sha256:<64 lower-case hex>", from either spelling. Raises InvalidRequest."""
    found = _DIGEST.fullmatch(text)
    if not found:
        raise InvalidRequest("invalid digest format, expected sha256: and 64 hexadecimal digits")
    return f"sha256:{found[1].lower()}"


def parse_manifest(content: bytes, modified_at: float = 0.0) -> Manifest:
    """A manifest from its file's content. Raises InvalidModel that says what is wrong."""
    if len(content) > MAX_MANIFEST:
        raise InvalidModel(f"it is larger than {MAX_MANIFEST} bytes")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidModel("it is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidModel("it is not a JSON object")
    layers = value.get("layers")
    if not isinstance(layers, list):
        raise InvalidModel("it has no list of layers")
    return Manifest(
        config=_layer(value.get("config"), "config"),
        layers=tuple([_layer(each, "layer") for each in layers]),
        digest=hashlib.sha256(content).hexdigest(),
        modified_at=modified_at,
    )


def _layer(value: Any, what: str) -> Layer:
    if not isinstance(value, dict):
        raise InvalidModel(f"its {what} is not a JSON object")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    from_, name = value.get("from") or "", value.get("name") or ""
    found = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if not found:
        raise InvalidModel(f"its {what} has no valid digest")
    if type(size) is not int or not 0 <= size < 2**63:  # a truth value is an int, too
        raise InvalidModel(f"its {what} has no valid size")
    if not (_is_text(media_type) and _is_text(from_) and _is_text(name)):
        raise InvalidModel(f"its {what} has a field that is not text")
    return Layer(media_type, f"sha256:{found[1].lower()}", size, from_, name)


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a text that can be written again: not with half of a surrogate pair."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def print_manifest(config: Layer, layers: Iterable[Layer]) -> bytes:
    """A manifest's file content, as Ollama writes it for a model that it creates."""
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _layer_value(config),
        "layers": [_layer_value(layer) for layer in layers],
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _layer_value(layer: Layer) -> dict[str, Any]:
    value: dict[str, Any] = {
        "mediaType": layer.media_type,
        "digest": layer.digest,
        "size": layer.size,
    }
    if layer.from_:
        value["from"] = layer.from_
    if layer.name:
        value["name"] = layer.name
    return value


# The store


def open_store(paths: Paths) -> Store:
    """The user's models, those of the roots that are only read, and the built-in one.

    The built-in model is listed in the default place only; it can be named everywhere.
    """
    builtin = builtin_models()
    roots = [paths.models, *paths.more_models, builtin]
    return Store(list(dict.fromkeys(roots)), unlisted=[builtin] if paths.models_given else [])


@dataclass(frozen=True, slots=True)
class Installed:
    """A manifest's file: in which root, under which name, and what it says or why it cannot be read."""

    root: Path
    name: Name
    path: Path
    manifest: Manifest | None
    fault: str = ""


class Store:
    """Models on disk, in `roots`: the first is written, the others only read. For any thread.

    Models in an `unlisted` root are found by name but not listed. `now` is the clock of ages.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        unlisted: Collection[Path] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.roots = tuple(roots)
        self.now = now
        self._unlisted = frozenset(unlisted)
        # Manifests already read, or why they cannot be: by path, valid for that state of the file.
        # So a list of thousands costs a stat each, and a damaged one is logged once.
        self._known: dict[str, tuple[tuple[int, int, int], Manifest | InvalidModel]] = {}
        self._held: Counter[str] = Counter()

    # Reading

    def names(self) -> list[Name]:
        """Every installed model, newest first; what cannot be read is skipped and logged."""
        return [name for name, _ in self.models()]

    def models(self) -> list[tuple[Name, Manifest]]:
        """Every installed model with its manifest, newest first; see `names`."""
        found: list[tuple[Name, Manifest]] = []
        hidden: set[str] = set()  # names that earlier roots hold, without their case
        seen: set[str] = set()
        for root in self.roots:
            if root in self._unlisted:
                continue
            here = _installed(root)
            seen.update(path for _, path in here)
            for name, path in here:
                if name.full.lower() not in hidden:
                    with suppress(InvalidModel, OSError):
                        found.append((name, self._manifest(path)))
            hidden.update(name.full.lower() for name, _ in here)
        for path in self._known.keys() - seen:
            self._known.pop(path, None)
        return sorted(found, key=lambda each: each[1].modified_at, reverse=True)

    def survey(self) -> list[Installed]:
        """Every manifest of every root, also the hidden and the damaged ones."""
        found = []
        for root in self.roots:
            for name, path in _installed(root):
                try:
                    each = Installed(root, name, Path(path), self._manifest(path))
                except FileNotFoundError:  # deleted since
                    continue
                except (InvalidModel, OSError) as error:
                    each = Installed(root, name, Path(path), None, str(error))
                found.append(each)
        return found

    def find(self, name: Name) -> Name | None:
        """The installed name that equals `name` but for the case of letters.

        Raises StoreError if it is not found and a root cannot be read.
        """
        located = self._locate(name)
        return located[1] if located else None

    def manifest(self, name: Name) -> Manifest:
        """The manifest of an installed model. Raises ModelNotFound, InvalidModel, StoreError."""
        return self._require(name)[1]

    def manifest_file(self, name: Name) -> tuple[bytes, Manifest]:
        """The manifest of an installed model, byte for byte, and what it says. Raises as `manifest`."""
        path, _ = self._require(name)
        try:
            content, modified_at = _read_file(path, MAX_MANIFEST)
        except OSError as error:
            raise _cannot_read(path, error) from error
        return content, parse_manifest(content, modified_at)

    def has(self, digest: str) -> bool:
        """Whether any root holds the blob. Raises InvalidRequest if it is no digest."""
        return self._blob(parse_digest(digest)) is not None

    def blob_path(self, digest: str) -> Path:
        """Where the blob lies. Raises StoreError if no root has it, InvalidRequest if no digest."""
        digest = parse_digest(digest)
        path = self._blob(digest)
        if path is None:
            folder = self.roots[0] / "blobs"
            raise StoreError(f"{_short(digest)} is missing from {folder}, get the model again")
        return path

    def read_small(self, layer: Layer, limit: int = MAX_SMALL) -> bytes:
        """A layer's content. Raises InvalidModel if it is larger than `limit` bytes."""
        path = self.blob_path(layer.digest)
        try:
            return _read_file(path, limit)[0]
        except InvalidModel as error:
            raise InvalidModel(
                f"{_short(layer.digest)} is damaged: {error}, get the model again"
            ) from None
        except OSError as error:
            raise _cannot_read(path, error) from error

    # Writing

    def add_blob(self, content: bytes | Iterable[bytes], digest: str | None = None) -> str:
        """Store content under its digest, which is returned; a whole blob that is there stays.

        Raises InvalidRequest if it is not the `digest` that was expected, StoreError if it cannot
        be written. Nothing of it is left then.
        """
        with self.new_blob(digest) as blob:
            for chunk in [content] if isinstance(content, bytes) else content:
                blob.write(chunk)
            return blob.put()

    def new_blob(self, digest: str | None = None) -> BlobWriter:
        """A blob to be written piece by piece, see `BlobWriter`. Raises as `add_blob` does."""
        return BlobWriter(self, parse_digest(digest) if digest is not None else None)

    def touch(self, digest: str) -> None:
        """Make a blob young that is about to be named in a manifest: see `GRACE`."""
        with suppress(OSError):  # of another user, or only read: nobody of ours removes it
            path = self.roots[0] / "blobs" / _file_name(parse_digest(digest))
            os.utime(path)

    def adopt_file(self, path: Path, digest: str, *, linked: bool = False) -> None:
        """Make a verified file in partial/ the blob `digest`: flushed and renamed, not copied.

        A `linked` one is another program's too: it is not written to, nor its rights changed.
        Raises StoreError; the file is where it was then.
        """
        target = self.roots[0] / "blobs" / _file_name(parse_digest(digest))
        with _writing(self.roots[0], target):
            if not linked:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                path.chmod(0o644)
            _make_folder(target.parent)
            os.replace(path, target)
            # where both are one file already, rename does nothing
            path.unlink(missing_ok=True)
            _sync_folder(target.parent)

    def check_room(self, needed: int) -> None:
        """Raises DiskFull if the first root's disk has not that many bytes free."""
        folder = self.roots[0] / "partial"
        place = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise DiskFull(
                f"{format_bytes(needed)} are needed in {self.roots[0]} and {format_bytes(free)} are"
                " free: make room or point OLLAMAPY_MODELS at another disk",
                needed - free,
            )

    def work_path(self) -> Path:
        """A name in partial/ for a file that nobody resumes; its folder is there. Raises StoreError.

        What is left of it when its writer died is swept up after `GRACE`.
        """
        path = _work_path(self.roots[0])
        with _writing(self.roots[0], path):
            _make_folder(path.parent)
            _remove_abandoned(path.parent, self.now())
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold off everybody who writes manifests or deletes: who decides what to remove.

        Not to be held around `write_manifest`, `delete` and `remove_unused`. Raises StoreError.
        """
        with _locked(self.roots[0]):
            yield

    def write_manifest(self, name: Name, content: bytes) -> Name:
        """Install a model: its manifest, byte for byte, when all of its blobs are there.

        A model of that name is replaced, also if its spelling differs in case; the installed
        spelling is returned. Raises InvalidModel, StoreError.
        """
        manifest = parse_manifest(content)
        with _locked(self.roots[0]):
            for layer in manifest.blobs:
                self.blob_path(layer.digest)
            with _WorkFile(self.roots[0], self.now) as work:
                work.write(content)
                name = _spelling(self.roots[0], name)
                work.put(_manifest_path(self.roots[0], name))
        return name

    def copy(self, source: Name, destination: Name) -> Name:
        """Install a second name for a model. Raises ModelNotFound, InvalidModel, StoreError."""
        return self.write_manifest(destination, self.manifest_file(source)[0])

    def delete(self, name: Name) -> None:
        """Remove a model, then those of its blobs that no other model uses.

        Raises ModelNotFound, ReadOnlyModel and StoreError.
        """
        with _locked(self.roots[0]):
            located = self._locate(name)
            if located is None:
                raise ModelNotFound(f"model '{name.display}' not found")
            root, name = located
            if root != self.roots[0]:
                raise ReadOnlyModel(
                    f"model '{name.display}' cannot be deleted: it belongs to {root}, which is only read"
                )
            path = _manifest_path(root, name)
            manifest = None
            with suppress(InvalidModel, OSError):  # a damaged one can go; its blobs are not known
                manifest = self._manifest(str(path))
            with _writing(root, path):
                path.unlink()
                _sync_folder(path.parent)
                _remove_empty(path.parent, path.parents[3])
                if manifest is not None:
                    self._remove_unused({layer.digest for layer in manifest.blobs})

    def remove_unused(self, blobs: Iterable[Layer]) -> None:
        """Remove those of the blobs that no model uses: of a manifest that was replaced, of work that failed.

        Raises StoreError.
        """
        with _locked(self.roots[0]), _writing(self.roots[0], self.roots[0] / "blobs"):
            self._remove_unused({layer.digest for layer in blobs})

    @contextmanager
    def held(self, digests: Collection[str]) -> Iterator[None]:
        """Blobs that a manifest is going to name: as long as this lasts, this store's removals leave them where they are."""
        self._held.update(digests)
        try:
            yield
        finally:
            self._held.subtract(digests)
            for digest in digests:
                if not self._held[digest]:
                    del self._held[digest]

    def used(self) -> set[str]:
        """The digests that some manifest of some root names. Raises StoreError if one is damaged."""
        used: set[str] = set()
        for each in self.survey():
            if each.manifest is None:
                raise StoreError(
                    f"no blob is removed, because {each.path} cannot be read ({each.fault}): get"
                    f" the model again or delete it with: ollamapy rm {each.name.display}"
                )
            used.update(layer.digest for layer in each.manifest.blobs)
        return used

    def _remove_unused(self, digests: set[str]) -> None:
        """Remove the blobs that no manifest names."""
        try:
            used = self.used()
        except StoreError as error:
            log.warning("%s", error)
            return
        for digest in digests - used:
            if self._held[digest] > 0:
                continue
            (self.roots[0] / "blobs" / _file_name(digest)).unlink(missing_ok=True)
            self.sums_path(digest).unlink(missing_ok=True)

    def sums_path(self, digest: str) -> Path:
        """Where the checksums of a blob's pieces are kept, if they are."""
        return self.roots[0] / "sums" / f"{_file_name(parse_digest(digest))}.json"

    # How things are found

    def _require(self, name: Name) -> tuple[Path, Manifest]:
        """The manifest of an installed model and where it lies."""
        located = self._locate(name)
        if located is None:
            raise ModelNotFound(f"model '{name.display}' not found")
        path = _manifest_path(*located)
        try:
            return path, self._manifest(str(path))
        except FileNotFoundError:  # deleted since
            raise ModelNotFound(f"model '{name.display}' not found") from None
        except InvalidModel as error:
            raise InvalidModel(
                f"the manifest {path} is damaged: {error}, get the model again"
            ) from None
        except OSError as error:
            raise _cannot_read(path, error) from error

    def _locate(self, name: Name) -> tuple[Path, Name] | None:
        """The root that holds a model, and its spelling there."""
        unreadable: OSError | None = None
        for root in self.roots:
            manifests = os.path.realpath(root / "manifests")
            try:
                if parts := _find(manifests, name.path.parts, manifests):
                    return root, Name(*parts)
            except OSError as error:
                unreadable = error
        if unreadable is not None:
            raise _cannot_read(unreadable.filename, unreadable)
        return None

    def _manifest(self, path: str) -> Manifest:
        """A manifest, read or known. Raises OSError, InvalidModel."""
        status = os.stat(path)
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        state_known, known = self._known.get(path, (None, None))
        if known is None or state != state_known:
            try:
                known = parse_manifest(*_read_file(path, MAX_MANIFEST))
            except InvalidModel as error:
                log.warning("the manifest %s is damaged: %s", path, error)
                known = error
            self._known[path] = (state, known)
        if isinstance(known, InvalidModel):
            raise InvalidModel(*known.args)
        return known

    def _blob(self, digest: str) -> Path | None:
        file_name = _file_name(digest)
        folders = [root / "blobs" for root in self.roots]
        for folder in folders:
            if (folder / file_name).is_file():
                return folder / file_name
        # Ollama keeps a digest's case, and long ago wrote a colon
        for folder in folders:
            with suppress(OSError):
                for each in os.listdir(folder):
                    if each.replace(":", "-").lower() == file_name and (folder / each).is_file():
                        return folder / each
        return None


class BlobWriter:
    """`with store.new_blob() as blob:` content that arrives in pieces; gone again without `put`."""

    def __init__(self, store: Store, expected: str | None) -> None:
        self._store, self._expected = store, expected
        self._work = _WorkFile(store.roots[0], store.now)
        self._summed, self._size = hashlib.sha256(), 0

    def __enter__(self) -> BlobWriter:
        self._work.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._work.__exit__(*raised)

    def write(self, chunk: bytes) -> None:
        """Add a piece. Raises StoreError."""
        self._work.write(chunk)
        self._summed.update(chunk)
        self._size += len(chunk)

    def put(self) -> str:
        """Make it a blob; its digest. Raises InvalidRequest if another was expected, StoreError."""
        found = f"sha256:{self._summed.hexdigest()}"
        if self._expected is not None and found != self._expected:
            raise InvalidRequest(f'digest mismatch, expected "{self._expected}", got "{found}"')
        path = self._store._blob(found)
        if path is None or path.stat().st_size != self._size:
            self._work.put(self._store.roots[0] / "blobs" / _file_name(found))
        else:
            self._store.touch(found)
        return found


# Finding names below manifests/


def _installed(root: Path) -> list[tuple[Name, str]]:
    """The names in a root and the paths of their manifests; what cannot be a name is left out."""
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


def _find(folder: str, wanted: tuple[str, ...], inside: str) -> tuple[str, ...] | None:
    """The spelling of the parts `wanted` below `folder`, the one as written before others."""
    if not wanted:
        return () if os.path.isfile(folder) else None
    for entry in _spellings(wanted[0], _entries(folder, inside)):
        rest = _find(entry.path, wanted[1:], inside)
        if rest is not None:
            return (entry.name, *rest)
    return None


def _spelling(root: Path, name: Name) -> Name:
    """A name to be written, with each part as the root spells it already: no two differ in case."""
    manifests = folder = os.path.realpath(root / "manifests")
    parts = []
    for part in name.path.parts:
        entries = _spellings(part, _entries(folder, manifests))
        parts.append(entries[0].name if entries else part)
        folder = os.path.join(folder, parts[-1])
    return Name(*parts)


def _spellings(part: str, entries: Iterable[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """The entries that equal a part of a name but for case, that with its very spelling first."""
    equal = [each for each in entries if each.name.lower() == part.lower() and each.name.isascii()]
    return sorted(equal, key=lambda each: (each.name != part, each.name))


def _entries(folder: str, inside: str) -> list[os.DirEntry[str]]:
    """What is in a folder (nothing if there is none) without links that lead out of `inside`."""
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


def _manifest_path(root: Path, name: Name) -> Path:
    return Path(os.path.realpath(root / "manifests"), name.path)


# Files


class _WorkFile:
    """A new file in partial/ that becomes another by `put`, or else is gone at the end.

    Every error of the operating system becomes a StoreError.
    """

    def __init__(self, root: Path, now: Callable[[], float]) -> None:
        self._root = root
        self._now = now
        self._path = _work_path(root)

    def __enter__(self) -> _WorkFile:
        with _writing(self._root, self._path):
            _make_folder(self._path.parent)
            _remove_abandoned(self._path.parent, self._now())
            self._file = self._path.open("xb")
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what could not be written is reported already
            self._file.close()
        with suppress(OSError):
            self._path.unlink()

    def write(self, chunk: bytes) -> None:
        with _writing(self._root, self._path):
            self._file.write(chunk)

    def put(self, target: Path) -> None:
        """Make it `target`, at once and for good: on the disk before it has the name."""
        with _writing(self._root, target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make_folder(target.parent)
            os.replace(self._path, target)
            _sync_folder(target.parent)


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold off everybody else who writes manifests or deletes in a root."""
    from filelock import FileLock  # imports half of asyncio: only writers pay for it

    path = root / "partial" / "lock"
    with _writing(root, path):
        _make_folder(path.parent)
        lock = FileLock(path, timeout=_LOCK_TIMEOUT)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _writing(root: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _cannot_write(root, target, error) from error


def _cannot_write(root: Path, target: Path, error: OSError) -> StoreError:
    elsewhere = "point OLLAMAPY_MODELS at another folder"
    if error.errno in _DISK_FULL:
        return StoreError(f"the disk is full, cannot write {target}: make room or {elsewhere}")
    if error.errno == errno.EXDEV:
        return StoreError(
            f"{target.parent} and {root / 'partial'} must be on one file system: {elsewhere}"
        )
    if isinstance(error, TimeoutError):
        return StoreError(
            f"another process holds {root / 'partial' / 'lock'}, end it and try again"
        )
    return StoreError(
        f"cannot write to the models directory {root} ({reason(error)}): make it writable or {elsewhere}"
    )


def _cannot_read(path: Path | str, error: OSError) -> StoreError:
    return StoreError(f"cannot read {path} ({reason(error)}), make it readable")


def _read_file(path: Path | str, limit: int) -> tuple[bytes, float]:
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


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they are there after a power cut."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    """Bring a folder's entries to the disk; Windows and some file systems cannot."""
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


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove empty folders from `folder` up to below `top`."""
    with suppress(OSError):  # the first that is not empty ends it
        while folder != top:
            folder.rmdir()
            folder = folder.parent


def _work_path(root: Path) -> Path:
    return root / "partial" / f"{_WORK_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"


def _remove_abandoned(folder: Path, now: float) -> None:
    """Remove work files whose writers died."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if is_work(entry.name) and age(entry.stat(), now) > GRACE:
                    os.unlink(entry.path)


def is_work(name: str) -> bool:
    """Whether a file in partial/ is one that nobody resumes."""
    return name.startswith(_WORK_PREFIX)


def age(status: os.stat_result, now: float) -> float:
    """Seconds since anything was done to a file: a link to an old one is new all the same."""
    return now - max(status.st_mtime, status.st_ctime)


def _file_name(digest: str) -> str:
    return digest.replace(":", "-")


def _short(digest: str) -> str:
    return f"blob {digest[:19]}"

"""The model store: manifests by name and content by digest, in Ollama's layout, consistent after a crash.

    <root>/manifests/<host>/<namespace>/<model>/<tag>   JSON: which blobs make the model
    <root>/blobs/sha256-<64 hex>                        content, named by its hash
    <root>/partial/                                     unfinished files, never in blobs/: an Ollama on
                                                        the same store deletes unknown files there
    <root>/sums/sha256-<64 hex>.json                    checksums of a blob's pieces (journal.py), to
                                                        repair a damaged blob piece by piece

A store has one or more roots. The first is written, the others are only read; a name in an earlier root
hides the same name in later ones. Reading never writes, so a missing or read-only root is fine. Content
is written to a work file, flushed to the disk and renamed into place, and a manifest is written after
all of its blobs: whatever can be found is complete, also after a power cut. Several processes may use a
store at once; a lock serialises writing manifests and deleting.

The content of a root is untrusted. Names and digests are validated before they become paths, the size
and every field of a manifest are checked, and only regular files are read. A link below manifests/ is
followed only within manifests/; `manifests`, `blobs` and single blobs may be links to anywhere, because
users move weights to another disk. Deleting removes the link.

Nothing is removed unasked but what a deleted model was the last to use. Whoever removes more (see
prune.py) leaves alone what is younger than `GRACE`: another process may be about to name it in a
manifest. What is found instead of written again is made young by `touch`.

This module knows nothing of what a model's layers mean, imports nothing slow (`serve` and shell
completion use it before anything else), and downloads nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..config import Paths, builtin_models
from ..digests import Sha256, parse_digest
from ..errors import (
    DiskFull,
    InvalidModel,
    InvalidRequest,
    ModelNotFound,
    ReadOnlyModel,
    StoreError,
)
from ..files import make_folder, sync_folder
from ..human import format_bytes
from ..names import Name
from .layout import blob_name, find, installed, manifest_path, spelling
from .manifest import MAX_MANIFEST, Layer, Manifest, parse_manifest
from .reservation import Reservation, reserved
from .work import (
    WorkFile,
    cannot_read,
    locked,
    read_file,
    remove_empty,
    writing,
)

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # shell completion sets up no logging, and must not print


MAX_SMALL = 8 * 2**20
"""Bytes of a layer that is read whole: configuration, template, parameters, licence, messages."""


# The store


def open_store(paths: Paths) -> Store:
    """The store of the user's models, with the read-only roots and the built-in model.

    The built-in model is listed in the default store only; it can be used in every store.
    """
    builtin = builtin_models()
    roots = [paths.models, *paths.more_models, builtin]
    return Store(list(dict.fromkeys(roots)), unlisted=[builtin] if paths.models_given else [])


@dataclass(frozen=True, slots=True)
class Installed:
    """A manifest file: its root, its name, and its content or why it cannot be read."""

    root: Path
    name: Name
    path: Path
    manifest: Manifest | None
    fault: str = ""


class Store:
    """Models on the disk, in `roots`: the first is written, the others are only read. Thread-safe.

    Models in an `unlisted` root are found by name but not listed. `now` is the clock for ages.
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
        # Parsed manifests, or their errors, by path and valid for that state of the file: listing
        # thousands costs one stat each, and a damaged one is logged once.
        self._manifests: dict[str, tuple[tuple[int, int, int], Manifest | InvalidModel]] = {}

    # Reading

    def names(self) -> list[Name]:
        """Every installed model, newest first; unreadable ones are skipped and logged."""
        return [name for name, _ in self.models()]

    def models(self) -> list[tuple[Name, Manifest]]:
        """Every installed model with its manifest, newest first; see `names`."""
        found: list[tuple[Name, Manifest]] = []
        hidden: set[str] = set()  # lower-case names in earlier roots
        seen: set[str] = set()
        for root in self.roots:
            if root in self._unlisted:
                continue
            here = installed(root)
            seen.update(path for _, path in here)
            for name, path in here:
                if name.full.lower() not in hidden:
                    with suppress(InvalidModel, OSError):
                        found.append((name, self._manifest(path)))
            hidden.update(name.full.lower() for name, _ in here)
        for path in self._manifests.keys() - seen:
            self._manifests.pop(path, None)
        return sorted(found, key=lambda each: each[1].modified_at, reverse=True)

    def survey(self) -> list[Installed]:
        """Every manifest of every root, including hidden and damaged ones."""
        found = []
        for root in self.roots:
            for name, path in installed(root):
                try:
                    each = Installed(root, name, Path(path), self._manifest(path))
                except FileNotFoundError:  # deleted meanwhile
                    continue
                except (InvalidModel, OSError) as error:
                    each = Installed(root, name, Path(path), None, str(error))
                found.append(each)
        return found

    def find(self, name: Name) -> Name | None:
        """The installed name that equals `name` without regard to case.

        Raises StoreError if it is not found and a root cannot be read.
        """
        located = self._locate(name)
        return located[1] if located else None

    def manifest(self, name: Name) -> Manifest:
        """The manifest of an installed model. Raises ModelNotFound, InvalidModel, StoreError."""
        return self._require(name)[1]

    def manifest_file(self, name: Name) -> tuple[bytes, Manifest]:
        """The manifest of an installed model, byte for byte and parsed. Raises as `manifest` does."""
        path, _ = self._require(name)
        try:
            content, modified_at = read_file(path, MAX_MANIFEST)
        except OSError as error:
            raise cannot_read(path, error) from error
        return content, parse_manifest(content, modified_at)

    def has(self, digest: str) -> bool:
        """Whether any root has the blob. Raises InvalidRequest if it is not a digest."""
        return self._blob(parse_digest(digest)) is not None

    def blob_path(self, digest: str) -> Path:
        """The path of a blob. Raises StoreError if no root has it, InvalidRequest if it is not a digest."""
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
            return read_file(path, limit)[0]
        except InvalidModel as error:
            raise InvalidModel(
                f"{_short(layer.digest)} is damaged: {error}, get the model again"
            ) from None
        except OSError as error:
            raise cannot_read(path, error) from error

    # Writing

    def add_blob(self, content: bytes | Iterable[bytes], digest: str | None = None) -> str:
        """Store content under its digest, which is returned; an intact existing blob is kept.

        Raises InvalidRequest if it does not match the expected `digest`, StoreError if it cannot be
        written. Nothing of it is left then.
        """
        with self.new_blob(digest) as blob:
            for chunk in [content] if isinstance(content, bytes) else content:
                blob.write(chunk)
            return blob.put()

    def new_blob(self, digest: str | None = None) -> BlobWriter:
        """A blob that is written piece by piece, see `BlobWriter`. Raises as `add_blob` does."""
        return BlobWriter(self, parse_digest(digest) if digest is not None else None)

    def touch(self, digest: str) -> None:
        """Renew the age of a blob that a client is about to use, so that prune keeps it for `GRACE`."""
        with suppress(OSError):  # another user's, or read-only: none of our processes removes it
            path = self.roots[0] / "blobs" / blob_name(parse_digest(digest))
            os.utime(path)

    def adopt_file(self, path: Path, digest: str, *, linked: bool = False) -> None:
        """Turn a verified file in partial/ into the blob `digest`: it is flushed and renamed, not copied.

        A `linked` file belongs to another program, too: its content and mode are not changed.
        Raises StoreError; the file is then still in partial/.
        """
        target = self.roots[0] / "blobs" / blob_name(parse_digest(digest))
        with writing(self.roots[0], target):
            if not linked:
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                path.chmod(0o644)
            make_folder(target.parent)
            os.replace(path, target)
            # rename does nothing where both are the same file
            path.unlink(missing_ok=True)
            sync_folder(target.parent)

    def check_room(self, needed: int) -> None:
        """Raise DiskFull if the first root's disk has fewer than `needed` bytes free."""
        folder = self.roots[0] / "partial"
        place = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(place).free
        if needed > free:
            raise DiskFull(
                f"{format_bytes(needed)} are needed in {self.roots[0]} and {format_bytes(free)} are"
                " free: free some space or point OLLAMAPY_MODELS at another disk",
                needed - free,
            )

    def reserve(self, digests: Iterable[str] = ()) -> Reservation:
        """A reservation: in ``with store.reserve(digests) as reservation:`` no process deletes these blobs.

        They may exist or not yet; `Reservation.add` reserves more. Raises InvalidRequest if one is not a digest,
        StoreError.
        """
        return Reservation(self.roots[0], [parse_digest(each) for each in digests])

    @contextmanager
    def reading(self, digests: Iterable[str]) -> Iterator[None]:
        """Reserve blobs while they are read; nothing is reserved where the store cannot be written to."""
        reservation = self.reserve(digests)
        with suppress(StoreError):
            reservation.open()
        try:
            yield
        finally:
            reservation.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the root's lock: no process writes manifests, deletes or reserves meanwhile.

        Do not call `write_manifest`, `delete`, `remove_unused` or a reservation inside. Raises StoreError.
        """
        with locked(self.roots[0]):
            yield

    def write_manifest(self, name: Name, content: bytes, *, created: bool = False) -> Name:
        """Install a model: write its manifest, byte for byte. All of its blobs must exist. ``created``: it was made here, and has
        no source.

        A model of that name is replaced, also if its spelling differs in case; the installed
        spelling is returned. Raises InvalidModel, StoreError.
        """
        manifest = parse_manifest(content)
        with locked(self.roots[0]):
            for layer in manifest.blobs:
                self.blob_path(layer.digest)
            with WorkFile(self.roots[0]) as work:
                work.write(content)
                name = spelling(self.roots[0], name)
                work.put(manifest_path(self.roots[0], name))
            if created and not self.is_created(manifest):
                with self._created.open("a", encoding="ascii") as file:
                    file.write(manifest.digest + "\n")
        return name

    @property
    def _created(self) -> Path:
        """The digests of manifests that were made here, a line each: the manifests themselves are as Ollama writes them."""
        return self.roots[0] / "created"

    def is_created(self, manifest: Manifest) -> bool:
        """Whether a model was made here, rather than pulled; False as well where that is unknown."""
        try:
            return manifest.digest in self._created.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return False

    def copy(self, source: Name, destination: Name) -> Name:
        """Install a second name for a model. Raises ModelNotFound, InvalidModel, StoreError."""
        return self.write_manifest(destination, self.manifest_file(source)[0])

    def delete(self, name: Name) -> None:
        """Remove a model, then those of its blobs that no other model uses and no reservation lists.

        Raises ModelNotFound, ReadOnlyModel and StoreError.
        """
        with locked(self.roots[0]):
            located = self._locate(name)
            if located is None:
                raise ModelNotFound(f"model '{name.display}' not found")
            root, name = located
            if root != self.roots[0]:
                raise ReadOnlyModel(
                    f"model '{name.display}' cannot be deleted: it belongs to {root}, which is only read"
                )
            path = manifest_path(root, name)
            manifest = None
            with suppress(
                InvalidModel, OSError
            ):  # a damaged manifest can be deleted; its blobs are unknown
                manifest = self._manifest(str(path))
            with writing(root, path):
                path.unlink()
                sync_folder(path.parent)
                remove_empty(path.parent, path.parents[3])
                if manifest is not None:
                    self._remove_unused({layer.digest for layer in manifest.blobs})

    def remove_unused(self, blobs: Iterable[Layer]) -> None:
        """Remove those of the blobs that no model uses and no reservation lists: after a manifest was replaced, or
        a job failed. Raises StoreError.
        """
        with locked(self.roots[0]), writing(self.roots[0], self.roots[0] / "blobs"):
            self._remove_unused({layer.digest for layer in blobs})

    def used(self) -> set[str]:
        """The digests that any manifest of any root lists. Raises StoreError if a manifest is damaged."""
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
        """Remove the blobs that no manifest and no reservation lists. Call it with the root's lock held."""
        try:
            used = self.used()
        except StoreError as error:
            log.warning("%s", error)
            return
        for digest in digests - used - reserved(self.roots[0], self.now()):
            (self.roots[0] / "blobs" / blob_name(digest)).unlink(missing_ok=True)
            self.sums_path(digest).unlink(missing_ok=True)

    def sums_path(self, digest: str) -> Path:
        """The path of the checksums of a blob's pieces; the file may be missing."""
        return self.roots[0] / "sums" / f"{blob_name(parse_digest(digest))}.json"

    # Lookup

    def _require(self, name: Name) -> tuple[Path, Manifest]:
        """The manifest of an installed model, and its path."""
        located = self._locate(name)
        if located is None:
            raise ModelNotFound(f"model '{name.display}' not found")
        path = manifest_path(*located)
        try:
            return path, self._manifest(str(path))
        except FileNotFoundError:  # deleted meanwhile
            raise ModelNotFound(f"model '{name.display}' not found") from None
        except InvalidModel as error:
            raise InvalidModel(
                f"the manifest {path} is damaged: {error}, get the model again"
            ) from None
        except OSError as error:
            raise cannot_read(path, error) from error

    def _locate(self, name: Name) -> tuple[Path, Name] | None:
        """The root that holds a model, and its spelling there."""
        unreadable: OSError | None = None
        for root in self.roots:
            try:
                if found := find(root, name):
                    return root, found
            except OSError as error:
                unreadable = error
        if unreadable is not None:
            raise cannot_read(unreadable.filename, unreadable)
        return None

    def _manifest(self, path: str) -> Manifest:
        """A manifest, from the cache or the disk. Raises OSError, InvalidModel."""
        status = os.stat(path)
        state = (status.st_mtime_ns, status.st_size, status.st_ino)
        cached_state, cached = self._manifests.get(path, (None, None))
        if cached is None or state != cached_state:
            try:
                cached = parse_manifest(*read_file(path, MAX_MANIFEST))
            except InvalidModel as error:
                log.warning("the manifest %s is damaged: %s", path, error)
                cached = error
            self._manifests[path] = (state, cached)
        if isinstance(cached, InvalidModel):
            raise InvalidModel(*cached.args)
        return cached

    def _blob(self, digest: str) -> Path | None:
        file_name = blob_name(digest)
        folders = [root / "blobs" for root in self.roots]
        for folder in folders:
            if (folder / file_name).is_file():
                return folder / file_name
        # Ollama keeps the case of a digest, and old versions wrote a colon
        for folder in folders:
            with suppress(OSError):
                for each in os.listdir(folder):
                    if each.replace(":", "-").lower() == file_name and (folder / each).is_file():
                        return folder / each
        return None


class BlobWriter:
    """`with store.new_blob() as blob:` stores content that arrives in pieces; without `put` it is discarded."""

    def __init__(self, store: Store, expected: str | None) -> None:
        self._store, self._expected = store, expected
        self._work = WorkFile(store.roots[0])
        self._summed, self._size = Sha256(), 0

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
        """Store the blob; returns its digest. Raises InvalidRequest if another was expected, StoreError."""
        found = self._summed.digest
        if self._expected is not None and found != self._expected:
            raise InvalidRequest(f'digest mismatch, expected "{self._expected}", got "{found}"')
        path = self._store._blob(found)
        if path is None or path.stat().st_size != self._size:
            self._work.put(self._store.roots[0] / "blobs" / blob_name(found))
        else:
            self._store.touch(found)
        return found


def _short(digest: str) -> str:
    return f"blob {digest[:19]}"

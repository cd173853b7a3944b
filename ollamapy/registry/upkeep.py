"""Looking after a store: is it whole, what is of no use, what takes the room; a model in one file.

    verify         hash every blob of some models; what is wrong, and which bytes of it
    set_aside      make a damaged blob an unfinished download, so that a pull gets only its bad bytes
    prune          remove what nothing names and nobody works on
    usage          what each model takes, and what would be free without it
    export         a model as one tar:   manifests/<host>/<namespace>/<model>/<tag>
                                         blobs/sha256-<64 hex>
    import_file    such a tar into the store; no path in it is ever used as a path

A tar of `export` has the store's own layout, so `tar x` in a models directory of Ollama's does, too.
Work of more than a moment comes as an iterator that yields `Progress` and what was found. Nothing
here prints, asks or downloads.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any

from ..digests import parse_digest
from ..errors import (
    InvalidModel,
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    StoreError,
    reason,
)
from ..names import Name
from . import journal
from .download import SUMS_FROM
from .manifest import MAX_MANIFEST, Layer, Manifest, parse_manifest
from .pieces import MIB, Segment, piece_size
from .store import Installed, Store
from .work import GRACE, age, is_work

_MAX_MEMBERS = 10_000  # of a tar; a model of separate tensors has a thousand
_MAX_HEADER = 64 * 1024  # bytes that one header of a tar may have
_BLOB = re.compile(r"sha256[-:][0-9a-fA-F]{64}", re.ASCII)
_DOWNLOAD = re.compile(r"((?:sha256|git|url)-[0-9a-f]{40,64})(\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Progress:
    """`completed` of `total` bytes; `what` is being worked on."""

    what: str
    completed: int
    total: int


# Whether all is as it should be


@dataclass(frozen=True, slots=True)
class Checked:
    """A blob or a manifest that was looked at. `fault` says what is wrong with it, "" if nothing.

    `models` use it. `bad` are the bytes to be fetched again. `root` has it, None if it is missing.
    """

    what: str
    size: int
    models: tuple[str, ...]
    fault: str = ""
    bad: int = 0
    root: Path | None = None

    @property
    def is_blob(self) -> bool:
        """Whether it is a blob; else a manifest."""
        return self.what.startswith("sha256:")


def verify(store: Store, name: Name | None = None) -> Iterator[Progress | Checked]:
    """Read every blob of one model, or of all in all roots, and compare it with its digest.

    Of a large blob that is whole the checksums of its pieces are written down, so that of a damaged
    one it is known later which are bad. Raises ModelNotFound, StoreError.
    """
    wanted, damaged = _to_verify(store, name)
    yield from damaged
    total = sum(layer.size for layer, _ in wanted.values())
    completed = 0
    for layer, models in wanted.values():
        for found in _verify_blob(store, layer, models):
            if isinstance(found, int):
                yield Progress(layer.digest, completed + found, total)
            else:
                yield found
        completed += layer.size


def _to_verify(
    store: Store, name: Name | None
) -> tuple[dict[str, tuple[Layer, tuple[str, ...]]], list[Checked]]:
    """The blobs to read, by digest, with the models that use them; and the manifests that are none."""
    survey = store.survey()
    if name is not None:
        found = store.find(name)
        if found is None:
            raise ModelNotFound(f"model '{name.display}' not found")
        survey = [each for each in survey if each.name == found][:1]  # what it hides is not it
    layers: dict[str, Layer] = {}
    users: dict[str, list[str]] = {}
    damaged = []
    for each in survey:
        if each.manifest is None:
            fault = f"cannot be read: {each.fault}"
            what, model = f"manifest {each.path}", (each.name.display,)
            damaged.append(Checked(what, 0, model, fault, root=each.root))
            continue
        for layer in _layers(each.manifest):
            layers.setdefault(layer.digest, layer)
            if each.name.display not in users.setdefault(layer.digest, []):
                users[layer.digest].append(each.name.display)
    return {digest: (layer, tuple(users[digest])) for digest, layer in layers.items()}, damaged


def _layers(manifest: Manifest) -> Iterable[Layer]:
    return {layer.digest: layer for layer in manifest.blobs}.values()


def _verify_blob(store: Store, layer: Layer, models: tuple[str, ...]) -> Iterator[int | Checked]:
    """How many bytes were read, and at the end what came out."""
    digest, size = layer.digest, layer.size

    def checked(fault: str, bad: int = 0, root: Path | None = None) -> Checked:
        return Checked(digest, size, models, fault, bad, root)

    try:
        path = store.blob_path(digest)
    except StoreError:
        yield checked("is missing", size)
        return
    root = next(each for each in store.roots if path.parent == each / "blobs")
    known = journal.read(store.sums_path(digest), size)
    summed, done, crc, position = hashlib.sha256(), list[Segment](), 0, 0
    edges = [each.end for each in known] or list(_edges(size))
    buffer = memoryview(bytearray(MIB))
    try:
        with FileIO(path, "rb") as file:
            there = os.fstat(file.fileno()).st_size
            for edge in edges:
                start, crc = position, 0
                while position < edge and (n := file.readinto(buffer[: edge - position]) or 0):
                    summed.update(buffer[:n])
                    crc = zlib.crc32(buffer[:n], crc)
                    position += n
                    yield position
                if position == edge:
                    done.append(Segment(start, edge, crc))
    except OSError as error:
        yield checked(f"cannot be read ({reason(error)})", size, root)
        return
    if there == size and f"sha256:{summed.hexdigest()}" == digest:
        if not known and size >= SUMS_FROM and root == store.roots[0]:
            with suppress(OSError):
                store.sums_path(digest).parent.mkdir(exist_ok=True)
                journal.write(store.sums_path(digest), size, models[0], done)
        yield checked("", root=root)
        return
    good = sum(each.end - each.start for each in known if each in done)
    fault = "is damaged" if there == size else f"has {there} bytes instead of {size}"
    yield checked(fault, size - good, root)


def _edges(size: int) -> Iterator[int]:
    """Where the pieces of a file end."""
    piece = piece_size(size)
    yield from range(piece, size, piece)
    if size:
        yield size


def set_aside(store: Store, found: Checked) -> Path:
    """Make a damaged blob of the first root an unfinished download; where it lies now.

    The next download of that digest goes on with it: bytes whose checksum is known and right are
    kept. Nothing can use the damaged blob meanwhile. Raises StoreError.
    """
    digest = parse_digest(found.what)
    blob, target = store.blob_path(digest), _partial(store, digest)
    if found.root != store.roots[0]:
        raise StoreError(
            f"{digest[:19]} is damaged in {found.root}, which is only read: repair it there"
        )
    try:
        target.parent.mkdir(exist_ok=True)
        if blob.stat().st_nlink > 1:  # another program's too: that file is not ours to write to
            shutil.copyfile(blob, target)
            blob.unlink()
        else:
            os.replace(blob, target)
        if known := journal.read(store.sums_path(digest), found.size):
            journal.write(target.with_name(f"{target.name}.json"), found.size, digest, known)
    except OSError as error:
        raise _cannot_write(target, error) from None
    return target


def put_back(store: Store, found: Checked) -> bool:
    """Clear away what a repair left. If it failed, the damaged blob is back; whether it succeeded.

    It did if the blob is there anew, or if its models, pulled, do not name it any more.
    """
    if not found.is_blob:
        return all(
            each.manifest is not None
            for each in store.survey()
            if each.name.display in found.models
        )
    digest = parse_digest(found.what)
    left = _partial(store, digest)
    needed = any(
        digest in {layer.digest for layer in _layers(each.manifest)}
        for each in store.survey()
        if each.manifest is not None and each.name.display in found.models
    )
    repaired = store.has(digest) or not needed
    with suppress(OSError):
        if repaired:
            left.unlink(missing_ok=True)
        elif left.exists():
            left.chmod(0o644)
            os.replace(left, store.roots[0] / "blobs" / left.name)
        left.with_name(f"{left.name}.json").unlink(missing_ok=True)
    return repaired


def _partial(store: Store, digest: str) -> Path:
    return store.roots[0] / "partial" / digest.replace(":", "-")


# What is of no use


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
    for path, status in _files(store.roots[0] / "blobs"):
        if not _BLOB.fullmatch(path.name) or parse_digest(path.name) in used:
            continue
        if age(status, store.now()) > GRACE:
            sums = store.sums_path(path.name)
            yield Waste("blob", path.name, status.st_size, (path, sums))


def _abandoned(store: Store) -> Iterator[Waste]:
    """Old files in partial/, those of one download together."""
    groups: dict[tuple[str, str], list[tuple[Path, os.stat_result]]] = {}
    for path, status in _files(store.roots[0] / "partial"):
        if found := _DOWNLOAD.fullmatch(path.name):
            groups.setdefault(("download", found[1]), []).append((path, status))
        elif is_work(path.name):
            groups.setdefault(("work", path.name), []).append((path, status))
    for (kind, name), files in groups.items():
        if all(age(status, store.now()) > GRACE for _, status in files):
            size = sum(_taken(status) for _, status in files)
            yield Waste(kind, name, size, tuple(path for path, _ in files))


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
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


def _taken(status: os.stat_result) -> int:
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


# What takes the room


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """A model: bytes of all that it is made of, and those that no other model shares."""

    name: str
    size: int
    own: int
    root: Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes in the roots: of models, each blob once; of blobs that nothing names; of downloads begun."""

    models: tuple[ModelUsage, ...]
    used: int
    unused: int
    unfinished: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.used + self.unused + self.unfinished


def usage(store: Store) -> Usage:
    """What takes the room, the model first whose removal frees most. Damaged manifests count nothing."""
    readable = [each for each in store.survey() if each.manifest is not None]
    users: dict[str, int] = {}
    for each in readable:
        for layer in _layers(_of(each)):
            users[layer.digest] = users.get(layer.digest, 0) + 1
    there: dict[str, int] = {}
    for root in store.roots:
        for path, status in _files(root / "blobs"):
            if _BLOB.fullmatch(path.name):
                size = path.stat().st_size if path.is_file() else status.st_size
                there[parse_digest(path.name)] = size
    models = []
    for each in readable:
        sizes = {layer.digest: there.get(layer.digest, 0) for layer in _layers(_of(each))}
        own = sum(size for digest, size in sizes.items() if users[digest] == 1)
        models.append(ModelUsage(each.name.display, sum(sizes.values()), own, each.root))
    return Usage(
        models=tuple(sorted(models, key=lambda each: (-each.own, -each.size, each.name))),
        used=sum(size for digest, size in there.items() if digest in users),
        unused=sum(size for digest, size in there.items() if digest not in users),
        unfinished=sum(_taken(status) for _, status in _files(store.roots[0] / "partial")),
    )


def _of(each: Installed) -> Manifest:
    assert each.manifest is not None
    return each.manifest


# A model in one file


def export(store: Store, name: Name, target: Path) -> Iterator[Progress]:
    """Write a model into a tar, every blob verified on the way; `target` is there when it is whole.

    Raises ModelNotFound, InvalidModel for a damaged one, StoreError.
    """
    found = store.find(name)
    if found is None:
        raise ModelNotFound(f"model '{name.display}' not found")
    content, manifest = store.manifest_file(found)
    blobs = [(layer, store.blob_path(layer.digest)) for layer in _layers(manifest)]
    total = sum(layer.size for layer, _ in blobs)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    completed = 0
    try:
        with work.open("xb") as out:
            tar = tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT)
            member = _member(f"manifests/{found.path}", len(content), manifest)
            tar.addfile(member, io.BytesIO(content))
            for layer, path in blobs:
                with path.open("rb") as blob:
                    tar.addfile(_member(_blob_member(layer), layer.size, manifest))
                    for n in _copy(blob, out, layer):
                        yield Progress(layer.digest, completed + n, total)
                    out.write(b"\0" * (-layer.size % tarfile.BLOCKSIZE))
                    tar.offset += -(-layer.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                completed += layer.size
            tar.close()
            out.flush()
            os.fsync(out.fileno())
        os.replace(work, target)
    except OSError as error:
        raise _cannot_write(target, error) from None
    finally:
        work.unlink(missing_ok=True)


def _member(name: str, size: int, manifest: Manifest) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, int(manifest.modified_at)
    return member


def _blob_member(layer: Layer) -> str:
    return f"blobs/{layer.digest.replace(':', '-')}"


def _copy(source: IO[bytes], target: IO[bytes], layer: Layer) -> Iterator[int]:
    """Copy a blob; how many bytes so far. Raises InvalidModel if it is not what its digest says."""
    summed, position = hashlib.sha256(), 0
    while chunk := source.read(min(MIB, layer.size + 1 - position)):
        target.write(chunk)
        summed.update(chunk)
        position += len(chunk)
        yield position
    if position != layer.size or f"sha256:{summed.hexdigest()}" != layer.digest:
        raise InvalidModel(f"blob {layer.digest[:19]} is damaged, see: ollamapy verify --repair")


@dataclass(frozen=True, slots=True)
class Imported:
    """A model that is installed now, under the name that the store gives it."""

    name: Name
    size: int


def import_file(store: Store, source: Path) -> Iterator[Progress | Imported]:
    """Install the models of a tar that `export` made; a model of that name is replaced.

    All is checked first: members are plain files, named as a manifest or as a blob that one of the
    manifests names, of the size that it says; nothing is packed, so nothing grows. Then each blob is
    compared with its digest as it is written, and the manifests come last. Raises InvalidModel,
    DiskFull, StoreError.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise StoreError(f"cannot read {source} ({reason(error)})") from None
    with file:
        members = _read_members(source, file)
        manifests = _read_manifests(source, file, members)
        layers = {each.digest: each for _, _, manifest in manifests for each in _layers(manifest)}
        wanted = list(_match(store, source, members, layers))
        total = sum(layer.size for layer, _ in wanted)
        store.check_room(total)
        completed = 0
        for layer, offset in wanted:
            for n in _store_blob(store, source, file, layer, offset):
                yield Progress(layer.digest, completed + n, total)
            completed += layer.size
        for name, content, manifest in manifests:
            for layer in _layers(manifest):
                store.touch(layer.digest)
            yield Imported(_install(store, name, content), manifest.size)


def _install(store: Store, name: Name, content: bytes) -> Name:
    """Write a manifest; blobs that only its predecessor used are removed."""
    before = None
    with suppress(ModelNotFound, InvalidModel):
        before = store.manifest(name)
    name = store.write_manifest(name, content)
    if before is not None:
        store.remove_unused(before.blobs)
    return name


class _Bounded:
    """A file that a tar is read from: tarfile reads a header whole, as large as it says it is."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._file.read(size)


def _read_members(source: Path, file: IO[bytes]) -> dict[str, tarfile.TarInfo]:
    """The members of a tar by name. What is no plain file, or there twice, makes all of it invalid."""
    members: dict[str, tarfile.TarInfo] = {}
    size = os.fstat(file.fileno()).st_size
    try:
        bounded: Any = _Bounded(file)
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            for number, member in enumerate(tar):
                if number >= _MAX_MEMBERS:
                    raise _no_export(source, "it has too many members")
                if member.isdir():
                    continue
                name = member.name.removeprefix("./")
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise _no_export(source, f"{_shown(name)} is no plain file")
                if name in members:
                    raise _no_export(source, f"{_shown(name)} is in it twice")
                if member.offset_data + member.size > size:
                    raise _no_export(source, "it was cut short")
                members[name] = member
    except (tarfile.TarError, RecursionError, ValueError, OverflowError, EOFError) as error:
        raise _no_export(source, f"it is no tar ({error})") from None
    except OSError as error:
        raise StoreError(f"cannot read {source} ({reason(error)})") from None
    return members


def _read_manifests(
    source: Path, file: IO[bytes], members: dict[str, tarfile.TarInfo]
) -> list[tuple[Name, bytes, Manifest]]:
    """The manifests among the members, which are taken out of them."""
    found = []
    for text in [each for each in members if each.startswith("manifests/")]:
        member = members.pop(text)
        try:
            name = Name(*text.split("/")[1:])
        except (InvalidName, TypeError):
            raise _no_export(source, f"{_shown(text)} is no model's name") from None
        if member.size > MAX_MANIFEST:
            raise _no_export(source, f"the manifest of {name.display} is too large")
        file.seek(member.offset_data)
        content = file.read(member.size)
        try:
            found.append((name, content, parse_manifest(content)))
        except InvalidModel as error:
            raise _no_export(source, f"the manifest of {name.display}: {error}") from None
    if not found:
        raise _no_export(source, "it has no manifest")
    return found


def _match(
    store: Store, source: Path, members: dict[str, tarfile.TarInfo], layers: dict[str, Layer]
) -> Iterator[tuple[Layer, int]]:
    """The blobs to be read and where they begin: each that a manifest names is there, and no other."""
    for text, member in members.items():
        folder, _, base = text.partition("/")
        digest = parse_digest(base) if folder == "blobs" and _BLOB.fullmatch(base) else ""
        layer = layers.pop(digest, None)
        if layer is None:
            raise _no_export(source, f"{_shown(text)} belongs to no model in it")
        if member.size != layer.size:
            raise _no_export(source, f"{_shown(text)} has not the size that its manifest says")
        yield layer, member.offset_data
    for digest, layer in layers.items():
        if not store.has(digest) or store.blob_path(digest).stat().st_size != layer.size:
            raise _no_export(source, f"blob {digest[:19]} is missing from it")


def _store_blob(
    store: Store, source: Path, file: IO[bytes], layer: Layer, offset: int
) -> Iterator[int]:
    file.seek(offset)
    position = 0
    try:
        with store.new_blob(layer.digest) as blob:
            while position < layer.size and (chunk := file.read(min(MIB, layer.size - position))):
                blob.write(chunk)
                position += len(chunk)
                yield position
            blob.put()
    except InvalidRequest:
        raise _no_export(source, f"blob {layer.digest[:19]} is not what its digest says") from None


def _no_export(source: Path, why: str) -> InvalidModel:
    return InvalidModel(
        f"{source} cannot be imported: {why}; make it anew with: ollamapy export NAME FILE"
    )


def _shown(text: str) -> str:
    return ascii(text[:100])


def _cannot_write(target: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot write {target} ({reason(error)})")

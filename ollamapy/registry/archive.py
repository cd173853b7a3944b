"""A model in one file: a tar with the store's own layout.

    manifests/<host>/<namespace>/<model>/<tag>
    blobs/sha256-<64 hex>

Extracting it in Ollama's models directory installs the model there. No path in a tar is used as a path
here.
Nothing here prints or asks.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..digests import Sha256, is_digest, parse_digest
from ..errors import InvalidModel, InvalidName, InvalidRequest, ModelNotFound, StoreError, reason
from ..names import Name
from ..types import Progress, Report, no_report
from .manifest import MAX_MANIFEST, Layer, Manifest, parse_manifest
from .pieces import MIB
from .store import Store

_MAX_MEMBERS = 10_000  # of a tar; a model of separate tensors has a thousand
_MAX_HEADER = 64 * 1024  # bytes that one header of a tar may have


def export(store: Store, name: Name, target: Path, report: Report = no_report) -> None:
    """Write a model into a tar file. Blobs are verified on the way; `target` appears when it is complete.

    Raises ModelNotFound, InvalidModel for a damaged one, StoreError.
    """
    found = store.find(name)
    if found is None:
        raise ModelNotFound(f"model '{name.display}' not found")
    content, manifest = store.manifest_file(found)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with store.reading(layer.digest for layer in manifest.blobs), work.open("xb") as out:
            out.write(_header(f"manifests/{found.path}", len(content), manifest))
            out.write(content + _padding(len(content), tarfile.BLOCKSIZE))
            _write_blobs(store, manifest, out, report)
            out.write(bytes(2 * tarfile.BLOCKSIZE))  # the end of a tar
            out.write(_padding(out.tell(), tarfile.RECORDSIZE))
            out.flush()
            os.fsync(out.fileno())
        os.replace(work, target)
    except OSError as error:
        raise StoreError(f"cannot write {target} ({reason(error)})") from None
    finally:
        work.unlink(missing_ok=True)


def _write_blobs(store: Store, manifest: Manifest, out: IO[bytes], report: Report) -> None:
    total = sum(layer.size for layer in manifest.distinct)
    completed = 0

    def copied(n_bytes: int) -> None:
        report(Progress("exporting", layer.digest, total, completed + n_bytes))

    for layer in manifest.distinct:
        with store.blob_path(layer.digest).open("rb") as blob:
            out.write(_header(_blob_member(layer), layer.size, manifest))
            _copy(blob, out, layer, copied)
            out.write(_padding(layer.size, tarfile.BLOCKSIZE))
        completed += layer.size


def _header(name: str, size: int, manifest: Manifest) -> bytes:
    """What stands before a file in a tar. (Not TarFile.addfile: it wants to copy the file, and we copy, verify and report.)"""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, int(manifest.modified_at)
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8")


def _padding(size: int, block: int) -> bytes:
    return bytes(-size % block)


def _blob_member(layer: Layer) -> str:
    return f"blobs/{layer.digest.replace(':', '-')}"


def _copy(
    source: IO[bytes], target: IO[bytes], layer: Layer, copied: Callable[[int], None]
) -> None:
    """Copy a blob; `copied` gets the bytes so far. Raises InvalidModel if its digest does not match."""
    summed, position = Sha256(), 0
    while chunk := source.read(min(MIB, layer.size + 1 - position)):
        target.write(chunk)
        summed.update(chunk)
        position += len(chunk)
        copied(position)
    if position != layer.size or summed.digest != layer.digest:
        raise InvalidModel(f"blob {layer.digest[:19]} is damaged, see: ollamapy verify --repair")


@dataclass(frozen=True, slots=True)
class Imported:
    """A model that was installed, with its name as the store spells it."""

    name: Name
    size: int


def import_file(store: Store, source: Path, report: Report = no_report) -> list[Imported]:
    """Install the models of a tar that `export` made; a model of that name is replaced.

    Every member is checked first: each must be a regular file that is a manifest, or a blob that one
    of the manifests lists, with the listed size. Nothing in the tar is compressed, so no content
    grows while it is read. Then each blob is hashed as it is written, and the manifests come last.
    Raises InvalidModel, DiskFull, StoreError.
    """
    try:
        file = source.open("rb")
    except OSError as error:
        raise StoreError(f"cannot read {source} ({reason(error)})") from None
    with file:
        members = _read_members(source, file)
        manifests = _read_manifests(source, file, members)
        layers = {each.digest: each for _, _, manifest in manifests for each in manifest.distinct}
        wanted = list(_match(source, members, layers))
        total = sum(layer.size for layer, _ in wanted)
        store.check_room(total)
        completed = 0

        def stored(n_bytes: int) -> None:
            report(Progress("importing", layer.digest, total, completed + n_bytes))

        with store.reserve(layers):
            _require(store, source, layers.values(), wanted)
            for layer, offset in wanted:
                _store_blob(store, source, file, layer, offset, stored)
                completed += layer.size
            return [
                Imported(_install(store, name, content), manifest.size)
                for name, content, manifest in manifests
            ]


def _install(store: Store, name: Name, content: bytes) -> Name:
    """Write a manifest, then remove the blobs that only the replaced model used."""
    before = None
    with suppress(ModelNotFound, InvalidModel):
        before = store.manifest(name)
    name = store.write_manifest(name, content)
    if before is not None:
        store.remove_unused(before.blobs)
    return name


class _Bounded:
    """The file that a tar is read from, with a limit: tarfile reads a header whole, whatever size it claims."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError("a header is too large")
        return self._file.read(size)


def _read_members(source: Path, file: IO[bytes]) -> dict[str, tarfile.TarInfo]:
    """The members of a tar, by name. Raises InvalidModel for a duplicate or anything but a regular file."""
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
                    raise _no_export(source, f"{_shown(name)} is not a regular file")
                if name in members:
                    raise _no_export(source, f"{_shown(name)} is in it twice")
                if member.offset_data + member.size > size:
                    raise _no_export(source, "it was cut short")
                members[name] = member
    except (tarfile.TarError, RecursionError, ValueError, OverflowError, EOFError) as error:
        raise _no_export(source, f"it is not a tar file ({error})") from None
    except OSError as error:
        raise StoreError(f"cannot read {source} ({reason(error)})") from None
    return members


def _read_manifests(
    source: Path, file: IO[bytes], members: dict[str, tarfile.TarInfo]
) -> list[tuple[Name, bytes, Manifest]]:
    """Read the manifests, and remove them from `members`."""
    found = []
    for text in [each for each in members if each.startswith("manifests/")]:
        member = members.pop(text)
        try:
            name = Name(*text.split("/")[1:])
        except (InvalidName, TypeError):
            raise _no_export(source, f"{_shown(text)} is not the name of a model") from None
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
    source: Path, members: dict[str, tarfile.TarInfo], layers: Mapping[str, Layer]
) -> Iterator[tuple[Layer, int]]:
    """The blobs to read and their offsets in the tar. Raises InvalidModel for a blob that no manifest lists."""
    for text, member in members.items():
        folder, _, base = text.partition("/")
        digest = parse_digest(base) if folder == "blobs" and is_digest(base) else ""
        layer = layers.get(digest)
        if layer is None:
            raise _no_export(source, f"{_shown(text)} belongs to no model in it")
        if member.size != layer.size:
            raise _no_export(
                source, f"{_shown(text)} does not have the size that its manifest lists"
            )
        yield layer, member.offset_data


def _require(
    store: Store, source: Path, layers: Iterable[Layer], wanted: Sequence[tuple[Layer, int]]
) -> None:
    """Raise InvalidModel unless every blob that a manifest lists is in the tar or in the store."""
    here = {layer.digest for layer, _ in wanted}
    for layer in layers:
        digest, size = layer.digest, layer.size
        if digest not in here and not (
            store.has(digest) and store.blob_path(digest).stat().st_size == size
        ):
            raise _no_export(source, f"blob {digest[:19]} is missing from it")


def _store_blob(
    store: Store,
    source: Path,
    file: IO[bytes],
    layer: Layer,
    offset: int,
    stored: Callable[[int], None],
) -> None:
    """Store a blob of the tar; `stored` gets the bytes so far."""
    file.seek(offset)
    position = 0
    try:
        with store.new_blob(layer.digest) as blob:
            while position < layer.size and (chunk := file.read(min(MIB, layer.size - position))):
                blob.write(chunk)
                position += len(chunk)
                stored(position)
            blob.put()
    except InvalidRequest:
        raise _no_export(source, f"blob {layer.digest[:19]} does not match its digest") from None


def _no_export(source: Path, why: str) -> InvalidModel:
    return InvalidModel(
        f"{source} cannot be imported: {why}; export the model again with: ollamapy export NAME FILE"
    )


def _shown(text: str) -> str:
    return ascii(text[:100])

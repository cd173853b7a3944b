"""Whether every blob of the store is what its digest says, and the repair of those that are not.

    verify       hash every blob of some models; report which are wrong, and which bytes of them
    set_aside    make a damaged blob an unfinished download, so that a pull gets only its bad bytes
    put_back     clean up after a repair

Nothing here prints, asks or downloads.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from ..digests import Sha256, parse_digest
from ..errors import ModelNotFound, StoreError, reason
from ..names import Name
from ..types import Progress, Report, no_report
from . import journal
from .manifest import Layer
from .pieces import MIB, Segment, piece_size
from .store import Store
from .work import writing


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


def verify(store: Store, name: Name | None = None, report: Report = no_report) -> list[Checked]:
    """Read every blob of one model, or of all in all roots, and compare it with its digest.

    Of a large blob that is whole the checksums of its pieces are written down, so that of a damaged
    one it is known later which are bad. Raises ModelNotFound, StoreError.
    """
    wanted, found = _to_verify(store, name)
    total = sum(layer.size for layer, _ in wanted.values())
    completed = 0

    def read(n_bytes: int) -> None:
        report(Progress("verifying", layer.digest, total, completed + n_bytes))

    with store.reading(wanted) if wanted else nullcontext():
        for layer, models in wanted.values():
            found.append(_verify_blob(store, layer, models, read))
            completed += layer.size
    return found


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
        for layer in each.manifest.distinct:
            layers.setdefault(layer.digest, layer)
            if each.name.display not in users.setdefault(layer.digest, []):
                users[layer.digest].append(each.name.display)
    return {digest: (layer, tuple(users[digest])) for digest, layer in layers.items()}, damaged


def _verify_blob(
    store: Store, layer: Layer, models: tuple[str, ...], read: Callable[[int], None]
) -> Checked:
    """Compare one blob with its digest; `read` gets the bytes read so far."""
    digest, size = layer.digest, layer.size

    def checked(fault: str, bad: int = 0, root: Path | None = None) -> Checked:
        return Checked(digest, size, models, fault, bad, root)

    try:
        path = store.blob_path(digest)
    except StoreError:
        return checked("is missing", size)
    root = next(each for each in store.roots if path.parent == each / "blobs")
    known = journal.read(store.sums_path(digest), size)
    summed, done, crc, position = Sha256(), list[Segment](), 0, 0
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
                    read(position)
                if position == edge:
                    done.append(Segment(start, edge, crc))
    except OSError as error:
        return checked(f"cannot be read ({reason(error)})", size, root)
    if there == size and summed.digest == digest:
        if not known and size >= journal.SUMS_FROM and root == store.roots[0]:
            with suppress(OSError):
                journal.write(store.sums_path(digest), size, models[0], done)
        return checked("", root=root)
    good = sum(each.end - each.start for each in known if each in done)
    fault = "is damaged" if there == size else f"has {there} bytes instead of {size}"
    return checked(fault, size - good, root)


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
    with writing(store.roots[0], target):
        target.parent.mkdir(exist_ok=True)
        if blob.stat().st_nlink > 1:  # another program's too: that file is not ours to write to
            shutil.copyfile(blob, target)
            blob.unlink()
        else:
            os.replace(blob, target)
        if known := journal.read(store.sums_path(digest), found.size):
            journal.write(target.with_name(f"{target.name}.json"), found.size, digest, known)
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
        digest in {layer.digest for layer in each.manifest.distinct}
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

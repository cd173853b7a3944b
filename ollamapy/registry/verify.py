"""Check every blob of the store against its digest, and repair those that do not match.

    verify       hash every blob of some models; report the damaged ones, and which bytes
    set_aside    turn a damaged blob into an unfinished download, so that a pull fetches only its bad bytes
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
    """A blob or a manifest that was checked. `fault` describes what is wrong with it, "" if nothing.

    `models` use it. `bad` is the number of bytes to download again. `root` contains it, None if it is missing.
    """

    what: str
    size: int
    models: tuple[str, ...]
    fault: str = ""
    bad: int = 0
    root: Path | None = None

    @property
    def is_blob(self) -> bool:
        """Whether it is a blob, not a manifest."""
        return self.what.startswith("sha256:")


def verify(store: Store, name: Name | None = None, report: Report = no_report) -> list[Checked]:
    """Hash every blob of one model, or of all models in all roots, and compare it with its digest.

    For a large intact blob the checksums of its pieces are stored, so that a later damage can be
    located. Raises ModelNotFound, StoreError.
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
    """The blobs to check, by digest, with the models that use them; and the damaged manifests."""
    survey = store.survey()
    if name is not None:
        found = store.find(name)
        if found is None:
            raise ModelNotFound(f"model '{name.display}' not found")
        survey = [each for each in survey if each.name == found][
            :1
        ]  # not the models of that name in later roots
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
    """The offsets at which the pieces of a file end."""
    piece = piece_size(size)
    yield from range(piece, size, piece)
    if size:
        yield size


def set_aside(store: Store, found: Checked) -> Path:
    """Turn a damaged blob of the first root into an unfinished download; returns its path.

    The next download of that digest resumes it: pieces whose checksum matches are kept. Meanwhile the
    damaged blob cannot be used. Raises StoreError.
    """
    digest = parse_digest(found.what)
    blob, target = store.blob_path(digest), _partial(store, digest)
    if found.root != store.roots[0]:
        raise StoreError(
            f"{digest[:19]} is damaged in {found.root}, which is only read: repair it there"
        )
    with writing(store.roots[0], target):
        target.parent.mkdir(exist_ok=True)
        if blob.stat().st_nlink > 1:  # shared with another program: do not write to its file
            shutil.copyfile(blob, target)
            blob.unlink()
        else:
            os.replace(blob, target)
        if known := journal.read(store.sums_path(digest), found.size):
            journal.write(target.with_name(f"{target.name}.json"), found.size, digest, known)
    return target


def put_back(store: Store, found: Checked) -> bool:
    """Clean up after a repair; returns whether it succeeded. If it failed, the damaged blob is restored.

    It succeeded if the blob exists again, or if its models no longer list it.
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

"""A model that travels in one file."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import DiskFull, InvalidModel
from ollamapy.registry import archive
from ollamapy.registry.archive import Imported
from ollamapy.registry.pieces import MIB
from ollamapy.registry.store import Store
from ollamapy.types import Progress
from tests.registry.fake_hub import content
from tests.registry.stores import M, damage, faults, put, weights


def exported(store: Store, tmp_path: Path) -> Path:
    put(store, "m", content(3 * MIB + 5, 1))
    target = tmp_path / "m.tar"
    steps: list[Progress] = []
    archive.export(store, M, target, steps.append)
    assert steps[-1].completed == steps[-1].total
    return target


def take(store: Store, source: Path) -> list[Imported]:
    return archive.import_file(store, source)


def test_a_model_that_is_deleted_meanwhile_is_still_exported(store: Store, tmp_path: Path) -> None:
    put(store, "m", content(2 * MIB, 1))

    def delete(step: Progress) -> None:
        if store.find(M):
            store.delete(M)

    archive.export(store, M, tmp_path / "m.tar", delete)
    assert len(take(Store([tmp_path / "other"]), tmp_path / "m.tar")) == 1


def test_a_model_travels_in_one_file(store: Store, tmp_path: Path) -> None:
    source = exported(store, tmp_path)
    other = Store([tmp_path / "other"])
    [found] = take(other, source)
    assert found.name == M and faults(other) == []
    assert other.manifest(M).digest == store.manifest(M).digest
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_the_file_is_a_store_for_tar(store: Store, tmp_path: Path) -> None:
    with tarfile.open(exported(store, tmp_path)) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert faults(Store([tmp_path / "unpacked"])) == []


def test_importing_replaces_a_model_of_that_name(store: Store, tmp_path: Path) -> None:
    source = exported(store, tmp_path)
    other = Store([tmp_path / "other"])
    put(other, "m", b"before")
    before = weights(other)
    take(other, source)
    assert not before.exists() and faults(other) == []


def test_a_damaged_model_is_not_exported(store: Store, tmp_path: Path) -> None:
    put(store, "m", content(MIB, 1))
    damage(weights(store), 9)
    with pytest.raises(InvalidModel, match="is damaged, see: ollamapy verify"):
        archive.export(store, M, tmp_path / "m.tar")
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


Members = list[tuple[tarfile.TarInfo, bytes]]


def renamed(name: str) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        info, data = members[1]
        info.name = name
        return [members[0], (info, data), *members[2:]]

    return change


def longer(members: Members) -> Members:
    return [*members[:1], member(members[1][0].name, members[1][1] + b"+"), *members[2:]]


def other_content(members: Members) -> Members:
    data = members[1][1]
    return [*members[:1], member(members[1][0].name, bytes([data[0] ^ 1]) + data[1:]), *members[2:]]


def more(*extra: tuple[tarfile.TarInfo, bytes]) -> Callable[[Members], Members]:
    return lambda members: [*members, *extra]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("../../etc/passwd"), "'../../etc/passwd' belongs to no model in it"),
        (renamed("/blobs/x"), "'/blobs/x' belongs to no model"),
        (renamed(f"blobs/sha256-{'0' * 64}"), "belongs to no model"),
        (renamed("blobs/sha256-\n"), "belongs to no model"),
        (longer, "does not have the size that its manifest lists"),
        (other_content, "does not match its digest"),
        (lambda members: members[:2], "is missing from it"),
        (lambda members: members[1:], "it has no manifest"),
        (lambda members: [], "it has no manifest"),
        (lambda members: [*members, members[1]], "is in it twice"),
        (more(member("manifests/../../x/y", b"{}")), "is not the name of a model"),
        (more(member("manifests/a/b", b"{}")), "is not the name of a model"),
        (more(member("manifests/a/b/c/d", b"{}")), "the manifest of a/b/c:d: it has no list"),
        (more(member("manifests/a/b/c/d", b" " * (5 * MIB))), "is too large"),
        (more(member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "'x' is not a regular file"),
        (more(member("x", type=tarfile.LNKTYPE, linkname="blobs/y")), "'x' is not a regular file"),
        (more(member("x", type=tarfile.FIFOTYPE)), "'x' is not a regular file"),
        (more(member("x", type=tarfile.CHRTYPE)), "'x' is not a regular file"),
        (more(member("x" * 100_000)), "it is not a tar file .a header is too large"),
        (more(*(member(f"d{n}", type=tarfile.DIRTYPE) for n in range(10_001))), "too many members"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_export(
    store: Store, tmp_path: Path, change: Callable[[Members], Members], message: str
) -> None:
    with tarfile.open(exported(store, tmp_path)) as tar:
        members = [(each, (tar.extractfile(each) or io.BytesIO()).read()) for each in tar]
    changed = tmp_path / "changed.tar"
    with tarfile.open(changed, "w") as tar:
        for info, data in change(members):
            tar.addfile(info, io.BytesIO(data))
    other = Store([tmp_path / "other"])
    with pytest.raises(InvalidModel, match=message) as caught:
        take(other, changed)
    assert "\n" not in str(caught.value)
    left = [
        each for each in (tmp_path / "other").rglob("*") if each.is_file() and each.name != "lock"
    ]
    assert left == [] and other.names() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"no tar at all" * 100,
        lambda data: b"\x1f\x8b" + data[2:],  # packed: what would it become?
    ],
)
def test_a_file_that_was_cut_or_is_no_tar(
    store: Store, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    source = exported(store, tmp_path)
    source.write_bytes(change(source.read_bytes()))
    with pytest.raises(InvalidModel, match="cannot be imported: it"):
        take(Store([tmp_path / "other"]), source)


def test_room_is_made_sure_of_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = exported(store, tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match="3.1 MB are needed in .* and 1.0 MB are free"):
        take(Store([tmp_path / "other"]), source)

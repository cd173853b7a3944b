"""Looking after a store: what is found bad, what is removed, and a model that travels in a file."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ollamapy.errors import DiskFull, InvalidModel, ModelNotFound, StoreError
from ollamapy.names import Name
from ollamapy.registry import journal, upkeep
from ollamapy.registry.download import fetch
from ollamapy.registry.pieces import MIB
from ollamapy.registry.route import RemoteFile
from ollamapy.registry.store import Store
from ollamapy.registry.upkeep import Checked, Imported, Progress
from ollamapy.registry.work import GRACE
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.registry.test_download import QUICK
from tests.registry.test_store import in_child, put, steps_until_done

M = Name.parse("m")


def later(store: Store, seconds: float = GRACE + 60) -> Store:
    """The same store after a while."""
    return Store(store.roots, now=lambda: time.time() + seconds)


def check(store: Store, name: Name | None = None) -> list[Checked]:
    return [each for each in upkeep.verify(store, name) if isinstance(each, Checked)]


def faults(store: Store) -> list[str]:
    return [each.fault for each in check(store) if each.fault]


def weights(store: Store, name: Name = M) -> Path:
    return store.blob_path(store.manifest(name).layers[0].digest)


# verify


def test_a_whole_store_is_whole(store: Store) -> None:
    put(store, "m", content(MIB, 1))
    put(store, "n", content(MIB, 1), b'{"n":1}')
    found = check(store)
    assert [each.fault for each in found] == ["", "", ""]
    shared = max(found, key=lambda each: each.size)
    assert sorted(shared.models) == ["m:latest", "n:latest"] and shared.root == store.roots[0]
    steps = [each for each in upkeep.verify(store) if isinstance(each, Progress)]
    assert steps[-1].completed == steps[-1].total == sum(each.size for each in found)
    assert len(check(store, M)) == 2


def test_a_model_that_is_not_there(store: Store) -> None:
    with pytest.raises(ModelNotFound, match="'m:latest' not found"):
        check(store, M)


def test_what_is_wrong_is_said(store: Store) -> None:
    put(store, "m", b"weights")
    path = weights(store)
    path.write_bytes(b"WEIGHTS")
    assert faults(store) == ["is damaged"]
    path.write_bytes(b"weig")
    assert faults(store) == ["has 4 bytes instead of 7"]
    path.unlink()
    assert faults(store) == ["is missing"]
    store.survey()[0].path.write_bytes(b"{")
    [found] = check(store)
    assert found.fault == "cannot be read: it is not JSON" and not found.is_blob


def pulled(hub: FakeHub, store: Store, size: int = 12 * MIB) -> RemoteFile:
    """A model whose weights were downloaded, with the checksums of their pieces."""
    data = content(size, 5)
    hub.plain["/m.gguf"] = data
    file = RemoteFile("m.gguf", f"{hub.url}/m.gguf", size, sha256(data))
    fetch(file, hub.access(), store, limits=QUICK)
    put(store, "m", data)
    hub.requests.clear()
    return file


def damage(path: Path, *offsets: int) -> None:
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(b"\0\0\0\0\0\0\0\0")


def repaired(hub: FakeHub, store: Store, file: RemoteFile) -> int:
    """Set aside what is bad and fetch it again: the bytes that were received."""
    [bad] = [each for each in check(store) if each.fault]
    upkeep.set_aside(store, bad)
    assert not store.has(bad.what)
    received = fetch(file, hub.access(), store, limits=QUICK).received
    assert upkeep.put_back(store, bad)
    assert received == bad.bad
    return received


def test_a_repair_fetches_only_the_bad_pieces(hub: FakeHub, store: Store) -> None:
    file = pulled(hub, store)
    damage(weights(store), 3 * MIB + 100, 9 * MIB)
    assert repaired(hub, store, file) <= MIB
    assert hub.sent("hub") <= MIB + 4096
    assert faults(store) == []


def test_verify_notes_the_pieces_of_what_it_finds_whole(hub: FakeHub, store: Store) -> None:
    file = pulled(hub, store)
    sums = store.sums_path(f"sha256:{file.sha256}")
    sums.unlink()
    assert faults(store) == []
    assert journal.kept(sums, file.size) == file.size
    damage(weights(store), 100)
    assert repaired(hub, store, file) == 8 * MIB


def test_without_checksums_all_is_fetched(hub: FakeHub, store: Store) -> None:
    file = pulled(hub, store)
    store.sums_path(f"sha256:{file.sha256}").unlink()
    damage(weights(store), 100)
    assert repaired(hub, store, file) == file.size


def test_a_repair_does_not_write_to_another_programs_file(
    hub: FakeHub, store: Store, tmp_path: Path
) -> None:
    file = pulled(hub, store)
    damage(weights(store), 100)
    os.link(weights(store), tmp_path / "theirs")
    before = sha256((tmp_path / "theirs").read_bytes())
    repaired(hub, store, file)
    assert sha256((tmp_path / "theirs").read_bytes()) == before


def test_what_cannot_be_repaired_is_as_it_was(store: Store) -> None:
    put(store, "m", content(5 * MIB, 3))
    path = weights(store)
    damage(path, 9)
    before = path.read_bytes()
    [bad] = [each for each in check(store) if each.fault]
    upkeep.set_aside(store, bad)
    assert not path.exists()
    assert not upkeep.put_back(store, bad)
    assert path.read_bytes() == before
    assert {each.name for each in (store.roots[0] / "partial").iterdir()} <= {"lock"}


def test_what_is_only_read_is_not_repaired(store: Store, tmp_path: Path) -> None:
    theirs = Store([tmp_path / "theirs"])
    put(theirs, "m", b"weights")
    weights(theirs).write_bytes(b"WEIGHTS")
    both = Store([*store.roots, *theirs.roots])
    [bad] = [each for each in check(both) if each.fault]
    with pytest.raises(StoreError, match="is damaged in .*theirs, which is only read"):
        upkeep.set_aside(both, bad)


# prune


def test_prune_removes_what_nothing_names(store: Store) -> None:
    put(store, "m")
    unused = store.add_blob(b"unused")
    assert upkeep.prune(store) == []  # it is young: somebody may be about to name it
    planned = upkeep.prune(later(store), dry_run=True)
    assert store.has(unused)
    assert upkeep.prune(later(store)) == planned
    assert [(each.kind, each.size) for each in planned] == [("blob", 6)]
    assert not store.has(unused) and faults(store) == []


def test_prune_leaves_alone_what_was_just_found_again(store: Store) -> None:
    store.add_blob(b"found")
    soon = later(store, GRACE - 60)
    assert upkeep.prune(soon) == []
    (store.roots[0] / "blobs" / "sha256-partial-0").write_bytes(b"of an Ollama")
    os.utime(store.roots[0] / "blobs" / "sha256-partial-0", (0, 0))
    assert [each.kind for each in upkeep.prune(later(store))] == ["blob"]
    assert (store.roots[0] / "blobs" / "sha256-partial-0").exists()


def test_a_link_to_an_old_file_is_young(store: Store, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    os.utime(tmp_path / "old", (0, 0))
    blobs = store.roots[0] / "blobs"
    blobs.mkdir(parents=True)
    os.link(tmp_path / "old", blobs / f"sha256-{sha256(b'old')}")
    assert upkeep.prune(store) == []


def test_prune_counts_the_manifests_of_every_root(store: Store, tmp_path: Path) -> None:
    put(store, "m")
    other = Store([tmp_path / "other"])
    shutil.copytree(store.roots[0], other.roots[0])
    shutil.rmtree(store.roots[0] / "manifests")
    both = Store([*store.roots, *other.roots])
    assert upkeep.prune(later(both)) == []
    assert len(upkeep.prune(later(store))) == 2


def test_a_damaged_manifest_keeps_everything(store: Store) -> None:
    put(store, "m")
    store.add_blob(b"unused")
    store.survey()[0].path.write_bytes(b"{")
    with pytest.raises(StoreError, match=r"no blob is removed, because .* ollamapy rm m:latest"):
        upkeep.prune(later(store))


def test_downloads_that_nobody_works_on_go(store: Store) -> None:
    partial = store.roots[0] / "partial"
    partial.mkdir(parents=True)
    key, busy = f"sha256-{'a' * 64}", f"git-{'b' * 40}"
    for name in (key, f"{key}.json", f"{key}.lock", busy, "work-1-dead", "strange"):
        (partial / name).write_bytes(b"x" * 10)
    with FileLock(partial / f"{busy}.lock"):
        assert upkeep.prune(store) == []
        removed = upkeep.prune(later(store))
        assert sorted((each.kind, each.name) for each in removed) == [
            ("download", key),
            ("work", "work-1-dead"),
        ]
        assert {each.name for each in partial.iterdir()} == {
            busy,
            f"{busy}.lock",
            "lock",
            "strange",
        }
    assert [each.name for each in upkeep.prune(later(store))] == [busy]


# du


def test_what_takes_the_room(store: Store) -> None:
    put(store, "m", b"x" * 1000, b"{}")
    put(store, "n", b"x" * 1000, b'{"n":1}')
    put(store, "o", b"y" * 500, b"{}")
    store.add_blob(b"unused")
    found = upkeep.usage(store)
    assert [(each.name, each.size, each.own) for each in found.models] == [
        ("o:latest", 502, 500),
        ("n:latest", 1007, 7),
        ("m:latest", 1002, 0),
    ]
    assert (found.used, found.unused) == (1000 + 2 + 7 + 500, 6)


# export and import


def exported(store: Store, tmp_path: Path) -> Path:
    put(store, "m", content(3 * MIB + 5, 1))
    target = tmp_path / "m.tar"
    steps = list(upkeep.export(store, M, target))
    assert steps[-1].completed == steps[-1].total
    return target


def take(store: Store, source: Path) -> list[Imported]:
    return [each for each in upkeep.import_file(store, source) if isinstance(each, Imported)]


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
        list(upkeep.export(store, M, tmp_path / "m.tar"))
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
        (longer, "has not the size that its manifest says"),
        (other_content, "is not what its digest says"),
        (lambda members: members[:2], "is missing from it"),
        (lambda members: members[1:], "it has no manifest"),
        (lambda members: [], "it has no manifest"),
        (lambda members: [*members, members[1]], "is in it twice"),
        (more(member("manifests/../../x/y", b"{}")), "is no model's name"),
        (more(member("manifests/a/b", b"{}")), "is no model's name"),
        (more(member("manifests/a/b/c/d", b"{}")), "the manifest of a/b/c:d: it has no list"),
        (more(member("manifests/a/b/c/d", b" " * (5 * MIB))), "is too large"),
        (more(member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")), "'x' is no plain file"),
        (more(member("x", type=tarfile.LNKTYPE, linkname="blobs/y")), "'x' is no plain file"),
        (more(member("x", type=tarfile.FIFOTYPE)), "'x' is no plain file"),
        (more(member("x", type=tarfile.CHRTYPE)), "'x' is no plain file"),
        (more(member("x" * 100_000)), "it is no tar .a header is too large"),
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
    left = [each for each in (tmp_path / "other").rglob("*") if each.is_file()]
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


# Killed at every step


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("work", ["import", "prune", "repair", "remove"])
def test_killed_between_any_two_steps_the_store_is_true(
    hub: FakeHub, tmp_path: Path, work: str
) -> None:
    """A child does one thing and is killed at its 1st, 2nd... change to disk: what is listed is whole, and the same
    command, run again, ends well. (A repair may leave a model without the blob that was bad anyway.)"""
    before = Store([tmp_path / "before"])
    file = pulled(hub, before, 5 * MIB)
    put(before, "n", b"n's", b'{"n":1}')
    before.add_blob(b"unused")
    list(upkeep.export(before, M, tmp_path / "m.tar"))
    if work == "repair":
        damage(weights(before), 100)
    elif work == "import":
        before.delete(M)
        put(before, "m", b"replaced", b'{"m":2}')

    def do(root: Path) -> None:
        store = later(Store([root]))
        if work == "import":
            take(store, tmp_path / "m.tar")
        elif work == "prune":
            upkeep.prune(store)
        elif work == "remove" and store.find(M):
            store.delete(M)
        elif work == "repair":
            for bad in [each for each in check(store, M) if each.fault]:
                if bad.root is not None:
                    upkeep.set_aside(store, bad)
                fetch(file, hub.access(), store, limits=QUICK)

    for step, root in steps_until_done(tmp_path, before.roots[0], do):
        store = Store([root])
        found = {each.name.model for each in store.survey() if each.manifest is not None}
        assert found in ({"m", "n"}, {"n"} if work == "remove" else {"m", "n"}), step
        if work != "repair":
            assert faults(store) == [], step
        for path in (root / "blobs").iterdir():
            whole = f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}" == path.name
            assert whole or (work == "repair" and path.stat().st_size == file.size), step
        do(root)
        assert faults(store) == [], step
        shutil.rmtree(root)


# Several processes at once


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_processes_that_write_delete_and_prune_at_once(store: Store) -> None:
    """Each has models of its own that share a blob; the one that prunes takes nothing that is about to be named."""
    put(store, "kept", b"shared")

    def write(number: int) -> str:
        mine, lost = Store(store.roots), 0
        for turn in range(12):
            try:
                put(mine, f"m{number}", b"shared", f'{{"turn":{turn},"of":{number}}}'.encode())
                mine.delete(Name.parse(f"m{number}"))
            except StoreError as error:
                assert "is missing" in str(error), error
                lost += 1
        put(mine, f"m{number}", b"shared", f'{{"last":{number}}}'.encode())
        return f"lost {lost}"

    def sweep(_: int) -> str:
        return f"lost {sum(len(upkeep.prune(Store(store.roots))) for _ in range(30))}"

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(in_child, partial(write, n)) for n in range(4)]
        jobs.append(pool.submit(in_child, partial(sweep, 0)))
        results = [job.result() for job in jobs]
    assert results == [(0, "lost 0")] * 5
    assert {name.model for name in store.names()} == {"kept", "m0", "m1", "m2", "m3"}
    assert faults(store) == []

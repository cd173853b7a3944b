"""What a check of the store finds, and how a damaged blob is repaired."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollamapy.errors import ModelNotFound, StoreError
from ollamapy.registry import journal, verify
from ollamapy.registry.download import fetch
from ollamapy.registry.pieces import MIB
from ollamapy.registry.remote import RemoteFile
from ollamapy.registry.store import Store
from ollamapy.types import Progress
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.registry.stores import M, check, damage, faults, put, weights
from tests.registry.test_download import QUICK


def test_a_whole_store_is_whole(store: Store) -> None:
    put(store, "m", content(MIB, 1))
    put(store, "n", content(MIB, 1), b'{"n":1}')
    found = check(store)
    assert [each.fault for each in found] == ["", "", ""]
    shared = max(found, key=lambda each: each.size)
    assert sorted(shared.models) == ["m:latest", "n:latest"] and shared.root == store.roots[0]
    steps: list[Progress] = []
    verify.verify(store, report=steps.append)
    assert steps[-1].completed == steps[-1].total == sum(each.size for each in found)
    assert len(check(store, M)) == 2


def test_a_model_that_is_deleted_meanwhile_is_still_read(store: Store) -> None:
    put(store, "m", content(2 * MIB, 1))

    def delete(step: Progress) -> None:
        if store.find(M):
            store.delete(M)

    assert [each.fault for each in verify.verify(store, report=delete)] == ["", ""]
    assert not verify.verify(store)


def test_an_empty_place_is_left_empty(tmp_path: Path) -> None:
    assert not verify.verify(Store([tmp_path / "none"]))
    assert not list(tmp_path.iterdir())


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


def repaired(hub: FakeHub, store: Store, file: RemoteFile) -> int:
    """Set aside what is bad and fetch it again: the bytes that were received."""
    [bad] = [each for each in check(store) if each.fault]
    verify.set_aside(store, bad)
    assert not store.has(bad.what)
    received = fetch(file, hub.access(), store, limits=QUICK).received
    assert verify.put_back(store, bad)
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
    verify.set_aside(store, bad)
    assert not path.exists()
    assert not verify.put_back(store, bad)
    assert path.read_bytes() == before
    assert {each.name for each in (store.roots[0] / "partial").iterdir()} <= {"lock"}


def test_what_is_only_read_is_not_repaired(store: Store, tmp_path: Path) -> None:
    theirs = Store([tmp_path / "theirs"])
    put(theirs, "m", b"weights")
    weights(theirs).write_bytes(b"WEIGHTS")
    both = Store([*store.roots, *theirs.roots])
    [bad] = [each for each in check(both) if each.fault]
    with pytest.raises(StoreError, match="is damaged in .*theirs, which is only read"):
        verify.set_aside(both, bad)

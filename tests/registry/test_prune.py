"""What prune removes and what it leaves alone; what takes the space."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from ollamapy.errors import StoreError
from ollamapy.registry import prune, usage
from ollamapy.registry.store import Store
from ollamapy.registry.work import GRACE
from tests.registry.fake_hub import sha256
from tests.registry.stores import faults, in_child, later, put


def test_prune_removes_what_nothing_names(store: Store) -> None:
    put(store, "m")
    unused = store.add_blob(b"unused")
    assert prune.prune(store) == []  # it is young: somebody may be about to name it
    planned = prune.prune(later(store), dry_run=True)
    assert store.has(unused)
    assert prune.prune(later(store)) == planned
    assert [(each.kind, each.size) for each in planned] == [("blob", 6)]
    assert not store.has(unused) and faults(store) == []


def test_prune_leaves_alone_what_was_just_found_again(store: Store) -> None:
    store.add_blob(b"found")
    soon = later(store, GRACE - 60)
    assert prune.prune(soon) == []
    (store.roots[0] / "blobs" / "sha256-partial-0").write_bytes(b"of an Ollama")
    os.utime(store.roots[0] / "blobs" / "sha256-partial-0", (0, 0))
    assert [each.kind for each in prune.prune(later(store))] == ["blob"]
    assert (store.roots[0] / "blobs" / "sha256-partial-0").exists()


def test_a_link_to_an_old_file_is_young(store: Store, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    os.utime(tmp_path / "old", (0, 0))
    blobs = store.roots[0] / "blobs"
    blobs.mkdir(parents=True)
    os.link(tmp_path / "old", blobs / f"sha256-{sha256(b'old')}")
    assert prune.prune(store) == []


def test_prune_counts_the_manifests_of_every_root(store: Store, tmp_path: Path) -> None:
    put(store, "m")
    other = Store([tmp_path / "other"])
    shutil.copytree(store.roots[0], other.roots[0])
    shutil.rmtree(store.roots[0] / "manifests")
    both = Store([*store.roots, *other.roots])
    assert prune.prune(later(both)) == []
    assert len(prune.prune(later(store))) == 2


def test_a_damaged_manifest_keeps_everything(store: Store) -> None:
    put(store, "m")
    store.add_blob(b"unused")
    store.survey()[0].path.write_bytes(b"{")
    with pytest.raises(StoreError, match=r"no blob is removed, because .* ollamapy rm m:latest"):
        prune.prune(later(store))


def test_downloads_that_nobody_works_on_go(store: Store) -> None:
    partial = store.roots[0] / "partial"
    partial.mkdir(parents=True)
    key, busy = f"sha256-{'a' * 64}", f"git-{'b' * 40}"
    for name in (key, f"{key}.json", f"{key}.lock", busy, "work-1-dead", "strange"):
        (partial / name).write_bytes(b"x" * 10)
    with FileLock(partial / f"{busy}.lock"):
        assert [each.name for each in prune.prune(store)] == ["work-1-dead"]
        removed = prune.prune(later(store))
        assert [(each.kind, each.name) for each in removed] == [("download", key)]
        assert {each.name for each in partial.iterdir()} == {
            busy,
            f"{busy}.lock",
            "lock",
            "strange",
        }
    assert [each.name for each in prune.prune(later(store))] == [busy]


def test_a_work_file_that_is_not_locked_yet_stays(store: Store) -> None:
    store.add_blob(b"makes the folders")
    new = store.roots[0] / "partial" / "work-1-new"
    new.touch()  # its writer locks it next
    assert prune.prune(store) == [] and prune.sweep(store) == []
    assert [each.name for each in prune.prune(later(store)) if each.kind == "work"] == [new.name]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_work_file_that_is_put_in_its_place_meanwhile_is_not_reported(store: Store) -> None:
    store.add_blob(b"makes the folders")
    work = store.roots[0] / "partial" / "work-1-done"
    work.write_bytes(b"whole")
    blob = store.roots[0] / "blobs" / f"sha256-{sha256(b'whole')}"

    def sweep() -> str:
        n_locked = 0

        def put_in_place(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal n_locked
            if event == "fcntl.flock" and os.path.samestat(os.fstat(arguments[0]), opened):  # type: ignore[arg-type]
                n_locked += 1
                if n_locked == 2:  # at the first it is only looked at
                    work.replace(blob)

        opened = work.stat()
        sys.addaudithook(put_in_place)
        return str(prune.prune(Store(store.roots)))

    assert in_child(sweep) == (0, "[]")
    assert blob.read_bytes() == b"whole"


def test_what_takes_the_room(store: Store) -> None:
    put(store, "m", b"x" * 1000, b"{}")
    put(store, "n", b"x" * 1000, b'{"n":1}')
    put(store, "o", b"y" * 500, b"{}")
    store.add_blob(b"unused")
    found = usage.usage(store)
    assert [(each.name, each.size, each.own) for each in found.models] == [
        ("o:latest", 502, 500),
        ("n:latest", 1007, 7),
        ("m:latest", 1002, 0),
    ]
    assert (found.used, found.unused) == (1000 + 2 + 7 + 500, 6)

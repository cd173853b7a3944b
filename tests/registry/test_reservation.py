"""Reservations with real processes: what a living one names stays, whatever others remove; what a dead one left goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollamapy.names import Name
from ollamapy.registry.prune import prune, sweep
from ollamapy.registry.store import Store
from tests.registry.fake_hub import sha256
from tests.registry.stores import later, put

HOLDER = """
import sys
from pathlib import Path
from ollamapy.registry.store import Store

root, *digests = sys.argv[1:]
store = Store([Path(root)])
with store.reserve() as reservation:
    reservation.add(*digests)
    file, folder = reservation.work_path(), reservation.work_path()
    file.write_bytes(b"half")
    folder.mkdir()
    (folder / "link").symlink_to(file)
    with store.new_blob() as blob:
        blob.write(bytes(10_000_000))
        print(file, flush=True)
        sys.stdin.read()
"""
"""Reserves and works until its stdin ends."""


@contextmanager
def holder(store: Store, *digests: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with a reservation and work in the store."""
    command = [sys.executable, "-c", HOLDER, str(store.roots[0]), *digests]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(str(store.roots[0]))
        try:
            yield process
        finally:
            process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def work(store: Store) -> set[str]:
    """The kinds of what lies in partial/, but for the lock of the root."""
    names = {path.name for path in (store.roots[0] / "partial").glob("*")} - {"lock"}
    return {name.partition("-")[0] for name in names}


def weights(store: Store, name: str) -> str:
    return store.manifest(Name.parse(name)).layers[0].digest


def test_a_model_is_removed_while_another_process_needs_a_blob_of_it(store: Store) -> None:
    put(store, "a", b"shared")
    shared = weights(store, "a")
    with holder(store, shared) as process:
        store.delete(Name.parse("a"))
        assert store.has(shared) and store.names() == []
        kill(process)
        put(store, "a", b"shared")
        store.delete(Name.parse("a"))
    assert not store.has(shared), "its holder has ended"


def test_a_model_is_replaced_while_another_process_needs_a_blob_of_it(store: Store) -> None:
    put(store, "a", b"shared")
    before = store.manifest(Name.parse("a"))
    shared = before.layers[0].digest
    with holder(store, shared):
        put(store, "a", b"other")
        store.remove_unused(before.blobs)
        assert store.has(shared)


def test_prune_leaves_what_a_living_lease_names_however_old(store: Store) -> None:
    shard = store.add_blob(b"a finished shard of a pull that goes on")
    begun = store.roots[0] / "partial" / f"sha256-{sha256(b'the next one')}"
    begun.write_bytes(b"begun")
    other = store.add_blob(b"of no one")
    with holder(store, shard, f"sha256:{sha256(b'the next one')}") as process:
        removed = prune(later(store))
        assert [each.name for each in removed] == [other.replace(":", "-")]
        assert store.has(shard) and begun.exists()
        kill(process)
        planned = prune(later(store), dry_run=True)
        assert {each.kind for each in planned} == {"blob", "download", "work"}
        assert {each.name for each in prune(later(store))} == {each.name for each in planned}
    assert not store.has(shard) and work(store) == set()


def test_what_the_dead_worked_on_is_swept_at_once_and_what_the_living_do_is_not(
    store: Store,
) -> None:
    download = store.roots[0] / "partial" / f"sha256-{'a' * 64}"
    with holder(store) as process:
        download.write_bytes(b"to be resumed")
        assert (
            sweep(later(store)) == [] and prune(later(store), dry_run=True)[0].name == download.name
        )
        assert work(store) == {"reservation", "work", "sha256"}
        kill(process)
        assert {each.kind for each in sweep(store)} == {"work"}
    assert work(store) == {"sha256"}


def test_a_store_that_is_not_there_is_not_made_by_a_sweep(store: Store) -> None:
    assert sweep(store) == [] and not store.roots[0].exists()


def test_at_its_end_a_lease_leaves_nothing(store: Store) -> None:
    digest = store.add_blob(b"x")
    with store.reserve([digest]) as reservation:
        folder = reservation.work_path()
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
        reservation.work_path().write_bytes(b"x")
        assert prune(later(store)) == []
    assert work(store) == set()
    assert [each.kind for each in prune(later(store))] == ["blob"]


def test_what_is_dropped_can_be_removed(store: Store) -> None:
    one, two = store.add_blob(b"1"), store.add_blob(b"2")
    with store.reserve([one]) as reservation:
        reservation.add(two)
        reservation.drop(one)
        prune(later(store))
        assert (store.has(one), store.has(two)) == (False, True)


def test_several_leases_name_the_same_blob(store: Store) -> None:
    digest = store.add_blob(b"x")
    with store.reserve([digest]):
        with store.reserve([digest]):
            pass
        assert prune(later(store)) == []


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_damaged_lease_names_what_can_be_read_of_it(store: Store, tmp_path: Path) -> None:
    digest = store.add_blob(b"x")
    with store.reserve([digest]):
        (path,) = (store.roots[0] / "partial").glob(f"reservation-{os.getpid()}-" + "?" * 16)
        path.write_text(f"../../etc\n{digest}\nsha256:{'g' * 64}\n")
        assert prune(later(store)) == []

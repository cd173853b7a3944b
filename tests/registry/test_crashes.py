"""The store when its processes are killed at every step, and when several work at once."""

from __future__ import annotations

import hashlib
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ollamapy.errors import StoreError
from ollamapy.names import Name
from ollamapy.registry import archive, prune, verify
from ollamapy.registry.download import fetch
from ollamapy.registry.pieces import MIB
from ollamapy.registry.store import Store
from tests.registry.fake_hub import FakeHub
from tests.registry.stores import (
    M,
    check,
    damage,
    faults,
    in_child,
    later,
    put,
    steps_until_done,
    weights,
)
from tests.registry.test_archive import take
from tests.registry.test_download import QUICK
from tests.registry.test_verify import pulled

# Killed at every step


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize(
    "work",
    [
        pytest.param("import", marks=pytest.mark.long),
        "prune",
        pytest.param("repair", marks=pytest.mark.long),
        "remove",
    ],
)
def test_killed_between_any_two_steps_the_store_is_true(
    hub: FakeHub, tmp_path: Path, work: str
) -> None:
    """A child does one thing and is killed at its 1st, 2nd... change to disk: what is listed is whole, and the same
    command, run again, ends well. (A repair may leave a model without the blob that was bad anyway.)"""
    before = Store([tmp_path / "before"])
    file = pulled(hub, before, 5 * MIB)
    put(before, "n", b"n's", b'{"n":1}')
    before.add_blob(b"unused")
    archive.export(before, M, tmp_path / "m.tar")
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
            prune.prune(store)
        elif work == "remove" and store.find(M):
            store.delete(M)
        elif work == "repair":
            for bad in [each for each in check(store, M) if each.fault]:
                if bad.root is not None:
                    verify.set_aside(store, bad)
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
        return f"lost {sum(len(prune.prune(Store(store.roots))) for _ in range(30))}"

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(in_child, partial(write, n)) for n in range(4)]
        jobs.append(pool.submit(in_child, partial(sweep, 0)))
        results = [job.result() for job in jobs]
    assert results == [(0, "lost 0")] * 5
    assert {name.model for name in store.names()} == {"kept", "m0", "m1", "m2", "m3"}
    assert faults(store) == []

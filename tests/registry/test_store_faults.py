"""The store when something goes wrong: a full disk, a crash, missing rights."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  (imported before a child gives up its rights to read files)
import pytest

from ollamapy.config import Paths
from ollamapy.errors import (
    OllamapyError,
    StoreError,
)
from ollamapy.names import Name
from ollamapy.registry.store import Store, open_store
from tests.registry.stores import in_child, put, steps_until_done
from tests.registry.test_store import (
    files,
)


def test_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def kind(file: int) -> str:
        return "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"

    def watched_fsync(file: int) -> None:
        steps.append(kind(file))
        fsync(file)

    def watched_replace(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    store = Store([tmp_path])
    put(store, "first")
    steps.clear()
    put(store, "second", b"other", b'{"x":1}')
    assert steps[:6] == ["file", "rename", "folder"] * 2
    # the manifest's last: the folders that it needs, itself, its name
    assert steps[6:] == ["file", "folder", "rename", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_between_any_two_steps_the_store_is_whole(tmp_path: Path) -> None:
    """A child replaces, adds and deletes models; it is killed at its 1st, 2nd... change to disk."""

    def change(root: Path) -> None:
        store = Store([root])
        put(store, "kept", b"new weights", b'{"new":1}')
        put(store, "added", b"added weights", b'{"added":1}')
        store.delete(Name.parse("gone"))

    before = Store([tmp_path / "before"])
    put(before, "kept", b"old weights", b'{"old":1}')
    put(before, "gone", b"gone weights", b'{"gone":1}')
    step = 0
    for step, root in steps_until_done(tmp_path, before.roots[0], change):
        store = Store([root])
        names = {name.model for name in store.names()}
        assert "kept" in names, step
        for name in store.names():
            found = store.manifest(name)
            for layer in (found.config, *found.layers):
                content = store.read_small(layer)
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer.digest
        for path in (root / "blobs").iterdir():
            assert path.name == f"sha256-{hashlib.sha256(path.read_bytes()).hexdigest()}"
        put(store, "after", b"it", b'{"goes":"on"}')  # no lock is left behind
        shutil.rmtree(root)
    assert step > 20  # it was killed that often


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    store = Store([tmp_path])
    put(store, "m", b"old")
    before = files(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StoreError, match="the disk is full" if code != errno.EIO else "write"):
            put(store, "m", b"new", b'{"new":1}')
    assert files(tmp_path) - {"partial/lock"} == before - {"partial/lock"}
    assert store.read_small(store.manifest(Name.parse("m")).layers[0]) == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_no_room_is_said_and_the_partial_file_removed(tmp_path: Path) -> None:
    def write_much() -> str:
        import resource

        # The kernel refuses as for a full disk, with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        Store([tmp_path]).add_blob(b"x" * 65_536 for _ in range(100))
        return "written"

    _, result = in_child(write_much)
    assert result.startswith("StoreError: the disk is full, cannot write ")
    assert str(tmp_path) in result and "OLLAMAPY_MODELS" in result
    assert files(tmp_path) == set()


@pytest.fixture
def anybodys(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user may enter: pytest's are closed to the user that root becomes."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_a_user(work: Callable[[], str]) -> str:
    """What `work` gives or raises without root's right to write everywhere."""

    def drop_and_work() -> str:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            return work()
        except OllamapyError as error:
            return f"{type(error).__name__}: {error}"

    return in_child(drop_and_work)[1]


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_read_only_store_is_read_and_not_written(anybodys: Path) -> None:
    put(Store([anybodys]), "m", b"weights")
    shutil.rmtree(anybodys / "partial")
    for folder in [anybodys, *(path for path in anybodys.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    before = files(anybodys)
    store = Store([anybodys])

    def read() -> str:
        return store.read_small(store.manifest(store.names()[0]).layers[0]).decode()

    def add() -> str:
        return store.add_blob(b"more")

    def delete() -> str:
        store.delete(Name.parse("m"))
        return "deleted"

    assert as_a_user(read) == "weights"
    for write in (add, delete):
        message = as_a_user(write)
        assert message.startswith(f"StoreError: cannot write to the models directory {anybodys} (")
        assert message.endswith("make it writable or point OLLAMAPY_MODELS at another folder")
    assert files(anybodys) == before


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_store_that_may_not_be_read_is_no_empty_one(anybodys: Path) -> None:
    closed, builtin = anybodys / "closed", anybodys / "builtin"
    put(Store([closed]), "m")
    put(Store([builtin]), "b")
    closed.chmod(0o000)
    store = Store([closed, builtin])
    message = as_a_user(lambda: str(store.find(Name.parse("m"))))
    assert (
        message
        == f"StoreError: cannot read {closed}/manifests (permission denied), make it readable"
    )
    # a root that can be read still serves
    assert as_a_user(lambda: str(store.find(Name.parse("b")))) == str(Name.parse("b"))
    assert as_a_user(lambda: " ".join(n.display for n in store.names())) == "b:latest"


def test_a_file_where_the_store_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = Store([tmp_path / "file"])
    assert store.names() == []
    with pytest.raises(StoreError, match=r"cannot write to the models directory .*file \("):
        store.add_blob(b"x")


def test_blobs_on_another_disk_than_the_work_files_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match="must be on one file system: point OLLAMAPY_MODELS"):
        Store([tmp_path]).add_blob(b"x")


def test_the_built_in_model_is_listed_only_in_the_default_place(tmp_path: Path) -> None:
    for custom, listed in ((False, True), (True, False)):
        store = open_store(Paths(tmp_path / "models", tmp_path, models_given=custom))
        name = Name.parse("tinystories")
        assert (name in store.names()) is listed
        assert store.find(name) == name

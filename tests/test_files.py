"""Small files are whole or absent: what is there stays until what replaces it is on the disk."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from ollamapy.files import replace_file


def test_a_file_and_its_folders_are_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "state.json"
    for content in (b"one", b"", b"three"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["state.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
def test_the_mode_is_there_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    replace_file(path, b"new", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_dead_writer_left_is_used_again_and_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "state", tmp_path / "other"
    other.write_bytes(b"of another")
    work = tmp_path / f"state.{os.getpid()}-{threading.get_native_id()}"
    work.symlink_to(other)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new" and other.read_bytes() == b"of another"
    assert sorted(os.listdir(tmp_path)) == ["other", "state"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_step_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "state"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state"]

"""The cache of values by digest: found again by the next process, and never a reason for a wrong or a failing list."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ollamapy.models import cache
from ollamapy.models.cache import DigestCache


class Value(msgspec.Struct, frozen=True):
    size: int


def test_values_are_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "state" / "cache.json"
    first = DigestCache(path, Value)
    assert first.get("a") is None
    first.put("a", Value(1))
    first.put("b", Value(2))
    first.keep(["a"])
    second = DigestCache(path, Value)
    assert (second.get("a"), second.get("b")) == (Value(1), None)
    assert [each.name for each in path.parent.iterdir()] == ["cache.json"]


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    found = DigestCache(path, Value)
    found.put("a", Value(1))
    found.keep(["a"])
    path.unlink()
    found.keep(["a"])
    assert not path.exists()
    found.keep([])
    assert path.exists()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"[" * 10**5, b'["1 x", {"a": {"size": "x"}}]']
)
def test_a_damaged_file_is_an_empty_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(content)
    assert DigestCache(path, Value).get("a") is None


def test_another_version_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache.json"
    found = DigestCache(path, Value)
    found.put("a", Value(1))
    found.keep(["a"])
    monkeypatch.setattr(cache, "_FORMAT", "1 another")
    assert DigestCache(path, Value).get("a") is None


def test_nowhere_to_write_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (None, tmp_path / "file" / "cache.json"):
        found = DigestCache(path, Value)
        found.put("a", Value(1))
        found.keep(["a"])
        assert found.get("a") == Value(1)

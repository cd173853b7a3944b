"""What lists say, remembered: found again by the next process, and never a reason for a wrong or a failing list."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ollamapy.models import facts
from ollamapy.models.facts import Facts


class Fact(msgspec.Struct, frozen=True):
    size: int


def test_facts_are_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "state" / "facts.json"
    first = Facts(path, Fact)
    assert first.get("a") is None
    first.put("a", Fact(1))
    first.put("b", Fact(2))
    first.keep(["a"])
    second = Facts(path, Fact)
    assert (second.get("a"), second.get("b")) == (Fact(1), None)
    assert [each.name for each in path.parent.iterdir()] == ["facts.json"]


def test_what_did_not_change_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    found = Facts(path, Fact)
    found.put("a", Fact(1))
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
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    assert Facts(path, Fact).get("a") is None


def test_another_version_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facts.json"
    found = Facts(path, Fact)
    found.put("a", Fact(1))
    found.keep(["a"])
    monkeypatch.setattr(facts, "_FORMAT", "1 another")
    assert Facts(path, Fact).get("a") is None


def test_nowhere_to_write_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (None, tmp_path / "file" / "facts.json"):
        found = Facts(path, Fact)
        found.put("a", Fact(1))
        found.keep(["a"])
        assert found.get("a") == Fact(1)

"""Values in files: they come back after a restart, within bounds, and nothing that is wrong does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ollamapy.serving.logged import Logged


@dataclass(frozen=True)
class Value:
    text: str


def logged(folder: Path, most: int = 9, most_bytes: int = 100) -> Logged[Value]:
    return Logged(folder / "values", Value, most, most_bytes)


def texts(folder: Path, **bounds: int) -> list[str]:
    """What another process finds."""
    again = logged(folder, **bounds)
    found = [each.text for each in again.read()]
    again.close()
    return sorted(found)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    first = logged(tmp_path)
    for name, text in (("a", "1"), ("b", "2"), ("a", "3"), ("../c", "4"), ("d", "5")):
        first.put(name, Value(text))
    first.drop("d")
    first.drop("never put")
    first.close()
    assert texts(tmp_path) == ["2", "3", "4"]
    files = list(tmp_path.rglob("*.value"))
    assert len(files) == 3 and all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert (tmp_path / "values").stat().st_mode & 0o777 == 0o700
    assert {file.parent for file in files} == {tmp_path / "values"}, "a name is no path"


def test_nothing_is_made_before_a_value_is_put(tmp_path: Path) -> None:
    assert texts(tmp_path) == [] and not list(tmp_path.iterdir())


def test_what_is_wrong_too_large_or_too_much_is_deleted(tmp_path: Path) -> None:
    first = logged(tmp_path)
    for name in "abcd":
        first.put(name, Value(name))
    first.put("large", Value("x" * 200))
    first.put("no text", Value("\ud800"))
    first.close()
    assert len(list(tmp_path.rglob("*.value"))) == 5, "a text that cannot be encoded is left out"
    torn, *_ = (each for each in sorted(tmp_path.rglob("*.value")) if each.stat().st_size < 100)
    torn.write_bytes(torn.read_bytes()[:-1])
    (tmp_path / "values" / "x.value.123-4").write_bytes(b"never finished")
    assert len(texts(tmp_path)) == 3
    assert len(texts(tmp_path, most=2)) == 2
    assert len(list((tmp_path / "values").iterdir())) == 2

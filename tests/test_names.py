"""Names: every recorded answer of Ollama's own parser, and what must hold for any text."""

from __future__ import annotations

import json
import string
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidName
from ollamapy.names import Name

LINES = (Path(__file__).parent / "data" / "names.jsonl").read_text().splitlines()
RECORDED = [json.loads(line) for line in LINES]

ALPHABET = string.ascii_letters + string.digits + "_"


def parts(marks: str, longest: int) -> st.SearchStrategy[str]:
    rest = st.text(ALPHABET + "-" + marks, max_size=longest - 1)
    return st.builds(str.__add__, st.sampled_from(ALPHABET), rest)


NAMES = st.builds(Name, parts(".:", 255), parts("", 80), parts(".", 80), parts(".", 80))


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: ascii(row["in"])[:60])
def test_agrees_with_ollama(row: dict[str, Any]) -> None:
    expected = row["out"]
    if not expected["valid"]:
        with pytest.raises(InvalidName):
            Name.parse(row["in"])
        return
    name = Name.parse(row["in"])
    assert (name.host, name.namespace) == (expected["host"], expected["namespace"])
    assert (name.model, name.tag) == (expected["model"], expected["tag"])
    assert (name.display, name.full) == (expected["short"], expected["text"])
    assert str(name.path) == expected["path"]


@given(NAMES)
def test_what_is_printed_parses_back(name: Name) -> None:
    assert Name.parse(name.full) == name
    assert Name.parse(name.display) == name
    assert Name.parse(f"https://{name.full}") == name
    assert Name(*name.path.parts) == name


TRICKS = st.text(st.sampled_from("aA0_-.:/\\@+~%\x00 é٣K\n"), max_size=40)


@given(st.one_of(st.text(max_size=60), TRICKS))
def test_no_text_becomes_a_path_outside_the_store(text: str) -> None:
    try:
        path = Name.parse(text).path
    except InvalidName as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        return
    assert len(path.parts) == 4 and not path.is_absolute()
    for part in path.parts:
        assert part[0] in ALPHABET and part.isascii()
        assert not set(part) & set("/\\\x00")


@pytest.mark.parametrize(
    "parts",
    [
        ("..", "n", "m", "t"),
        ("h", "n", "m", ""),
        ("h", "n", "m/x", "t"),
        ("h", "n", ".hidden", "t"),
        ("h", "n", "m", ".DS_Store"),
        ("h" * 256, "n", "m", "t"),  # no disk has a folder of that name
    ],
)
def test_an_invalid_name_cannot_be_made(parts: tuple[str, str, str, str]) -> None:
    with pytest.raises(InvalidName):
        Name(*parts)


@pytest.mark.parametrize("text", ["a" * 10_000_000, "/" * 10_000_000, "a:" * 5_000_000])
def test_a_huge_name_is_refused_at_once(text: str) -> None:
    start = time.thread_time()
    with pytest.raises(InvalidName):
        Name.parse(text)
    assert time.thread_time() - start < 2


def test_the_error_describes_the_form_of_a_name() -> None:
    with pytest.raises(
        InvalidName, match=r"^invalid model name 'a b', write it as .*model\[:tag\]"
    ):
        Name.parse("a b")

"""The splitter of large JSON files, piece by piece."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.serving.chats import elements
from ollamapy.serving.chats.elements import Elements


def split(data: bytes, size: int) -> list[Any]:
    reader = Elements()
    found = [e for at in range(0, len(data), size) for e in reader.feed(data[at : at + size])]
    assert not reader.is_open
    return [json.loads(element) for element in found]


ODD = {"a": '"}]{[\\', "chats": [{"b": [1, {"chats": [{}]}]}], "\\": "\\\\\\", "é\u2028": None}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([ODD, {}, ODD], [ODD, {}, ODD]),
        ({"format": '"chats"', "x": [{}], "chats": [ODD, {"c": 1}], "y": [{}]}, [ODD, {"c": 1}]),
        ({"chats": []}, []),
        ({"title": "chats", "list": [{}], "a": {"chats": [{}]}}, None),
        ([], []),
        ([[{"inner": 1}], 1, "x", {"a": 1}], [{"a": 1}]),
        ("text", []),
    ],
)
@pytest.mark.parametrize("form", [json.dumps, lambda value: json.dumps(value, indent=3)])
def test_elements_at_every_split(value: Any, expected: list[Any] | None, form: Any) -> None:
    data = form(value).encode()
    for size in range(1, len(data) + 1):
        assert split(data, size) == ([value] if expected is None else expected), size


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('"\\[]{}:,aé\n'), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(
    st.lists(st.dictionaries(st.text(max_size=3), json_values, max_size=3), max_size=4),
    st.integers(1, 9),
)
@settings(max_examples=50)
def test_any_list_of_objects(chats: list[Any], size: int) -> None:
    assert split(json.dumps(chats).encode(), size) == chats
    assert split(json.dumps({"n": 1, "chats": chats}).encode(), size) == chats


@pytest.mark.parametrize("data", [b"[{", b'[{"a', b'"', b'{"a": "\\'])
def test_a_file_without_its_end_is_noticed(data: bytes) -> None:
    reader = Elements()
    assert reader.feed(data) == [] and reader.is_open


@given(st.binary(max_size=60), st.integers(1, 9))
def test_any_bytes_are_taken(data: bytes, size: int) -> None:
    reader = Elements()
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])


def test_an_element_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "MOST_ELEMENT", 1000)
    reader = Elements()
    reader.feed(b'[{"a":"')
    with pytest.raises(InvalidRequest, match="a chat of the file"):
        for _ in range(20):
            reader.feed(b"x" * 100)

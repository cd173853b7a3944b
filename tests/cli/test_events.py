"""Server-sent events as the client reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.cli.events import Decoder, Event


def decoded(text: str) -> list[Event]:
    decoder = Decoder()
    return [event for line in text.split("\n")[:-1] if (event := decoder.feed(line))]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ('id: 3\nevent: text\ndata: {"text": "a"}\n\n', [Event(3, "text", {"text": "a"})]),
        ("data: {}\n\n", [Event(0, "message", {})]),
        (": ping\n\n: ping\n\ndata:{}\n\n", [Event(0, "message", {})]),
        ('event: x\ndata: {"a":\ndata: 1}\n\n', [Event(0, "x", {"a": 1})]),
        ("id: 4\nevent: text\n\ndata: {}\n\n", [Event(0, "message", {})]),
        (
            "id: x\ndata: {}\n\nid: 99999999999999999999\ndata: {}\n\n",
            [Event(0, "message", {})] * 2,
        ),
        ("data: {}\n", []),
        ("retry: 10\nunknown\ndata: {}\n\n", [Event(0, "message", {})]),
    ],
)
def test_a_stream(text: str, events: list[Event]) -> None:
    assert decoded(text) == events


@pytest.mark.parametrize("data", ["[1]", "nothing", '"text"'])
def test_what_is_no_object_is_no_event(data: str) -> None:
    with pytest.raises(ValueError):
        decoded(f"data: {data}\n\n")


@given(
    st.lists(
        st.tuples(
            st.integers(1, 10**9),
            st.from_regex("[a-z_]{1,10}", fullmatch=True),
            st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
        )
    )
)
def test_what_is_written_is_read(events: list[tuple[int, str, dict[str, Any]]]) -> None:
    text = "".join(f"id: {n}\nevent: {name}\ndata: {json.dumps(d)}\n\n" for n, name, d in events)
    assert decoded(text) == [Event(*each) for each in events]


@given(st.text())
def test_nothing_else_is_raised(text: str) -> None:
    try:
        decoded(text)
    except ValueError:
        pass

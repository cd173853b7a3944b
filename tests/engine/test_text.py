"""Text out of tokens' bytes, at every split point."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.engine.text import Awaited, TextStream

CASES = [
    # bytes, stops -> text, stopped
    (b"plain", (), "plain", ""),
    ("é👋\n".encode(), (), "é👋\n", ""),
    (b"a\xffb", (), "a\ufffdb", ""),
    ("ok 👋".encode()[:-1], (), "ok ", ""),
    (b"one two three", (" two",), "one", " two"),
    (b"one two three", ("four",), "one two three", ""),
    (b"one tw", (" two",), "one tw", ""),
    (b"xaab", ("aab",), "x", "aab"),
    (b"aaab", ("aab",), "a", "aab"),
    (b"abcabd", ("abd", "zzz"), "abc", "abd"),
    (b"abc", ("",), "abc", ""),
    ("bis 👋 hier".encode(), ("👋",), "bis ", "👋"),
    (b"long stop", ("stop", "long stop"), "", "long stop"),
]


@pytest.mark.parametrize(("data", "stops", "text", "stopped"), CASES)
def test_every_split_point(data: bytes, stops: tuple[str, ...], text: str, stopped: str) -> None:
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            stream = TextStream(stops)
            got = ""
            for piece in (data[:first], data[first:second], data[second:]):
                if not stream.stopped:
                    got += stream.feed(piece)
            if not stream.stopped:
                got += stream.flush()
            assert (got, stream.stopped) == (text, stopped)


@given(st.binary(max_size=40), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_byte_by_byte_is_the_same_as_all_at_once(data: bytes, stops: list[str]) -> None:
    def run(pieces: list[bytes]) -> tuple[str, str]:
        stream, got = TextStream(stops), ""
        for piece in pieces:
            if not stream.stopped:
                got += stream.feed(piece)
        return got + ("" if stream.stopped else stream.flush()), stream.stopped

    one, two = run([data]), run([bytes([byte]) for byte in data])
    if not one[1]:
        assert one == two
    else:
        assert two[1] and two[0].startswith(one[0])


def test_text_before_a_possible_stop_is_not_held_back() -> None:
    stream = TextStream(("STOP",))
    assert stream.feed(b"hello S") == "hello "
    assert stream.feed(b"O") == "SO"


@pytest.mark.parametrize("text", ["</think>", "<|channel|>final<|message|>", "x"])
@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_an_awaited_text_is_found_however_it_is_cut(text: str, size: int) -> None:
    said = f"before it </thin <|channel|>fin {text}after".encode()
    if text == "x":
        said = b"so xafter"
    awaited = Awaited(text)
    for at in range(0, len(said), size):
        rest = awaited.feed(said[at : at + size])
        if rest is not None:
            assert rest + said[at + size :] == b"after"
            return
    raise AssertionError("it was not found")

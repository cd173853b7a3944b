"""Forms with files: what clients send, and what anyone can send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.web.multipart import MOST_PARTS, fields

TYPE = "multipart/form-data; boundary=xyz"


def form(parts: list[tuple[str, bytes]], boundary: bytes = b"xyz") -> bytes:
    """A form as browsers write it."""
    lines = []
    for name, content in parts:
        head = f'Content-Disposition: form-data; name="{name}"; filename="{name}.wav"\r\n'
        lines.append(
            b"--"
            + boundary
            + b"\r\n"
            + head.encode()
            + b"Content-Type: a/b\r\n\r\n"
            + content
            + b"\r\n"
        )
    return b"".join(lines) + b"--" + boundary + b"--\r\n"


def test_fields_in_order_and_repeated() -> None:
    body = form([("a", b"1"), ("file", b"\0\r\n--xy\r\n"), ("a", b"2")])
    assert fields(body, TYPE) == {"a": [b"1", b"2"], "file": [b"\0\r\n--xy\r\n"]}


def test_the_name_of_a_file_is_not_that_of_a_field() -> None:
    body = b'--xyz\r\nContent-Disposition: form-data; filename="name=x"; name="file"\r\n\r\nq\r\n--xyz--'
    assert fields(body, 'Multipart/Form-Data; charset=utf-8; boundary="xyz"') == {"file": [b"q"]}


@pytest.mark.parametrize(
    ("body", "content_type", "why"),
    [
        (b"{}", "application/json", "must be a form"),
        (b"", "multipart/form-data", "must be a form"),
        (b"", TYPE, "ends too soon"),
        (form([("a", b"1")])[:-6], TYPE, "ends too soon"),
        (b"--xyz\r\nA: b\r\n\r\n1\r\n--xyz--", TYPE, "no name"),
        (b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n--xyz--', TYPE, "no name"),
        (form([("a", b"1")] * (MOST_PARTS + 1)), TYPE, "more than 100 parts"),
        (b"--xyz\r\n" + b"A: b\r\n" * 5000 + b"\r\n1\r\n--xyz--", TYPE, "no name"),
    ],
)
def test_what_is_refused(body: bytes, content_type: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        fields(body, content_type)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=50)), max_size=5))
def test_what_is_written_is_read(parts: list[tuple[str, bytes]]) -> None:
    found = fields(
        form(parts, b"boundary-of-its-own"), "multipart/form-data; boundary=boundary-of-its-own"
    )
    assert found == {name: [c for n, c in parts if n == name] for name, _ in parts}


@given(st.binary(max_size=300))
def test_nothing_else_is_raised(noise: bytes) -> None:
    for body in (noise, b"--xyz\r\n" + noise + b"\r\n--xyz--"):
        try:
            fields(body, TYPE)
        except InvalidRequest:
            pass

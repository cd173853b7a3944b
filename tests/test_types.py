"""The values of the vocabulary that have a rule of their own."""

from __future__ import annotations

import pytest

from ollamapy.types import Message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], Message("user")),
        (["a", "b"], Message("user", "ab")),
        ([b"1", "a"], Message("user", "a", images=(b"1",))),
        (["a", b"1"], Message("user", "a", images=(b"1",), places=(1,))),
        (
            [b"1", "a", b"2", b"3", "b"],
            Message("user", "ab", images=(b"1", b"2", b"3"), places=(0, 1, 1)),
        ),
    ],
)
def test_a_message_keeps_the_order_of_its_parts(parts: list[str | bytes], message: Message) -> None:
    assert Message.of("user", parts) == message


@pytest.mark.parametrize(
    "parts", [(), ("a",), (b"1",), (b"1", "a"), ("a", b"1"), (b"1", "a", b"2", b"3", "b"), ("a", b"1", "b")]
)  # fmt: skip
def test_the_parts_of_a_message_come_back(parts: tuple[str | bytes, ...]) -> None:
    assert Message.of("user", parts).parts == parts


def test_images_of_ollamas_messages_come_before_the_text() -> None:
    assert Message("user", "a", images=(b"1", b"2")).parts == (b"1", b"2", "a")

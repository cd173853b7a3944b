"""Images in a prompt: marks for the template, and the files in their places afterwards."""

from __future__ import annotations

import pytest

from ollamapy.chat.files import cut, marked, placed, placed_raw, shown
from ollamapy.errors import InvalidRequest
from ollamapy.types import Message


def rendered(messages: tuple[Message, ...]) -> str:
    return "".join(f"<{message.role}>{message.content}</>" for message in messages)


def test_files_stand_where_the_message_has_them() -> None:
    question = Message.of("user", ["look: ", b"cat", " and ", b"dog", "?"])
    messages, files = marked([Message("system", "be kind"), question])

    text, places = placed(rendered(messages), files)

    assert text == "<system>be kind</><user>look:  and ?</>"
    assert cut(text, places) == (
        "<system>be kind</><user>look: ", b"cat", " and ", b"dog", "?</>"
    )  # fmt: skip
    assert shown(text, places) == "<system>be kind</><user>look: [img-0] and [img-1]?</>"


def test_files_without_places_come_before_the_text() -> None:
    messages, files = marked([Message("user", "what is it?", images=(b"cat", b"dog"))])

    assert cut(*placed(rendered(messages), files)) == ("<user>", b"cat", b"dog", "what is it?</>")


def test_a_text_cannot_become_a_file() -> None:
    first, files = marked([Message("user", "this", images=(b"cat",))])
    (mark,) = files
    again = Message("user", f"{mark} [img-0] <__media__>", images=(b"dog",))

    messages, files = marked([again])
    text, places = placed(rendered(messages), files)

    assert cut(text, places) == ("<user>", b"dog", f"{mark} [img-0] <__media__></>")


def test_a_template_that_leaves_a_message_with_a_file_out_is_refused() -> None:
    _, files = marked([Message("user", "this", images=(b"cat",))])

    with pytest.raises(InvalidRequest, match="does not print"):
        placed("<user></>", files)


def test_messages_without_files_stay_as_they_are() -> None:
    messages = (Message("user", "hello"),)

    assert marked(messages) == (messages, {})
    assert placed("<user>hello</>", {}) == ("<user>hello</>", ())


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("what is it?", (b"cat", b"dog", "what is it?")),
        ("[img-1] or [img-0]?", (b"dog", " or ", b"cat", "?")),
        ("see [img-1]", (b"cat", "see ", b"dog")),
        ("[img-7] [img-0] [img-1]", ("[img-7] ", b"cat", " ", b"dog")),
    ],
)
def test_raw_prompts_have_tags(prompt: str, parts: tuple[str | bytes, ...]) -> None:
    assert cut(*placed_raw(prompt, (b"cat", b"dog"))) == parts

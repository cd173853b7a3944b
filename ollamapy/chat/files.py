"""Images and sounds in a prompt: where they stand in the text that a template makes of the messages.

A template sees texts only. It gets a mark in the place of each file, which no one can foresee, and the marks that it prints say where
the files belong; what a message says cannot become one. Pure.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from ..errors import InvalidRequest
from ..types import Message

Placed = tuple[tuple[int, bytes], ...]
"""Files and the offsets in a text at which they stand, in order."""


def marked(messages: Sequence[Message]) -> tuple[tuple[Message, ...], dict[str, bytes]]:
    """The messages with a mark for each file in their contents, and the files by their marks."""
    files: dict[str, bytes] = {}

    def text_of(part: str | bytes) -> str:
        if isinstance(part, str):
            return part
        files[mark := f"file{secrets.token_hex(12)}"] = part
        return mark

    found = (
        msgspec.structs.replace(
            message, content="".join(map(text_of, message.parts)), images=(), places=()
        )
        if message.images
        else message
        for message in messages
    )
    return tuple(found), files


def placed(prompt: str, files: Mapping[str, bytes]) -> tuple[str, Placed]:
    """A prompt without its marks, and where the files stand in it. Raises InvalidRequest where a mark is missing."""
    if not files:
        return prompt, ()
    texts, found, at = [], [], 0
    for part in re.split(f"({'|'.join(files)})", prompt):
        if (file := files.get(part)) is not None:
            found.append((at, file))
        else:
            texts.append(part)
            at += len(part)
    if len(found) < len(files):
        raise InvalidRequest("the model's template does not print a message that has an image")
    return "".join(texts), tuple(found)


_TAG = re.compile(r"\[img-(\d{1,4})\]")


def placed_raw(prompt: str, files: Sequence[bytes]) -> tuple[str, Placed]:
    """A prompt without a template: files stand at Ollama's tags ([img-0], [img-1] ...), those without a tag before the text."""
    tags = {int(tag) for tag in _TAG.findall(prompt)}
    before = [(0, file) for number, file in enumerate(files) if number not in tags]
    texts, found, at, start = [], [], 0, 0
    for tag in _TAG.finditer(prompt):
        if (number := int(tag[1])) < len(files):
            texts.append(prompt[start : tag.start()])
            at += len(texts[-1])
            start = tag.end()
            found.append((at, files[number]))
    return "".join([*texts, prompt[start:]]), (*before, *found)


def cut(text: str, files: Placed) -> tuple[str | bytes, ...]:
    """A text in parts, none of them empty, with the files in their places."""
    parts: list[str | bytes] = []
    start = 0
    for at, file in files:
        parts += [*([text[start:at]] if at > start else []), file]
        start = at
    return (*parts, *([text[start:]] if text[start:] else []))


def shown(text: str, files: Placed) -> str:
    """A text for people, with Ollama's tags in the places of the files."""
    parts, number = [], 0
    for part in cut(text, files):
        if isinstance(part, bytes):
            part, number = f"[img-{number}]", number + 1
        parts.append(part)
    return "".join(parts)

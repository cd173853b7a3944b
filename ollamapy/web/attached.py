"""Files inside requests, as the dialects have them: base64, data URIs, and addresses to fetch. Pure; errors are InvalidRequest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest
from ..types import Document, Link
from . import body

MOST_FILES = 100
"""Files of one message in Ollama's API."""
_MOST_NAME = 255
_MOST_ADDRESS = 8192


def is_address(url: str) -> bool:
    """Whether a URL is one that would have to be fetched."""
    return url.startswith(("http://", "https://"))


def link(url: str, *, is_image: bool) -> Link:
    """A file at an address; whether it may be fetched is decided when it is (serving/reading.py)."""
    if len(url) > _MOST_ADDRESS:
        raise InvalidRequest(f"a URL has at most {_MOST_ADDRESS} characters")
    return Link(url, is_image=is_image)


def document(data: str, name: Any, where: str) -> Document:
    """A file as base64 or as a data URI of any type, with its name if that is a text."""
    head, comma, rest = data.partition(";base64,")
    if not comma and data.startswith("data:"):
        raise InvalidRequest(f"{where} must be base64, alone or in a data URI")
    content = body.from_base64(rest if comma and head.startswith("data:") else data)
    if not content:
        raise InvalidRequest(f"{where} is empty")
    return Document(content, name[:_MOST_NAME] if isinstance(name, str) else "")


def documents(value: Any, where: str) -> tuple[Document, ...]:
    """The field ``files`` of Ollama's API (our own): a list of objects with a name and data."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_FILES:
        raise InvalidRequest(f"{where} must be a list of at most {MOST_FILES} files")
    return tuple(_named(item, f"{where}[{i}]") for i, item in enumerate(value))


def _named(item: Any, where: str) -> Document:
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"{where} must have a name and data")
    return document(body.text(item, "data", where), item.get("name"), f"{where}.data")


SOUNDS = ("wav", "mp3", "flac")
"""The formats of sounds, as OpenAI's ``input_audio`` names them."""


def openai_sound(given: Any, where: str) -> bytes:
    """OpenAI's ``input_audio`` of a chat and a response: a sound as base64, and its format."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{where} must be an object with data and format")
    if given.get("format") not in SOUNDS:
        raise InvalidRequest(f"{where}.format must be one of {', '.join(SOUNDS)}")
    content = body.from_base64(body.text(given, "data", where))
    if not content:
        raise InvalidRequest(f"{where}.data is empty")
    return content


def openai_file(given: Any, where: str) -> Document | Link:
    """OpenAI's ``file`` of a chat and ``input_file`` of a response: file_data with a filename, or file_url."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{where} must be an object with file_data")
    if isinstance(data := given.get("file_data"), str):
        return document(data, given.get("filename"), f"{where}.file_data")
    if isinstance(url := given.get("file_url"), str) and is_address(url):
        return link(url, is_image=False)
    if given.get("file_id"):
        raise InvalidRequest(
            f"{where}: there are no stored files here, send file_data instead of file_id"
        )
    raise InvalidRequest(f"{where} must have file_data, a data URI with base64")

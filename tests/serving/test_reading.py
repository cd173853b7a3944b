"""The documents and links of a request, read before it becomes a turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.formats.documents.kinds import media_type
from ollamapy.models.spec import ModelSpec
from ollamapy.request import Conversation, Question, Request
from ollamapy.serving import reading
from ollamapy.serving.reading import Files, Read, most_characters
from ollamapy.types import Document, Link, Message, Options
from tests import documents

PNG = documents.png()
"""An image, and also what the fetched addresses lead to."""


@pytest.fixture(scope="module")
def spec(model_store: Path) -> ModelSpec:
    """A model that does not see; its own num_ctx is 512."""
    from ollamapy.models.models import Models
    from ollamapy.registry.store import Store

    found = asyncio.run(Models(Store([model_store])).load("hello"))
    return replace(found, options=Options(num_ctx=512))


def fetch(url: str) -> bytes:
    return {"https://a/p.png": PNG, "https://a/t.txt": b"text"}[url.partition("?")[0]]


def read(spec: ModelSpec, files: Files, *parts: Any) -> tuple[Any, tuple[str, ...]]:
    message = Message.of("user", parts, tool_name="kept")
    request = Request("m", Conversation((Message("system", "s"), message)))
    found = asyncio.run(files.read_request(request, spec, None))
    assert isinstance(found.request.input, Conversation)
    first, second = found.request.input.messages
    assert first == Message("system", "s") and not second.unread and second.tool_name == "kept"
    return second.parts, found.notes


def test_texts_images_documents_and_links_keep_their_order(spec: ModelSpec) -> None:
    link, page = Link("https://a/p.png"), Link("https://a/t.txt?x=/y", is_image=False)
    parts, notes = read(
        spec, Files(fetch=fetch), "a", Document(b"1", "one"), PNG, link, "b", page, Document(PNG)
    )
    assert parts == ("aone:\n```\n1\n```\n\n", PNG, PNG, "bt.txt:\n```\ntext\n```\n\n", PNG)
    assert notes == ()


def test_a_request_without_files_is_left_alone(spec: ModelSpec) -> None:
    request = Request("m", Conversation((Message("user", "a", images=(PNG,)),)))
    assert asyncio.run(Files().read_request(request, spec, None)) == Read(request)


def test_the_text_of_a_document_comes_before_a_question(spec: ModelSpec) -> None:
    request = Request(
        "m", Question("Q?", images=(b"i",), files=(Document(b"1", "n"), Document(PNG)))
    )
    found = asyncio.run(Files().read_request(request, spec, None, 0.5))
    assert found.text == "n:\n```\n1\n```\n\n"
    assert found.request.input == Question("n:\n```\n1\n```\n\nQ?", images=(PNG, b"i"))


def test_a_document_is_cut_where_the_context_ends_and_that_is_noted(spec: ModelSpec) -> None:
    long = Document(b"x" * 5000, "long.txt")
    parts, notes = read(spec, Files(), long, long)
    assert parts[0].count("x" * 1152 + "\n") == 2  # 3 characters for each of 3/4 of 512 tokens
    assert notes == ("long.txt: cut: the first 1,152 characters",)


def test_pages_without_text_are_images_for_a_model_that_sees(spec: ModelSpec) -> None:
    pytest.importorskip("pypdf")
    pytest.importorskip("pypdfium2")
    scan = Document(documents.pdf("One", ""), "scan.pdf")
    blind, _ = read(spec, Files(), scan, "?")
    assert blind == ("scan.pdf:\n```\n[page 1]\nOne\n[page 2]\n(no text)\n```\n\n?",)
    seeing = replace(spec, capabilities=(*spec.capabilities, "vision"))
    (text, image, question), _ = read(seeing, Files(), scan, "?")
    assert "[page 2]\n(an image)" in text and question == "?"
    assert media_type(image) == "image/png"


@pytest.mark.parametrize(
    ("wanted", "trained", "tokens"),
    [
        (None, 512, 512),
        (None, 131_072, 32_768),
        (1024, 131_072, 1024),
        (99_999, 131_072, 99_999),
        (99_999, 512, 512),
        (None, None, 4096),
    ],
)
def test_the_context_that_counts(wanted: int | None, trained: int | None, tokens: int) -> None:
    assert most_characters(wanted, trained) == int(tokens * 0.75 * 3)


@pytest.mark.parametrize(
    ("part", "fetched", "why"),
    [
        (Document(bytes(5), "b.bin"), True, 'the document "b.bin" is of type application/octet-stream'),
        (Document(b""), True, 'the document "file" has no text'),
        (Link("https://a/p.png"), False, "image URLs are not currently supported"),
        (Link("https://a/t.txt", is_image=False), False, "file URLs are not fetched here"),
        (Link("https://a/t.txt"), True, "leads to what is no image"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(
    spec: ModelSpec, part: Any, fetched: bool, why: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(spec, Files(fetch=fetch if fetched else None), "a", part)
    assert why in str(refused.value)


def test_the_number_of_documents_is_bounded(spec: ModelSpec) -> None:
    with pytest.raises(InvalidRequest, match="can have 100 documents"):
        read(spec, Files(), *[Document(b"a")] * 101)


def test_what_is_fetched_for_a_request_is_bounded(
    spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_FETCHED", 2 * len(PNG))
    link = Link("https://a/p.png")
    assert read(spec, Files(fetch=fetch), link, link)[0] == (PNG, PNG)
    with pytest.raises(InvalidRequest, match="together"):
        read(spec, Files(fetch=fetch), link, link, link)


def test_a_file_is_checked_before_it_has_a_message() -> None:
    asyncio.run(Files().check(Document(PNG)))
    asyncio.run(Files().check(Document(b"a text")))
    with pytest.raises(InvalidRequest, match='"x" is a damaged zip archive'):
        asyncio.run(Files().check(Document(b"PK\x03\x04", "x")))

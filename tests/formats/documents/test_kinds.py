"""What a file is, by its content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.formats.documents.kinds import kind_of, media_type, type_of
from tests import documents

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("content", "media", "kind", "type"),
    [
        (documents.png(), "image/png", None, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "image/jpeg", None, "image/jpeg"),
        (b"GIF89a" + bytes(9), "image/gif", None, "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp", None, "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav", None, "audio/wav"),
        (b"RIFF\0\0\0\0AVI LIST", "", None, "application/octet-stream"),
        (b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "image/bmp", None, "image/bmp"),
        (b"BMW is a make of cars", "", "text", "text/plain"),
        (b"\0\0\0\x18ftypheic\0\0", "image/heic", None, "image/heic"),
        (b"\0\0\0\x18ftypisom\0\0", "", None, "application/octet-stream"),
        (b"fLaC\0\0\0\x22", "audio/flac", None, "audio/flac"),
        (b"ID3\x04\0\0", "audio/mpeg", None, "audio/mpeg"),
        (b"\xff\xfb\x90\x64", "audio/mpeg", None, "audio/mpeg"),
        (b"\xff\xfb\xf0\x64", "", None, "application/octet-stream"),
        (b"%PDF-1.7\n", "", "pdf", "application/pdf"),
        (b"\n\n%PDF-1.7\n", "", "pdf", "application/pdf"),
        (documents.docx(documents.paragraph("a")), "", "docx", DOCX),
        (documents.archive([("a", b"")]), "", "docx", "application/zip"),
        (b"<!DOCTYPE html><p>x", "", "html", "text/plain"),
        (b"\xef\xbb\xbf \n<!-- made by x -->\n<html>", "", "html", "text/plain"),
        (b'<?xml version="1.0"?>\n<html xmlns="x">', "", "html", "text/plain"),
        (b"<p>a part of a page", "", "text", "text/plain"),
        (b"x < y and <html> later", "", "text", "text/plain"),
        (b"a,b\n1,2\n", "", "text", "text/plain"),
        ("in UTF-16".encode("utf-16"), "", "text", "text/plain"),
        (b"a\0b", "", None, "application/octet-stream"),
        (b"\xe4 in Latin-1", "", None, "application/octet-stream"),
        (b"", "", "text", "text/plain"),
    ],
)  # fmt: skip
def test_a_file_is_what_its_content_says(
    content: bytes, media: str, kind: str | None, type: str
) -> None:
    assert (media_type(content), kind_of(content), type_of(content)) == (media, kind, type)


@given(st.binary(max_size=40))
def test_every_content_has_a_type(content: bytes) -> None:
    assert "/" in type_of(content)
    assert not (media_type(content) and kind_of(content) in ("text", "html", "docx"))

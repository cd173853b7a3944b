"""A document as a prompt has it."""

from __future__ import annotations

import pytest

from ollamapy.formats.documents.excerpt import Excerpt, excerpt, shown_name
from ollamapy.formats.documents.extract import Extract, Page

WHOLE = Extract((Page("a text"),))
PAGES = Extract((Page("one"), Page(""), Page("three")), n_pages=3)
SCAN = Extract((Page("", b"image"), Page("two")), n_pages=2)


@pytest.mark.parametrize(
    ("document", "most", "parts", "note"),
    [
        (WHOLE, 99, ("n:\n```\na text\n```\n\n",), ""),
        (WHOLE, 6, ("n:\n```\na text\n```\n\n",), ""),
        (WHOLE, 3, ("n:\n```\na t\n```\n(cut: the first 3 characters)\n\n",), "cut: the first 3 characters"),
        (Extract((Page("a ``` b"),)), 99, ("n:\n````\na ``` b\n````\n\n",), ""),
        (PAGES, 99, ("n:\n```\n[page 1]\none\n[page 2]\n(no text)\n[page 3]\nthree\n```\n\n",), ""),
        (PAGES, 3, ("n:\n```\n[page 1]\none\n```\n(cut: 1 of 3 pages, the last may be cut short)\n\n",), "cut: 1 of 3 pages, the last may be cut short"),
        (SCAN, 99, ("n:\n```\n[page 1]\n(an image)\n[page 2]\ntwo\n```\n\n", b"image"), ""),
    ],
)  # fmt: skip
def test_a_document_has_its_name_page_marks_and_a_note(
    document: Extract, most: int, parts: tuple[str | bytes, ...], note: str
) -> None:
    assert excerpt("n", document, most) == Excerpt(parts, f"n: {note}" if note else "")


def test_a_document_that_was_cut_when_it_was_read_says_so() -> None:
    assert "1 of 900 pages" in excerpt("n", Extract((Page("a"),), 900, is_cut=True), 99).note


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a.pdf", "a.pdf"), ("", "file"), ("a\n```\nb", "a```b"), ("x" * 300, "x" * 255)],
)
def test_a_name_stays_on_its_line(name: str, shown: str) -> None:
    assert shown_name(name) == shown

"""The text of a document, page by page, up to a bound: for the child that reads documents (runner/read_child.py). Pure.

What is wrong with a file is an InvalidRequest that says what it is and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from ...errors import InvalidRequest
from . import hypertext, pdf, word
from .kinds import Kind


class Page(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page's text; ``image`` is the page as a PNG where it has no text and images were asked for."""

    text: str
    image: bytes = b""


class Extract(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was read of a document: its pages, one where its kind has none (``n_pages`` 0). ``is_cut``: there is more."""

    pages: tuple[Page, ...]
    n_pages: int = 0
    is_cut: bool = False

    @property
    def size(self) -> int:
        """Characters and bytes of images."""
        return sum(len(page.text) + len(page.image) for page in self.pages)


def extract(
    content: bytes,
    kind: Kind,
    *,
    most: int,
    images: bool,
    in_time: Callable[[], bool] = lambda: True,
) -> Extract:
    """The first ``most`` characters of a document. ``images``: pages without text become images, where pypdfium2 is installed.
    ``in_time`` is asked between pages: what has been read by then is the result. Raises InvalidRequest."""
    if kind == "pdf":
        with pdf.opened(content) as document:
            return _paged(document.pages(images), document.n_pages, most, in_time)
    if kind == "docx":
        return _whole("".join(word.paragraphs(content, most + 1)), most)
    text = plain(content)
    return _whole(hypertext.text_of(text) if kind == "html" else text, most)


def plain(content: bytes) -> str:
    """The characters of a text file; its line ends become line feeds."""
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = content.decode("utf-16" if marked else "utf-8-sig", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _whole(text: str, most: int) -> Extract:
    if not text.strip():
        raise InvalidRequest("has no text")
    return Extract((Page(text[:most]),), is_cut=len(text) > most)


def _paged(
    pages: Iterable[tuple[str, bytes]], n_pages: int, most: int, in_time: Callable[[], bool]
) -> Extract:
    """The pages until the bound or the end of the time."""
    found: list[Page] = []
    left, is_cut = most, False
    for text, image in pages:
        text = text.strip()
        found.append(Page(text[:left], image))
        is_cut = len(text) > left
        left -= min(left, len(text))
        if not left or not in_time():
            break
    if not any(page.text or page.image for page in found):
        raise InvalidRequest(
            "has no text: its pages are images, which only a model with the capability vision can read"
        )
    return Extract(tuple(found), n_pages, is_cut or len(found) < n_pages)

"""The text of HTML: what a reader of the page sees, with the marks of headings, list items and table cells. Pure.

Scripts, styles and what is hidden from readers are left out. Nothing is loaded.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIPPED = {
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "math",
    "iframe",
    "object",
    "select",
    "datalist",
}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer",
    "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table",
    "title", "tr", "ul",
}  # fmt: skip
_APART = {
    "blockquote",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "title",
    "ul",
}
_SPACE = re.compile(r"\s+")
_TOO_MANY = re.compile(r"\n{3,}")


def text_of(markup: str) -> str:
    """The text of a page."""
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return reader.text()


class _Reader(HTMLParser):
    """Collects the text of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._found: list[str] = []
        self._skipped = 0  # elements around what is read that are left out
        self._kept = 0  # elements around it that keep white space

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        self._skipped += tag in _SKIPPED
        self._kept += tag == "pre"
        self._break(tag)
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self._put("#" * int(tag[1]) + " ")
        elif tag == "li":
            self._put("- ")
        elif tag == "img" and (alt := dict(attrs).get("alt")):
            self._put(f"[{alt}]")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without an end: nothing is left out after it."""
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        """End an element; one that was never begun changes nothing."""
        self._skipped = max(0, self._skipped - (tag in _SKIPPED))
        self._kept = max(0, self._kept - (tag == "pre"))
        self._break(tag)
        if tag in ("td", "th"):
            self._put(" | ")

    def handle_data(self, data: str) -> None:
        """Text: its white space is one space, but in pre."""
        self._put(data if self._kept else self._spaced(data))

    def _spaced(self, data: str) -> str:
        """Text whose white space is one space, or none after white space."""
        text = _SPACE.sub(" ", data)
        after_space = not self._found or self._found[-1].endswith(("\n", " "))
        return text.removeprefix(" ") if after_space else text

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._put("\n\n" if tag in _APART else "\n")

    def _put(self, text: str) -> None:
        if not self._skipped:
            self._found.append(text)

    def text(self) -> str:
        """What was collected, without empty lines in a row."""
        lines = (line.rstrip(" ") for line in "".join(self._found).split("\n"))
        return _TOO_MANY.sub("\n\n", "\n".join(lines)).strip()

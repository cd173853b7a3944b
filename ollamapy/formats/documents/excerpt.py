"""A document as a prompt has it: its name, its text in a fence with page marks, and a note where it was cut. Pure.

report.pdf:
```
[page 1]
...
```
(the first 2 of 40 pages, as far as they fit)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .extract import Extract

UNNAMED = "file"
MOST_NAME = 255


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The parts of a document in a prompt: texts, and images of pages as bytes. ``note`` says what was left out, "" if nothing."""

    parts: tuple[str | bytes, ...]
    note: str


def shown_name(name: str) -> str:
    """A document's name as prompts and messages have it: on one line, and not too long."""
    return "".join(each for each in name if each.isprintable())[:MOST_NAME].strip() or UNNAMED


def excerpt(name: str, document: Extract, most: int) -> Excerpt:
    """The first ``most`` characters of what was read of a document, under its name."""
    texts, n_read, is_cut = _cut(document, most)
    images = [page.image for page in document.pages[: len(texts)] if page.image]
    whole = "\n".join(texts).rstrip()
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`{3,}", whole)), 3)
    left_out = _left_out(document, n_read, sum(map(len, texts))) if is_cut else ""
    after = f"({left_out})\n\n" if left_out else "\n"
    text = f"{shown_name(name)}:\n{fence}\n{whole}\n{fence}\n{after}"
    return Excerpt((text, *images), f"{shown_name(name)}: {left_out}" if left_out else "")


def _cut(document: Extract, most: int) -> tuple[list[str], int, bool]:
    """The pages' texts within ``most`` characters, their number, and whether anything is missing."""
    texts: list[str] = []
    left = most
    for number, page in enumerate(document.pages, start=1):
        if left <= 0:
            break
        mark = f"[page {number}]\n" if document.n_pages else ""
        seen = page.text or ("(an image)" if page.image else "(no text)" if mark else "")
        texts.append(mark + seen[:left])
        left -= len(seen)
    is_cut = document.is_cut or len(texts) < len(document.pages) or left < 0
    return texts, len(texts), is_cut


def _left_out(document: Extract, n_read: int, n_characters: int) -> str:
    if document.n_pages:
        return f"cut: {n_read:,} of {document.n_pages:,} pages, the last may be cut short"
    return f"cut: the first {n_characters:,} characters"

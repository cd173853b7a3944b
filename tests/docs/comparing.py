"""Whether a command printed what a page shows: numbers may differ, "[...]" or "[... a story ...]" stands for any text, blanks count once."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f.,]+(?:µs|ms|s)?\b")
"""A number with its unit of time, or a digest."""
_ANY = re.compile(r"\[\.\.\.(?:[^\]\n]*\.\.\.)?\]")


def matches(expected: str, printed: str) -> bool:
    """Does a printed text look like the expected one?"""
    parts = (re.escape(_plain(part)) for part in _ANY.split(expected))
    return re.fullmatch(" ?.*? ?".join(parts), _plain(printed), re.DOTALL) is not None


def _plain(text: str) -> str:
    return _NUMBER.sub("#", " ".join(text.split()))

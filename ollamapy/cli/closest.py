"""The word that was probably meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST, _MOST = 80, 2000
"""Characters of a word, and how many words it is compared with: difflib is slow."""


def closest(word: str, known: Iterable[str], *, cutoff: float = 0.65) -> str:
    """The one of the known words that is most like a word; "" if none is."""
    from difflib import get_close_matches  # 10 ms, and only for what was wrong

    if len(word) < 2:
        return ""
    found = get_close_matches(word[:_LONGEST].lower(), list(known)[:_MOST], 1, cutoff)
    return found[0] if found else ""

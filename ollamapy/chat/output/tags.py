"""How text that may become a tag is held back while an answer arrives."""

from __future__ import annotations

from collections.abc import Sequence


def held(text: str, tags: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may be the beginning of one of ``tags``."""
    longest = max(map(len, tags), default=1) - 1
    firsts = {tag[:1] for tag in tags}
    for length in range(min(longest, len(text)), 0, -1):
        if text[-length] in firsts and any(tag.startswith(text[-length:]) for tag in tags):
            return length
    return 0


_WORD_OF_A_TAG = 4


def is_mark(begun: str) -> bool:
    """Whether the end of an answer that the token limit cut, which may be the beginning of a tag, is taken for one: not the
    first letters of a word, as in "half" before "functools"."""
    return len(begun) >= _WORD_OF_A_TAG or (begun != "" and not begun.isalpha())


def without_mark(text: str, held: int) -> str:
    """A text that the token limit cut, ``held`` characters of which may be the beginning of a tag, without this mark."""
    end = len(text) - held
    return text[:end] if is_mark(text[end:]) else text

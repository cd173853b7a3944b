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

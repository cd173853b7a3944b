"""What two texts, or two lists of tokens, have in common at their beginning."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", str, bytes, list[int])


def common_prefix(a: T, b: T) -> int:
    """The length of the longest common prefix: characters, bytes or tokens. Compared in C, by halves."""
    high = min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low

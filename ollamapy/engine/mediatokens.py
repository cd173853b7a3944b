"""The tokens of an image or a sound: negative ids that stand for the rows of numbers that the projector makes of it.

They come from a digest of the file and of everything that changes its rows. So two prompts with the same image have the same
tokens, and what compares tokens (slots, followers, saved prefixes) needs not know of images. An id has three parts:

    -2 - (28 bits of a hash of the digest and the row's place | begins | still)

``begins``: the first row of an inset, which is computed as a whole, so that a prefix ends before it or after it, and not within.
``still``: the row has no position of its own. With M-RoPE an inset of n rows takes fewer positions than n. Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ..digests import stretched

_STILL, _BEGINS, _FLAGS = 1, 2, 2
_HASH = (1 << 28) - 1


def media_tokens(digest: bytes, n: int, n_positions: int) -> list[int]:
    """The tokens of an inset of ``n`` rows that takes ``n_positions`` of the context's positions, at most n."""
    hashes = array("I", stretched(digest, 4 * n))
    found = []
    for place, value in enumerate(hashes):
        flags = (_BEGINS if place == 0 else 0) | (_STILL if place >= n_positions else 0)
        found.append(-2 - ((value & _HASH) << _FLAGS | flags))
    return found


def is_media(token: int) -> bool:
    """Does it stand for a row of an image or a sound?"""
    return token < -1


def begins(token: int) -> bool:
    """Does an inset begin with it?"""
    return token < -1 and bool(-2 - token & _BEGINS)


def position(tokens: Sequence[int], n: int) -> int:
    """The position of what follows the first ``n`` tokens."""
    return n - sum(1 for token in tokens[:n] if token < -1 and -2 - token & _STILL)


def edge(tokens: Sequence[int], n: int) -> int:
    """The most of the first ``n`` tokens that do not end within an inset: n, or the place where that inset begins."""
    if 0 < n < len(tokens):
        while n > 0 and is_media(tokens[n]) and not begins(tokens[n]):
            n -= 1
    return n

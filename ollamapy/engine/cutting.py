"""Where a long text can be cut so that the tokens of its pieces are those of the whole.

Merging symbols into tokens stops at two neighbouring bytes that no token of the vocabulary has beside each other: what is on
one side of them has no influence on the other. llama.cpp takes quadratic time for a long text without tokens (it reserves
room for each byte token by itself), and no text can be given up before all of it is tokenized; pieces are both linear and
cancellable.

    ... piece ... a | b ... piece ...        the next piece is tokenized with the ``a`` before it, whose tokens are then left out:
                                             it must not look like the beginning of a text, which gets a space

Knows nothing about llama.cpp; ``llama.py`` reads the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

PIECE = 8192
"""Characters, about: as byte tokens they take llama.cpp some 20 ms."""

_LOOK = 256
"""Places that are looked at, from the end of a piece on; where none of them is a boundary, the piece gets longer."""

_WHITE = " \t\n\r\v\f"
_white = re.compile(f"[{_WHITE}]*")
_SEPARATOR = b"\xff"
_SPACE = "\u2581"
"""How the vocabularies of SentencePiece write a space; llama.cpp takes either for it."""


@dataclass(slots=True)
class Boundaries:
    """What of a vocabulary decides where a text can be cut.

    ``kind``: "spm" merges over the whole text, "bpe" within the words that a regular expression finds: all known ones end a
    word between a letter and white space. ``tokens``: the bytes of every token. ``specials``: the texts of the tokens that are
    found before anything is merged; what follows one may get a space. ``strips``: some of them take all white space around
    them.
    """

    kind: Literal["spm", "bpe"]
    tokens: Iterable[bytes]
    specials: Iterable[str] = ()
    strips: bool = False
    begins: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset()
    _text: bytes = b""
    _known: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._text = _SEPARATOR.join(self.tokens)
        self.begins = frozenset(special[:1] for special in self.specials if special)
        self.ends = frozenset(special[-1:] for special in self.specials if special)
        self.tokens = self.specials = ()

    def between(self, before: str, after: str) -> bool:
        """Can a text be cut between these two characters?"""
        pair = before + after
        known = self._known.get(pair)
        if known is None:
            known = self._known[pair] = self._separates(before, after)
        return known

    def _separates(self, before: str, after: str) -> bool:
        if self.kind == "bpe" and not (before.isalpha() and after in " \n"):
            return False
        if before in self.ends:
            return False
        first, second = (
            each.replace(_SPACE, " ").encode("utf-8", "replace") for each in (before, after)
        )
        return first[-1:] + second[:1] not in self._text


def pieces(text: str, boundaries: Boundaries, size: int = PIECE) -> Iterator[str]:
    """The pieces of a text in order, of at least ``size`` characters but for the last."""
    start, at, white_until = 0, size, 0

    def stripped(place: int) -> bool:
        """May a special token take the white space at this place?

        White space that reaches back to the cut before this one was found free there.
        """
        nonlocal white_until
        if not boundaries.strips or not (text[place - 1] in _WHITE or text[place] in _WHITE):
            return False
        if place >= white_until:
            white_until = _white.match(text, place).end()  # type: ignore[union-attr]  # it may be empty
        left = text[start:place].rstrip(_WHITE)[-1:]
        right = text[white_until : white_until + 1]
        return left in boundaries.ends or right in boundaries.begins

    while at < len(text):
        for place in range(at, min(at + _LOOK, len(text))):
            if boundaries.between(text[place - 1], text[place]) and not stripped(place):
                yield text[start:place]
                start, at = place, place + size
                break
        else:
            at += size
    yield text[start:]

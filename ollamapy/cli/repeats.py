"""Whether a text that comes in pieces only repeats itself: small models fall into loops that no end token ends. Pure."""

from __future__ import annotations

SPAN = 5000
"""Characters that must be repetitions before a text counts as one."""

UNIT = 250
"""The longest text whose repetitions are found: it stands there twenty times at least."""

_STEP = 500


class Repeats:
    """``feed`` the text; ``found`` is true once its last SPAN characters are one short text again and again."""

    def __init__(self) -> None:
        self.found = False
        self._tail = ""
        self._fresh = 0

    def feed(self, text: str) -> None:
        """Take note of a piece."""
        self._tail = (self._tail + text)[-SPAN:]
        self._fresh += len(text)
        if self._fresh >= _STEP and len(self._tail) == SPAN:
            self._fresh = 0
            self.found = self.found or period(self._tail) <= UNIT


def period(text: str) -> int:
    """The length of the shortest text that, repeated, makes this one (the last time perhaps in part).

    The text's length less its longest border (Knuth, Morris and Pratt's failure function).
    """
    borders = [0] * len(text)
    border = 0
    for index in range(1, len(text)):
        while border and text[index] != text[border]:
            border = borders[border - 1]
        border += text[index] == text[border]
        borders[index] = border
    return len(text) - border

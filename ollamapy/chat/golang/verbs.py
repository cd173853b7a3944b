"""fmt's format strings: the texts and the verbs in one, with the operands that the verbs take.

verb:   % flags [index] width . [index] precision [index] letter
width and precision: a number, or * for an operand; [n]: go on with operand n, counted from one
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .values import Uint8, Value

_FLAGS = "-+# 0"
_DIGITS = re.compile("[0-9]+")
_LIMIT = 1_000_000
"""Go ignores widths and precisions over this."""


class Verb(NamedTuple):
    """A verb that has an operand. ``flags`` are characters of ``-+# 0``."""

    letter: str
    operand: Value
    flags: str
    width: int | None
    precision: int | None


class FormatReader:
    """Reads a format and assigns the operands to its verbs, as fmt's doPrintf does.

    ``unread`` are the operands that are left at the end.
    """

    def __init__(self, format: str, values: Sequence[Value]) -> None:
        self._format, self._values = format, values
        self._position = 0
        self._operand = 0
        self._reordered = False
        self._after_index = False
        self._good = True

    def __iter__(self) -> Iterator[str | Verb]:
        """Texts and verbs in order. What Go prints instead of a faulty verb is a text."""
        while self._position < len(self._format):
            percent = self._format.find("%", self._position)
            if percent < 0:
                yield self._format[self._position :]
                return
            if percent > self._position:
                yield self._format[self._position : percent]
            self._position = percent + 1
            yield from self._verb()

    @property
    def unread(self) -> Sequence[Value]:
        """None where an index was used: then Go does not count."""
        return () if self._reordered else self._values[self._operand :]

    def _verb(self) -> Iterator[str | Verb]:
        flags, self._good = self._take_flags(), True
        self._index()
        width, width_fault = self._width()
        if width is not None and width < 0:  # from an operand: its sign is the flag
            width, flags = -width, flags.replace("0", "") + "-"
        precision, precision_fault = self._precision()
        if not self._after_index:
            self._index()
        if fault := width_fault + precision_fault:
            yield fault
        if self._position >= len(self._format):
            yield "%!(NOVERB)"
            return
        letter = self._format[self._position]
        letter = "\ufffd" if "\udc80" <= letter <= "\udcff" else letter
        self._position += 1
        if letter == "%":
            yield "%"
        elif not self._good:
            yield f"%!{letter}(BADINDEX)"
        elif self._operand >= len(self._values):
            yield f"%!{letter}(MISSING)"
        else:
            operand = self._values[self._operand]
            self._operand += 1
            yield Verb(letter, operand, flags, width, precision)

    def _take_flags(self) -> str:
        start = self._position
        while self._format[self._position : self._position + 1] in tuple(_FLAGS):
            self._position += 1
        return self._format[start : self._position]

    def _width(self) -> tuple[int | None, str]:
        """The width, and what Go prints where ``*`` has no operand for it."""
        if self._take("*"):
            width = self._star()
            return width, "%!(BADWIDTH)" if width is None else ""
        width = self._number()
        if self._after_index and width is not None:
            self._good = False
        return width, ""

    def _precision(self) -> tuple[int | None, str]:
        """The precision, and what Go prints where ``*`` has no operand for it."""
        if self._position + 1 >= len(self._format) or not self._take("."):
            return None, ""
        if self._after_index:
            self._good = False
        self._index()
        if not self._take("*"):
            return self._number() or 0, ""
        precision = self._star()
        if precision is None or precision < 0:
            return None, "%!(BADPREC)"
        return precision, ""

    def _take(self, char: str) -> bool:
        """Step over ``char``, where it comes next."""
        if self._format[self._position : self._position + 1] != char:
            return False
        self._position += 1
        return True

    def _number(self) -> int | None:
        """The digits that come next. A number too large takes the rest of the format."""
        found = _DIGITS.match(self._format, self._position)
        if found is None:
            return None
        number = _small(found[0])
        self._position = len(self._format) if number is None else found.end()
        return number

    def _index(self) -> None:
        """``[n]``: the verb takes operand n, counted from one."""
        self._after_index = False
        if self._format[self._position : self._position + 1] != "[":
            return
        self._reordered = True
        closing = self._format.find("]", self._position + 1)
        if closing < 0 or len(self._format) - self._position < 3:
            self._position += 1
            self._good = False
            return
        inside = self._format[self._position + 1 : closing]
        self._position = closing + 1
        number = _small(inside) if inside.isascii() and inside.isdigit() else None
        if number is None:
            self._good = False
            return
        self._after_index = True
        if 1 <= number <= len(self._values):
            self._operand = number - 1
        else:
            self._good = False

    def _star(self) -> int | None:
        """The operand that ``*`` takes; None where it is no int of a sensible size."""
        self._after_index = False
        if self._operand >= len(self._values):
            return None
        value = self._values[self._operand]
        self._operand += 1
        if type(value) not in (int, Uint8) or abs(value) > _LIMIT:
            return None
        return int(value)


def _small(digits: str) -> int | None:
    """The number, None once its beginning is over the limit (Go looks before each further digit)."""
    stripped = digits.lstrip("0")
    if len(stripped) > 8 or (len(stripped) == 8 and int(stripped[:7]) > _LIMIT):
        return None
    return int(digits)

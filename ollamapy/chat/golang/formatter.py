"""fmt's formatter: text with the flags, the width and the precision of the verb at hand.

It writes strings, bytes, integers and floats. Which verb suits which value is in ``printing.py``.
"""

from __future__ import annotations

from ...human import quote
from .floats import format_float
from .values import MAX_CHARACTERS, GoError

_FLAGS = {"-": "minus", "+": "plus", "#": "sharp", " ": "space", "0": "zero"}
_BASES = {2: "b", 8: "o", 10: "d", 16: "x"}


class Formatter:
    """The text so far, in ``pieces``, and the flags. ``plus_v`` and ``sharp_v`` are %+v and %#v."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0
        self.clear()

    def clear(self) -> None:
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.plus_v = self.sharp_v = False
        self.width: int | None = None
        self.precision: int | None = None

    def set(self, letter: str, flags: str, width: int | None, precision: int | None) -> None:
        """Take the flags of a verb; in %+v and %#v they mean something else."""
        self.clear()
        for flag in flags:
            setattr(self, _FLAGS[flag], True)
        self.width, self.precision = width, precision
        if letter in "vw":
            self.sharp_v, self.sharp = self.sharp, False
            self.plus_v, self.plus = self.plus, False

    # ---- padding

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_CHARACTERS:
            raise GoError("it prints more than 16 million characters")
        self.pieces.append(text)

    def padding(self, count: int) -> None:
        if count > 0:
            self.write(("0" if self.zero and not self.minus else " ") * count)

    def pad(self, text: str) -> None:
        missing = (self.width or 0) - len(text)
        if missing <= 0:
            self.write(text)
        elif self.minus:
            self.write(text)
            self.padding(missing)
        else:
            self.padding(missing)
            self.write(text)

    def pad_with_spaces(self, text: str) -> None:
        zero, self.zero = self.zero, False
        self.pad(text)
        self.zero = zero

    # ---- strings

    def cut(self, text: str) -> str:
        """``text`` up to the precision."""
        return text if self.precision is None else text[: self.precision]

    def quoted(self, text: str) -> None:
        """%q; %#q prefers backquotes."""
        text = self.cut(text)
        if self.sharp and _can_backquote(text):
            self.pad(f"`{text}`")
        else:
            self.pad(quote(text, ascii_only=self.plus))

    def hexadecimal(self, data: bytes, verb: str) -> None:
        """%x and %X of bytes."""
        data = data if self.precision is None else data[: self.precision]
        if not data:
            self.padding(self.width or 0)
            return
        prefix = "0x" if self.sharp else ""
        text = (" " + prefix if self.space else "").join(f"{byte:02x}" for byte in data)
        text = prefix + text
        self.pad(text.upper() if verb == "X" else text)

    # ---- integers

    def digits(self, value: int, base: int, signed: bool, verb: str) -> None:
        """An integer in base 2, 8, 10 or 16."""
        negative = signed and value < 0
        if self.precision == 0 and value == 0:  # nothing but padding
            zero, self.zero = self.zero, False
            self.padding(self.width or 0)
            self.zero = zero
            return
        precision = self.precision or 0
        if self.precision is None and self.zero and not self.minus and self.width is not None:
            precision = self.width - (1 if negative or self.plus or self.space else 0)
        text = f"{abs(value):{_BASES[base]}}".rjust(precision, "0")
        if self.sharp and not (base == 8 and text[0] == "0"):
            text = {2: "0b", 8: "0", 10: "", 16: "0x"}[base] + text
        if verb == "X":
            text = text.upper()
        if verb == "O":
            text = "0o" + text
        sign = "-" if negative else "+" if self.plus else " " if self.space else ""
        self.pad_with_spaces(sign + text)

    def hexadecimal_digits(self, value: int, sharp: bool) -> None:
        """An unsigned integer in base 16, with 0x where ``sharp``, whatever the flag."""
        was, self.sharp = self.sharp, sharp
        self.digits(value, 16, False, "v")
        self.sharp = was

    def character(self, code: int) -> None:
        """%c"""
        self.pad(_character(code))

    def quoted_character(self, code: int) -> None:
        """%q of an integer."""
        self.pad(quote(_character(code), "'", self.plus))

    def unicode(self, value: int) -> None:
        """U+0078, with # also the character."""
        code = value % 2**64
        text = f"U+{code:0{max(4, self.precision or 0)}X}"
        if self.sharp and code <= 0x10FFFF and chr(code).isprintable():
            text += f" '{chr(code)}'"
        self.pad_with_spaces(text)

    # ---- floats

    def float(self, value: float, verb: str) -> None:
        """Go's fmtFloat: the sign apart, zeros between sign and number, # keeps trailing zeros."""
        verb = {"v": "g", "F": "f"}.get(verb, verb)
        precision = self.precision
        if precision is None:
            precision = -1 if verb in "bgGxX" else 6
        text = format_float(value, verb, precision)
        sign, text = (text[0], text[1:]) if text[0] in "+-" else ("+", text)
        if self.space and sign == "+" and not self.plus:
            sign = " "
        if text[0] in "IN":
            self._not_finite(sign, text)
            return
        if self.sharp and verb != "b":
            text = _with_zeros(text, verb, precision)
        if not self.plus and sign == "+":
            self.pad(text)
        elif self.zero and not self.minus and (self.width or 0) > len(text) + 1:
            self.write(sign)
            self.padding((self.width or 0) - len(text) - 1)
            self.write(text)
        else:
            self.pad(sign + text)

    def _not_finite(self, sign: str, text: str) -> None:
        if text[0] == "N" and not self.space and not self.plus:
            sign = ""
        self.pad_with_spaces((sign if self.plus or sign != "+" else "") + text)


def _can_backquote(text: str) -> bool:
    """strconv.CanBackquote"""
    return not any(
        char in "`\ufeff\x7f" or (char < " " and char != "\t") or "\udc80" <= char <= "\udcff"
        for char in text
    )


def _character(code: int) -> str:
    valid = 0 <= code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if valid else "\ufffd"


def _with_zeros(text: str, verb: str, precision: int) -> str:
    """The # flag: a decimal point always, and for g and x trailing zeros up to the precision."""
    wanted = 0
    if verb in "gGx":
        wanted = 6 if precision == -1 else precision
    marks = "pP" if verb in "xX" else "eEpP"
    cut = next((place for place, char in enumerate(text) if char in marks), len(text))
    number, tail = text[:cut], text[cut:]
    significant = len(number.replace(".", "").lstrip("0"))
    wanted -= significant
    if "." not in number:
        if number == "0":
            wanted -= 1
        number += "."
    return number + "0" * max(wanted, 0) + tail

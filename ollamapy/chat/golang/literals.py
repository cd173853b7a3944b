"""The literals of Go: strings, characters and numbers, as strconv reads them.

Each function raises ValueError for a text that Go refuses.
"""

from __future__ import annotations

import math
import re

from .values import from_bytes

_ESCAPE = re.compile(
    r"\\(?:x[0-9a-fA-F]{2}|[0-7]{3}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[abfnrtv\\'\"])"
)
_SHORT = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}


def _escape(text: str, position: int, mark: str) -> tuple[int, bool, int]:
    """A backslash's code, whether it is a byte rather than a character, and where it ends."""
    found = _ESCAPE.match(text, position)
    if found is None:
        raise ValueError
    letter = found[0][1]
    if letter in "'\"" and letter != mark:
        raise ValueError
    if letter in "01234567":
        code = int(found[0][1:], 8)
    elif letter in "xuU":
        code = int(found[0][2:], 16)
    else:
        code = _SHORT[letter]
    is_byte = letter in "x01234567"
    if code > (0xFF if is_byte else 0x10FFFF) or (not is_byte and 0xD800 <= code < 0xE000):
        raise ValueError
    return code, is_byte, found.end()


def unquote(literal: str) -> str:
    """strconv.Unquote of a string in "" or ``: ValueError for a bad escape."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    if "\\" not in body:
        return body
    pieces: list[bytes] = []
    position = 0
    while (backslash := body.find("\\", position)) >= 0:
        pieces.append(body[position:backslash].encode())
        code, is_byte, position = _escape(body, backslash, '"')
        pieces.append(bytes([code]) if is_byte else chr(code).encode())
    pieces.append(body[position:].encode())
    return from_bytes(b"".join(pieces))


def character(literal: str) -> int:
    """The code of a character constant: ValueError unless it is just one."""
    if literal[1] != "\\":
        code, end = ord(literal[1]), 2
    else:
        code, _, end = _escape(literal, 1, "'")
    if literal[1] == "'" or end != len(literal) - 1:
        raise ValueError
    return code


_INTEGER = re.compile(
    r"[+-]?(?:(0[xX])(?:_?[0-9a-fA-F])+|(0[bB])(?:_?[01])+|(0[oO]|0)(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)"
)
_DECIMALS = "[0-9](?:_?[0-9])*"
_HEXADECIMALS = "[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL = re.compile(
    rf"[+-]?(?:{_DECIMALS}(?:[.](?:{_DECIMALS})?)?|[.]{_DECIMALS})(?:[eE][+-]?{_DECIMALS})?"
)
_HEXADECIMAL = re.compile(
    rf"[+-]?0[xX](?:_?{_HEXADECIMALS}(?:[.](?:{_HEXADECIMALS})?)?|[.]{_HEXADECIMALS})"
    rf"[pP][+-]?{_DECIMALS}"
)


def parse_integer(text: str) -> int | None:
    """strconv.ParseInt with base 0, of any size; None for no integer."""
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    base = 16 if found[1] else 2 if found[2] else 8 if found[3] else 10
    if base == 10 and len(text) > 400:  # Python refuses to read thousands of digits
        return None
    return int(text.replace("_", ""), base)


def parse_float(text: str) -> float:
    """strconv.ParseFloat: ValueError for no number and for one too large."""
    plain = text.replace("_", "")
    try:
        if _HEXADECIMAL.fullmatch(text):
            value = float.fromhex(plain)
        elif _DECIMAL.fullmatch(text):
            value = float(plain)
        else:
            raise ValueError
    except OverflowError:
        raise ValueError from None
    if math.isinf(value):
        raise ValueError
    return value


def number(text: str) -> int | float | complex | None:
    """The value of a number where no type is required; None for an integer that fits no int.

    ValueError for what is no number at all. Written as an integer it is an int, with a point or an
    exponent a float64, with an i a complex128.
    """
    if text[-1] == "i":
        try:
            return complex(0, parse_float(text[:-1]))
        except ValueError:
            pass
    integer = parse_integer(text)
    if integer is not None and integer < 2**64 and (integer >= 0 or integer >= -(2**63)):
        signed = text[0] in "+-"
        if integer < 2**63:
            return integer
        if not signed:
            return None
    value = parse_float(text)
    if not any(letter in text for letter in ".eEpP"):
        raise ValueError  # an integer too large for any type
    return value


def complex_number(text: str) -> complex:
    """``1+2i``: the real part, a sign, the imaginary part. ValueError where one is no number."""
    split = max(
        place
        for place, char in enumerate(text)
        if char in "+-" and place and (text[place - 1] not in "eEpP" or _in_hex(text, place))
    )
    return complex(parse_float(text[:split]), parse_float(text[split:-1]))


def _in_hex(text: str, place: int) -> bool:
    """Whether the e before ``place`` is a digit of a hexadecimal number, so not an exponent's."""
    return text[place - 1] in "eE" and "x" in text[:place].lower()

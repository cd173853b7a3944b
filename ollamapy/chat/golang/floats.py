"""``strconv.FormatFloat``: a float as Go writes it, by verb and precision."""

from __future__ import annotations

import math


def shortest(value: float) -> tuple[str, str, int]:
    """Sign, digits and the place of the decimal point before them: value = 0.DIGITS * 10**point."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    return sign, digits or "0", point if digits else 1


def scientific(sign: str, digits: str, point: int, letter: str) -> str:
    exponent = point - 1
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}{letter}{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def plain(sign: str, digits: str, point: int) -> str:
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    whole = digits[:point].ljust(point, "0")
    return f"{sign}{whole}.{digits[point:]}" if len(digits) > point else sign + whole


def format_float(value: float, verb: str, precision: int) -> str:
    """``value`` as verb e, E, f, g, G, b, x or X has it; precision -1 is the shortest that reads
    back the same, possible for all but e, E and f."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "xX":
        return _hexadecimal(value, verb, precision)
    if verb == "b":
        mantissa, exponent = _binary(value)
        return f"{'-' if math.copysign(1, value) < 0 else ''}{mantissa}p{exponent:+d}"
    if precision >= 0:
        return f"{value:.{precision}{verb}}"
    sign, digits, point = shortest(value)
    if -4 <= point - 1 < 6:
        return plain(sign, digits, point)
    return scientific(sign, digits, point, "e" if verb == "g" else "E")


def _binary(value: float) -> tuple[int, int]:
    """Go's own view of a float: its 53-bit mantissa and exponent, value = mantissa * 2**exponent."""
    if not value:
        return 0, -1074
    fraction, exponent = math.frexp(abs(value))
    exponent = max(exponent - 53, -1074)
    return int(math.ldexp(fraction, math.frexp(abs(value))[1] - exponent)), exponent


def _hexadecimal(value: float, verb: str, precision: int) -> str:
    mantissa, exponent = _binary(value)
    exponent = exponent + 52 if mantissa else 0
    mantissa <<= 60 - 52
    while mantissa and not mantissa >> 60 & 1:
        mantissa <<= 1
        exponent -= 1
    if 0 <= precision < 15:
        shift = 60 - 4 * precision
        half = 1 << 60 >> 1
        extra = (mantissa << 4 * precision) & ((1 << 60) - 1)
        mantissa >>= shift
        if extra | (mantissa & 1) > half:
            mantissa += 1
        mantissa <<= shift
        if mantissa >> 61 & 1:
            mantissa >>= 1
            exponent += 1
    digits = f"{mantissa & ((1 << 60) - 1):015x}"
    digits = digits.rstrip("0") if precision < 0 else digits.ljust(precision, "0")[:precision]
    sign = "-" if math.copysign(1, value) < 0 else ""
    point = "." + digits if digits else ""
    exponents = f"p{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    text = f"0x{mantissa >> 60 & 1}{point}{exponents}"
    return sign + (text.upper() if verb == "X" else text)

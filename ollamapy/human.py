"""Values as people and Go programs write them: sizes, counts, ages, durations, quoted strings.

Ollama prints with Go's `fmt`, `strconv` and `time`, and clients and scripts parse its output, so
these functions give the same text to the last digit. They are pure: they read no clock, no locale
and no terminal width. Every command imports this module at its start, so it imports nothing heavy.
"""

from __future__ import annotations

import json
import math
import re

NANOSECONDS = 1_000_000_000
"""In one second: the unit of every duration in Ollama's API."""

FOREVER = math.inf
"""The keep-alive, in seconds, of a model that stays loaded until it is unloaded by hand."""

_MAX_INT64 = 2**63 - 1

_LATEST = (
    253_370_764_800.0  # seconds, in the year 9999: the latest time that prints in every time zone
)


# Sizes and counts


def format_bytes(size: int) -> str:
    """A size in bytes in decimal units: "999 B", "4.7 GB", "13 GB" (Ollama's HumanBytes)."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if size >= unit:
            value = size / unit
            if value >= 10 or value == math.floor(value):
                return f"{math.floor(value)} {name}"
            return f"{value:.1f} {name}"
    return f"{size} B"


def format_number(number: int) -> str:
    """A count in short form: "452K", "134.52M", "8.0B" (Ollama's HumanNumber)."""
    for unit, name, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if number >= unit:
            value = number / unit
            return f"{value:.{0 if value == math.floor(value) else digits}f}{name}"
    return str(number)


# Times


def format_age(seconds: float | None, never: str = "Never") -> str:
    """A time relative to now: "3 hours ago"; negative seconds are in the future: "4 minutes from now", "Forever".

    None is a time that was never set and prints as `never` (Ollama's HumanTime).
    """
    if seconds is None:
        return never
    if (
        -seconds >= 21 * 365 * 86400
    ):  # Ollama's "forever" is centuries ahead; anything past 21 years prints as that
        return "Forever"
    return f"{_span(-seconds)} from now" if seconds < 0 else f"{_span(seconds)} ago"


def print_time(seconds: float) -> str:
    """A point in time as Go prints it in JSON: RFC 3339 with this machine's offset, "Z" for UTC."""
    import datetime  # slow to import, and no command needs it at its start

    seconds = min(max(seconds, 0.0), _LATEST)  # a file's time can be anything
    text = datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="microseconds")
    clock, offset = text[:26], text[26:]
    return clock.rstrip("0").rstrip(".") + ("Z" if offset == "+00:00" else offset)


def _span(seconds: float) -> str:
    whole, minutes = int(seconds), int(seconds / 60)
    hours = math.floor(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


# Durations, as Go's `time` package reads and prints them

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek mu
    "ms": 1_000_000,
    "s": NANOSECONDS,
    "m": 60 * NANOSECONDS,
    "h": 3600 * NANOSECONDS,
}
_LONGEST_DURATION = 256
_TERM = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<fraction>[0-9]*))?(?P<unit>[^0-9.]*)", re.ASCII)


def parse_duration(text: str) -> int:
    """Nanoseconds in a Go duration ("1h30m", "-1.5s", "0"). Raises ValueError with Go's text.

    Grammar: [sign] (digits [. digits] unit)+, or [sign] 0.
    """
    invalid = ValueError(f"time: invalid duration {_go_quote(text)}")
    if len(text) > _LONGEST_DURATION:
        raise invalid
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest:
        raise invalid
    total, position = 0, 0
    while position < len(rest):
        term = _TERM.match(rest, position)
        assert term is not None  # every group may be empty
        whole, fraction, unit = term["whole"], term["fraction"] or "", term["unit"]
        if not whole + fraction:
            raise invalid
        if not unit:
            raise ValueError(f"time: missing unit in duration {_go_quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {_go_quote(unit)} in duration {_go_quote(text)}")
        total += int(whole or "0") * _UNITS[unit]
        numerator, scale = _leading_fraction(fraction)
        total += int(numerator * (_UNITS[unit] / scale))
        if total > 2**63:
            raise invalid
        position = term.end()
    if sign * total > _MAX_INT64:
        raise invalid
    return sign * total


def _leading_fraction(digits: str) -> tuple[int, float]:
    """Numerator and denominator of as many decimals as fit an int64; Go drops the rest, too."""
    numerator, scale = 0, 1.0
    for digit in digits:
        if numerator * 10 + int(digit) > 2**63:
            break
        numerator = numerator * 10 + int(digit)
        scale *= 10
    return numerator, scale


def format_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: "1h0m5s", "1.234567s", "11.162067ms", "526µs", "0s"."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest == 0:
        return "0s"
    for unit, name in ((1_000, "ns"), (1_000_000, "µs"), (NANOSECONDS, "ms")):
        if rest < unit:
            return f"{sign}{_decimal(rest, unit // 1_000)}{name}"
    minutes, rest = divmod(rest, 60 * NANOSECONDS)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, NANOSECONDS)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(value: int, unit: int) -> str:
    """value / unit, exactly, without trailing zeros; `unit` is a power of ten."""
    whole, fraction = divmod(value, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_keep_alive(value: object) -> float:
    """Seconds in a request's `keep_alive`: a JSON number of seconds, or a Go duration as text.

    Anything negative is FOREVER. Raises ValueError with Go's text, also for null, as Ollama does: a
    caller for whom null means "not given" checks for it first.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Past int64 nanoseconds (292 years) Go's product overflows to a negative number: for ever
        return FOREVER if value < 0 or value * NANOSECONDS > _MAX_INT64 else float(value)
    if isinstance(value, str):
        if re.fullmatch(r"[+-]?\d{1,18}", value):  # a number as text, as OLLAMA_KEEP_ALIVE takes it
            return parse_keep_alive(int(value))
        nanoseconds = parse_duration(value)
        forever = nanoseconds < 0 or nanoseconds == _MAX_INT64
        return FOREVER if forever else nanoseconds / NANOSECONDS
    go_types = {bool: "bool", list: "[]interface {}", dict: "map[string]interface {}"}
    raise ValueError(f"Unsupported type: '{go_types.get(type(value), '%!s(<nil>)')}'")


def _go_quote(text: str) -> str:
    """Quoted as in Go's duration errors: bytes outside of ASCII and control characters as hex."""
    shown = text if len(text) <= 100 else text[:100] + "..."
    return f'"{"".join(_go_escape(character) for character in shown)}"'


def _go_escape(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "\x7f":
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


# Values in Go's syntax


_TRUTHS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def parse_boolean(text: str) -> bool | None:
    """A boolean, as Go's strconv.ParseBool parses it; None where it would return an error."""
    return _TRUTHS.get(text)


_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
}


def quote(text: str, mark: str = '"', ascii_only: bool = False) -> str:
    """The text as a Go literal (`%q`, strconv.Quote and its relatives), between double quotes or other marks.

    A byte that is no UTF-8, which the text holds as a lone surrogate, is written as that byte.
    """

    def escaped(character: str) -> str:
        if character == mark:
            return "\\" + character
        if character in _ESCAPES:
            return _ESCAPES[character]
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            return f"\\x{code - 0xDC00:02x}"
        if character.isprintable() and (code < 0x80 or not ascii_only):
            return character
        if code < 0x20 or code == 0x7F:
            return f"\\x{code:02x}"
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return mark + "".join(map(escaped, text)) + mark


def format_float(number: float) -> str:
    """A number as Go's `%v` prints a float64: "0.7", "4096", "1e+06", "1.048576e+06", "1e-05".

    The shortest digits that read back as the same float (which repr finds, too), and an exponent
    if that is less than -4 or more than 5: strconv's rule for 'g' with precision -1.
    """
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else f"{number:+}".title()
    mantissa, _, power = repr(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    every = whole + fraction
    digits = every.strip("0") or "0"
    exponent = int(power or 0) + len(whole) - 1 - (len(every) - len(every.lstrip("0")))
    sign = "-" if math.copysign(1, number) < 0 else ""
    if digits == "0":
        return f"{sign}0"
    if not -4 <= exponent < 6:
        rest = f".{digits[1:]}" if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{rest}e{exponent:+03d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    digits = digits.ljust(exponent + 1, "0")
    rest = f".{digits[exponent + 1 :]}" if len(digits) > exponent + 1 else ""
    return f"{sign}{digits[: exponent + 1]}{rest}"


def format_value(value: object) -> str:
    """One value of a params layer, as `show` prints it (`%#v` of a decoded JSON value)."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return format_float(float(value))
    return json.dumps(value, ensure_ascii=False)


# Running text

CLOSING = ".,;:!?…)]}’”»。，、；：！？）】」』"
"""Punctuation that follows a word without a space."""


def joined(text: str, more: str) -> str:
    """Two texts as one, with a space between them where it is needed."""
    return f"{text} {more}" if text and more and needs_space(text, more) else text + more


def needs_space(text: str, more: str) -> bool:
    """Whether two texts, neither of them empty, need a space between them: not beside white space, nor before `CLOSING`."""
    return not (text[-1].isspace() or more[0].isspace() or more[0] in CLOSING)


CONTROLS = (
    *range(9),
    *range(10, 0x20),
    *range(0x7F, 0xA0),
    0x2028,
    0x2029,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
"""Code points that drive a terminal, end a line or reorder a text on the screen: C0 without the harmless tab, DEL, C1, the
separators of lines and paragraphs, and Unicode's bidirectional embeddings, overrides and isolates."""

_VISIBLE: dict[int, str] = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in CONTROLS
}
_VISIBLE |= {ord("\n"): "\\n", ord("\r"): "\\r"}


def one_line(text: str) -> str:
    """The text with every one of CONTROLS escaped: safe to print, and one line in a log whatever it holds."""
    return text.translate(_VISIBLE)

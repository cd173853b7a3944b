"""How Go writes values: ``fmt`` with all its verbs, ``strconv``'s floats and quotes, ``encoding/json``.

A template prints with these, so what a prompt looks like depends on their smallest habits: a float64
of a million is ``1e+06``, a map is ``map[a:1]`` with its keys sorted, JSON escapes ``<``, and a verb
that does not fit its operand leaves ``%!d(string=hi)`` in the text. Written after Go 1.26 and compared
with it; the one thing that cannot be equal is an address, here always the same.

Knows nothing of templates.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from typing import Any

from ..human import quote
from .govalues import (
    ARGUMENTS,
    BASIC,
    BYTES,
    INVALID,
    MAX_CHARACTERS,
    NIL,
    ORDER,
    ORDERED,
    ORDERED_POINTER,
    PROPERTIES,
    PROPERTY_TYPE,
    TOOL,
    TOOLS,
    UINT8,
    GoError,
    Map,
    Pointer,
    Slice,
    Struct,
    Uint8,
    Value,
    from_bytes,
    joined,
    kind_of,
    to_bytes,
    type_name,
)

# ---- strconv.CanBackquote -------------------------------------------------------------------------


def _can_backquote(text: str) -> bool:
    return not any(
        char in "`\ufeff\x7f" or (char < " " and char != "\t") or "\udc80" <= char <= "\udcff"
        for char in text
    )


# ---- encoding/json -------------------------------------------------------------------------------


class _Unsupported(Exception):
    """encoding/json has no form for this value."""


_JSON_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in (*range(0x20), 0x3C, 0x3E, 0x26, 0x2028, 0x2029)},
    **{chr(0xDC00 + byte): "\\ufffd" for byte in range(0x80, 0x100)},
    "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\",
}  # fmt: skip
_JSON_SPECIAL = re.compile('[\x00-\x1f<>&\u2028\u2029\udc80-\udcff"\\\\]')


def to_json(value: Value) -> str:
    """json.Marshal: keys of maps sorted, HTML's characters escaped; "" for what has no JSON."""
    try:
        return _json(value)
    except _Unsupported:
        return ""


def _json_string(text: str) -> str:
    return '"' + _JSON_SPECIAL.sub(lambda found: _JSON_ESCAPES[found[0]], text) + '"'


def _json(value: Value) -> str:
    if type(value) is str:
        return _json_string(value)
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if type(value) is float:
        return _json_float(value)
    if value is NIL or value is INVALID:
        return "null"
    if isinstance(value, Struct):
        return _json_struct(value)
    if isinstance(value, Slice):
        return _json_slice(value)
    if isinstance(value, Map):
        return "null" if value.is_nil else _json_object(sorted(value.entries.items()))
    if isinstance(value, Pointer):
        if value.target is None:
            return "null"
        if value.target.type is ORDERED:
            return _json_object(value.target.values[""].entries.items())
        return _json(value.target)
    raise _Unsupported


def _json_object(items: Any) -> str:
    return "{" + ",".join(f"{_json_string(key)}:{_json(item)}" for key, item in items) + "}"


def _json_struct(value: Struct) -> str:
    members = [
        f'"{item.json}":{_json(value.values[item.name])}'
        for item in value.type.fields
        if not (item.omit_empty and _is_empty(value.values[item.name]))
    ]
    return "{" + ",".join(members) + "}"


def _json_slice(value: Slice) -> str:
    if value.is_nil:
        return "null"
    items = value.items()
    if value.type.elem is UINT8:
        return '"' + base64.b64encode(bytes(items)).decode() + '"'
    if value.type is PROPERTY_TYPE and len(items) == 1:
        return _json_string(items[0])
    return "[" + ",".join(map(_json, items)) + "]"


def _is_empty(value: Value) -> bool:
    """What ``omitempty`` leaves out."""
    if isinstance(value, Slice):
        return value.length == 0
    if isinstance(value, Map):
        return not value.entries
    if isinstance(value, Pointer):
        return value.target is None
    return value is NIL or value == ""


def _json_float(value: float) -> str:
    if math.isinf(value) or math.isnan(value):
        raise _Unsupported
    if value and not 1e-6 <= abs(value) < 1e21:
        text = _scientific(*_shortest(value), "e")
        return text[:-2] + text[-1] if text[-4:-1] == "e-0" else text
    return _plain(*_shortest(value))


# ---- strconv.FormatFloat -------------------------------------------------------------------------


def _shortest(value: float) -> tuple[str, str, int]:
    """Sign, digits and the place of the decimal point before them: value = 0.DIGITS * 10**point."""
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    return sign, digits or "0", point if digits else 1


def _scientific(sign: str, digits: str, point: int, letter: str) -> str:
    exponent = point - 1
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}{letter}{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _plain(sign: str, digits: str, point: int) -> str:
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
    sign, digits, point = _shortest(value)
    if -4 <= point - 1 < 6:
        return _plain(sign, digits, point)
    return _scientific(sign, digits, point, "e" if verb == "g" else "E")


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


# ---- fmt -----------------------------------------------------------------------------------------

_ADDRESS = 0xC000012000
"""Where everything lies, for who prints a pointer: Go's own addresses differ from run to run."""

_FLAGS = {"-": "minus", "+": "plus", "#": "sharp", " ": "space", "0": "zero"}
_LIMIT = 1_000_000
"""Go ignores widths and precisions over this."""


def sprint(values: Sequence[Value]) -> str:
    """fmt.Sprint: a space between two values of which neither is a string."""
    if len(values) == 1 and type(values[0]) is str:
        return values[0]
    printer = _Printer()
    after_string = True
    for value in values:
        is_string = type(value) is str
        if not is_string and not after_string:
            printer.write(" ")
        printer.argument(value, "v")
        after_string = is_string
    return joined(printer.pieces)


def sprintln(values: Sequence[Value]) -> str:
    """fmt.Sprintln: a space between all, a newline at the end."""
    printer = _Printer()
    for position, value in enumerate(values):
        if position:
            printer.write(" ")
        printer.argument(value, "v")
    printer.write("\n")
    return joined(printer.pieces)


def sprintf(format: str, values: Sequence[Value]) -> str:
    """fmt.Sprintf, its complaints within the text included."""
    printer = _Printer()
    printer.printf(format, values)
    return joined(printer.pieces)


class _Printer:
    """fmt's printer: flags, width and precision of the verb at hand, and what is printed so far.

    ``current`` is the value that a complaint about a bad verb names.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0
        self.current: Value = INVALID
        self.complaining = False
        self.clear()

    def clear(self) -> None:
        self.minus = self.plus = self.sharp = self.space = self.zero = False
        self.plus_v = self.sharp_v = False
        self.width: int | None = None
        self.precision: int | None = None

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

    # ---- format strings

    def printf(self, format: str, values: Sequence[Value]) -> None:
        """The verbs of ``format`` in order: % flags [index] width . precision verb."""
        position, argument, end, reordered = 0, 0, len(format), False
        while position < end:
            percent = format.find("%", position)
            if percent < 0:
                self.write(format[position:])
                break
            if percent > position:
                self.write(format[position:percent])
            position = percent + 1
            self.clear()
            # 1) Flags.
            while position < end and format[position] in _FLAGS:
                setattr(self, _FLAGS[format[position]], True)
                position += 1
            # 2) Width: a number, or * and an argument.
            scan = _Arguments(format, values, argument, position, reordered)
            scan.index()
            if scan.take("*"):
                self.width = scan.star()
                if self.width is None:
                    self.write("%!(BADWIDTH)")
                elif self.width < 0:
                    self.width, self.minus, self.zero = -self.width, True, False
            else:
                self.width = scan.number()
                if scan.after_index and self.width is not None:
                    scan.good = False
            # 3) Precision.
            if scan.position + 1 < end and scan.take("."):
                if scan.after_index:
                    scan.good = False
                scan.index()
                if scan.take("*"):
                    self.precision = scan.star()
                    if self.precision is not None and self.precision < 0:
                        self.precision = None
                    if self.precision is None:
                        self.write("%!(BADPREC)")
                else:
                    self.precision = scan.number() or 0
            if not scan.after_index:
                scan.index()
            # 4) The verb.
            position, argument, reordered = scan.position, scan.argument, scan.reordered
            if position >= end:
                self.write("%!(NOVERB)")
                break
            verb = format[position]
            verb = "\ufffd" if "\udc80" <= verb <= "\udcff" else verb
            position += 1
            if verb == "%":
                self.write("%")
            elif not scan.good:
                self.write(f"%!{verb}(BADINDEX)")
            elif argument >= len(values):
                self.write(f"%!{verb}(MISSING)")
            else:
                if verb in "vw":
                    self.sharp_v, self.sharp = self.sharp, False
                    self.plus_v, self.plus = self.plus, False
                self.argument(values[argument], verb)
                argument += 1
        if not reordered and argument < len(values):
            self.extra(values[argument:])

    def extra(self, values: Sequence[Value]) -> None:
        self.clear()
        self.write("%!(EXTRA ")
        for position, value in enumerate(values):
            if position:
                self.write(", ")
            if value is NIL or value is INVALID:
                self.write("<nil>")
            else:
                self.write(type_name(value) + "=")
                self.argument(value, "v")
        self.write(")")

    # ---- values

    def argument(self, value: Value, verb: str) -> None:
        """One operand. INVALID and NIL are both a nil interface here."""
        self.current = value
        if value is NIL or value is INVALID:
            if verb in "Tv":
                self.pad("<nil>")
            else:
                self.bad_verb(verb)
        elif verb == "T":
            self.string(type_name(value), "s")
        elif verb == "p":
            self.pointer(value, "p")
        elif type(value) in BASIC or not self.by_method(value, verb):
            self.value(value, verb, 0)

    def by_method(self, value: Value, verb: str) -> bool:
        """Print ``value`` by its String method, where it has one and the verb wants text."""
        if self.complaining:
            return False
        if verb == "w":
            self.bad_verb(verb)
            return True
        if self.sharp_v or verb not in "vsxXq" or not value.type.is_stringer:
            return False
        self.string(value.type.methods["String"](value), verb)
        return True

    def value(self, value: Value, verb: str, depth: int) -> None:
        self.current = value
        kind = type(value)
        if kind is str:
            self.string(value, verb)
        elif kind is bool:
            if verb in "tv":
                self.pad("true" if value else "false")
            else:
                self.bad_verb(verb)
        elif kind is int:
            self.integer(value, verb, True)
        elif kind is Uint8:
            self.integer(int(value), verb, False)
        elif kind is float:
            self.float(value, verb)
        elif kind is complex:
            self.complex(value, verb)
        elif value is NIL:
            self.write("interface {}(nil)" if self.sharp_v else "<nil>")
        elif depth > 0 and self.by_method(value, verb):
            pass
        elif kind is Slice:
            self.slice(value, verb, depth)
        elif kind is Map:
            self.map(value, verb, depth)
        elif kind is Struct:
            self.struct(value, verb, depth)
        elif kind is Pointer and depth == 0 and value.target is not None:
            self.write("&")
            self.value(value.target, verb, depth + 1)
        else:
            self.pointer(value, verb)

    def slice(self, value: Slice, verb: str, depth: int) -> None:
        items = value.items()
        of_bytes = value.type.elem is UINT8
        if of_bytes and verb in "sqxX":
            self.byte_string(bytes(items), verb)
            return
        if of_bytes:
            items = [Uint8(item) for item in items]
        if self.sharp_v:
            name = "[]byte" if value.type is BYTES and depth == 0 else value.type.name
            self.write(name)
            if value.is_nil:
                self.write("(nil)")
                return
        opening, between, closing = ("{", ", ", "}") if self.sharp_v else ("[", " ", "]")
        self.write(opening)
        for position, item in enumerate(items):
            if position:
                self.write(between)
            self.value(item, verb, depth + 1)
        self.write(closing)

    def map(self, value: Map, verb: str, depth: int) -> None:
        if self.sharp_v:
            self.write(value.type.name)
            if value.is_nil:
                self.write("(nil)")
                return
        opening, between, closing = ("{", ", ", "}") if self.sharp_v else ("map[", " ", "]")
        self.write(opening)
        for position, (key, item) in enumerate(sorted(value.entries.items())):
            if position:
                self.write(between)
            self.value(key, verb, depth + 1)
            self.write(":")
            self.value(item, verb, depth + 1)
        self.write(closing)

    def struct(self, value: Struct, verb: str, depth: int) -> None:
        values = value.values
        if value.type is ORDERED:
            values = {"om": Pointer(ORDER, value)}
        if self.sharp_v:
            self.write(value.type.name)
        self.write("{")
        for position, (name, item) in enumerate(values.items()):
            if position:
                self.write(", " if self.sharp_v else " ")
            if self.sharp_v or self.plus_v:
                self.write(name + ":")
            self.value(item, verb, depth + 1)
        self.write("}")

    def pointer(self, value: Value, verb: str) -> None:
        if kind_of(value) not in ("map", "slice", "ptr", "func"):
            self.bad_verb(verb)
            return
        is_nil = value.target is None if isinstance(value, Pointer) else False
        is_nil = value.is_nil if isinstance(value, (Map, Slice)) else is_nil
        address = 0 if is_nil else _ADDRESS
        if verb == "v" and self.sharp_v:
            self.write(f"({value.type.name})({'nil' if is_nil else hex(address)})")
        elif verb == "v" and is_nil:
            self.pad("<nil>")
        elif verb in "vp":
            sharp, self.sharp = self.sharp, not self.sharp
            self.digits(address, 16, False, "v")
            self.sharp = sharp
        elif verb in "bodxX":
            self.integer(address, verb, False)
        else:
            self.bad_verb(verb)

    def bad_verb(self, verb: str) -> None:
        """The complaint ``%!d(string=hi)``."""
        value, self.complaining = self.current, True
        self.write(f"%!{verb}(")
        if value is NIL or value is INVALID:
            self.write("<nil>")
        else:
            self.write(type_name(value) + "=")
            self.value(value, "v", 0)
        self.write(")")
        self.complaining = False

    # ---- basic values

    def string(self, text: str, verb: str) -> None:
        if verb == "v":
            verb = "q" if self.sharp_v else "s"
        if verb in "xX":
            self.hexadecimal(to_bytes(text), verb)
        elif verb == "s":
            self.pad(text if self.precision is None else text[: self.precision])
        elif verb == "q":
            text = text if self.precision is None else text[: self.precision]
            if self.sharp and _can_backquote(text):
                self.pad(f"`{text}`")
            else:
                self.pad(quote(text, ascii_only=self.plus))
        else:
            self.bad_verb(verb)

    def byte_string(self, data: bytes, verb: str) -> None:
        if verb in "xX":
            self.hexadecimal(data, verb)
        else:
            self.string(from_bytes(data), verb)

    def hexadecimal(self, data: bytes, verb: str) -> None:
        data = data if self.precision is None else data[: self.precision]
        if not data:
            self.padding(self.width or 0)
            return
        prefix = "0x" if self.sharp else ""
        text = (" " + prefix if self.space else "").join(f"{byte:02x}" for byte in data)
        text = prefix + text
        self.pad(text.upper() if verb == "X" else text)

    def integer(self, value: int, verb: str, signed: bool) -> None:
        if verb == "v" and self.sharp_v and not signed:
            sharp, self.sharp = self.sharp, True
            self.digits(value, 16, False, "v")
            self.sharp = sharp
        elif base := {"v": 10, "d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}.get(verb):
            self.digits(value, base, signed, verb)
        elif verb == "c":
            self.pad(_character(value))
        elif verb == "q":
            self.pad(quote(_character(value), "'", self.plus))
        elif verb == "U":
            self.unicode(value)
        else:
            self.bad_verb(verb)

    def digits(self, value: int, base: int, signed: bool, verb: str) -> None:
        negative = signed and value < 0
        number = abs(value)
        precision = 0
        if self.precision is not None:
            precision = self.precision
            if precision == 0 and number == 0:  # nothing but padding
                zero, self.zero = self.zero, False
                self.padding(self.width or 0)
                self.zero = zero
                return
        elif self.zero and not self.minus and self.width is not None:
            precision = self.width - (1 if negative or self.plus or self.space else 0)
        text = f"{number:{ {2: 'b', 8: 'o', 10: 'd', 16: 'x'}[base] }}".rjust(precision, "0")
        if self.sharp and base == 2:
            text = "0b" + text
        elif self.sharp and base == 8 and text[0] != "0":
            text = "0" + text
        elif self.sharp and base == 16:
            text = "0x" + text
        if verb == "X":
            text = text.upper()
        if verb == "O":
            text = "0o" + text
        sign = "-" if negative else "+" if self.plus else " " if self.space else ""
        self.pad_with_spaces(sign + text)

    def unicode(self, value: int) -> None:
        """U+0078, with # also the character."""
        code = value % 2**64
        text = f"U+{code:0{max(4, self.precision or 0)}X}"
        if self.sharp and code <= 0x10FFFF and chr(code).isprintable():
            text += f" '{chr(code)}'"
        self.pad_with_spaces(text)

    def float(self, value: float, verb: str) -> None:
        """Go's fmtFloat: the sign apart, zeros between sign and number, # keeps trailing zeros."""
        default = {"v": -1, "b": -1, "g": -1, "G": -1, "x": -1, "X": -1}.get(verb, 6)
        if verb not in "vbgGxXfFeE":
            self.bad_verb(verb)
            return
        verb = {"v": "g", "F": "f"}.get(verb, verb)
        precision = default if self.precision is None else self.precision
        text = format_float(value, verb, precision)
        sign, text = (text[0], text[1:]) if text[0] in "+-" else ("+", text)
        if self.space and sign == "+" and not self.plus:
            sign = " "
        if text[0] in "IN":
            if text[0] == "N" and not self.space and not self.plus:
                sign = ""
            shown = sign if self.plus or sign != "+" else ""
            self.pad_with_spaces(shown + text)
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

    def complex(self, value: complex, verb: str) -> None:
        if verb not in "vbgGxXfFeE":
            self.bad_verb(verb)
            return
        plus = self.plus
        self.write("(")
        self.float(value.real, verb)
        self.plus = True
        self.float(value.imag, verb)
        self.write("i)")
        self.plus = plus


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


class _Arguments:
    """A verb's way through the format and its operands: indexes ``[n]``, stars and numbers."""

    def __init__(
        self, format: str, values: Sequence[Value], argument: int, position: int, reordered: bool
    ) -> None:
        self.format, self.values = format, values
        self.argument, self.position = argument, position
        self.reordered = reordered
        self.after_index = False
        self.good = True

    def take(self, char: str) -> bool:
        """Step over ``char``, where it comes next."""
        if self.format[self.position : self.position + 1] != char:
            return False
        self.position += 1
        return True

    def number(self) -> int | None:
        """The digits that come next. A number too large eats the rest of the format."""
        found = _DIGITS.match(self.format, self.position)
        if found is None:
            return None
        number = _small(found[0])
        self.position = len(self.format) if number is None else found.end()
        return number

    def index(self) -> None:
        """``[n]``: the verb takes operand n, counted from one."""
        self.after_index = False
        if self.format[self.position : self.position + 1] != "[":
            return
        self.reordered = True
        closing = self.format.find("]", self.position + 1)
        if closing < 0 or len(self.format) - self.position < 3:
            self.position += 1
            self.good = False
            return
        inside = self.format[self.position + 1 : closing]
        self.position = closing + 1
        number = _small(inside) if inside.isascii() and inside.isdigit() else None
        if number is None:
            self.good = False
            return
        self.after_index = True
        if 1 <= number <= len(self.values):
            self.argument = number - 1
        else:
            self.good = False

    def star(self) -> int | None:
        """The operand that ``*`` takes; None where it is no int of a sensible size."""
        self.after_index = False
        if self.argument >= len(self.values):
            return None
        value = self.values[self.argument]
        self.argument += 1
        if type(value) not in (int, Uint8) or abs(value) > _LIMIT:
            return None
        return int(value)


_DIGITS = re.compile("[0-9]+")


def _small(digits: str) -> int | None:
    """The number, None once its beginning is over the limit (Go looks before each further digit)."""
    stripped = digits.lstrip("0")
    if len(stripped) > 8 or (len(stripped) == 8 and int(stripped[:7]) > _LIMIT):
        return None
    return int(digits)


# ---- methods that write --------------------------------------------------------------------------


def _type_string(value: Slice) -> str:
    names = value.items()
    if len(names) < 2:
        return str(names[0]) if names else ""
    return "[" + " ".join(names) + "]"


def _json_or_braces(value: Map) -> str:
    return "{}" if value.is_nil else to_json(value)


def _json_bytes(value: Value) -> Slice:
    if isinstance(value, Pointer) and value.target is None:
        raise GoError("value method api.ToolPropertiesMap.MarshalJSON called using nil pointer")
    return Slice(BYTES, to_json(value).encode())


TOOLS.methods["String"] = to_json
TOOL.methods["String"] = to_json
ARGUMENTS.methods["String"] = _json_or_braces
PROPERTIES.methods["String"] = _json_or_braces
PROPERTY_TYPE.methods["String"] = _type_string
PROPERTY_TYPE.methods["MarshalJSON"] = _json_bytes
ORDERED_POINTER.methods["MarshalJSON"] = _json_bytes

"""``fmt``: values as Go's Sprint, Sprintln and Sprintf print them. Knows nothing of templates.

A template prints with these, so the details decide what a prompt looks like: a float64 of a million
is ``1e+06``, a map is ``map[a:1]`` with its keys sorted, and a verb that does not suit its operand
leaves ``%!d(string=hi)`` in the text. Written after Go 1.26 and compared with it; the one
difference is an address, which is the same here for all values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .formatter import Formatter
from .types import ORDER, ORDERED
from .values import (
    BASIC,
    BYTES,
    INVALID,
    NIL,
    UINT8,
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
from .verbs import FormatReader

_ADDRESS = 0xC000012000
"""The address that every pointer prints: Go's own differ from run to run."""

_BASES = {"v": 10, "d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}


def sprint(values: Sequence[Value]) -> str:
    """fmt.Sprint: a space between two values of which neither is a string."""
    if len(values) == 1 and type(values[0]) is str:
        return values[0]
    printer = _Printer()
    after_string = True
    for value in values:
        is_string = type(value) is str
        if not is_string and not after_string:
            printer.out.write(" ")
        printer.argument(value, "v")
        after_string = is_string
    return joined(printer.out.pieces)


def sprintln(values: Sequence[Value]) -> str:
    """fmt.Sprintln: a space between all, a newline at the end."""
    printer = _Printer()
    for position, value in enumerate(values):
        if position:
            printer.out.write(" ")
        printer.argument(value, "v")
    printer.out.write("\n")
    return joined(printer.out.pieces)


def sprintf(format: str, values: Sequence[Value]) -> str:
    """fmt.Sprintf; its complaints are part of the text."""
    printer = _Printer()
    reader = FormatReader(format, values)
    for piece in reader:
        if isinstance(piece, str):
            printer.out.write(piece)
        else:
            printer.out.set(piece.letter, piece.flags, piece.width, piece.precision)
            printer.argument(piece.operand, piece.letter)
    if reader.unread:
        printer.extra(reader.unread)
    return joined(printer.out.pieces)


class _Printer:
    """fmt's printer: which form a value has under a verb; ``out`` writes it.

    ``current`` is the value that a complaint about a bad verb names.
    """

    def __init__(self) -> None:
        self.out = Formatter()
        self.current: Value = INVALID
        self.complaining = False

    def extra(self, values: Sequence[Value]) -> None:
        """The complaint about operands that no verb takes."""
        out = self.out
        out.clear()
        out.write("%!(EXTRA ")
        for position, value in enumerate(values):
            if position:
                out.write(", ")
            if value is NIL or value is INVALID:
                out.write("<nil>")
            else:
                out.write(type_name(value) + "=")
                self.argument(value, "v")
        out.write(")")

    def argument(self, value: Value, verb: str) -> None:
        """One operand. INVALID and NIL are both a nil interface here."""
        self.current = value
        if value is NIL or value is INVALID:
            if verb in "Tv":
                self.out.pad("<nil>")
            else:
                self.bad_verb(verb)
        elif verb == "T":
            self.string(type_name(value), "s")
        elif verb == "p":
            self.pointer(value, "p")
        elif type(value) in BASIC or not self.by_method(value, verb):
            self.value(value, verb, 0)

    def by_method(self, value: Value, verb: str) -> bool:
        """Print ``value`` by its String method, where it has one and the verb prints text."""
        if self.complaining:
            return False
        if verb == "w":
            self.bad_verb(verb)
            return True
        if self.out.sharp_v or verb not in "vsxXq" or not value.type.is_stringer:
            return False
        self.string(value.type.methods["String"](value), verb)
        return True

    def value(self, value: Value, verb: str, depth: int) -> None:
        self.current = value
        if type(value) in BASIC:
            self.basic(value, verb)
        elif value is NIL:
            self.out.write("interface {}(nil)" if self.out.sharp_v else "<nil>")
        elif depth > 0 and self.by_method(value, verb):
            pass
        elif isinstance(value, Slice):
            self.slice(value, verb, depth)
        elif isinstance(value, Map):
            self.map(value, verb, depth)
        elif isinstance(value, Struct):
            self.struct(value, verb, depth)
        elif isinstance(value, Pointer) and depth == 0 and value.target is not None:
            self.out.write("&")
            self.value(value.target, verb, depth + 1)
        else:
            self.pointer(value, verb)

    def basic(self, value: Value, verb: str) -> None:
        """A value of a basic type."""
        kind = type(value)
        if kind is str:
            self.string(value, verb)
        elif kind is bool:
            if verb in "tv":
                self.out.pad("true" if value else "false")
            else:
                self.bad_verb(verb)
        elif kind is int:
            self.integer(value, verb, True)
        elif kind is Uint8:
            self.integer(int(value), verb, False)
        elif verb not in "vbgGxXfFeE":
            self.bad_verb(verb)
        elif kind is float:
            self.out.float(value, verb)
        else:
            self.complex(value, verb)

    # ---- composed values

    def slice(self, value: Slice, verb: str, depth: int) -> None:
        items = value.items()
        of_bytes = value.type.elem is UINT8
        if of_bytes and verb in "sqxX":
            self.byte_string(bytes(items), verb)
            return
        if of_bytes:
            items = [Uint8(item) for item in items]
        name = "[]byte" if value.type is BYTES and depth == 0 else value.type.name
        if not self.nil(value, name):
            self.list(items, "[", verb, depth)

    def map(self, value: Map, verb: str, depth: int) -> None:
        if self.nil(value, value.type.name):
            return
        sharp = self.out.sharp_v
        self.out.write("{" if sharp else "map[")
        for position, (key, item) in enumerate(sorted(value.entries.items())):
            if position:
                self.out.write(", " if sharp else " ")
            self.value(key, verb, depth + 1)
            self.out.write(":")
            self.value(item, verb, depth + 1)
        self.out.write("}" if sharp else "]")

    def nil(self, value: Slice | Map, name: str) -> bool:
        """For %#v write the type's name; True if nil was all that was to be written."""
        if not self.out.sharp_v:
            return False
        self.out.write(name)
        if value.is_nil:
            self.out.write("(nil)")
        return value.is_nil

    def list(self, items: Iterable[Value], opening: str, verb: str, depth: int) -> None:
        sharp = self.out.sharp_v
        self.out.write("{" if sharp else opening)
        for position, item in enumerate(items):
            if position:
                self.out.write(", " if sharp else " ")
            self.value(item, verb, depth + 1)
        self.out.write("}" if sharp else "]")

    def struct(self, value: Struct, verb: str, depth: int) -> None:
        values, out = value.values, self.out
        if value.type is ORDERED:
            values = {"om": Pointer(ORDER, value)}
        if out.sharp_v:
            out.write(value.type.name)
        out.write("{")
        for position, (name, item) in enumerate(values.items()):
            if position:
                out.write(", " if out.sharp_v else " ")
            if out.sharp_v or out.plus_v:
                out.write(name + ":")
            self.value(item, verb, depth + 1)
        out.write("}")

    def pointer(self, value: Value, verb: str) -> None:
        if kind_of(value) not in ("map", "slice", "ptr", "func"):
            self.bad_verb(verb)
            return
        is_nil = value.target is None if isinstance(value, Pointer) else False
        is_nil = value.is_nil if isinstance(value, (Map, Slice)) else is_nil
        address = 0 if is_nil else _ADDRESS
        if verb == "v" and self.out.sharp_v:
            self.out.write(f"({value.type.name})({'nil' if is_nil else hex(address)})")
        elif verb == "v" and is_nil:
            self.out.pad("<nil>")
        elif verb in "vp":
            self.out.hexadecimal_digits(address, not self.out.sharp)
        elif verb in "bodxX":
            self.integer(address, verb, False)
        else:
            self.bad_verb(verb)

    def bad_verb(self, verb: str) -> None:
        """The complaint ``%!d(string=hi)``."""
        value, self.complaining = self.current, True
        self.out.write(f"%!{verb}(")
        if value is NIL or value is INVALID:
            self.out.write("<nil>")
        else:
            self.out.write(type_name(value) + "=")
            self.value(value, "v", 0)
        self.out.write(")")
        self.complaining = False

    # ---- basic values

    def string(self, text: str, verb: str) -> None:
        if verb == "v":
            verb = "q" if self.out.sharp_v else "s"
        if verb in "xX":
            self.out.hexadecimal(to_bytes(text), verb)
        elif verb == "s":
            self.out.pad(self.out.cut(text))
        elif verb == "q":
            self.out.quoted(text)
        else:
            self.bad_verb(verb)

    def byte_string(self, data: bytes, verb: str) -> None:
        if verb in "xX":
            self.out.hexadecimal(data, verb)
        else:
            self.string(from_bytes(data), verb)

    def integer(self, value: int, verb: str, signed: bool) -> None:
        if verb == "v" and self.out.sharp_v and not signed:
            self.out.hexadecimal_digits(value, True)
        elif base := _BASES.get(verb):
            self.out.digits(value, base, signed, verb)
        elif verb == "c":
            self.out.character(value)
        elif verb == "q":
            self.out.quoted_character(value)
        elif verb == "U":
            self.out.unicode(value)
        else:
            self.bad_verb(verb)

    def complex(self, value: complex, verb: str) -> None:
        out = self.out
        plus = out.plus
        out.write("(")
        out.float(value.real, verb)
        out.plus = True
        out.float(value.imag, verb)
        out.write("i)")
        out.plus = plus

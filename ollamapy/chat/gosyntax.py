"""Go's text/template, its syntax: text to tokens to a tree, by Go's own rules.

Whatever Go refuses when it parses is refused here, with a :class:`TemplateError`; what Go only
notices when it executes (an unset variable, a number too large for an int) is left to
``golang.py``. Nothing is evaluated here but literals.

A template comes from a stranger: reading takes time in proportion to its length, and blocks and
parentheses nest at most :data:`MAX_NESTING` deep (Go: 10,000 parentheses).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NoReturn

from ..errors import TemplateError
from ..human import quote
from .govalues import clean, from_bytes

MAX_NESTING = 100

MAX_VARIABLES = 1000
"""In scope at a time: they are looked up one by one."""

# ---- the tree ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """``.A.B``: fields of dot."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """``$x.A.B``; the first name has the dollar."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """``(pipeline).A.B``, or a function's name with fields."""

    node: Pipe | Function
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A bool, number or string: a Go value. None is an integer that fits no Go int."""

    value: bool | int | float | complex | str | None


@dataclass(frozen=True, slots=True)
class Dot:
    """``.``"""


@dataclass(frozen=True, slots=True)
class NilWord:
    """``nil``"""


@dataclass(frozen=True, slots=True)
class Pipe:
    """``$a, $b := command | command``. A command is its operands, the first of which leads."""

    commands: tuple[tuple[Node, ...], ...]
    declared: tuple[str, ...] = ()
    assigns: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What stands outside of actions, trimmed already."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """``{{ pipeline }}``: print its value, unless it declares variables."""

    pipe: Pipe
    line: int


@dataclass(frozen=True, slots=True)
class Branch:
    """``if``, ``with`` or ``range``; ``{{ else if }}`` is an if inside the else."""

    kind: str
    pipe: Pipe
    body: Nodes
    otherwise: Nodes | None
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """``{{ template "name" pipeline }}``; a block is a definition and its call."""

    name: str
    pipe: Pipe | None
    line: int


@dataclass(frozen=True, slots=True)
class Jump:
    """``{{ break }}`` or ``{{ continue }}``."""

    is_break: bool


Node = Field | Variable | Chain | Function | Literal | Dot | NilWord | Pipe
Statement = Text | Action | Branch | Call | Jump
Nodes = tuple[Statement, ...]

GO_SPACES = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's TrimSpace trims."""


def is_empty(nodes: Nodes) -> bool:
    """Whether there is nothing but white space."""
    return all(isinstance(node, Text) and not node.text.strip(GO_SPACES) for node in nodes)


# ---- tokens --------------------------------------------------------------------------------------


class Kind(Enum):
    """What a token is; the value is how an error calls it."""

    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    SPACE = "space"
    ASSIGN = "="
    DECLARE = ":="
    PIPE = "|"
    OPEN = "("
    CLOSE = ")"
    DOT = "."
    FIELD = "field"
    VARIABLE = "variable"
    IDENTIFIER = "identifier"
    BOOL = "bool"
    NIL = "nil"
    NUMBER = "number"
    COMPLEX = "complex number"
    CHARACTER = "character constant"
    STRING = "string"
    RAW_STRING = "raw string"
    OTHER = "character"
    KEYWORD = "keyword"
    END = "EOF"


_OPERANDS = frozenset(
    {
        Kind.BOOL, Kind.CHARACTER, Kind.COMPLEX, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER,
        Kind.NUMBER, Kind.NIL, Kind.RAW_STRING, Kind.STRING, Kind.VARIABLE, Kind.OPEN,
    }
)  # fmt: skip

_KEYWORDS = frozenset(
    "block break continue define else end if range template with".split()  # nil is an operand
)


class Token(NamedTuple):
    kind: Kind
    text: str
    position: int


_SPACES = " \t\r\n"
_SPACE_RUN = re.compile("[ \t\r\n]*")
_SINGLE = {
    "=": Kind.ASSIGN,
    "|": Kind.PIPE,
    "(": Kind.OPEN,
    ")": Kind.CLOSE,
}
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")
_NUMBER = re.compile(
    "[+-]?(?:"
    "0[xX][0-9a-fA-F_]*(?:[.][0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    "|0[oO][0-7_]*(?:[.][0-7_]*)?"
    "|0[bB][01_]*(?:[.][01_]*)?"
    "|[0-9_]*(?:[.][0-9_]*)?(?:[eE][+-]?[0-9_]*)?"
    ")i?"
)
"""Go's scanner of numbers: it takes too much, and the values' parser refuses that."""


def _wrong(text: str, position: int, what: str) -> TemplateError:
    line = text.count("\n", 0, position) + 1
    return TemplateError(f"the model's chat template is wrong in line {line}: {what}")


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


class _Lexer:
    """Tokens of one template. ``-`` after {{ or before }} with a space trims the text beside it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def fail(self, what: str) -> NoReturn:
        raise _wrong(self.text, self.position, what)

    def tokens(self) -> Iterator[Token]:
        text = self.text
        while (left := text.find("{{", self.position)) >= 0:
            before = text[self.position : left]
            trims = text[left + 2 : left + 3] == "-" and self.is_space(left + 3)
            if trims:
                before = before.rstrip(_SPACES)
            if before:
                yield Token(Kind.TEXT, before, self.position)
            self.position = left + (4 if trims else 2)
            if text.startswith("/*", self.position):
                self.comment()
            else:
                yield Token(Kind.LEFT, "{{", left)
                yield from self.action()
        if self.position < len(text):
            yield Token(Kind.TEXT, text[self.position :], self.position)
        yield Token(Kind.END, "", len(text))

    def is_space(self, position: int) -> bool:
        char = self.text[position : position + 1]
        return char != "" and char in _SPACES

    def right(self, position: int) -> int:
        """The length of a right delimiter at ``position``, trim mark included; 0 for none."""
        if self.text.startswith("}}", position):
            return 2
        if self.is_space(position) and self.text.startswith("-}}", position + 1):
            return 4
        return 0

    def close(self, length: int) -> None:
        """Step over a right delimiter, and over the white space that it trims."""
        self.position += length
        if length == 4:
            self.position = self.spaces(self.position)

    def spaces(self, position: int) -> int:
        """The end of the white space at ``position``."""
        found = _SPACE_RUN.match(self.text, position)
        assert found is not None
        return found.end()

    def comment(self) -> None:
        end = self.text.find("*/", self.position + 2)
        if end < 0:
            self.fail("unclosed comment")
        self.position = end + 2
        length = self.right(self.position)
        if not length:
            self.fail("comment ends before closing delimiter")
        self.close(length)

    def action(self) -> Iterator[Token]:
        """The tokens up to and including the right delimiter."""
        text, depth = self.text, 0
        while not (length := self.right(self.position)):
            start = self.position
            char = text[start : start + 1]
            if not char:
                self.fail("unclosed action")
            if char in _SPACES:
                end = self.spaces(start)
                if self.right(end - 1):  # a space that belongs to " -}}"
                    end -= 1
                if end > start:
                    yield Token(Kind.SPACE, " ", start)
                self.position = end
                continue
            kind = self.token(char)
            depth += (kind is Kind.OPEN) - (kind is Kind.CLOSE)
            if depth < 0:
                self.fail("unexpected right paren")
            yield Token(kind, text[start : self.position], start)
        if depth:
            self.fail("unclosed left paren")
        yield Token(Kind.RIGHT, "}}", self.position)
        self.close(length)

    def token(self, char: str) -> Kind:
        """Step over the token that begins with ``char``; its kind."""
        following = self.text[self.position + 1 : self.position + 2]
        if kind := _SINGLE.get(char):
            self.position += 1
            return kind
        if char == ":":
            if following != "=":
                self.fail("expected :=")
            self.position += 2
            return Kind.DECLARE
        if char == '"':
            return self.match(_QUOTED, Kind.STRING, "unterminated quoted string")
        if char == "'":
            return self.match(_CHARACTER, Kind.CHARACTER, "unterminated character constant")
        if char == "`":
            end = self.text.find("`", self.position + 1)
            if end < 0:
                self.fail("unterminated raw quoted string")
            self.position = end + 1
            return Kind.RAW_STRING
        if char == "$" or (char == "." and following and following not in "0123456789"):
            return self.name(Kind.VARIABLE if char == "$" else Kind.FIELD)
        if char in ".+-0123456789":
            return self.number()
        if _is_word(char):
            return self.word()
        if char.isascii() and char.isprintable():
            self.position += 1
            return Kind.OTHER
        self.fail(f"unrecognized character in action: U+{ord(char):04X}")

    def match(self, pattern: re.Pattern[str], kind: Kind, failure: str) -> Kind:
        found = pattern.match(self.text, self.position)
        if found is None:
            self.fail(failure)
        self.position = found.end()
        return kind

    def name(self, kind: Kind) -> Kind:
        """A dot or dollar and the word after it, if there is one."""
        self.position += 1
        if kind is Kind.FIELD and self.ends_word():
            return Kind.DOT
        self.read_word()
        return kind

    def word(self) -> Kind:
        start = self.position
        self.read_word()
        word = self.text[start : self.position]
        if word in _KEYWORDS:
            return Kind.KEYWORD
        return {"nil": Kind.NIL, "true": Kind.BOOL, "false": Kind.BOOL}.get(word, Kind.IDENTIFIER)

    def read_word(self) -> None:
        text, end = self.text, self.position
        while end < len(text) and _is_word(text[end]):
            end += 1
        self.position = end
        if not self.ends_word():
            self.fail(f"bad character {text[end]!r}")

    def ends_word(self) -> bool:
        """Whether a word may end here."""
        char = self.text[self.position : self.position + 1]
        return char in " \t\r\n.,|:)(" or self.text.startswith("}}", self.position)

    def number(self) -> Kind:
        self.match(_NUMBER, Kind.NUMBER, "bad number syntax")
        kind = Kind.NUMBER
        if self.text[self.position : self.position + 1] in ("+", "-"):
            kind = self.match(_NUMBER, Kind.COMPLEX, "bad number syntax")
            if self.text[self.position - 1] != "i":
                self.fail("bad number syntax")
        following = self.text[self.position : self.position + 1]
        if following and _is_word(following):
            self.fail("bad number syntax")
        return kind


# ---- literals ------------------------------------------------------------------------------------

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
    """The value of a number where nothing asks for a type; None for an integer that fits no int.

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
    """Whether the e before ``place`` is a digit of a hexadecimal number, hence no exponent's."""
    return text[place - 1] in "eE" and "x" in text[:place].lower()


# ---- the parser ----------------------------------------------------------------------------------


class _End(NamedTuple):
    """What closed a list: {{end}} or {{else}}."""

    is_else: bool


class _Parser:
    """Go's parser. ``trees`` collects the templates by name; those defined inside share the tokens.

    ``variables`` are the names known at this place, as Go knows them: a name counts as known from
    its declaration to the end of the block, also in the very pipeline that declares it.
    """

    def __init__(self, text: str, functions: Collection[str]) -> None:
        self.text = text
        self.functions = functions
        self.tokens = list(_Lexer(text).tokens())
        self.place = 0
        self.trees: dict[str, Nodes] = {}
        self.variables = ["$"]
        self.ranges = 0
        self.depth = 0
        self.lines, self.counted = 1, 0

    # ---- tokens

    def fail(self, what: str) -> NoReturn:
        position = self.tokens[min(self.place, len(self.tokens) - 1)].position
        raise _wrong(self.text, position, what)

    def unexpected(self, token: Token, context: str) -> NoReturn:
        shown = "EOF" if token.kind is Kind.END else quote(token.text[:20])
        self.fail(f"unexpected {shown} in {context}")

    def next(self) -> Token:
        token = self.tokens[self.place]
        if token.kind is not Kind.END:
            self.place += 1
        return token

    def skip_space(self) -> Token:
        """The next token that is no space, not taken."""
        while self.tokens[self.place].kind is Kind.SPACE:
            self.place += 1
        return self.tokens[self.place]

    def next_word(self) -> Token:
        self.skip_space()
        return self.next()

    def expect(self, kind: Kind, context: str) -> Token:
        token = self.next_word()
        if token.kind is not kind:
            self.unexpected(token, context)
        return token

    def line(self) -> int:
        """The line of the next token, counted on from where it was last asked."""
        position = self.tokens[self.place].position
        self.lines += self.text.count("\n", self.counted, position)
        self.counted = position
        return self.lines

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            self.fail(f"it nests more than {MAX_NESTING} deep")

    # ---- templates

    def parse(self) -> dict[str, Nodes]:
        nodes: list[Statement] = []
        while self.tokens[self.place].kind is not Kind.END:
            if self.at_define():
                self.definition()
                continue
            node = self.statement()
            if isinstance(node, _End):
                self.fail("unexpected {{else}}" if node.is_else else "unexpected {{end}}")
            nodes.append(node)
        self.add("", tuple(nodes))
        return self.trees

    def add(self, name: str, nodes: Nodes) -> None:
        """An empty template may be defined again, and does not replace one that is not."""
        known = self.trees.get(name)
        if known is None or is_empty(known):
            self.trees[name] = nodes
        elif not is_empty(nodes):
            self.fail(f"multiple definition of template {quote(name)}")

    def at_define(self) -> bool:
        """Step over ``{{ define``, where it comes next."""
        place = self.place
        if self.next().kind is Kind.LEFT and self.next_word()[:2] == (Kind.KEYWORD, "define"):
            return True
        self.place = place
        return False

    def definition(self) -> None:
        name = self.template_name("define clause")
        self.expect(Kind.RIGHT, "define clause")
        self.add(name, self.separate("define clause"))

    def separate(self, context: str) -> Nodes:
        """The body of a template inside this one: it sees no variables and no range of it."""
        outside = self.variables, self.ranges
        self.variables, self.ranges = ["$"], 0
        self.deeper()
        nodes, end = self.nodes()
        if end.is_else:
            self.fail(f"unexpected {{{{else}}}} in {context}")
        self.depth -= 1
        self.variables, self.ranges = outside
        return nodes

    def template_name(self, context: str) -> str:
        token = self.next_word()
        if token.kind not in (Kind.STRING, Kind.RAW_STRING):
            self.unexpected(token, context)
        return self.string(token)

    def string(self, token: Token) -> str:
        try:
            return unquote(token.text)
        except ValueError:
            self.fail(f"invalid syntax in {token.text[:40]}")

    # ---- statements

    def nodes(self) -> tuple[Nodes, _End]:
        """Statements up to {{end}} or {{else}}."""
        nodes: list[Statement] = []
        while self.skip_space().kind is not Kind.END:
            node = self.statement()
            if isinstance(node, _End):
                return tuple(nodes), node
            nodes.append(node)
        self.fail("unexpected EOF")

    def statement(self) -> Statement | _End:
        token = self.next_word()
        if token.kind is Kind.TEXT:
            return Text(token.text)
        if token.kind is not Kind.LEFT:
            self.unexpected(token, "input")
        word = self.skip_space()
        line = self.line()
        if word.kind is not Kind.KEYWORD or word.text == "define":
            return Action(self.pipeline("command", Kind.RIGHT), line)
        self.place += 1
        match word.text:
            case "if" | "with" | "range":
                return self.branch(word.text, line)
            case "end":
                self.expect(Kind.RIGHT, "end")
                return _End(False)
            case "else":
                if self.skip_space()[:2] not in _AFTER_ELSE:
                    self.expect(Kind.RIGHT, "else")
                return _End(True)
            case "template":
                return self.call(line)
            case "block":
                return self.block(line)
        return self.jump(word.text)

    def branch(self, kind: str, line: int) -> Branch:
        self.deeper()
        known = len(self.variables)
        pipe = self.pipeline(kind, Kind.RIGHT)
        self.ranges += kind == "range"
        body, end = self.nodes()
        self.ranges -= kind == "range"
        otherwise: Nodes | None = None
        if end.is_else:
            # {{else if}} leaves the "if" to be read, and its {{end}} closes both.
            if kind != "range" and self.tokens[self.place][:2] == (Kind.KEYWORD, kind):
                self.place += 1
                otherwise = (self.branch(kind, self.line()),)
            else:
                otherwise, end = self.nodes()
                if end.is_else:
                    self.fail("expected end; found {{else}}")
        del self.variables[known:]
        self.depth -= 1
        return Branch(kind, pipe, body, otherwise, line)

    def call(self, line: int) -> Call:
        name = self.template_name("template clause")
        if self.skip_space().kind is Kind.RIGHT:
            self.place += 1
            return Call(name, None, line)
        return Call(name, self.pipeline("template clause", Kind.RIGHT), line)

    def block(self, line: int) -> Call:
        name = self.template_name("block clause")
        pipe = self.pipeline("block clause", Kind.RIGHT)
        self.add(name, self.separate("block clause"))
        return Call(name, pipe, line)

    def jump(self, word: str) -> Jump:
        self.expect(Kind.RIGHT, f"{{{{{word}}}}}")
        if not self.ranges:
            self.fail(f"{{{{{word}}}}} outside {{{{range}}}}")
        return Jump(word == "break")

    # ---- pipelines

    def pipeline(self, context: str, end: Kind) -> Pipe:
        """``declarations? command ('|' command)*`` and ``end``."""
        declared, assigns = self.declarations(context)
        commands: list[tuple[Node, ...]] = []
        while True:
            token = self.skip_space()
            if token.kind is end:
                self.place += 1
                break
            if token.kind not in _OPERANDS:
                self.unexpected(self.next(), context)
            commands.append(self.command())
        if not commands:
            self.fail(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command[0], (Literal, Dot, NilWord)):
                self.fail(f"non executable command in pipeline stage {stage}")
        return Pipe(tuple(commands), declared, assigns)

    def declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """``$x :=``, ``$x =`` or, for range, ``$i, $x :=``."""
        declared: list[str] = []
        while self.skip_space().kind is Kind.VARIABLE:
            place = self.place
            name = self.next().text
            token = self.skip_space()
            if token.kind in (Kind.ASSIGN, Kind.DECLARE):
                self.place += 1
                declared.append(name)
                self.declare(name)
                return tuple(declared), token.kind is Kind.ASSIGN
            if token[:2] != (Kind.OTHER, ","):
                self.place = place  # the variable is an operand
                break
            self.place += 1
            declared.append(name)
            self.declare(name)
            if context != "range" or len(declared) > 1:
                self.fail(f"too many declarations in {context}")
            if self.skip_space().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.CLOSE):
                self.fail("range can only initialize variables")
        return tuple(declared), False

    def declare(self, name: str) -> None:
        self.variables.append(name)
        if len(self.variables) > MAX_VARIABLES:
            self.fail(f"it declares more than {MAX_VARIABLES} variables")

    def command(self) -> tuple[Node, ...]:
        """Operands with spaces between; the pipe sign after them is taken too."""
        operands: list[Node] = []
        while True:
            self.skip_space()
            operand = self.operand()
            if operand is not None:
                operands.append(operand)
            token = self.next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self.place -= 1
            elif token.kind is not Kind.PIPE:
                self.unexpected(token, "operand")
            break
        if not operands:
            self.fail("empty command")
        return tuple(operands)

    def operand(self) -> Node | None:
        """A term and the fields that follow it without a space."""
        node = self.term()
        names: list[str] = []
        while node is not None and self.tokens[self.place].kind is Kind.FIELD:
            names.append(self.next().text[1:])
        if not names or node is None:
            return node
        if isinstance(node, (Field, Variable)):
            return type(node)((*node.names, *names))
        if isinstance(node, (Pipe, Function)):
            return Chain(node, tuple(names))
        self.fail("unexpected . after a literal")

    def term(self) -> Node | None:
        """A literal, function, field, variable or pipeline in parentheses; None if none comes."""
        token = self.next_word()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in self.functions:
                    self.fail(f"function {quote(token.text)} not defined")
                return Function(token.text)
            case Kind.DOT:
                return Dot()
            case Kind.NIL:
                return NilWord()
            case Kind.VARIABLE:
                if token.text not in self.variables:
                    self.fail(f"undefined variable {quote(token.text)}")
                return Variable((token.text,))
            case Kind.FIELD:
                return Field((token.text[1:],))
            case Kind.BOOL:
                return Literal(token.text == "true")
            case Kind.CHARACTER | Kind.COMPLEX | Kind.NUMBER:
                return Literal(self.number(token))
            case Kind.OPEN:
                self.deeper()
                pipe = self.pipeline("parenthesized pipeline", Kind.CLOSE)
                self.depth -= 1
                return pipe
            case Kind.STRING | Kind.RAW_STRING:
                return Literal(self.string(token))
        if token.kind is not Kind.END:
            self.place -= 1
        return None

    def number(self, token: Token) -> int | float | complex | None:
        read = {Kind.CHARACTER: character, Kind.COMPLEX: complex_number}.get(token.kind, number)
        try:
            return read(token.text)
        except ValueError:
            self.fail(f"illegal number syntax: {quote(token.text[:40])}")


_AFTER_ELSE = ((Kind.KEYWORD, "if"), (Kind.KEYWORD, "with"))


def parse_trees(text: str, functions: Collection[str]) -> dict[str, Nodes]:
    """The templates in ``text`` by name; the text itself is the one named "".

    ``functions`` are the names a template may use. Raises :class:`TemplateError` with the line.
    """
    parser = _Parser(clean(text), functions)
    try:
        return parser.parse()
    except RecursionError:
        parser.fail("it nests too deep")

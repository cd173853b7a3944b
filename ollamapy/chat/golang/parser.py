"""The parser of Go's text/template: tokens -> trees, by Go's own rules.

What Go refuses when it parses is refused here, with a :class:`TemplateError`; what Go only notices
when it executes (an unset variable, a number too large for an int) is left to ``execution.py``.
Only literals are evaluated here.

Templates are untrusted: reading takes time in proportion to the length, and blocks and parentheses
nest at most :data:`MAX_NESTING` deep (Go: 10,000 parentheses).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, NoReturn

from ...human import quote
from .literals import character, complex_number, number, unquote
from .tokens import Kind, Lexer, Token, wrong
from .tree import (
    Action,
    Branch,
    Call,
    Chain,
    Dot,
    Field,
    FunctionName,
    Jump,
    Literal,
    NilWord,
    Node,
    Nodes,
    Pipe,
    Statement,
    Text,
    Variable,
    is_empty,
)
from .values import clean

MAX_NESTING = 100

MAX_VARIABLES = 1000
"""In scope at a time: they are looked up one by one."""


_OPERANDS = frozenset(
    {
        Kind.BOOL, Kind.CHARACTER, Kind.COMPLEX, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER,
        Kind.NUMBER, Kind.NIL, Kind.RAW_STRING, Kind.STRING, Kind.VARIABLE, Kind.OPEN,
    }
)  # fmt: skip

_AFTER_ELSE = ((Kind.KEYWORD, "if"), (Kind.KEYWORD, "with"))


class _End(NamedTuple):
    """What closed a list: {{end}} or {{else}}."""

    is_else: bool


class _Parser:
    """Go's parser. ``trees`` collects the templates by name; those defined inside share the tokens.

    ``variables`` are the names in scope, as in Go: a name is in scope from
    its declaration to the end of the block, also in the very pipeline that declares it.
    """

    def __init__(self, text: str, functions: Collection[str]) -> None:
        self.text = text
        self.functions = functions
        self.tokens = list(Lexer(text).tokens())
        self.place = 0
        self.trees: dict[str, Nodes] = {}
        self.variables = ["$"]
        self.ranges = 0
        self.depth = 0
        self.lines, self.counted = 1, 0

    # ---- tokens

    def fail(self, what: str) -> NoReturn:
        position = self.tokens[min(self.place, len(self.tokens) - 1)].position
        raise wrong(self.text, position, what)

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
        """The line of the next token, counted on from the last call."""
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
        if isinstance(node, (Pipe, FunctionName)):
            return Chain(node, tuple(names))
        self.fail("unexpected . after a literal")

    def term(self) -> Node | None:
        """A literal, function, field, variable or pipeline in parentheses; None if none comes."""
        token = self.next_word()
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in self.functions:
                    self.fail(f"function {quote(token.text)} not defined")
                return FunctionName(token.text)
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


def parse_trees(text: str, functions: Collection[str]) -> dict[str, Nodes]:
    """The templates in ``text`` by name; the text itself is the one named "".

    ``functions`` are the names a template may use. Raises :class:`TemplateError` with the line.
    """
    parser = _Parser(clean(text), functions)
    try:
        return parser.parse()
    except RecursionError:
        parser.fail("it nests too deep")

"""The lexer of Go's text/template: a template's text -> tokens, by Go's own rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, NoReturn

from ...errors import TemplateError


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


def wrong(text: str, position: int, what: str) -> TemplateError:
    line = text.count("\n", 0, position) + 1
    return TemplateError(f"the model's chat template is wrong in line {line}: {what}")


def _is_word(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


class Lexer:
    """Tokens of one template. ``-`` after {{ or before }} with a space trims the text beside it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def fail(self, what: str) -> NoReturn:
        raise wrong(self.text, self.position, what)

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

"""Modelfiles: bytes or text -> instructions with their places, and back to text that reads back the same.

The grammar is that of Ollama's parser (parser/parser.go): what it accepts is accepted here, with the same meaning. What a model
is made of is not checked here: paths are not read, templates not compiled, names not resolved; `lint` gives advice.

    file         = { blank | newline | comment | instruction }     UTF-8, or UTF-16 with a byte order mark
    comment      = "#" ... end of line                             only between instructions; elsewhere "#" is plain text
    instruction  = WORD blank value                                WORD in any case; blank: one space or tab
                 | "PARAMETER" blank name blank value              name: letters, digits, "_"
                 | "MESSAGE" blank role blank value                role: system, user, assistant
    value        = text ... end of line                            without the blanks around it
                 | `"` ... `"` | three quotation marks ... three   over any number of lines

There are no escapes. A quoted value ends where a line, less its trailing blanks, ends with the mark that began it: marks before
that are text, and so is what follows a mark on its line. Characters that do not print (Go's IsPrint) are dropped.

Where Ollama's parser is odd, this one is right: "\\r\\n" is one line, `PARAMETER system x` is an unknown parameter and no SYSTEM.
"""

from __future__ import annotations

import codecs
import difflib
import math
import os
import re
import shlex
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .. import human
from ..errors import InvalidModelfile
from ..types import CONTEXT_POLICIES, OPTION_KINDS, Message

LIMIT = 16 << 20
"""The longest Modelfile, in bytes (a str: in characters)."""

MOST_INSTRUCTIONS = 100_000

WORDS = (
    "FROM", "LICENSE", "TEMPLATE", "SYSTEM", "ADAPTER", "DRAFT", "RENDERER", "PARSER", "PARAMETER", "MESSAGE", "REQUIRES",
)  # fmt: skip

ROLES = ("system", "user", "assistant")

DEPRECATED = frozenset(
    {
        "penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "mirostat", "mirostat_tau",
        "mirostat_eta",
    }
)  # fmt: skip
"""Parameters that Ollama once had: a Modelfile may name them, and they do nothing."""

Parameter = int | float | bool | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; equal to another that means the same, wherever and however it was written.

    ``word`` is upper case, ``name`` the parameter or the role ("" for the other words). The place is that of the word, from 1;
    ``value_column`` is where the value begins, marks included, on that same line. ``quote`` is the mark the value was written
    with, ``dropped`` the number of its characters that do not print.
    """

    word: str
    value: str
    name: str = ""
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)
    value_column: int = field(default=1, compare=False)
    quote: str = field(default="", compare=False)
    dropped: int = field(default=0, compare=False)

    def error(self, reason: str) -> InvalidModelfile:
        """An error at this place."""
        return InvalidModelfile(reason, self.line, self.column)


@dataclass(frozen=True, slots=True)
class Modelfile:
    """Instructions in their order; at least one is FROM if it was parsed."""

    instructions: tuple[Instruction, ...]

    def values(self, word: str) -> list[str]:
        """The values of all instructions of that keyword (FROM and LICENSE add up)."""
        return [each.value for each in self.instructions if each.word == word]

    def last(self, word: str) -> str | None:
        """The value of the last instruction of that keyword, the one that counts but for FROM, LICENSE and MESSAGE."""
        return next((each.value for each in reversed(self.instructions) if each.word == word), None)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns that every conversation begins with."""
        return tuple(
            Message(role=each.name, content=each.value)
            for each in self.instructions
            if each.word == "MESSAGE"
        )

    def parameters(self) -> tuple[dict[str, Parameter], list[str]]:
        """The typed parameters, and the names of those that are deprecated and so left out.

        ``stop`` adds up, of every other name the last one counts. Raises InvalidModelfile for an unknown name and a value that
        is not of the name's kind.
        """
        typed: dict[str, Parameter] = {}
        deprecated: dict[str, None] = {}
        stops: list[str] = []
        for each in self.instructions:
            if each.word != "PARAMETER":
                continue
            name, value = read_parameter(each)
            if value is None:
                deprecated[name] = None
            elif isinstance(value, tuple):
                stops += value
                typed[name] = ()
            else:
                typed[name] = value
        if stops:
            typed["stop"] = tuple(stops)
        return typed, list(deprecated)

    def requires(self) -> str | None:
        """The version that REQUIRES names, without a leading "v". Raises InvalidModelfile if it is no semantic version."""
        for each in reversed(self.instructions):
            if each.word == "REQUIRES":
                return read_version(each)
        return None


# Reading. A character that does not print becomes NUL, which keeps every other one in its place; the patterns below step over
# it. They are possessive (`*+`): no text is looked at more than a few times, whatever it holds.

_BETWEEN = re.compile(r"(?:[ \t\r\n]++|#[^\r\n]*+)*+")
# The first character may be anything: one that does not print is dropped before the word is looked at
_WORD = re.compile(r".[A-Za-z]*+", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_]*+")
_ROLE = re.compile(r"[A-Za-z]*+")
_OPENING = re.compile(r'[ \t\0]*+("\0*+"\0*+"|"|)')
_CLOSING = {
    '"': re.compile(r'"[ \t\0]*+(?![^\r\n])'),
    '"""': re.compile(r'"\0*+"\0*+"[ \t\0]*+(?![^\r\n])'),
}
_LINE = re.compile(r"[^\r\n]*+")


def parse(source: bytes | str) -> Modelfile:
    """Take a Modelfile apart. Raises InvalidModelfile, whose place is where the way out begins."""
    text = _mask(_decode(source))
    modelfile = Modelfile(tuple(_instructions(text)))
    if not modelfile.values("FROM"):
        raise InvalidModelfile(
            "no FROM line, add one that names a model or a file: FROM llama3.2 or FROM ./model.gguf"
        )
    return modelfile


def _decode(source: bytes | str) -> str:
    """The text without its byte order mark; bytes that are no UTF-8 become U+FFFD, as in Go."""
    if len(source) > LIMIT:
        raise InvalidModelfile(
            f"a Modelfile is at most {LIMIT >> 20} MiB long, put weights into a file of their own and name it with FROM"
        )
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if source.startswith(mark):
            return source[len(mark) :].decode(encoding, errors="replace")
    if source.startswith(b"GGUF"):
        raise InvalidModelfile(
            "this is a model and no Modelfile, write one that names it: FROM ./model.gguf", 1, 1
        )
    if b"\0" in source[:2]:
        raise InvalidModelfile(
            "this is neither UTF-8 nor UTF-16 with a byte order mark, save it as UTF-8", 1, 1
        )
    return source.decode(errors="replace")


def _mask(text: str) -> str:
    """The text with NUL for each character that does not print and is no tab and no newline."""
    # Not a pattern: a class of many wide characters costs microseconds at each character of the text
    table = {ord(each): ord(each) for each in set(text)}
    hidden = [code for code in table if not chr(code).isprintable() and code not in _NEWLINES_TAB]
    return text.translate(table | dict.fromkeys(hidden, 0)) if hidden else text


_NEWLINES_TAB = frozenset(map(ord, "\t\r\n"))


def _instructions(text: str) -> Iterator[Instruction]:
    """The instructions of a masked text."""
    walk = _Walk(text)
    position = _end(_BETWEEN, text, 0)
    number = 0
    while position < len(text):
        line, column = walk.to(position)
        number += 1
        if number > MOST_INSTRUCTIONS:
            raise InvalidModelfile(
                f"a Modelfile holds at most {MOST_INSTRUCTIONS} instructions, leave some out",
                line,
                column,
            )
        try:
            instruction, end = _instruction(text, position, line, column)
        except _Broken as error:
            raise InvalidModelfile(str(error), line, column + error.position - position) from None
        yield instruction
        position = _end(_BETWEEN, text, end)


class _Broken(Exception):
    """What is wrong with an instruction, at a position on its first line."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.position = position


def _instruction(text: str, start: int, line: int, column: int) -> tuple[Instruction, int]:
    """The instruction that begins at ``start``, and where it ends."""
    end = _end(_WORD, text, start)
    word = text[start:end].replace("\0", "").upper()
    if word not in WORDS:
        raise _Broken(_unknown_word(text[start : end + 1]), start)
    if not _is_blank(text, end):
        raise _Broken(_no_value(word, text, end), end)
    name = ""
    if word in ("PARAMETER", "MESSAGE"):
        begin, end = end + 1, _end(_NAME if word == "PARAMETER" else _ROLE, text, end + 1)
        name = text[begin:end]
        if not _is_blank(text, end):
            raise _Broken(_no_value(f"{word} {_shown(name)}".rstrip(), text, end), end)
        if word == "MESSAGE" and name not in ROLES:
            raise _Broken(_unknown_role(name), begin)
    opening = _opening(text, end + 1)
    value, after = _value(text, opening)
    value_column = column + opening.start(1) - start
    quote, dropped = _mark(opening), text.count("\0", end + 1, after)
    return Instruction(word, value, name, line, column, value_column, quote, dropped), after


def _opening(text: str, position: int) -> re.Match[str]:
    opening = _OPENING.match(text, position)
    assert opening is not None  # it matches nothing, too
    return opening


def _mark(opening: re.Match[str]) -> str:
    return opening[1].replace("\0", "")


def _value(text: str, opening: re.Match[str]) -> tuple[str, int]:
    """The value that begins with what ``opening`` matched, and where it ends; a newline comes next, or nothing."""
    begin, mark = opening.end(), _mark(opening)
    if not mark:
        end = _end(_LINE, text, begin)
        return text[begin:end].replace("\0", "").strip(" \t"), end
    closing = _CLOSING[mark].search(text, begin)
    if closing is None:
        raise _Broken(_not_closed(mark, text[begin:]), opening.start(1))
    return text[begin : closing.start()].replace("\0", ""), closing.end()


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _is_blank(text: str, position: int) -> bool:
    return text[position : position + 1] in (" ", "\t")


class _Walk:
    """Positions, taken from left to right, as lines and columns."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = self._line_start = 0
        self._line = 1

    def to(self, position: int) -> tuple[int, int]:
        """Line and column, from 1; never before the last one, never between the two of a "\\r\\n"."""
        passed = (self._position, position)
        breaks = line_breaks(self._text, *passed)
        if breaks:
            self._line += breaks
            last = max(self._text.rfind("\n", *passed), self._text.rfind("\r", *passed))
            self._line_start = last + 1
        self._position = position
        return self._line, position - self._line_start + 1


def line_breaks(text: str, start: int, end: int) -> int:
    """How many lines end between two positions: with "\\n", "\\r" or both."""
    return (
        text.count("\n", start, end) + text.count("\r", start, end) - text.count("\r\n", start, end)
    )


def stray_mark(mark: str, content: str) -> int | None:
    """The place, after an opening mark, of one that looks like its end but has text after it on its line.

    A single `"` is common in a text: it counts only if the first line holds pairs of them and the value continues below.
    """
    first = _LINE.match(content)
    if first is None or first.end() == len(content):
        return None
    if mark == '"""':
        found = content.find(mark)
        return found if found >= 0 and line_breaks(content, found, len(content)) else None
    return content.rfind('"', 0, first.end()) if first[0].count('"') % 2 else None


# Texts of errors


def _shown(text: str) -> str:
    """A piece of the file that fits into a message."""
    text = text.replace("\0", "")
    return ascii(text if len(text) <= 40 else text[:37] + "...")[1:-1]


def _unknown_word(text: str) -> str:
    words = [f'"{word.lower()}"' for word in WORDS]
    reason = f"command must be one of {', '.join(words[:-1])}, or {words[-1]}"
    reason += f', not "{_shown(text.strip())}"'
    like = difflib.get_close_matches(text[:40].strip().upper(), WORDS, 1)
    if like:
        return f"{reason}, did you mean {like[0]}?"
    return f'{reason}; a value of several lines stands between """ and """'


def _no_value(head: str, text: str, position: int) -> str:
    """Why there is no value: the line ends, the file ends, or some other character follows."""
    found = text[position : position + 1]
    if not found.strip("\r\n"):
        return f'{head} needs a value on its line, "" is an empty one'
    return f'unexpected "{_shown(found)}" after {head}, a space and a value must follow'


def _unknown_role(name: str) -> str:
    roles = 'message role must be one of "system", "user", or "assistant"'
    return f'{roles}, not "{_shown(name)}"' if name else f"{roles}, after one space"


def _not_closed(mark: str, content: str) -> str:
    reason = f"unexpected EOF: the {mark} that begins this value has no {mark} at the end of a line"
    stray = stray_mark(mark, content)
    if stray is None:
        return f"{reason}, put one where the value ends"
    return f"{reason}, put what follows the {mark} {_lines_below(content, stray)} before it"


def _lines_below(content: str, position: int) -> str:
    below = line_breaks(content, 0, position)
    return "on the same line" if not below else f"{below} line{'s' * (below > 1)} below"


# Printing


def print_modelfile(modelfile: Modelfile) -> str:
    """A Modelfile that parses back to the same instructions: an instruction a line, as Ollama prints it where that reads back."""
    return "".join(f"{_head(each)} {quote(each.value)}\n" for each in modelfile.instructions)


def _head(instruction: Instruction) -> str:
    named = instruction.word in ("PARAMETER", "MESSAGE")
    return f"{instruction.word} {instruction.name}" if named else instruction.word


def quote(value: str) -> str:
    """A value as a Modelfile must have it.

    Ollama's form, marks only around line feeds and outer spaces, if that reads back; else marks that do. Every value that was
    parsed has such a form. One that has none, because it holds characters that do not print, or both marks at ends of lines,
    loses those characters, and those marks become apostrophes: it never ends before its end.
    """
    needed = "\n" in value or value.startswith(" ") or value.endswith(" ")
    short, long = f'"{value}"', f'"""{value}"""'
    marked = (long, short) if '"' in value else (short, long)
    for form in marked if needed else (value, *marked):
        if _reads_back(form, value):
            return form
    printable = _mask(value).replace("\0", "")
    if printable != value:
        return quote(printable)
    return '"""' + re.sub(r'"""(?=[ \t]*+[\r\n])', "'''", value) + '"""'


def _reads_back(form: str, value: str) -> bool:
    text = _mask(form)
    try:
        return _value(text, _opening(text, 0)) == (value, len(text))
    except _Broken:
        return False


# What values mean

_INTEGER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_DIGITS = r"[0-9]+(?:_[0-9]+)*+"
_FLOAT = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?")
_HEX = r"[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*+"
_HEX_FLOAT = re.compile(rf"[+-]?0[xX]_?(?:{_HEX}(?:\.(?:{_HEX})?)?|\.{_HEX})[pP][+-]?{_DIGITS}")
_LONGEST_NUMBER = 1024
# golang.org/x/mod/semver: minor and patch may be missing, what follows the patch needs it
_PART = r"(?:0|[1-9][0-9]*)"
_PRERELEASE = rf"(?:{_PART}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(
    rf"v?({_PART}(?:\.{_PART}(?:\.{_PART}"
    rf"(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?)?)"
)


def read_parameter(instruction: Instruction) -> tuple[str, Parameter | None]:
    """A PARAMETER's name and typed value; None if it is deprecated. Raises InvalidModelfile.

    After two blanks the name is empty in Ollama's grammar, and what follows is all value: here the name is found in it.
    """
    name, text = instruction.name, instruction.value
    inside = re.match(r"([A-Za-z0-9_]+)[ \t]", text) if not name and not instruction.quote else None
    if inside:
        name, rest = inside[1], _mask(text[inside.end() :])
        try:
            text, _ = _value(rest, _opening(rest, 0))
        except _Broken as error:
            raise instruction.error(str(error)) from None
    if name in DEPRECATED:
        return name, None
    try:
        return name, parse_parameter(name, text)
    except ValueError as error:
        raise instruction.error(str(error)) from None


def parse_parameter(name: str, text: str) -> Parameter:
    """A parameter's value from its text, by the rules of Go's ParseInt, ParseFloat (32 bit) and ParseBool.

    Each text of `stop` is one stop. Raises ValueError, whose message names the way out.
    """
    kind = OPTION_KINDS.get(name)
    if kind is None:
        like = difflib.get_close_matches(name[:40].lower(), OPTION_KINDS, 1)
        known = f"did you mean '{like[0]}'?" if like else f"one of: {', '.join(OPTION_KINDS)}"
        raise ValueError(f"unknown parameter '{_shown(name)}', {known}")
    if kind == "array":
        return (text,)
    if kind == "string":
        if text in CONTEXT_POLICIES:
            return text
        allowed = ", ".join(CONTEXT_POLICIES)
        raise ValueError(f"invalid value [{_shown(text)}] for {name}, one of: {allowed}")
    if kind == "boolean":
        if (boolean := human.parse_boolean(text)) is not None:
            return boolean
        raise ValueError(f"invalid bool value [{_shown(text)}] for {name}, write true or false")
    if kind == "integer":
        digits = _INTEGER.fullmatch(text)
        if digits and -(2**63) <= (integer := int(digits[1] + digits[2])) < 2**63:
            return integer
        raise ValueError(f"invalid int value [{_shown(text)}] for {name}, write a whole number")
    if (number := _float32(text)) is not None:
        return number
    raise ValueError(f"invalid float value [{_shown(text)}] for {name}, write a number like 0.7")


def _float32(text: str) -> float | None:
    """The shortest decimal that is the same 32-bit float: what Go prints of it. None if it is none, or not finite."""
    if len(text) > _LONGEST_NUMBER:
        return None
    try:
        if _FLOAT.fullmatch(text):
            number = float(text)
        elif _HEX_FLOAT.fullmatch(text):
            number = float.fromhex(text.replace("_", ""))
        else:
            return None
    except OverflowError:
        return None
    single = struct.pack("f", number)
    [rounded] = struct.unpack("f", single)
    if not math.isfinite(rounded):
        return None
    shorter = (float(f"{rounded:.{digits}g}") for digits in range(1, 9))
    return next(
        (short for short in shorter if struct.pack("f", short) == single), float(f"{rounded:.9g}")
    )


def read_version(instruction: Instruction) -> str:
    """The version in a REQUIRES, without a leading "v". Raises InvalidModelfile."""
    value = instruction.value
    version = _VERSION.fullmatch(value) if len(value) <= _LONGEST_NUMBER else None
    if version is None:
        raise instruction.error("requires must be a valid semver (e.g. 0.14.0)")
    return version[1]


def shell_reading(value: str) -> str:
    """A path as a shell would read it, where it is written for one: `./a\\ b` and `'a b'` are `./a b` and `a b`."""
    if not re.search(r"\\[ ()&'\"]|\A'.*'\Z", value, re.DOTALL):
        return value
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 else value


def local_path(value: str, folder: Path) -> Path:
    """The path of the value of FROM, ADAPTER or DRAFT: "~" and "~user" expanded, else relative to the Modelfile's folder.

    Where there is no such file, but one of the name that a shell would read, it is that.
    """
    path = folder / os.path.expanduser(value)
    if (plain := shell_reading(value)) != value and not os.path.lexists(path):
        other = folder / os.path.expanduser(plain)
        return other if os.path.lexists(other) else path
    return path

"""Read tool calls that are recognized only when they are complete: calls in Python's syntax, and Gemma's
``call:NAME{key:value}``.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .jsoncalls import FoundCall, parsed_object
from .segments import Segment, Text
from .tags import held
from .tools import Tools

MAX_SECTION = 65536
"""Characters. A longer section is text."""

MAX_TRIES = 8
"""How many closing tags may be part of a section's strings."""

Reader = Callable[[str, Tools], list[FoundCall] | None]


@dataclass(frozen=True)
class WholeForm:
    """``read`` finds the calls in the text between the tags (None: it is no call). ``lead`` is what may
    come before the first name, ``words`` are the words in it. Without ``closes`` a section ends with the answer."""

    read: Reader
    lead: str
    words: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()

    def takes(self, character: str) -> bool:
        return character not in ("{", "")

    def body(self, tools: Tools) -> WholeBody:
        return WholeBody(self, tools)


class WholeBody:
    """Reads one section in a :class:`WholeForm`."""

    def __init__(self, form: WholeForm, tools: Tools) -> None:
        self._form, self._tools = form, tools
        names = "|".join(map(re.escape, tools.names)) or "(?!)"
        self._lead = re.compile(rf"(?:{form.lead})(?:{names})")
        self._kept: list[str] = []
        self._size = 0
        self._tail = ""  # the end of what is kept, where a closing tag may have begun
        self._begun = False  # a known name has been seen
        self._tries = 0
        self._tag = ""
        self.cut_call = False

    def feed(self, text: str) -> tuple[list[Segment], str | None]:
        if not self._begun:
            text = self._tail + text
            self._tail = ""
            rest = self._begin(text)
            if rest is not None:
                return [Text(self._tag)], rest
            if not self._begun:
                self._tail = text
                return [], None
        return self._read(text)

    def flush(self, cut: bool = False) -> tuple[list[Segment], str | None]:
        text = "".join(self._kept) + self._tail
        called = self._called(text) if self._begun else []
        if called or not cut:
            return called or [Text(text)], None
        self.cut_call = True
        return [], None

    def _begin(self, text: str) -> str | None:
        """See whether the section begins with a known name; if it cannot any more, its text after
        the tag."""
        tags = (*self._form.opens, *self._form.starts)
        self._tag = next((tag for tag in tags if text.startswith(tag)), "")
        inside = text[len(self._tag) :]
        self._begun = self._lead.match(inside) is not None
        if self._begun or (len(inside) < 256 and self._may_begin(inside)):
            return None
        return inside

    def _may_begin(self, inside: str) -> bool:
        """Whether a known name may still come: but for a name's or the lead's beginning at the end,
        all is what may come before it."""
        for size in range(len(inside), -1, -1):
            before, tail = inside[:size], inside[size:]
            if any(name.startswith(tail) for name in self._tools.names):
                if re.fullmatch(self._form.lead, before):
                    return True
            if any(word.startswith(tail) for word in self._form.words):
                if not before.strip(" \t\r\n["):
                    return True
        return False

    def _read(self, text: str) -> tuple[list[Segment], str | None]:
        text = self._tail + text
        self._tail = ""
        while True:
            ends = ((text.find(tag), tag) for tag in self._form.closes)
            at, tag = min(((at, tag) for at, tag in ends if at >= 0), default=(-1, ""))
            if at < 0:
                keep = held(text, self._form.closes)
                self._add(text[: len(text) - keep])
                self._tail = text[len(text) - keep :]
                if self._size > MAX_SECTION:
                    return [Text("".join(self._kept))], self._tail
                return [], None
            self._add(text[:at])
            called = self._called("".join(self._kept))
            if called:
                return called, text[at + len(tag) :]
            self._add(tag)
            text = text[at + len(tag) :]
            self._tries += 1
            if self._tries == MAX_TRIES or self._size > MAX_SECTION:
                return [Text("".join(self._kept))], text

    def _add(self, text: str) -> None:
        self._kept.append(text)
        self._size += len(text)

    def _called(self, text: str) -> list[Segment]:
        inside = text.removeprefix(self._tag) if self._tag in self._form.opens else text
        segments: list[Segment] = []
        for found in self._form.read(inside, self._tools) or ():
            call = self._tools.call(found.name, found.id)
            segments += call.piece(json.dumps(found.arguments, ensure_ascii=False))
            segments += call.done(found.arguments)
        return segments


# ---- Python --------------------------------------------------------------------------------------


def python_calls(text: str, tools: Tools) -> list[FoundCall] | None:
    """The calls in ``f(x=1)``, ``[f(x=1), g()]`` or lines of them; None if anything else is there or
    a function is unknown. ``f.call(x=1)`` is f, ``print(f(x=1))`` is f, ``null`` is None."""
    try:
        tree = ast.parse(_escaped(text.strip()))
        calls: list[FoundCall] = []
        for statement in tree.body:
            value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
            items = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
            for item in items:
                call = _python_call(item, tools)
                if call is None:
                    return None
                calls.append(call)
        return calls
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _escaped(text: str) -> str:
    """``text`` with line breaks in strings escaped: models write them as they are."""
    return _STRING.sub(lambda found: found[0].replace("\n", "\\n"), text) if "\n" in text else text


# A string without an end extends to the end of the text: so every beginning is looked at once.
_STRING = re.compile(
    r"""\"{3}(?:[^\\]|\\.?)*?(?:\"{3}|\Z)|'{3}(?:[^\\]|\\.?)*?(?:'{3}|\Z)"""
    r"""|"(?:[^"\\]|\\.?)*(?:"|\Z)|'(?:[^'\\]|\\.?)*(?:'|\Z)""",
    re.DOTALL,
)


def _python_call(node: ast.AST | None, tools: Tools) -> FoundCall | None:
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func)
    if name == "print" and name not in tools.parameters and len(node.args) == 1:
        return _python_call(node.args[0], tools)
    if name not in tools.parameters:
        name = name.removesuffix(".call").removeprefix("functions.")
    if name not in tools.parameters:
        return None
    keys = list(tools.properties(name))
    if len(node.args) > len(keys) or any(keyword.arg is None for keyword in node.keywords):
        return None
    values = dict(zip(keys, node.args, strict=False))
    values |= {keyword.arg or "": keyword.value for keyword in node.keywords}
    arguments = {key: _python_value(value) for key, value in values.items()}
    return FoundCall(name, json.loads(json.dumps(arguments, allow_nan=False)))


_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


def _python_value(node: ast.expr) -> Any:
    """The value of a literal; ValueError if it is none."""
    match node:
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_python_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            if any(not isinstance(key, ast.Constant) for key in keys):
                raise ValueError("a key is no literal")
            named = [str(key.value) for key in keys if isinstance(key, ast.Constant)]
            return dict(zip(named, map(_python_value, values), strict=True))
        case ast.Constant(value=value) if value is None or isinstance(value, (str, int, float)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if isinstance(
            value, (int, float)
        ):
            return -value
    raise ValueError("an argument is no literal")


# ---- Gemma's own ---------------------------------------------------------------------------------

_CALL = re.compile(r"\s*call:\s*([^\s{]+)\s*(?=\{)")
_TOKEN = re.compile(
    r'<\|"\|>(?P<string>.*?)<\|"\|>|<escape>(?P<escaped>.*?)<escape>|(?P<json>"(?:[^"\\]|\\.)*")'
    r"|(?P<mark>[{}\[\],:])|(?P<bare>[^\s{}\[\],:<\"]+)",
    re.DOTALL,
)
_COLON = re.compile(r"\s*:")


def gemma_calls(text: str, tools: Tools) -> list[FoundCall] | None:
    """The call in ``call:f{key:<|"|>text<|"|>,other:[1,true]}`` (or with ``<escape>`` for quotes)."""
    head = _CALL.match(text)
    if head is None or head[1] not in tools.parameters:
        return None
    pieces: list[str] = []
    at = head.end()
    for token in _TOKEN.finditer(text, at):
        if text[at : token.start()].strip():
            return None
        at = token.end()
        quoted = token["string"] if token["string"] is not None else token["escaped"]
        if quoted is not None:
            pieces.append(json.dumps(quoted))
        elif token["bare"] is None:
            pieces.append(token[0])
        else:
            is_key = _COLON.match(text, at) is not None
            pieces.append(json.dumps(token[0]) if is_key else _bare(token[0]))
    arguments = parsed_object("".join(pieces)) if not text[at:].strip() else None
    return None if arguments is None else [FoundCall(head[1], arguments)]


def _bare(word: str) -> str:
    """A value without quotes, as JSON: a number, a JSON word, or a text."""
    if word in ("true", "false", "null") or re.fullmatch(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", word):
        return word
    return json.dumps(word)

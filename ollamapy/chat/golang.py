"""Go templates as Ollama uses them: the evaluator, the three ways a template is executed, and the
tags that can be read off it.

``parse(text)`` gives a :class:`GoTemplate`; its ``execute`` makes a prompt. The semantics are those
of Go's text/template with missingkey=zero, of Ollama's four functions and of Ollama's own data; the
rule that explains most surprises: a value is whatever Go's reflection would see, and a nil inside
an interface (:data:`NIL`) is not yet no value (:data:`INVALID`).

A template is a stranger's program. What it can reach is what ``govalues.py`` lists. Text
(16 million characters, and four times that for what it makes on the way), steps (two million) and
depth are bounded here; time and memory are the render child's affair, which is killed after a
second. Nothing here reads or writes anything but the clock, for the current date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import quote_plus

from ..errors import TemplateError
from .goprint import sprint, sprintf, sprintln, to_json
from .gosyntax import (
    GO_SPACES,
    Action,
    Branch,
    Call,
    Chain,
    Dot,
    Field,
    Literal,
    NilWord,
    Node,
    Nodes,
    Pipe,
    Statement,
    Text,
    Variable,
    parse_trees,
)
from .gosyntax import Function as FunctionName
from .govalues import (
    BYTES,
    INVALID,
    MAX_CHARACTERS,
    MESSAGES,
    NIL,
    OBJECT,
    Function,
    GoError,
    Map,
    Pointer,
    Slice,
    Struct,
    Uint8,
    Value,
    clean,
    from_bytes,
    joined,
    kind_of,
    message_value,
    to_bytes,
    to_text,
    tools_value,
    type_name,
    typescript_type,
)

MAX_STEPS = 2_000_000
"""Statements and calls of one render; a second is enough for about half of them."""

MAX_MADE = 4 * MAX_CHARACTERS
"""Characters that a template's functions may make in one render, all together."""

MAX_CALLS = 800
"""Templates within templates: some walk along a text so. The render child's stack is made for it."""


# ---- builtin functions ---------------------------------------------------------------------------


def truth(value: Value) -> bool:
    """Whether ``if`` takes it: anything but the zero of its type; a struct always."""
    if isinstance(value, Slice):
        return value.length > 0
    if isinstance(value, Map):
        return bool(value.entries)
    if isinstance(value, Pointer):
        return value.target is not None
    if value is INVALID or value is NIL:
        return False
    if isinstance(value, (Struct, Function)):
        return True
    return bool(value)


def _is_nil(value: Value) -> bool:
    if isinstance(value, (Slice, Map)):
        return value.is_nil
    return value is INVALID or (isinstance(value, Pointer) and value.target is None)


_COMPARED = {
    "bool": "bool",
    "int": "int",
    "uint8": "int",  # signs differ, values compare
    "float64": "float",
    "complex128": "complex",
    "string": "string",
}


def _incompatible(first: Value, second: Value) -> NoReturn:
    raise GoError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")


def _equal(first: Value, *others: Value) -> bool:
    """``eq``: whether the first equals any of the others. Values of unlike types cannot be
    compared, but nothing compares with nil as unequal."""
    if not others:
        raise GoError("missing argument for comparison")
    first = INVALID if first is NIL else first
    kind = _COMPARED.get(kind_of(first))
    for other in others:
        other = INVALID if other is NIL else other
        if _COMPARED.get(kind_of(other)) != kind:
            if first is not INVALID and other is not INVALID:
                _incompatible(first, other)
        elif kind is not None:
            if first == other:
                return True
        elif _equal_references(first, other):
            return True
    return False


def _equal_references(first: Value, other: Value) -> bool:
    """Maps, slices, pointers, structs: only pointers can be equal; the others compare with nil."""
    kinds = {kind_of(first), kind_of(other)}
    if len(kinds) > 1 and "invalid" not in kinds:
        raise GoError(f"non-comparable types {type_name(first)}, {type_name(other)}")
    if _is_nil(first) or _is_nil(other):
        return _is_nil(first) and _is_nil(other)
    if not isinstance(other, Pointer):
        raise GoError(f"non-comparable type {type_name(other)}")
    return isinstance(first, Pointer) and first.target is other.target


def _less(first: Value, second: Value) -> bool:
    """``lt``: numbers of one sort, or strings byte by byte (which is the order of code points)."""
    kinds = [_COMPARED.get(kind_of(value)) for value in (first, second)]
    if None in kinds:
        raise GoError("invalid type for comparison")
    if kinds[0] != kinds[1]:
        _incompatible(first, second)
    if kinds[0] in ("bool", "complex"):
        raise GoError("invalid type for comparison")
    if kinds[0] == "string":
        return to_bytes(first) < to_bytes(second)
    return bool(first < second)


def _less_or_equal(first: Value, second: Value) -> bool:
    return _less(first, second) or _equal(first, second)


def _length(value: Value) -> int:
    value = _followed(value, "len")
    if isinstance(value, str):
        return len(value) if value.isascii() else len(to_bytes(value))
    if isinstance(value, Slice):
        return value.length
    if isinstance(value, Map):
        return len(value.entries)
    raise GoError(f"len of type {type_name(value)}")


def _followed(value: Value, doing: str) -> Value:
    """``value`` with its pointer followed; nil is an error."""
    if value is INVALID or value is NIL:
        raise GoError(f"{doing} of untyped nil")
    if isinstance(value, Pointer):
        if value.target is None:
            raise GoError(f"{doing} of nil pointer")
        return value.target
    return value


def _place(index: Value, limit: int) -> int:
    """An index into a string or slice; ``limit`` itself is still in range."""
    if type(index) not in (int, Uint8):
        kind = "nil" if index is INVALID or index is NIL else f"type {type_name(index)}"
        raise GoError(f"cannot index slice/array with {kind}")
    if not 0 <= index <= limit:
        raise GoError(f"index out of range: {index}")
    return int(index)


def _index(item: Value, *indexes: Value) -> Value:
    if item is INVALID or item is NIL:
        raise GoError("index of untyped nil")
    for index in indexes:
        item = _followed(item, "index")
        if isinstance(item, Map):
            if type(index) is not str:
                raise GoError(f"value has type {type_name(index)}; should be string")
            item = item.get(index)
        elif isinstance(item, (str, Slice)):
            if isinstance(item, str):
                item = Slice(BYTES, to_bytes(item))
            place = _place(index, item.length)
            if place == item.length:
                raise GoError(f"index out of range: {place}")
            item = item.at(place)
        else:
            raise GoError(f"can't index item of type {type_name(item)}")
    return item


def _slice(item: Value, *indexes: Value) -> Value:
    """``slice x i j k`` is Go's x[i:j:k]; a slice may grow again up to its capacity."""
    item = _followed(item, "slice")
    if len(indexes) > 3:
        raise GoError(f"too many slice indexes: {len(indexes)}")
    if isinstance(item, str):
        if len(indexes) == 3:
            raise GoError("cannot 3-index slice a string")
        data = to_bytes(item)
        start, end = _window(indexes, len(data), len(data))[:2]
        return from_bytes(data[start:end])
    if not isinstance(item, Slice):
        raise GoError(f"can't slice item of type {type_name(item)}")
    start, end, cap = _window(indexes, item.length, item.cap)
    backing = None if item.is_nil else item.backing
    return Slice(item.type, backing, item.start + start, end - start, cap - start)


def _window(indexes: Sequence[Value], length: int, cap: int) -> tuple[int, int, int]:
    places = [0, length, cap]
    for position, index in enumerate(indexes):
        places[position] = _place(index, cap)
    start, end, most = places
    if start > end or (len(indexes) == 3 and end > most):
        raise GoError(f"invalid slice index: {start} > {end} or {end} > {most}")
    return start, end, most


def _printable(value: Value) -> Value:
    """What stands for ``value`` in text: the target of a pointer, words for no value."""
    if isinstance(value, Pointer) and value.target is not None:
        return value.target
    return "<no value>" if value is INVALID or value is NIL else value


def _as_text(values: Sequence[Value]) -> str:
    """The operands of html, js and urlquery as one string."""
    return sprint([_printable(value) for value in values])


_HTML = str.maketrans(
    {'"': "&#34;", "'": "&#39;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\ufffd"}
)
_JS = {
    **{code: f"\\u{code:04X}" for code in (*range(0x20), *map(ord, "<>&="))},
    **{ord(char): "\\" + char for char in "\\'\""},
}


def _js(*values: Value) -> str:
    text = _as_text(values).translate(_JS)
    if text.isascii():
        return text
    return "".join(
        char
        if char.isascii() or char.isprintable() or "\udc80" <= char <= "\udcff"
        else f"\\u{ord(char):04X}"
        for char in text
    )


def _call(function: Value, *_: Value) -> NoReturn:
    """No data of ours holds a function that a template could call."""
    raise GoError(f"non-function of type {type_name(function)}")


def _current_date(*_: str) -> str:
    return date.today().isoformat()


def _yesterday(*_: str) -> str:
    return (date.today() - timedelta(days=1)).isoformat()


@dataclass(frozen=True, slots=True)
class _Builtin:
    """A function: how many operands it must have, how many it may have (None: any number), and
    the parameters, counted from the first, that take strings only (None: all)."""

    run: Callable[..., Value]
    least: int = 1
    most: int | None = 1
    strings: int | None = 0


_BUILTINS: dict[str, _Builtin] = {
    "call": _Builtin(_call, 1, None),
    "html": _Builtin(lambda *values: _as_text(values).translate(_HTML), 0, None),
    "index": _Builtin(_index, 1, None),
    "slice": _Builtin(_slice, 1, None),
    "js": _Builtin(_js, 0, None),
    "len": _Builtin(_length),
    "not": _Builtin(lambda value: not truth(value)),
    "print": _Builtin(lambda *values: sprint(values), 0, None),
    "printf": _Builtin(lambda form, *values: sprintf(form, values), 1, None, 1),
    "println": _Builtin(lambda *values: sprintln(values), 0, None),
    "urlquery": _Builtin(lambda *values: quote_plus(to_bytes(_as_text(values)), safe=""), 0, None),
    "eq": _Builtin(_equal, 1, None),
    "ne": _Builtin(lambda first, second: not _equal(first, second), 2, 2),
    "lt": _Builtin(_less, 2, 2),
    "le": _Builtin(_less_or_equal, 2, 2),
    "gt": _Builtin(lambda first, second: not _less_or_equal(first, second), 2, 2),
    "ge": _Builtin(lambda first, second: not _less(first, second), 2, 2),
}
_SHORT_CIRCUIT = {"and": False, "or": True}

_GO_BUILTINS = frozenset({*_BUILTINS, *_SHORT_CIRCUIT})

_EXTRA: dict[str, _Builtin] = {
    "json": _Builtin(to_json),
    "currentDate": _Builtin(_current_date, 0, None, None),
    "yesterdayDate": _Builtin(_yesterday, 0, None, None),
    "toTypeScriptType": _Builtin(typescript_type),
}
_FUNCTIONS = {**_BUILTINS, **_EXTRA}


# ---- the evaluator -------------------------------------------------------------------------------

_NONE = object()
"""No value comes down the pipeline."""

_BREAK, _CONTINUE = 1, 2
"""How a list of statements can end before its end."""


class _State:
    """One execution: the text so far, the variables in scope, and what it may still spend.

    ``zero_keys``: whether a missing key of a map gives the zero value of its elements (NIL, mostly)
    or no value, as in Go's default.
    """

    def __init__(
        self, trees: Mapping[str, Nodes], functions: Mapping[str, _Builtin], zero_keys: bool
    ) -> None:
        self.trees = trees
        self.functions = functions
        self.zero_keys = zero_keys
        self.pieces: list[str] = []
        self.size = 0
        self.made = 0
        self.steps = 0
        self.calls = 0
        self.line = 1
        self.variables: list[tuple[str, Value]] = []

    # ---- statements

    def execute(self, dot: Value) -> str:
        """The text that the template "" makes of ``dot``. Raises :class:`TemplateError`."""
        self.variables = [("$", dot)]
        try:
            self.walk(dot, self.trees[""])
            return joined(self.pieces)
        except GoError as error:
            what = str(error)
        except RecursionError:
            what = "it nests too deeply"
        raise TemplateError(f"the model's chat template failed in line {self.line}: {what}")

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_CHARACTERS:
            raise GoError("it makes more than 16 million characters")
        self.pieces.append(text)

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise GoError(f"it takes more than {MAX_STEPS} steps")

    def walk(self, dot: Value, nodes: Nodes) -> int:
        """Execute the statements in order; 0, or how a loop around them goes on."""
        for node in nodes:
            self.step()
            if isinstance(node, Text):
                self.write(node.text)
            elif isinstance(node, Action):
                self.action(dot, node)
            elif isinstance(node, Branch):
                run = self.loop if node.kind == "range" else self.branch
                if ended := run(dot, node):
                    return ended
            elif isinstance(node, Call):
                self.call(dot, node)
            else:
                return _BREAK if node.is_break else _CONTINUE
        return 0

    def action(self, dot: Value, node: Action) -> None:
        self.line = node.line
        value = self.pipeline(dot, node.pipe)
        if node.pipe.declared:
            return
        if type(value) is str:
            self.write(value)
            return
        if isinstance(value, Function):
            raise GoError(f"can't print a value of type {value.type.name}")
        self.write(self.spent(sprint([_printable(value)])))

    def branch(self, dot: Value, node: Branch) -> int:
        """``if`` and ``with``. Variables of the condition are known in the else too."""
        self.line = node.line
        mark = len(self.variables)
        value = self.pipeline(dot, node.pipe)
        if truth(value):
            ended = self.walk(value if node.kind == "with" else dot, node.body)
        else:
            ended = self.walk(dot, node.otherwise or ())
        del self.variables[mark:]
        return ended

    def loop(self, dot: Value, node: Branch) -> int:
        """``range``. Break and continue end here; only the else can hand one on, to an outer loop."""
        self.line = node.line
        start = len(self.variables)
        value = self.pipeline(dot, node.pipe)
        mark = len(self.variables)
        looped = False
        for key, element in self.iterate(value, len(node.pipe.declared)):
            looped = True
            self.step()
            self.bind(node.pipe, key, element)
            ended = self.walk(element, node.body)
            del self.variables[mark:]
            if ended == _BREAK:
                break
        ended = 0 if looped else self.walk(dot, node.otherwise or ())
        del self.variables[start:]
        return ended

    def iterate(self, value: Value, declared: int) -> Any:
        """Pairs of index or key and element, in order."""
        if isinstance(value, Pointer) and value.target is not None:
            value = value.target
        if isinstance(value, Slice):
            return ((place, value.at(place)) for place in range(value.length))
        if isinstance(value, Map):
            return sorted(value.entries.items(), key=lambda entry: to_bytes(entry[0]))
        if type(value) in (int, Uint8):
            if declared > 1:
                raise GoError(f"can't use {value} to iterate over more than one variable")
            return ((INVALID, type(value)(number)) for number in range(value))
        if value is INVALID or value is NIL:
            return ()
        if isinstance(value, Function):
            return value.pairs if declared > 1 else [(INVALID, key) for key, _ in value.pairs]
        raise GoError(f"range can't iterate over a value of type {type_name(value)}")

    def bind(self, pipe: Pipe, key: Value, element: Value) -> None:
        """Give this turn's values to the variables of the loop, which lie on top of the stack."""
        names = pipe.declared
        if not names:
            return
        if pipe.assigns:
            if len(names) > 1:
                self.assign(names[0], key)
            self.assign(names[-1], element)
            return
        self.variables[-1] = (names[-1], element)
        if len(names) > 1:
            self.variables[-2] = (names[0], key)

    def call(self, dot: Value, node: Call) -> None:
        """``template``: it knows its dot as $ and no other variable."""
        self.line = node.line
        nodes = self.trees.get(node.name)
        if nodes is None:
            raise GoError(f"template {to_text(node.name)!r} not defined")
        if self.calls >= MAX_CALLS:
            raise GoError(f"exceeded maximum template depth ({MAX_CALLS})")
        dot = self.pipeline(dot, node.pipe) if node.pipe else INVALID
        outside = self.variables
        self.variables = [("$", dot)]
        self.calls += 1
        self.walk(dot, nodes)
        self.calls -= 1
        self.variables = outside

    # ---- variables

    def value_of(self, name: str) -> Value:
        for known, value in reversed(self.variables):
            if known == name:
                return value
        raise GoError(f"undefined variable: {name}")

    def assign(self, name: str, value: Value) -> None:
        for place in range(len(self.variables) - 1, -1, -1):
            if self.variables[place][0] == name:
                self.variables[place] = (name, value)
                return
        raise GoError(f"undefined variable: {name}")

    # ---- expressions

    def pipeline(self, dot: Value, pipe: Pipe) -> Value:
        """The value of the last command; each gets the one before as its last operand."""
        value: Value = _NONE
        for command in pipe.commands:
            value = self.command(dot, command, value)
            if value is NIL:  # Go looks into the interface, and finds nothing
                value = INVALID
        for name in pipe.declared:
            if pipe.assigns:
                self.assign(name, value)
            else:
                self.variables.append((name, value))
        return value

    def command(self, dot: Value, command: tuple[Node, ...], final: Value) -> Value:
        first = command[0]
        arguments = command[1:]
        if isinstance(first, Field):
            return self.fields(dot, first.names, arguments, final)
        if isinstance(first, FunctionName):
            return self.function(dot, first.name, arguments, final)
        if isinstance(first, Chain):
            return self.fields(self.operand(dot, first.node), first.names, arguments, final)
        if isinstance(first, Variable) and len(first.names) > 1:
            return self.fields(self.value_of(first.names[0]), first.names[1:], arguments, final)
        if arguments or final is not _NONE:
            raise GoError("can't give argument to non-function")
        if isinstance(first, NilWord):
            raise GoError("nil is not a command")
        return self.operand(dot, first)

    def operand(self, dot: Value, node: Node) -> Value:
        """The value of an operand where any type will do; nil is INVALID."""
        if isinstance(node, Field):
            return self.fields(dot, node.names)
        if isinstance(node, Literal):
            if node.value is None:
                raise GoError("a number overflows int")
            return node.value
        if isinstance(node, Variable):
            value = self.value_of(node.names[0])
            return self.fields(value, node.names[1:]) if len(node.names) > 1 else value
        if isinstance(node, Pipe):
            return self.pipeline(dot, node)
        if isinstance(node, Dot):
            return dot
        if isinstance(node, FunctionName):
            return self.function(dot, node.name)
        if isinstance(node, Chain):
            return self.fields(self.operand(dot, node.node), node.names)
        return INVALID

    def fields(
        self,
        receiver: Value,
        names: tuple[str, ...],
        arguments: tuple[Node, ...] = (),
        final: Value = _NONE,
    ) -> Value:
        """``.A.B operand``: only the last field could take operands, and only as a method."""
        for name in names[:-1]:
            receiver = self.field(receiver, name, False)
        return self.field(receiver, names[-1], bool(arguments) or final is not _NONE)

    def field(self, receiver: Value, name: str, has_arguments: bool) -> Value:
        """A method, a field of a struct or a key of a map; no value has no fields but gives none
        either, nil is an error."""
        if receiver is INVALID:
            return INVALID
        if receiver is NIL:
            raise GoError(f"nil pointer evaluating interface {{}}.{name}")
        if type(receiver) not in _WITH_FIELDS:
            raise GoError(f"can't evaluate field {name} in type {type_name(receiver)}")
        type_ = receiver.type
        method = type_.methods.get(name)
        if method is None and isinstance(receiver, Pointer):
            if receiver.target is None:
                raise GoError(f"nil pointer evaluating {type_.name}.{name}")
            receiver = receiver.target
            method = receiver.type.methods.get(name)
        if has_arguments:
            raise GoError(f"{name} cannot be given arguments")
        if method is not None:
            return self.checked(method(receiver))
        if isinstance(receiver, Map):
            if name in receiver.entries:
                return receiver.entries[name]
            return receiver.get(name) if self.zero_keys else INVALID
        if isinstance(receiver, Struct) and name and name in receiver.values:
            return receiver.values[name]
        raise GoError(f"can't evaluate field {name} in type {type_.name}")

    # ---- functions

    def function(
        self, dot: Value, name: str, arguments: tuple[Node, ...] = (), final: Value = _NONE
    ) -> Value:
        self.step()
        count = len(arguments) + (final is not _NONE)
        if name in _SHORT_CIRCUIT:
            if not count:
                raise GoError(f"wrong number of args for {name}: want at least 1 got 0")
            return self.short_circuit(dot, _SHORT_CIRCUIT[name], arguments, final)
        builtin = self.functions.get(name)
        if builtin is None:
            raise GoError(f'"{name}" is not a defined function')
        if count < builtin.least or (builtin.most is not None and count > builtin.most):
            raise GoError(f"wrong number of args for {name}: got {count}")
        strings = count if builtin.strings is None else builtin.strings
        values = []
        for place, node in enumerate(arguments):
            value = self.operand(dot, node)
            if place < strings:
                _need_string(value)
            values.append(value)
        if final is not _NONE:
            if count <= strings:
                _need_string(final)
            values.append(final)
        try:
            return self.checked(builtin.run(*values))
        except GoError as error:
            raise GoError(f"error calling {name}: {error}") from None

    def short_circuit(
        self, dot: Value, wanted: bool, arguments: tuple[Node, ...], final: Value
    ) -> Value:
        """``and`` and ``or``: the first operand that decides, else the last."""
        value: Value = INVALID
        for node in arguments:
            value = self.operand(dot, node)
            if truth(value) == wanted:
                return value
        return value if final is _NONE else final

    def checked(self, value: Value) -> Value:
        """``value``, its length counted if it is text."""
        return self.spent(value) if type(value) is str else value

    def spent(self, text: str) -> str:
        self.made += len(text)
        if self.made > MAX_MADE or len(text) > MAX_CHARACTERS:
            raise GoError("it makes too much text")
        return text


_WITH_FIELDS = frozenset({Map, Struct, Pointer, Slice, Function})


def _need_string(value: Value) -> None:
    if type(value) is not str:
        raise GoError(f"wrong type for value; expected string; got {type_name(value)}")


# ---- Ollama's use of it --------------------------------------------------------------------------

_RESPONSE = Action(Pipe(((Field(("Response",)),),)), 1)


@dataclass(frozen=True, slots=True)
class GoTemplate:
    """A parsed template; ``trees`` are its templates by name, the main one "".

    ``variables`` are the names of all fields and variables in it, lower case, sorted.
    """

    source: str
    trees: Mapping[str, Nodes]
    variables: tuple[str, ...]

    def execute(
        self,
        messages: Sequence[Mapping[str, Any]] = (),
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        think: bool | None = None,
        think_level: str = "",
        prompt: str = "",
        suffix: str = "",
    ) -> str:
        """The prompt, in the way that Ollama chooses for this template.

        1. With a prompt and a suffix: these two alone.
        2. With .Messages in the template: once, over all messages.
        3. Else turn by turn: system, prompt and response, the last turn cut at its response.

        ``messages`` and ``tools`` have the shapes of Ollama's API; tools None means none were given.
        ``think`` None means not asked for; see :func:`think_level`. Raises :class:`TemplateError`.
        """
        thinking = {
            "Think": bool(think),
            "ThinkLevel": clean(think_level),
            "IsThinkSet": think is not None,
        }
        try:
            if prompt and suffix:
                asked = {"Prompt": clean(prompt), "Suffix": clean(suffix), "Response": ""}
                return to_text(self._whole({**asked, **thinking}))
            collated = collate([message_value(message) for message in messages])
            if "messages" in self.variables:
                data = {
                    "System": _system(messages),
                    "Messages": Slice(MESSAGES, collated or None),
                    "Tools": tools_value(tools),
                    "Response": "",
                }
                return to_text(self._whole({**data, **thinking}))
            return to_text(self._turns(collated, thinking))
        except RecursionError:
            raise TemplateError("the messages or tools nest too deeply") from None
        except MemoryError:
            raise TemplateError("the model's chat template needs too much memory") from None

    def _whole(self, data: dict[str, Value]) -> str:
        return _State(self.trees, _FUNCTIONS, True).execute(Map(OBJECT, data))

    def _turns(self, messages: Sequence[Pointer], thinking: Mapping[str, Value]) -> str:
        """A turn ends where its parts would be overwritten; tool messages have no part in it."""
        pieces: list[str] = []
        turn = dict.fromkeys(("System", "Prompt", "Response"), "")

        def flush() -> None:
            pieces.append(self._whole({**turn, **thinking}))
            turn.update(System="", Prompt="", Response="")
            if sum(map(len, pieces)) > MAX_CHARACTERS:
                raise TemplateError(
                    "the model's chat template makes more than 16 million characters"
                )

        for message in messages:
            assert message.target is not None
            values = message.target.values
            role = values["Role"]
            if role == "system":
                if turn["Prompt"] or turn["Response"]:
                    flush()
                turn["System"] = values["Content"]
            elif role == "user":
                if turn["Response"]:
                    flush()
                turn["Prompt"] = values["Content"]
            elif role == "assistant":
                turn["Response"] = values["Content"]
        # Ollama executes what is left as a template of its own: without Ollama's functions, without
        # the templates defined inside, and without missingkey=zero.
        last = _State({"": cut(self.trees[""])}, _BUILTINS, False)
        pieces.append(last.execute(Map(OBJECT, {**turn, **thinking})))
        return joined(pieces)


@lru_cache(maxsize=8)
def parse(text: str) -> GoTemplate:
    """The template in ``text``; TemplateError, with the line, for what Go or Ollama does not accept.

    One that mentions neither .Messages nor .Response gets the response at its end.
    """
    trees = parse_trees(text, _GO_BUILTINS | _EXTRA.keys())
    names: set[str] = set()
    try:
        for nodes in trees.values():
            _collect_names(nodes, names)
    except RecursionError:
        raise TemplateError("the model's chat template nests too deeply") from None
    if not names & {"messages", "response"}:
        trees[""] = (*trees[""], _RESPONSE)
        names.add("response")
    return GoTemplate(text, trees, tuple(sorted(names)))


def capabilities(template: GoTemplate) -> tuple[str, ...]:
    """What the template can do, in Ollama's words and order: tools, insert, thinking."""
    found = {
        "tools": "tools" in template.variables,
        "insert": "suffix" in template.variables,
        "thinking": all(thinking_tags(template)),
    }
    return tuple(name for name, present in found.items() if present)


def think_level(think: bool | str | None) -> str:
    """What .ThinkLevel is for a request's ``think``: a level as it is, true is medium."""
    return think if isinstance(think, str) else "medium" if think else ""


def collate(messages: Sequence[Pointer]) -> list[Pointer]:
    """Messages of one role in a row become the first of them, their contents joined by an empty
    line; messages of tools stay apart."""
    collated: list[Pointer] = []
    for message in messages:
        assert message.target is not None
        values = message.target.values
        last = collated[-1].target.values if collated and collated[-1].target else None
        if last is not None and last["Role"] == values["Role"] != "tool":
            last["Content"] += "\n\n" + values["Content"]
        else:
            collated.append(message)
    return collated


def _system(messages: Sequence[Mapping[str, Any]]) -> str:
    contents = (m.get("content") for m in messages if m.get("role") == "system")
    return "\n\n".join(clean(text) if isinstance(text, str) else "" for text in contents)


def _collect_names(nodes: Sequence[Statement | Node], names: set[str]) -> None:
    """The names of fields and variables, lower case. Fields of a chain do not count, nor variables
    that are only declared: so it is in Ollama."""
    for node in nodes:
        if isinstance(node, (Field, Variable)):
            names.update("".join(map(str.lower, name)) for name in node.names)
        elif isinstance(node, Pipe):
            for command in node.commands:
                _collect_names(command, names)
        elif isinstance(node, Action):
            _collect_names((node.pipe,), names)
        elif isinstance(node, Branch):
            _collect_names((node.pipe,), names)
            _collect_names(node.body, names)
            _collect_names(node.otherwise or (), names)
        elif isinstance(node, Call):
            if node.pipe is None:
                raise TemplateError(
                    f"the model's chat template is wrong in line {node.line}: "
                    "{{ template }} needs a value after the name"
                )
            _collect_names((node.pipe,), names)


# ---- the last turn -------------------------------------------------------------------------------


def cut(nodes: Nodes) -> Nodes:
    """The statements up to and including the first .Response; conditions are not looked into.

    Raises :class:`TemplateError` where that stands in a branch that has an else: Ollama cannot.
    """
    return _Cut().nodes(nodes)


class _Cut:
    """``done``: the response has been met, and all that follows goes."""

    def __init__(self) -> None:
        self.done = False

    def nodes(self, nodes: Nodes) -> Nodes:
        kept = []
        for node in nodes:
            if self.done:
                break
            remains = self.statement(node)
            if remains is not None:
                kept.append(remains)
        return tuple(kept)

    def statement(self, node: Statement) -> Statement | None:
        if isinstance(node, Action):
            pipe = self.pipe(node.pipe)
            return None if pipe is None else replace(node, pipe=pipe)
        if not isinstance(node, Branch):
            return node
        body = self.nodes(node.body)
        if node.otherwise is None:
            return replace(node, body=body)
        if self.done:
            raise TemplateError(
                f"the model's chat template fails in line {node.line}: "
                "a {{ .Response }} in a block that has an {{ else }} cannot end the prompt"
            )
        return replace(node, body=body, otherwise=self.nodes(node.otherwise))

    def pipe(self, pipe: Pipe) -> Pipe | None:
        """Operands after the response go; a command that loses all of them takes the rest along."""
        commands = []
        for command in pipe.commands:
            operands = [kept for node in command if (kept := self.operand(node)) is not None]
            if not operands:
                return None
            commands.append(tuple(operands))
        return replace(pipe, commands=tuple(commands))

    def operand(self, node: Node) -> Node | None:
        if self.done:
            return None
        if isinstance(node, Pipe):
            return self.pipe(node)
        if isinstance(node, Field) and "Response" in node.names:
            self.done = True
        return node


# ---- tags ----------------------------------------------------------------------------------------


def thinking_tags(template: GoTemplate) -> tuple[str, str]:
    """What stands before and after a message's thinking, "" where nothing was found.

    Ollama's heuristic: within a range over .Messages, the list of statements nearest to a
    .Thinking; its first and its last text are the tags. The last .Thinking wins.
    """
    tags = ["", ""]

    def visit(nodes: Nodes, over_messages: bool) -> None:
        for node in nodes:
            if isinstance(node, Branch):
                inside = over_messages
                if node.kind == "range":
                    inside = any(field.names[0] == "Messages" for field in _fields_of(node.pipe))
                look(nodes, node.pipe, inside)
                visit(node.body, inside)
                visit(node.otherwise or (), inside)
            elif isinstance(node, (Action, Call)) and node.pipe is not None:
                look(nodes, node.pipe, over_messages)

    def look(nodes: Nodes, pipe: Pipe, over_messages: bool) -> None:
        if over_messages and any(field.names[0] == "Thinking" for field in _fields_of(pipe)):
            for place, end in enumerate((nodes[0], nodes[-1])):
                if isinstance(end, Text):
                    tags[place] = end.text.strip(GO_SPACES)

    visit(template.trees[""], False)
    return tags[0], tags[1]


def _fields_of(pipe: Pipe) -> list[Field]:
    """The fields of dot in a pipeline, those in parentheses too."""
    found: list[Field] = []
    for command in pipe.commands:
        for node in command:
            if isinstance(node, Field):
                found.append(node)
            elif isinstance(node, Pipe):
                found.extend(_fields_of(node))
    return found


def tool_tag(template: GoTemplate) -> str:
    """What stands before a tool call: the first text in the first ``if`` on .ToolCalls, up to a
    brace; ``{`` where there is none."""
    branch = _on_tool_calls(template.trees[""])
    text = None if branch is None else _first_text(branch.body)
    if text is None:
        return "{"
    return text.strip(GO_SPACES).replace("\r\n", "\n").split("{")[0] or "{"


def _on_tool_calls(nodes: Nodes) -> Branch | None:
    for node in nodes:
        if not isinstance(node, Branch):
            continue
        operands = [operand for command in node.pipe.commands for operand in command]
        if node.kind == "if" and any(
            isinstance(operand, Field) and "ToolCalls" in operand.names for operand in operands
        ):
            return node
        found = _on_tool_calls(node.body) or _on_tool_calls(node.otherwise or ())
        if found is not None:
            return found
    return None


def _first_text(nodes: Nodes) -> str | None:
    """The first text, looked for in blocks too, but not past an action or a block."""
    for node in nodes:
        if isinstance(node, Text):
            return node.text
        if isinstance(node, Branch):
            text = _first_text(node.body)
            return text if text is not None else _first_text(node.otherwise or ())
        if isinstance(node, Action):
            return None
    return None

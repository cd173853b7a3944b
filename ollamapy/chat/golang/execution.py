"""The evaluator of Go's text/template: a tree and its data -> text.

The semantics are those of Go with missingkey=zero. The rule that explains most surprises: a value is
what Go's reflection sees, and a nil inside an interface (:data:`NIL`) is not the same as no value
(:data:`INVALID`).

Templates are untrusted. Text (16 million characters, and four times that for intermediate texts),
steps (two million) and depth are bounded here; time and memory are bounded by the render child,
which is killed after a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import TemplateError
from .functions import SHORT_CIRCUIT, Builtin, printable, truth
from .printing import sprint
from .tree import (
    Action,
    Branch,
    Call,
    Chain,
    Dot,
    Field,
    FunctionName,
    Literal,
    NilWord,
    Node,
    Nodes,
    Pipe,
    Text,
    Variable,
)
from .values import (
    INVALID,
    MAX_CHARACTERS,
    NIL,
    Function,
    GoError,
    Map,
    Pointer,
    Slice,
    Struct,
    Uint8,
    Value,
    joined,
    to_bytes,
    to_text,
    type_name,
)

MAX_STEPS = 2_000_000
"""Statements and calls of one render; a second is enough for about half of them."""

MAX_MADE = 4 * MAX_CHARACTERS
"""Characters that a template's functions may make in one render, all together."""

MAX_CALLS = 800
"""Templates within templates: some walk along a text so. The render child's stack is made for it."""


_NONE = object()
"""No value comes down the pipeline."""

_BREAK, _CONTINUE = 1, 2
"""How a list of statements can end before its end."""


class Execution:
    """One execution: the text so far, the variables in scope, and what it may still spend.

    ``zero_keys``: whether a missing key of a map gives the zero value of its elements (NIL, mostly)
    or no value, as in Go's default.
    """

    def __init__(
        self, trees: Mapping[str, Nodes], functions: Mapping[str, Builtin], zero_keys: bool
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
        """Execute the statements in order; 0, or _BREAK or _CONTINUE for the loop around them."""
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
        self.write(self.spent(sprint([printable(value)])))

    def branch(self, dot: Value, node: Branch) -> int:
        """``if`` and ``with``. Variables of the condition are in scope in the else too."""
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
        """Give this turn's values to the variables of the loop, which are on top of the stack."""
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
        """``template``: its dot is $, and no other variable is in scope."""
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
        if name in SHORT_CIRCUIT:
            if not count:
                raise GoError(f"wrong number of args for {name}: want at least 1 got 0")
            return self.short_circuit(dot, SHORT_CIRCUIT[name], arguments, final)
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

"""The syntax tree of a Go template: statements, and the operands of their pipelines."""

from __future__ import annotations

from dataclasses import dataclass


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

    node: Pipe | FunctionName
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FunctionName:
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
    """Text outside of actions, trimmed already."""

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


Node = Field | Variable | Chain | FunctionName | Literal | Dot | NilWord | Pipe
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

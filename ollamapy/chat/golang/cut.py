"""The last turn of a template without .Messages: the statements up to its response."""

from __future__ import annotations

from dataclasses import replace

from ...errors import TemplateError
from .tree import Action, Branch, Field, Node, Nodes, Pipe, Statement


def cut(nodes: Nodes) -> Nodes:
    """The statements up to and including the first .Response; conditions are not looked into.

    Raises :class:`TemplateError` where it is in a branch that has an else: Ollama refuses that too.
    """
    return _Cut().nodes(nodes)


class _Cut:
    """``done``: the response was found, and all that follows is dropped."""

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

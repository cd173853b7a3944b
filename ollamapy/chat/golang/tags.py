"""What can be read off a template without executing it: capabilities, and the tags around thinking and tool calls."""

from __future__ import annotations

from .template import GoTemplate
from .tree import GO_SPACES, Action, Branch, Call, Field, Nodes, Pipe, Text


def capabilities(template: GoTemplate) -> tuple[str, ...]:
    """The template's capabilities, with Ollama's names and order: tools, insert, thinking."""
    found = {
        "tools": "tools" in template.variables,
        "insert": "suffix" in template.variables,
        "thinking": all(thinking_tags(template)),
    }
    return tuple(name for name, present in found.items() if present)


def thinking_tags(template: GoTemplate) -> tuple[str, str]:
    """The texts before and after a message's thinking, "" where none was found.

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
    """The text before a tool call: the first text in the first ``if`` on .ToolCalls, up to a
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

"""Read tool calls in which tags enclose all that is in an argument, as MiniMax-M3 writes them: each
tag after a mark, a list as ``<item>``s. Reads a whole section; ``pycalls.py`` finds where it ends.

    MARK<invoke name="NAME">MARK<KEY>VALUEMARK</KEY>MARK</invoke>
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .jsoncalls import MAX_DEPTH, FoundCall
from .tools import Tools
from .xmlcalls import coerced, kinds_of

MARK = "]<]minimax[>["
"""Stands before each tag; without it a tag is text."""

_INVOKE = re.compile(r'<invoke name="([^"]*)">')
_KEY = re.compile(r"<([^<>/][^<>]*)>")


@dataclass(slots=True)
class _Node:
    end: str
    name: str
    text: str
    inside: list[_Node] = field(default_factory=list)


def tree_calls(text: str, tools: Tools) -> list[FoundCall] | None:
    """The calls in a section; None if a function is unknown, or tags and text are not in order."""
    top = _tree(text)
    if top is None or any(node.name not in tools.parameters for node in top.inside):
        return None
    calls: list[FoundCall] = []
    for node in top.inside:
        known = tools.properties(node.name)
        values = {each.name: _value(each, known.get(each.name)) for each in node.inside}
        calls.append(FoundCall(node.name, values))
    return calls


def _tree(text: str) -> _Node | None:
    """The nodes of a section; None where an end is missing, or text is beside tags."""
    begun, *pieces = text.split(MARK)
    path = [_Node("", "", begun)]
    for piece in pieces:
        node = path[-1]
        if node.end and piece.startswith(node.end):
            path.pop()
            node, rest = path[-1], piece[len(node.end) :]
        else:
            tag = (_INVOKE if len(path) == 1 else _KEY).match(piece)
            if tag is None or len(path) > MAX_DEPTH:
                return None
            end = "</invoke>" if len(path) == 1 else f"</{tag[1]}>"
            path.append(_Node(end, tag[1], piece[tag.end() :]))
            node.inside.append(path[-1])
            rest = node.text
        if rest.strip():
            return None
    return path[0] if len(path) == 1 else None


def _value(node: _Node, schema: Any) -> Any:
    """The value of a node by its schema. A node without nodes is a text, where that may be one."""
    kinds = kinds_of(schema)
    if not node.inside:
        if not node.text.strip() and kinds in ({"array"}, {"object"}):
            return [] if kinds == {"array"} else {}
        return coerced(node.text, schema)
    if all(each.name == "item" for each in node.inside) and ("array" in kinds or not kinds):
        items = _variant(schema, "array").get("items")
        return [_value(each, items) for each in node.inside]
    known = _variant(schema, "object").get("properties")
    known = known if isinstance(known, Mapping) else {}
    return {each.name: _value(each, known.get(each.name)) for each in node.inside}


def _variant(schema: Any, kind: str) -> Mapping[str, Any]:
    """The part of a schema for values of one kind."""
    if not isinstance(schema, Mapping):
        return {}
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema[key] if isinstance(schema.get(key), list) else ():
            if kind in kinds_of(part):
                return _variant(part, kind)
    return schema

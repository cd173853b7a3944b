"""A parsed Go template, and the three ways in which Ollama executes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...cache import cached
from ...errors import TemplateError
from .cut import cut
from .data import message_value, tools_value
from .execution import Execution
from .functions import BUILTINS, FUNCTIONS, NAMES
from .parser import parse_trees
from .tree import Action, Branch, Call, Field, Node, Nodes, Pipe, Statement, Variable
from .types import MESSAGES, OBJECT
from .values import MAX_CHARACTERS, Map, Pointer, Slice, Value, clean, joined, to_text

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
        ``think`` None means not set; see :func:`think_level`. Raises :class:`TemplateError`.
        """
        thinking = _thinking(think, think_level)
        try:
            if prompt and suffix:
                gap = {"Prompt": clean(prompt), "Suffix": clean(suffix), "Response": ""}
                return to_text(self._whole({**gap, **thinking}))
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
        return Execution(self.trees, FUNCTIONS, True).execute(Map(OBJECT, data))

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
        last = Execution({"": cut(self.trees[""])}, BUILTINS, False)
        pieces.append(last.execute(Map(OBJECT, {**turn, **thinking})))
        return joined(pieces)


_CACHED_BYTES = 32 * 2**20
_TREE_BYTES = 64
"""Bytes of a tree for each character of its text; measured, at most 50."""


@cached(_CACHED_BYTES, lambda text: _TREE_BYTES * len(text))
def parse(text: str) -> GoTemplate:
    """The template in ``text``; TemplateError, with the line, for what Go or Ollama does not accept.

    One that mentions neither .Messages nor .Response gets the response at its end.
    """
    trees = parse_trees(text, NAMES)
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


def _thinking(think: bool | None, level: str) -> dict[str, Value]:
    return {"Think": bool(think), "ThinkLevel": clean(level), "IsThinkSet": think is not None}


def _system(messages: Sequence[Mapping[str, Any]]) -> str:
    contents = (m.get("content") for m in messages if m.get("role") == "system")
    return "\n\n".join(clean(text) if isinstance(text, str) else "" for text in contents)


def _collect_names(nodes: Sequence[Statement | Node], names: set[str]) -> None:
    """The names of fields and variables, lower case. Fields of a chain do not count, nor variables
    that are only declared, as in Ollama."""
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

"""From a request to a conversation, and from there to a prompt where no foreign program is needed.

Pure. Rendering a model's own template is ``chat/jinja.py`` and ``chat/golang/``, run by
``runner/render_child.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from ..errors import InvalidRequest
from ..human import needs_space
from ..types import Message
from .template import Template

# ---- which messages ------------------------------------------------------------------------------


def chat_messages(
    messages: Sequence[Message],
    *,
    model_system: str | None = None,
    model_messages: Sequence[Message] = (),
) -> tuple[Message, ...]:
    """The whole conversation: the model's SYSTEM, its MESSAGEs, then the request's messages.

    A request that begins with a system message replaces the model's SYSTEM.
    """
    given = bool(messages) and messages[0].role == "system"
    return (*_system(None if given else model_system), *model_messages, *messages)


def generate_messages(
    prompt: str,
    *,
    system: str | None = None,
    model_system: str | None = None,
    model_messages: Sequence[Message] = (),
    has_context: bool = False,
    images: tuple[bytes, ...] = (),
) -> tuple[Message, ...]:
    """The messages of a single prompt: system (the request's or the model's), MESSAGEs, the prompt with its images.

    ``has_context``: the request carries the token ids of an earlier answer (also an empty list).
    The model's MESSAGEs are skipped then, as they are in it already; see :func:`after_context`.
    """
    earlier = () if has_context else model_messages
    return (*_system(system or model_system), *earlier, Message("user", prompt, images=images))


def after_context(context_text: str, prompt: str) -> str:
    """The prompt after an earlier answer: the text of its tokens, special ones too, comes first.

    A BOS in that text stays, though tokenizing adds another: Ollama does so, and counts both.
    """
    return context_text + prompt


def up_to_last(prompt: str, content: str) -> str:
    """The prompt up to the end of its last message, so that the answer continues it: without what closes the message and
    opens the next one. Space at the message's end is part of it, unless the template leaves it out. Raises InvalidRequest
    where the template does not print the message as it is.
    """
    text = content.strip()
    before, found, after = prompt.rpartition(text)
    if not text or not found:
        raise InvalidRequest("the model's template does not print the last message as it is")
    space = content[len(content.rstrip()) :]
    return before + found + (space if after.startswith(space) else "")


def with_known_roles(messages: Sequence[Message], template: Template) -> tuple[Message, ...]:
    """The conversation with ``developer``, OpenAI's newer name of the system, kept only where the template has that role, or is a Go template that prints any role as it comes (and gets it so from Ollama)."""
    source = template.source
    if "developer" in source or (template.kind == "go" and _PRINTS_ROLE.search(source)):
        return tuple(messages)
    return tuple(
        msgspec.structs.replace(message, role="system") if message.role == "developer" else message
        for message in messages
    )


_PRINTS_ROLE = re.compile(r"\{\{-?\s*(\$\w*)?\.Role\s*-?\}\}")


def _system(text: str | None) -> tuple[Message, ...]:
    return (Message("system", text),) if text else ()


def template_message(message: Message) -> dict[str, Any]:
    """The message as a model's template sees it; content is always a string.

    One value serves both languages: Go templates read Ollama's names, Jinja templates OpenAI's (``name`` of a tool's
    result, ``reasoning_content``; gpt-oss uses ``thinking`` there too).
    """
    seen: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        seen |= {"thinking": message.thinking, "reasoning_content": message.thinking}
    if message.tool_calls:
        seen["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_name:
        seen |= {"tool_name": message.tool_name, "name": message.tool_name}
    if message.tool_call_id:
        seen["tool_call_id"] = message.tool_call_id
    return seen


_TOOL_KEYS = ("type", "function", "name", "description", "parameters")
_SCHEMA_KEYS = ("anyOf", "type", "$defs", "items", "description", "enum", "required", "properties")


def tool_for_template(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with its keys in the order in which Ollama writes them, so that templates print the same text. Keys that Ollama
    does not have (and drops) come after.

    A function without a description has an empty one: templates fail without it, or print "None". What is null is absent.
    """
    ordered = _in_order(tool, _TOOL_KEYS)
    if isinstance(function := ordered.get("function"), dict):
        given = {key: value for key, value in function.items() if value is not None}
        function = _in_order({"description": "", **given}, _TOOL_KEYS)
        if isinstance(parameters := function.get("parameters"), dict):
            function["parameters"] = _in_order(parameters, _SCHEMA_KEYS)
        ordered["function"] = function
    return ordered


def _in_order(value: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {**{key: value[key] for key in keys if key in value}, **value}


# ---- which messages fit --------------------------------------------------------------------------


def cuts(messages: Sequence[Message]) -> list[int]:
    """Where the oldest messages may be cut off, ascending: the number of messages that go, 0 first.

    System messages stay wherever they are, and so does the last message. The rest begins
    with a message of the user, as many templates refuse one that begins with an answer; only where
    the last question is too long, too, with what comes after it. Before a tool's result nothing is
    cut: it would lose its call.
    """
    last_user = max((at for at, each in enumerate(messages) if each.role == "user"), default=0)
    found: list[int] = []
    next_role = ""  # of the first message from here on that is not the system's
    for at in range(len(messages) - 1, 0, -1):
        next_role = messages[at].role if messages[at].role != "system" else next_role
        if messages[at - 1].role == "system":
            continue
        if next_role == "user" or (at > last_user and next_role != "tool"):
            found.append(at)
    return [0, *reversed(found)]


def without_oldest(messages: Sequence[Message], cut: int) -> tuple[Message, ...]:
    """The conversation without the first ``cut`` messages, but with the system messages of these."""
    return (*(m for m in messages[:cut] if m.role == "system"), *messages[cut:])


MOST_MARKED = 4 * 1024 * 1024
"""Characters of a prompt in which places are looked for; longer ones fit into no context."""


def marks(text: str, messages: Sequence[Message]) -> tuple[int, ...]:
    """The bytes of a prompt's text before the places where another prompt may go on in another way, ascending.

    These are the first message that is not the system's (another chat begins with another), the last one of the user (it may be
    edited), and the end of the last message (after it the next turn has the answer). A message that the template does not print
    as it is has no mark.
    """
    if len(text) > MOST_MARKED:
        return ()
    found = set()
    if first := next((m.content.strip() for m in messages if m.role != "system"), ""):
        systems = [m.content.strip() for m in messages if m.role == "system"]
        ends = (at + len(each) for each in systems if (at := text.find(each)) >= 0)
        found.add(text.find(first, max(ends, default=0)))
    if asked := next((m.content.strip() for m in reversed(messages) if m.role == "user"), ""):
        found.add(text.rfind(asked))
    last = messages[-1].content.strip() if messages else ""
    if last and (at := text.rfind(last)) >= 0:
        found.add(at + len(last))
    return tuple(len(text[:at].encode("utf-8", "replace")) for at in sorted(found) if at > 0)


# ---- which text ----------------------------------------------------------------------------------


def compose(template: Template, messages: Sequence[Message]) -> str:
    """The prompt of a template that is no foreign program."""
    match template.kind:
        case "plain":
            return join(message.content for message in messages)
        case "bare":
            return bare(messages)
        case "chatml" | "none":
            return chatml(messages)
        case "go" | "jinja":
            raise ValueError("a model's own template is rendered in the render child")


def chatml(messages: Iterable[Message]) -> str:
    """The conversation in ChatML, ready for the assistant's turn."""
    turns = (f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def bare(messages: Iterable[Message]) -> str:
    """The contents one after another with nothing between, without the system's.

    This is what Ollama's default template ``{{ .Prompt }}`` makes: messages of one role in a row
    have an empty line between them, and where the model has no MESSAGEs the result is the prompt as
    it came.
    """
    turns = groupby(messages, key=lambda message: message.role)
    return "".join("\n\n".join(m.content for m in turn) for role, turn in turns if role != "system")


def join(contents: Iterable[str]) -> str:
    """One running text, with a space at a seam that needs one (:func:`ollamapy.human.needs_space`)."""
    parts: list[str] = []
    for content in filter(None, contents):
        if parts and needs_space(parts[-1], content):
            parts.append(" ")
        parts.append(content)
    return "".join(parts)

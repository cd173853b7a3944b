"""/v1/responses: the request, its tools and the form of the answer. Pure.

response_items.py has the conversation's items, response_events.py writes the answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from ...errors import InvalidRequest
from ...request import Conversation, Request
from .. import body
from ..ollama import wire as ollama
from . import forms, response_items, variables, wire

log = logging.getLogger(__name__)

_OWNER = "ResponsesRequest"
FIELDS = forms.FIELDS | variables.FIELDS | {
    "model": "string", "input": "any", "instructions": "string", "stream": "bool", "temperature": "any", "top_p": "any",
    "max_output_tokens": "int", "tools": "any", "tool_choice": "any", "parallel_tool_calls": "bool",
    "text": "map[string]interface {}", "reasoning": "map[string]interface {}", "truncation": "string",
    "include": "[]string", "top_logprobs": "int", "metadata": "map[string]interface {}", "previous_response_id": "string",
    "conversation": "any", "prompt": "any", "keep_alive": "any", "options": "map[string]interface {}", "store": "bool",
    "background": "bool", "explain_cache": "bool",
}  # fmt: skip
"""Fields of a request -> their Go types (body.py)."""

_LOGPROBS = "message.output_text.logprobs"


class PromptNotStored(InvalidRequest):
    """The request refers to a prompt that is stored elsewhere."""

    status = 404


class Head(msgspec.Struct, frozen=True):
    """What a response repeats of its request, stored with it. ``echo`` are the request's fields with their defaults; ``members``
    are the tools of namespaces: the model's name of each -> its namespace and name."""

    echo: dict[str, Any]
    members: dict[str, tuple[str, str]]
    store: bool = True
    background: bool = False
    previous: str | None = None
    conversation: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A request, and how its answer is sent. ``request`` has the items of this request alone, see :meth:`after`."""

    request: Request
    stream: bool
    head: Head
    items: Sequence[dict[str, Any]]
    instructions: str

    def after(self, earlier: Sequence[dict[str, Any]], items: Sequence[dict[str, Any]]) -> Request:
        """The request after earlier items, and with its own items resolved. Raises InvalidRequest."""
        found = response_items.messages([*earlier, *items], self.instructions)
        given = self.request.input
        assert isinstance(given, Conversation)
        return replace(self.request, input=replace(given, messages=found))


# ---- requests --------------------------------------------------------------------------------------------------------


def parse(data: bytes) -> ParsedResponse:
    """The body of /v1/responses. Raises InvalidRequest; Misread where Ollama fails before it looks for the model."""
    with body.reading():
        given = wire.read_fields(data, FIELDS, _OWNER)
        fields = _fields(given)
        known = variables.given_variables(given)
        form = forms.constraint(given, forms.text_format(given.get("text", {}).get("format")))
        previous, conversation = _earlier(given)
        items = _items(given, is_first=previous is None and conversation is None)
        instructions = given.get("instructions", "")
        messages = response_items.messages(items, instructions)
    if given.get("prompt"):
        raise PromptNotStored("prompt is not supported: send the prompt's text as instructions")
    present = {name: value for name, value in fields.items() if value is not None}
    stream = given.get("stream", False)
    request = ollama.chat_request(present, messages)
    # events are numbered, as in Ollama
    request = replace(request, constraint=form, variables=known, by_token=stream)
    store, background = given.get("store", True), given.get("background", False)
    if background and not store:
        raise InvalidRequest(
            "background needs store: a response that no one waits for must be kept"
        )
    head = Head(
        _echo(given, request),
        _members(given.get("tools", ())),
        store,
        background,
        previous,
        conversation,
    )
    return ParsedResponse(request, stream, head, items, instructions)


def _fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Ollama's chat that a request's fields become."""
    known, reasoning = variables.given_variables(given), given.get("reasoning", {})
    think = wire.effort(reasoning.get("effort"))
    offered = _tools(given.get("tools"))
    allowed, choice = _tool_choice(given.get("tool_choice", "auto"), offered)
    logprobs = given.get("top_logprobs", 0) > 0 or _LOGPROBS in given.get("include", ())
    return {
        "model": given.get("model"),
        "keep_alive": given.get("keep_alive"),
        "explain_cache": given.get("explain_cache"),
        "options": _options(given),
        "think": variables.enabled_thinking(known) if think is None else think,
        "truncate": _truncates(given.get("truncation", "auto")),
        "logprobs": logprobs,
        "top_logprobs": given.get("top_logprobs"),
        "tools": allowed,
        "tool_choice": choice,
        "parallel_tool_calls": wire.several_calls(choice, given.get("parallel_tool_calls")),
    }


def _earlier(given: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The response that a request continues, and the conversation that it belongs to."""
    previous = given.get("previous_response_id") or None
    conversation = given.get("conversation") or None
    if isinstance(conversation, dict):
        conversation = body.text(conversation, "id", "conversation")
    if not isinstance(conversation, str | None):
        raise InvalidRequest("conversation must be an id, or an object with an id")
    if previous is not None and conversation is not None:
        raise InvalidRequest("previous_response_id and conversation cannot be used together")
    return previous, conversation


def _items(given: Mapping[str, Any], *, is_first: bool) -> list[dict[str, Any]]:
    """The items of a request: none only where others come before them."""
    items = response_items.given_items(given.get("input", []))
    if is_first and not items:
        raise InvalidRequest("input is required: a text, or a list of items")
    return items


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The default temperature is 1, even if the model has its own; other defaults are the model's."""
    if (limit := given.get("max_output_tokens")) is not None and limit <= 0:
        raise InvalidRequest("max_output_tokens must be positive")
    found = {"temperature": given.get("temperature"), "top_p": given.get("top_p")}
    found["num_predict"] = limit
    present = {name: value for name, value in found.items() if value is not None}
    return {"temperature": 1.0, **given.get("options", {}), **present}


def _truncates(truncation: str) -> bool:
    """OpenAI's default is "disabled"; as in Ollama, the default here is "auto"."""
    if truncation not in ("auto", "disabled"):
        raise InvalidRequest("truncation must be auto or disabled")
    return truncation == "auto"


def _echo(given: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """The request's fields as the answer repeats them, with the defaults where they are absent."""
    return {
        "model": request.model,
        "instructions": given.get("instructions"),
        "tools": [
            _with_all_fields(tool) for tool in given.get("tools", ()) if not _is_web_search(tool)
        ],
        "tool_choice": given.get("tool_choice", "auto"),
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "truncation": given.get("truncation", "disabled"),
        "text": {"format": {"type": "text"}, **given.get("text", {})},
        "reasoning": given.get("reasoning"),
        "temperature": request.options.temperature,
        "top_p": 1.0 if request.options.top_p is None else request.options.top_p,
        "top_logprobs": given.get("top_logprobs", 0),
        "max_output_tokens": given.get("max_output_tokens"),
        "metadata": given.get("metadata", {}),
    }


def _with_all_fields(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as answers list it: a function has all its fields."""
    absent = {"description": None, "strict": None, "parameters": None}
    return {**(absent if tool["type"] == "function" else {}), **tool}


# ---- tools -----------------------------------------------------------------------------------------------------------


def _tools(tools: Any) -> list[dict[str, Any]]:
    """The tools in the form of chats; those of a namespace have its name as a prefix."""
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise InvalidRequest("tools must be a list")
    return [found for i, tool in enumerate(tools) for found in _tool(tool, f"tools[{i}]", "")]


def _members(tools: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """The tools of namespaces, of tools that are checked: the model's name -> namespace and name."""
    return {
        f"{tool['name']}.{member['name']}": (tool["name"], member["name"])
        for tool in tools
        if tool["type"] == "namespace"
        for member in tool["tools"]
        if not _is_web_search(member)
    }


def _tool(tool: Any, where: str, prefix: str) -> Iterator[dict[str, Any]]:
    kind, name = (tool.get("type"), tool.get("name")) if isinstance(tool, dict) else (None, None)
    if _is_web_search(tool):
        # Programs send it with every request and work without it; the answer's list of tools leaves it out.
        log.warning("%s is %s, which this server does not have", where, kind)
        return
    if kind not in ("function", "namespace"):
        shown = "a tool without a type" if kind is None else f"the tool {str(kind)[:40]!r}"
        raise InvalidRequest(f"{where} is {shown}, and only functions are supported, leave it out")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"{where} must have a name")
    if kind == "namespace":
        members = tool.get("tools")
        if not isinstance(members, list) or prefix:
            raise InvalidRequest(f"{where} must have a list of functions as tools")
        for i, member in enumerate(members):
            yield from _tool(member, f"{where}.tools[{i}]", f"{name}.")
        return
    description, parameters = tool.get("description"), tool.get("parameters")
    if not isinstance(description, str | None) or not isinstance(parameters, dict | None):
        raise InvalidRequest(f"{where} must have a text as description, an object as parameters")
    function: dict[str, Any] = {"name": prefix + name}
    if description:
        function["description"] = description
    yield {"type": "function", "function": {**function, "parameters": parameters or {}}}


def _is_web_search(tool: Any) -> bool:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return isinstance(kind, str) and kind.startswith("web_search")


def _tool_choice(
    choice: Any, tools: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], str | None]:
    """The tools that may be called, and Ollama's tool_choice. ``choice`` is one of "auto", "none" and "required",
    {"type": "function", "name": ...}, or {"type": "allowed_tools", "mode": ..., "tools": [...]}.
    """
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "allowed_tools":
        named = choice.get("tools")
        if not isinstance(named, list) or not all(isinstance(each, dict) for each in named):
            raise InvalidRequest("tool_choice must have a list of tools that are allowed")
        names = [each.get("name") for each in named]
        tools = [tool for tool in tools if tool["function"]["name"] in names]
        choice = choice.get("mode", "auto")
    elif kind == "function":
        choice = choice.get("name")
    if not isinstance(choice, str):
        raise InvalidRequest("tool_choice must be auto, none, required or one of the functions")
    if not tools and choice not in ("auto", "none"):
        raise InvalidRequest("tool_choice asks for a tool, but no functions are given")
    return tools, choice

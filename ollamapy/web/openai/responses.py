"""/v1/responses: a conversation of items, its tools and the form of the answer. Pure; response_events.py writes the answers.

Responses are not stored, so a reference to an earlier one is refused. ``background`` has no effect: the request ends with the
answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...request import Request
from ...types import Message, ToolCall
from .. import body
from ..ollama import wire as ollama
from . import chat, wire

log = logging.getLogger(__name__)

_OWNER = "ResponsesRequest"
FIELDS = {
    "model": "string", "input": "any", "instructions": "string", "stream": "bool", "temperature": "any", "top_p": "any",
    "max_output_tokens": "int", "tools": "any", "tool_choice": "any", "parallel_tool_calls": "bool",
    "text": "map[string]interface {}", "reasoning": "map[string]interface {}", "truncation": "string",
    "include": "[]string", "top_logprobs": "int", "metadata": "map[string]interface {}", "previous_response_id": "string",
    "conversation": "any", "prompt": "any", "keep_alive": "any", "options": "map[string]interface {}",
}  # fmt: skip
"""Fields of a request -> their Go types (body.py)."""

ROLES = ("user", "assistant", "system", "developer")

_LOGPROBS = "message.output_text.logprobs"


class NotStored(InvalidRequest):
    """The request refers to an earlier response or conversation, and none is stored."""

    status = 404


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A conversation, and how its answer is sent. ``echo`` are the fields of the request that the answer repeats; ``members``
    are the tools of namespaces: the model's name of each -> its namespace and name."""

    request: Request
    stream: bool
    echo: Mapping[str, Any]
    members: Mapping[str, tuple[str, str]]


# ---- requests --------------------------------------------------------------------------------------------------------


def parse(data: bytes) -> ParsedResponse:
    """The body of /v1/responses. Raises InvalidRequest; Misread where Ollama fails before it looks for the model."""
    with body.reading():
        given = wire.read_fields(data, FIELDS, _OWNER)
        text, reasoning = given.get("text", {}), given.get("reasoning", {})
        offered = _tools(given.get("tools"))
        allowed, choice = _tool_choice(given.get("tool_choice", "auto"), offered)
        logprobs = given.get("top_logprobs", 0) > 0 or _LOGPROBS in given.get("include", ())
        fields = {
            "model": given.get("model"),
            "keep_alive": given.get("keep_alive"),
            "options": _options(given),
            "think": wire.effort(reasoning.get("effort")),
            "truncate": _truncates(given.get("truncation", "auto")),
            "format": _format(text.get("format")),
            "logprobs": logprobs,
            "top_logprobs": given.get("top_logprobs"),
            "tools": allowed,
            "tool_choice": choice,
            "parallel_tool_calls": wire.several_calls(choice, given.get("parallel_tool_calls")),
        }
        messages = _messages(given.get("input"), given.get("instructions", ""))
    for name in ("previous_response_id", "conversation", "prompt"):
        if given.get(name):
            raise NotStored(
                f"{name} is not supported: responses are not stored, send the whole conversation as input"
            )
    present = {name: value for name, value in fields.items() if value is not None}
    stream = given.get("stream", False)
    request = ollama.chat_request(present, messages)
    request = msgspec.structs.replace(request, by_token=stream)  # events are numbered, as in Ollama
    return ParsedResponse(request, stream, _echo(given, request), _members(given.get("tools", ())))


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


def _format(form: Any) -> Any:
    """Ollama's ``format`` for a text.format."""
    if form is None:
        return None
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return "json"
    if kind != "json_schema":
        raise InvalidRequest("text.format must be of type text, json_object or json_schema")
    if not isinstance(schema := form.get("schema"), dict):
        raise InvalidRequest("text.format.schema must be a JSON Schema")
    return schema


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


# ---- input -----------------------------------------------------------------------------------------------------------


def _messages(given: Any, instructions: str) -> tuple[Message, ...]:
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise InvalidRequest("input is required: a text, or a list of items")
    body.check_count(items, "input")
    conversation = _Conversation()
    if instructions:
        conversation.messages.append(Message("system", instructions))
    for i, item in enumerate(items):
        conversation.add(item, f"input[{i}]")
    return conversation.ended()


class _Conversation:
    """Collects messages from items: thinking is added to the assistant's next message or call, calls to its last message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._thinking = ""
        self._tools: dict[str, str] = {}  # id of a call -> its tool

    def add(self, item: Any, where: str) -> None:
        kind = item.get("type", "message") if isinstance(item, dict) else None
        match kind:
            case "message":
                self._add_message(item, where)
            case "function_call":
                self._add_call(_call(item, where))
            case "function_call_output":
                id = body.text(item, "call_id", where)
                parts = _content(item.get("output"), f"{where}.output")
                tool = self._tools.get(id, "")
                self.messages.append(Message.of("tool", parts, tool_name=tool, tool_call_id=id))
            case "reasoning":
                self._thinking = _reasoning_text(item, where)
            case "web_search_call":
                pass  # later messages contain its results
            case None:
                raise InvalidRequest(f"{where} must be an object with a type")
            case _:
                raise InvalidRequest(f'unknown input item type: "{str(kind)[:80]}"')

    def _add_message(self, item: Mapping[str, Any], where: str) -> None:
        role = body.role(body.text(item, "role", where), ROLES, where)
        parts = _content(item.get("content"), f"{where}.content")
        thinking = self._take_thinking() if role == "assistant" else ""
        self.messages.append(Message.of(role, parts, thinking=thinking))

    def _add_call(self, call: ToolCall) -> None:
        self._tools[call.id] = call.name
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != "assistant":
            self.messages.append(Message("assistant", "", self._take_thinking(), (call,)))
            return
        thinking = self._take_thinking() or last.thinking
        calls = (*last.tool_calls, call)
        self.messages[-1] = msgspec.structs.replace(last, thinking=thinking, tool_calls=calls)

    def _take_thinking(self) -> str:
        thinking, self._thinking = self._thinking, ""
        return thinking

    def ended(self) -> tuple[Message, ...]:
        """All messages; thinking at the end becomes a message of its own."""
        if thinking := self._take_thinking():
            self.messages.append(Message("assistant", "", thinking))
        return tuple(self.messages)


def _content(content: Any, where: str) -> list[str | bytes]:
    """The parts of a content: texts, and images as bytes."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a text or a list of parts")
    found: list[str | bytes] = []
    for i, part in enumerate(content):
        place = f"{where}[{i}]"
        match part.get("type") if isinstance(part, dict) else None:
            case "input_text" | "output_text":
                found.append(body.text(part, "text", place))
            case "refusal":
                found.append(body.text(part, "refusal", place))
            case "input_image" if part.get("image_url") is None:
                raise InvalidRequest(f"{place} must have its image as a data URI in image_url")
            case "input_image":
                found.append(chat.image(part["image_url"]))
            case "input_file":
                raise InvalidRequest("file inputs are not currently supported")
            case kind:
                raise InvalidRequest(f'unknown content type of {place}: "{str(kind)[:80]}"')
    return found


def _call(item: Mapping[str, Any], where: str) -> ToolCall:
    try:
        arguments = msgspec.json.decode(item.get("arguments") or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"{where}.arguments must be an object, as JSON in a text") from None
    name, namespace = body.text(item, "name", where), item.get("namespace")
    if isinstance(namespace, str) and namespace and not name.startswith(f"{namespace}."):
        name = f"{namespace}.{name}"
    return ToolCall(name, arguments, body.text(item, "call_id", where))


def _reasoning_text(item: Mapping[str, Any], where: str) -> str:
    """The thinking of a reasoning item: not encrypted here, and the same text as its summary, which some clients send instead."""
    if isinstance(text := item.get("encrypted_content"), str):
        return text
    summary = item.get("summary") or []
    if not isinstance(summary, list) or not all(isinstance(part, dict) for part in summary):
        raise InvalidRequest(f"{where}.summary must be a list of texts")
    return "".join(body.text(part, "text", f"{where}.summary") for part in summary)

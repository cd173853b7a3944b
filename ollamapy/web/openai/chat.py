"""/v1/chat/completions: a conversation, its tools and the form of the answer; the answer as one object or as events. Pure.

Each part of a content becomes a message of its own, as in Ollama, except for a tool's result, which is one message. Spoken
answers and the older form of tools (functions) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from ...errors import InvalidRequest
from ...request import Request
from ...types import Chunk, ContentPart, Link, Message, TokenLogprob, ToolCall, ToolDelta
from .. import attached, body
from ..ollama import wire as ollama
from . import forms, variables, wire

_OWNER = "ChatCompletionRequest"
FIELDS = wire.COMMON | forms.FIELDS | variables.FIELDS | {
    "messages": "[]api.Message", "max_completion_tokens": "int", "response_format": "map[string]interface {}",
    "tools": "any", "tool_choice": "any", "parallel_tool_calls": "bool", "logprobs": "bool", "top_logprobs": "int",
    "reasoning": "map[string]interface {}", "reasoning_effort": "any", "modalities": "[]string", "audio": "any",
    "functions": "any", "function_call": "any", "_debug_render_only": "bool", "continue_final_message": "bool",
    "add_generation_prompt": "bool",
}  # fmt: skip
MESSAGE_FIELDS = {
    "role": "string", "content": "any", "name": "string", "tool_calls": "any", "tool_call_id": "string",
    "reasoning": "string", "reasoning_content": "string", "refusal": "any", "audio": "any", "function_call": "any",
}  # fmt: skip

ROLES = ollama.ROLES
_IMAGE_TYPES = (
    *("image/jpeg", "image/jpg", "image/png", "image/webp", ""),  # Ollama's
    *("image/gif", "image/bmp", "image/heic", "image/heif"),
)


@dataclass(frozen=True, slots=True)
class ParsedChat:
    """A request for each choice, and how the answers are sent. ``render_only``: answer with the prompt."""

    requests: tuple[Request, ...]
    stream: bool
    include_usage: bool
    render_only: bool


def parse(data: bytes) -> ParsedChat:
    """The body of /v1/chat/completions. Raises InvalidRequest; Misread where Ollama fails before it looks for the model."""
    with body.reading():
        given = wire.read_fields(data, FIELDS, _OWNER)
        if not given.get("messages"):
            raise InvalidRequest("[] is too short - 'messages'")
        _refuse(given)
        tools, choice = _choice_of_tools(given.get("tools"), given.get("tool_choice"))
        reasoning = given.get("reasoning", {}).get("effort") or given.get("reasoning_effort")
        think, known = wire.effort(reasoning), variables.given_variables(given)
        form = forms.constraint(given, forms.response_format(given.get("response_format", {})))
        messages = _messages(given["messages"])
        fields = wire.native(
            given,
            _OWNER,
            think=variables.enabled_thinking(known) if think is None else think,
            logprobs=given.get("logprobs"),
            top_logprobs=given.get("top_logprobs"),
            continue_final_message=_continues(given, messages),
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=wire.several_calls(choice, given.get("parallel_tool_calls")),
        )
        n = wire.count(given)
        include_usage = wire.include_usage(given, _OWNER)
    request = replace(ollama.chat_request(fields, messages), constraint=form, variables=known)
    render_only = given.get("_debug_render_only", False)
    stream = given.get("stream", False) and not render_only
    return ParsedChat(wire.choices(request, n), stream, include_usage, render_only)


def _refuse(given: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a feature that is not supported."""
    for name in ("functions", "function_call"):
        if given.get(name):
            raise InvalidRequest(f"{name} is the older form of tools, give tools and tool_choice")
    if "audio" in given or set(given.get("modalities", ("text",))) - {"text"}:
        raise InvalidRequest("audio and other modalities than text are not supported")


def _continues(given: Mapping[str, Any], messages: Sequence[Message]) -> bool:
    """Whether the answer continues the last message, which is the assistant's."""
    if not given.get("continue_final_message"):
        return False
    if given.get("add_generation_prompt"):
        raise InvalidRequest("give continue_final_message or add_generation_prompt, not both")
    if messages[-1].role != "assistant" or not messages[-1].content:
        raise InvalidRequest(
            "continue_final_message needs a last message of the assistant, with a text"
        )
    return True


def _choice_of_tools(tools: Any, choice: Any) -> tuple[Any, str | None]:
    """The tools that may be called, and Ollama's tool_choice. ``choice`` is one of "auto", "none" and "required", one tool, or
    a list of the allowed ones with a mode:

        {"type": "function", "function": {"name": ...}}
        {"type": "allowed_tools", "allowed_tools": {"mode": ..., "tools": [{"type": "function", "function": {"name": ...}}]}}
    """
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        named = allowed.get("tools") if isinstance(allowed, dict) else None
        if not isinstance(named, list) or not isinstance(tools, list):
            raise InvalidRequest("tool_choice.allowed_tools must have tools")
        names = [_name_of_tool(tool) for tool in named]
        tools = [tool for tool in tools if _name_of_tool(tool) in names]
        choice = allowed.get("mode", "auto")
    elif isinstance(choice, dict):
        choice = _name_of_tool(choice)
    if choice is not None and not isinstance(choice, str):
        raise InvalidRequest("tool_choice must be auto, none, required or one of the tools")
    return tools, choice


def _name_of_tool(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


# ---- messages --------------------------------------------------------------------------------------------------------


def _messages(items: list[Any]) -> tuple[Message, ...]:
    body.check_count(items, "messages")
    found: list[Message] = []
    names: dict[str, str] = {}  # id of a call so far -> its tool
    for i, item in enumerate(items):
        given = body.fields(item, MESSAGE_FIELDS, _OWNER, "messages")
        role = body.role(given.get("role", ""), ROLES, f"messages[{i}]")
        for name in ("refusal", "audio", "function_call"):
            if given.get(name):
                raise InvalidRequest(f"{name} of messages[{i}] is not supported, leave it out")
        calls = _calls(given.get("tool_calls") or [])
        names |= {call.id: call.name for call in calls}
        id = given.get("tool_call_id", "")
        tool = given.get("name") or names.get(id, "") if role == "tool" else ""
        thinking = given.get("reasoning") or given.get("reasoning_content", "")
        if given.get("content") is None and not calls:
            raise InvalidRequest("invalid message content type: <nil>")
        parts = _parts(given.get("content"))
        # as in Ollama each part is a message of its own, but for a tool's result
        *others, last = [parts] if role == "tool" else [[part] for part in parts]
        found += [Message.of(role, each) for each in others]
        more = {"thinking": thinking, "tool_calls": calls, "tool_name": tool, "tool_call_id": id}
        found.append(Message.of(role, last, **more))
        body.check_count(found, "the list of messages and their parts")
    return tuple(found)


def _parts(content: Any) -> list[ContentPart]:
    """The parts of a content, at least one."""
    if content is None or isinstance(content, str):
        return [content or ""]
    if not isinstance(content, list):
        shown = {"number": "float64", "object": "map[string]interface {}"}
        kind = body.kind(content)
        raise InvalidRequest(f"invalid message content type: {shown.get(kind, kind)}")
    return [_part(part) for part in content] or [""]


def _part(part: Any) -> ContentPart:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(text := part.get("text"), str):
        return text
    if kind == "image_url":
        url = part.get("image_url")
        return image(url.get("url") if isinstance(url, dict) else url)
    if kind == "file":
        return attached.openai_file(part.get("file"), "file")
    if kind == "input_audio":
        return attached.openai_sound(part.get("input_audio"), "input_audio")
    if kind == "refusal":
        raise InvalidRequest("invalid message format: refusal is not supported, leave it out")
    raise InvalidRequest("invalid message format")


def image(url: Any) -> bytes | Link:
    """An image in a data URI, or at an address."""
    if not isinstance(url, str):
        raise InvalidRequest("invalid message format")
    if attached.is_address(url):
        return attached.link(url, is_image=True)
    head, comma, data = url.partition(";base64,")
    if not comma or head.removeprefix("data:") not in _IMAGE_TYPES:
        raise InvalidRequest("invalid image input")
    try:
        return body.from_base64(data)
    except InvalidRequest:
        raise InvalidRequest("invalid image input") from None


def _calls(items: Any) -> tuple[ToolCall, ...]:
    if not isinstance(items, list):
        raise InvalidRequest("invalid tool call arguments")
    return tuple(_call(item) for item in items)


def _call(item: Any) -> ToolCall:
    """A call that the model made earlier; its arguments are JSON as a text."""
    try:
        function = item["function"]
        arguments = msgspec.json.decode(function.get("arguments") or "{}", type=dict[str, Any])
        return msgspec.convert(
            {"name": function["name"], "arguments": arguments, "id": item.get("id") or ""}, ToolCall
        )
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise InvalidRequest("invalid tool call arguments") from None


# ---- answers ---------------------------------------------------------------------------------------------------------


class ChatWriter:
    """Writes the answers of all choices, as one object or as events."""

    def __init__(self, model: str, n: int = 1, *, include_usage: bool = False) -> None:
        self._head = wire.Head("chatcmpl", model)
        self._streams = [_Stream(i) for i in range(n)]
        self._lasts: list[Chunk] = []
        self._include_usage = include_usage

    def answer(self, chunks: Sequence[Chunk]) -> bytes:
        """The answer that is not streamed, from one chunk for each choice."""
        choices = [_choice(i, chunk) for i, chunk in enumerate(chunks)]
        more = wire.own_fields(chunks[0])
        return self._head.encode("chat.completion", choices, usage=wire.usage([chunks]), **more)

    def rendered(self, prompt: str) -> bytes:
        """The answer to _debug_render_only."""
        message = {"role": "", "content": ""}
        return self._head.encode(
            "chat.completion",
            [{"index": 0, "message": message, "finish_reason": None}],
            usage=wire.usage([[Chunk()]]),
            _debug_info={"rendered_template": prompt},
        )

    def events(self, indexed: tuple[int, Chunk]) -> bytes:
        """The events of a choice's chunk, without the last line feed."""
        index, chunk = indexed
        choices = self._streams[index].choices(chunk)
        events = [self._event([choice], **wire.own_fields(chunk)) for choice in choices]
        if chunk.finish_reason:
            self._lasts.append(chunk)
            if self._include_usage and len(self._lasts) == len(self._streams):
                events.append(self._event([], usage=wire.usage([self._lasts])))
        return b"\n".join(events)

    def _event(self, choices: Sequence[Any], **more: Any) -> bytes:
        return wire.event(self._head.encode("chat.completion.chunk", choices, **more))


def _choice(index: int, chunk: Chunk) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": chunk.text}
    if chunk.thinking:
        message["reasoning"] = chunk.thinking
    if chunk.tool_calls:
        message["tool_calls"] = [
            _called(i, call.id, call.name, msgspec.json.encode(call.arguments).decode())
            for i, call in enumerate(chunk.tool_calls)
        ]
    reason = "tool_calls" if chunk.tool_calls and not chunk.cut_call else chunk.finish_reason
    return {"index": index, "message": message, "finish_reason": reason, **_logprobs(chunk)}


class _Stream:
    """One choice of a stream: its role is sent once, its calls in pieces."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._begun = self._called = False
        self._compact: dict[int, _Compact] = {}

    def choices(self, chunk: Chunk) -> list[dict[str, Any]]:
        """The objects of a chunk: thinking, then text and calls, then the end."""
        deltas: list[dict[str, Any]] = []
        if chunk.thinking:
            deltas.append({"content": "", "reasoning": chunk.thinking})
        pieces = [piece for delta in chunk.tool_deltas if (piece := self._piece(delta))]
        if chunk.text or pieces or (chunk.logprobs and not deltas):
            deltas.append({"content": chunk.text, **({"tool_calls": pieces} if pieces else {})})
        self._called |= bool(
            chunk.tool_calls
        )  # complete ones: after a cut-off call the reason stays
        choices = [self._choice(self._with_role(delta)) for delta in deltas]
        if choices:
            choices[-1] |= _logprobs(chunk)
        if chunk.finish_reason:
            called = self._called and not chunk.cut_call
            choices.append(self._choice({}, "tool_calls" if called else chunk.finish_reason))
        return choices

    def _choice(self, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": self._index, "delta": delta, "finish_reason": reason}

    def _with_role(self, delta: dict[str, Any]) -> dict[str, Any]:
        first, self._begun = not self._begun, True
        return {"role": "assistant", **delta} if first else delta

    def _piece(self, delta: ToolDelta) -> dict[str, Any] | None:
        arguments = self._compact.setdefault(delta.index, _Compact()).feed(delta.arguments)
        if not arguments and not delta.name:
            return None
        return _called(delta.index, delta.id, delta.name, arguments)


class _Compact:
    """Removes the white space between the values of a JSON text, piece by piece: the pieces of a call's arguments add up to the
    arguments of an answer that is not streamed."""

    def __init__(self) -> None:
        self._in_string = self._escaped = False

    def feed(self, text: str) -> str:
        """The next piece without white space."""
        kept = []
        for character in text:
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character in " \t\r\n":
                continue
            else:
                self._in_string = character == '"'
            kept.append(character)
        return "".join(kept)


def _called(index: int, id: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name} if name else {}
    head = {"id": id, "index": index, "type": "function"} if id else {"index": index}
    return {**head, "function": {**function, "arguments": arguments}}


def _logprobs(chunk: Chunk) -> dict[str, Any]:
    """The log probabilities of a choice, if there are any."""
    if not chunk.logprobs:
        return {}
    content = [
        {**_logprob(each), "top_logprobs": [_logprob(other) for other in each.top_logprobs]}
        for each in chunk.logprobs
    ]
    return {"logprobs": {"content": content, "refusal": None}}


def _logprob(each: TokenLogprob) -> dict[str, Any]:
    return {"token": each.token, "logprob": each.logprob, "bytes": each.bytes}

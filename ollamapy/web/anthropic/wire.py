"""Anthropic's API: messages and their count of tokens, from JSON to requests and from answers to JSON. Pure.

It follows Ollama's form of that API: unknown kinds of blocks are ignored, and so are fields for Anthropic's own servers
(metadata, service_tier, cache_control). Beyond Ollama: tool_choice, thinking's budget, output_config.format, the stop sequence
that ended the answer, pings, errors inside a stream. A tool call is streamed in one piece, once it is complete.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...errors import InvalidRequest, PromptTooLong
from ...request import Conversation, Request
from ...types import (
    Chunk,
    Constraint,
    ContentPart,
    Document,
    Link,
    Message,
    Options,
    ToolCall,
    Usage,
    parse_options,
)
from .. import attached, body, sse
from ..ollama import wire as ollama

FIELDS = {
    "model": "string", "max_tokens": "int", "messages": "[]api.Message", "system": "any", "stream": "bool",
    "temperature": "any", "top_p": "any", "top_k": "int", "stop_sequences": "[]string", "tools": "any",
    "tool_choice": "map[string]interface {}", "thinking": "map[string]interface {}",
    "output_config": "map[string]interface {}", "metadata": "map[string]interface {}", "explain_cache": "bool",
}  # fmt: skip
"""Fields of a request -> their Go types (body.py)."""

MESSAGE_FIELDS = {"role": "string", "content": "any"}
"""Fields of each message -> their Go types."""

ROLES = ("user", "assistant", "system")

_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "max"}

_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 529: "overloaded_error",
}  # fmt: skip
"""Status -> the type of its error; all others are an api_error."""

_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A conversation, and how its answer is sent. ``about_tokens`` estimates the length of its prompt, for the beginning of a
    stream, before the tokens are counted."""

    request: Request
    stream: bool
    about_tokens: int


# ---- requests --------------------------------------------------------------------------------------------------------


def parse_messages(data: bytes) -> ParsedMessage:
    """The body of /v1/messages. Raises Misread."""
    with body.reading():
        return _parse(data, counts=False)


def parse_count(data: bytes) -> ParsedMessage:
    """The body of /v1/messages/count_tokens, which needs no max_tokens. Raises Misread."""
    with body.reading():
        return _parse(data, counts=True)


def _parse(data: bytes, *, counts: bool) -> ParsedMessage:
    given = body.fields(body.decode(data), FIELDS, "MessagesRequest")
    if not given.get("model"):
        raise InvalidRequest("model is required")
    if not counts and given.get("max_tokens", 0) <= 0:
        raise InvalidRequest("max_tokens is required and must be positive")
    if not given.get("messages"):
        raise InvalidRequest("messages is required")
    system = _system(given.get("system", ""))
    messages = _messages(given["messages"])
    tools = _tools(given.get("tools"))
    choice = given.get("tool_choice", {})
    config = given.get("output_config", {})
    think, budget = _thinking(given.get("thinking", {}), config, given.get("max_tokens", 0))
    forced = _tool_choice(choice, tools)
    conversation = Conversation(
        (Message("system", system), *messages) if system else messages,
        tools=tools,
        tool_choice=forced,
        parallel_tool_calls=not _flag(choice, "disable_parallel_tool_use", "tool_choice"),
    )
    request = Request(
        given["model"],
        conversation,
        _options(given),
        think=think,
        think_budget=budget,
        think_is_optional=True,  # clients of this API turn thinking on for every model
        constraint=_form(config.get("format")),
        explain_cache=given.get("explain_cache", False),
    )
    length = len(system) + sum(len(message.role) + len(message.content) for message in messages)
    return ParsedMessage(request, given.get("stream", False), length // _CHARACTERS_PER_TOKEN)


def _options(given: Mapping[str, Any]) -> Options:
    """The request's options; the model's own apply where it has none."""
    names = {"max_tokens": "num_predict", "stop_sequences": "stop"}
    fields = ("max_tokens", "stop_sequences", "temperature", "top_p", "top_k")
    return parse_options({names.get(name, name): given.get(name) for name in fields})[0]


def _thinking(
    thinking: Mapping[str, Any], config: Mapping[str, Any], max_tokens: int
) -> tuple[bool | str | None, int | None]:
    """Whether thinking is on, and its most tokens, if these are fewer than the answer may have. The effort applies if
    ``thinking`` is not given."""
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind not in (None, "enabled", "disabled", "adaptive"):
        raise InvalidRequest("thinking.type must be enabled, disabled or adaptive")
    if budget is not None and (type(budget) is not int or budget < 0):
        raise InvalidRequest("thinking.budget_tokens must be a number of tokens")
    if kind == "enabled":
        return True, budget if budget is not None and budget < max_tokens else None
    if kind == "disabled":
        return False, None
    effort = config.get("effort")
    if effort is None:
        return None, None
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise InvalidRequest(f"output_config.effort must be one of {', '.join(_EFFORTS)}")
    return _EFFORTS[effort], None


def _form(form: Any) -> Constraint | None:
    if form is None:
        return None
    schema = form.get("schema") if isinstance(form, dict) else None
    if schema is None or form.get("type") != "json_schema":
        raise InvalidRequest("output_config.format must be a json_schema with its schema")
    if not isinstance(schema, dict):
        raise InvalidRequest("output_config.format.schema must be an object")
    return Constraint("schema", msgspec.json.encode(schema).decode())


def _tools(tools: Any) -> tuple[dict[str, Any], ...]:
    """The tools in OpenAI's form. Tools that Anthropic's servers run are refused; tools that its clients run have no schema."""
    if tools is None:
        return ()
    if not isinstance(tools, list) or len(tools) > ollama.MOST_TOOLS:
        raise InvalidRequest(f"tools must be a list of at most {ollama.MOST_TOOLS}")
    return tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools))


def _tool(tool: Any, where: str) -> dict[str, Any]:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
        raise InvalidRequest(f"{where} must have a name")
    kind = tool.get("type") or "custom"
    if not isinstance(kind, str) or kind.startswith(_SERVED_TOOLS):
        raise InvalidRequest(f"{where}: this server has no {str(kind)[:40]!r}, leave it out")
    description, schema = tool.get("description"), tool.get("input_schema")
    if not isinstance(description, str | None) or not isinstance(schema, dict | None):
        raise InvalidRequest(f"{where} must have a text as description, an object as input_schema")
    function: dict[str, Any] = {"name": tool["name"]}
    if description:
        function["description"] = description
    return {"type": "function", "function": {**function, "parameters": schema or {}}}


_SERVED_TOOLS = ("web_search", "web_fetch", "code_execution", "tool_search", "mcp_toolset")


def _tool_choice(choice: Mapping[str, Any], tools: tuple[dict[str, Any], ...]) -> str:
    kind, name = choice.get("type", "auto"), choice.get("name")
    if kind in ("auto", "none"):
        return str(kind)
    if kind == "any" and tools:
        return "required"
    if kind == "tool" and name in [tool["function"]["name"] for tool in tools]:
        return str(name)
    raise InvalidRequest(
        "tool_choice must be of type auto, any, none, or tool with the name of a tool that is given"
    )


def _flag(given: Mapping[str, Any], name: str, where: str) -> bool:
    if not isinstance(value := given.get(name) or False, bool):
        raise InvalidRequest(f"{where}.{name} must be true or false")
    return value


# ---- messages and their blocks ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Blocks:
    """The blocks of one message, sorted."""

    parts: list[ContentPart] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Message] = field(default_factory=list)
    thinking: str = ""


def _messages(items: list[Any]) -> tuple[Message, ...]:
    body.check_count(items, "messages")
    found: list[Message] = []
    tools: dict[str, str] = {}  # id of a call -> its tool
    for i, item in enumerate(items):
        where = f"messages[{i}]"
        given = body.fields(item, MESSAGE_FIELDS, "MessagesRequest", "messages")
        role = body.role(given.get("role", ""), ROLES, where)
        content = given.get("content")
        if isinstance(content, str):
            found.append(Message(role, content))
            continue
        blocks = _sort_blocks(content, where, tools)
        found += blocks.results  # before the text about them
        if any(blocks.parts) or blocks.calls or blocks.thinking:
            more = {"thinking": blocks.thinking, "tool_calls": tuple(blocks.calls)}
            found.append(Message.of(role, blocks.parts, **more))
        body.check_count(found, "the list of messages and tool results")
    if not found:
        raise InvalidRequest("messages say nothing, give one of them a text")
    return tuple(found)


def _sort_blocks(content: Any, where: str, tools: dict[str, str]) -> _Blocks:
    blocks = _Blocks()
    for place, block in _blocks(content, f"{where}.content"):
        match block["type"]:
            case "text":
                blocks.parts.append(body.text(block, "text", place))
            case "image":
                blocks.parts.append(_image(block, place))
            case "document":
                blocks.parts += _document(block, place)
            case "thinking":
                blocks.thinking = body.text(block, "thinking", place)  # Ollama keeps the last one
            case "tool_use":
                blocks.calls.append(call := _call(block, place))
                tools[call.id] = call.name
            case "tool_result":
                blocks.results.append(_result(block, place, tools))
            case _:
                pass  # also redacted_thinking: it is encrypted for Anthropic's servers
    return blocks


def _blocks(content: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """The blocks of a content, each with its place for errors."""
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a text or a list of blocks")
    for i, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise InvalidRequest(f"{where}[{i}] must be a block with a type")
    return [(f"{where}[{i}]", block) for i, block in enumerate(content)]


def _system(content: Any) -> str:
    """The system prompt, without the header that Claude Code puts before it: it is for billing by Anthropic's servers, and it
    changes with each request, so that no prompt would be found in the cache."""
    if isinstance(content, list):
        blocks = _blocks(content, "system")
        content = [block for _, block in blocks if not _is_billing(block)]
    return _text(content, "system")


def _is_billing(block: Mapping[str, Any]) -> bool:
    text = block.get("text")
    return isinstance(text, str) and text.startswith("x-anthropic-billing-header:")


def _text(content: Any, where: str) -> str:
    """A text, or the joined texts of its blocks."""
    if isinstance(content, str):
        return content
    blocks = _blocks(content, where)
    return "".join(body.text(block, "text", at) for at, block in blocks if block["type"] == "text")


def _image(block: Mapping[str, Any], where: str) -> bytes | Link:
    source = _source(block, where)
    if source["type"] == "url":
        return attached.link(body.text(source, "url", f"{where}.source"), is_image=True)
    if source["type"] != "base64":
        raise InvalidRequest(
            f"invalid image source type: {source['type'][:40]}. Only base64 images are supported."
        )
    data = body.text(source, "data", f"{where}.source")
    try:
        return body.from_base64(data)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}.source.data is no base64: {error}") from None


def _source(block: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The source of an image or a document, with its type."""
    source = block.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        raise InvalidRequest(f"{where} must have a source with a type")
    return source


def _document(block: Mapping[str, Any], where: str) -> list[ContentPart]:
    """A document: base64, a text, a URL, or blocks of its own; its title is its name. Citations are not made."""
    source, title = _source(block, where), block.get("title")
    name = title if isinstance(title, str) else ""
    match source["type"]:
        case "base64":
            data = body.text(source, "data", f"{where}.source")
            return [attached.document(data, name, f"{where}.source.data")]
        case "text":
            text = body.text(source, "data", f"{where}.source")
            return [Document(text.encode("utf-8", "replace"), name)]
        case "url":
            url = body.text(source, "url", f"{where}.source")
            return [attached.link(url, is_image=False)]
        case "content":
            content = source.get("content")
            return (
                [content] if isinstance(content, str) else _seen(content, f"{where}.source.content")
            )
        case kind:
            raise InvalidRequest(
                f"{where}: there is no document source {kind[:40]!r} here, use base64, text, url or content"
            )


def _seen(content: Any, where: str) -> list[ContentPart]:
    """The texts, images and documents of a list of blocks; others are ignored."""
    found: list[ContentPart] = []
    for at, block in _blocks(content, where):
        match block["type"]:
            case "text":
                found.append(body.text(block, "text", at))
            case "image":
                found.append(_image(block, at))
            case "document" if (
                ".source.content" not in where
            ):  # a document in a document has no blocks of its own
                found += _document(block, at)
    return found


def _call(block: Mapping[str, Any], where: str) -> ToolCall:
    id, name, arguments = block.get("id"), block.get("name"), block.get("input")
    if not (isinstance(id, str) and id and isinstance(name, str) and name):
        raise InvalidRequest(f"{where} must have an id and a name")
    if not isinstance(arguments, dict | None):
        raise InvalidRequest(f"{where}.input must be an object")
    return ToolCall(name, arguments or {}, id)


def _result(block: Mapping[str, Any], where: str, tools: Mapping[str, str]) -> Message:
    id, content = body.text(block, "tool_use_id", where), block.get("content") or ""
    parts: list[ContentPart] = (
        [content] if isinstance(content, str) else _seen(content, f"{where}.content")
    )
    return Message.of("tool", parts, tool_name=tools.get(id, ""), tool_call_id=id)


# ---- answers ---------------------------------------------------------------------------------------------------------


def _usage(usage: Usage | None) -> dict[str, Any]:
    """As in Anthropic's API, and unlike in Ollama, ``input_tokens`` leaves out the cached tokens: clients add the two.
    ``cached_from`` and ``prompt_truncated`` are our own fields: where cached tokens came from, and the part of the prompt that
    was cut because it did not fit.
    """
    usage = usage or Usage()
    cached = {"cache_read_input_tokens": usage.cached_tokens} if usage.cached_tokens else {}
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        **cached,
        "output_tokens": usage.completion_tokens,
        **ollama.cached_from(usage),
        **ollama.truncated(usage),
    }


class MessageWriter:
    """Writes one answer, as one object or as events."""

    def __init__(self, parsed: ParsedMessage) -> None:
        self._head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant"}
        self._head["model"] = parsed.request.model
        self._about_tokens = parsed.about_tokens
        self._stops = parsed.request.options.stop or ()  # not the model's own
        self._begun = self._called = False
        self._block = ""  # the type of the block that is open
        self._index = -1

    def answer(self, chunk: Chunk) -> bytes:
        """The answer that is not streamed."""
        content: list[dict[str, Any]] = []
        if chunk.thinking:
            content.append({**_empty_block("thinking"), "thinking": chunk.thinking})
        if chunk.text:
            content.append({"type": "text", "text": chunk.text})
        content += [{**_tool_use(call), "input": call.arguments} for call in chunk.tool_calls]
        self._called = bool(chunk.tool_calls)
        ending = self._ending(chunk)
        message = {**self._head, "content": content, **ending, "usage": _usage(chunk.usage)}
        return msgspec.json.encode({**message, **ollama.own_fields(chunk)})

    def events(self, chunk: Chunk) -> bytes:
        """The events of a chunk, without the last line feed."""
        found = self._beginning(chunk.prompt_usage)
        if chunk.thinking:
            found += self._piece("thinking", "thinking_delta", chunk.thinking)
        if chunk.text:
            found += self._piece("text", "text_delta", chunk.text)
        for call in chunk.tool_calls:
            self._called = True
            written = msgspec.json.encode(call.arguments).decode()
            found += self._opened({**_tool_use(call), "input": {}})
            found += [self._delta("input_json_delta", "partial_json", written), *self._closed()]
        if chunk.finish_reason:
            ending = {"delta": self._ending(chunk), "usage": _usage(chunk.usage)}
            ending |= ollama.own_fields(chunk)
            found += [*self._closed(), {"type": "message_delta", **ending}]
            found.append({"type": "message_stop"})
        return sse.write(found)

    def ping(self) -> bytes:
        """The event of a pause in the answer, also before its first chunk."""
        return sse.write([*self._beginning(), {"type": "ping"}])

    def _beginning(self, prompt: Usage | None = None) -> list[dict[str, Any]]:
        """The first event, once. Before the prompt was read (a ping came first) its length is an estimate."""
        if self._begun:
            return []
        self._begun = True
        usage = _usage(prompt or Usage(prompt_tokens=self._about_tokens))
        ending = {"stop_reason": None, "stop_sequence": None}
        message: dict[str, Any] = {**self._head, "content": [], **ending, "usage": usage}
        return [{"type": "message_start", "message": message}]

    def _piece(self, block: str, delta: str, text: str) -> list[dict[str, Any]]:
        """A piece of text, in the block that is open if that is of its type."""
        opened = [] if self._block == block else self._opened(_empty_block(block))
        return [*opened, self._delta(delta, block, text)]

    def _opened(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        closed = self._closed()
        self._index += 1
        self._block = block["type"]
        start = {"type": "content_block_start", "index": self._index, "content_block": block}
        return [*closed, start]

    def _delta(self, kind: str, name: str, text: str) -> dict[str, Any]:
        delta = {"type": kind, name: text}
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _closed(self) -> list[dict[str, Any]]:
        was, self._block = self._block, ""
        return [{"type": "content_block_stop", "index": self._index}] if was else []

    def _ending(self, chunk: Chunk) -> dict[str, Any]:
        """A stop sequence that ended the answer is reported, but the reason stays "end_turn": as in Ollama, and as its clients
        expect."""
        reason = {"stop": "end_turn", "length": "max_tokens"}[chunk.finish_reason or "stop"]
        return {
            "stop_reason": "tool_use" if self._called and not chunk.cut_call else reason,
            "stop_sequence": chunk.stop_sequence if chunk.stop_sequence in self._stops else None,
        }


def _empty_block(kind: str) -> dict[str, Any]:
    """Clients expect a signature of thinking; it is empty here."""
    return {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    id = f"toolu_{call.id.removeprefix('call_')}"
    return {"type": "tool_use", "id": id, "name": call.name}


def encode_count(tokens: int) -> bytes:
    """The answer of /v1/messages/count_tokens."""
    return msgspec.json.encode({"input_tokens": tokens})


def encode_error(status: int, message: str, code: str = "") -> bytes:
    """An error in Anthropic's shape."""
    return msgspec.json.encode(_error(status, message, code))


def error_event(status: int, message: str, code: str = "") -> bytes:
    """The event that ends a stream that failed, without the last line feed."""
    return sse.write([_error(status, message, code)])


def _error(status: int, message: str, code: str) -> dict[str, Any]:
    """This API has no codes: its clients detect a prompt that is too long by Anthropic's text."""
    if code == PromptTooLong.code:
        message = f"prompt is too long: {message}"
    error = {"type": _KINDS.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}

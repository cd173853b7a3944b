"""OpenAI's API: chat completions and models, from JSON to requests of the vocabulary and from answers to JSON. Pure.

Images, audio and more than one choice are refused by name.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...types import ChatRequest, Chunk, Message, ToolCall, Usage
from . import body, ollama

_CHAT = {
    "model": "string", "messages": "[]api.Message", "stream": "bool", "stream_options": "map[string]interface {}",
    "max_tokens": "int", "max_completion_tokens": "int", "seed": "int", "stop": "any", "temperature": "any",
    "top_p": "any", "frequency_penalty": "any", "presence_penalty": "any", "response_format": "map[string]interface {}",
    "tools": "any", "tool_choice": "any", "parallel_tool_calls": "bool", "logprobs": "bool", "top_logprobs": "int",
    "reasoning": "map[string]interface {}", "reasoning_effort": "string", "logit_bias": "map[string]interface {}",
    "n": "int",
}  # fmt: skip
_EFFORTS: Mapping[str, bool | str] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "max",
    "ultra": "max",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AskedChat:
    """A chat, and how its answer is wanted."""

    request: ChatRequest
    stream: bool
    include_usage: bool


def parse_chat(data: bytes) -> AskedChat:
    """The body of /v1/chat/completions. Raises InvalidRequest."""
    try:
        given = body.fields(body.decode(data), _CHAT, "ChatCompletionRequest")
    except body.MissingBody:
        raise InvalidRequest("EOF") from None
    if not given.get("messages"):
        raise InvalidRequest("[] is too short - 'messages'")
    if given.get("n", 1) != 1:
        raise InvalidRequest("n must be 1, ask again for another answer")
    choice = given.get("tool_choice", "auto")
    if isinstance(choice, dict):
        function = choice.get("function")
        choice = function.get("name") if isinstance(function, dict) else None
    native = {
        "model": given.get("model"),
        "options": _options(given),
        "think": _effort(given),
        "logprobs": given.get("logprobs"),
        "top_logprobs": given.get("top_logprobs"),
        "format": _format(given.get("response_format", {})),
        "logit_bias": given.get("logit_bias"),
        "tools": given.get("tools"),
        "tool_choice": choice,
        "parallel_tool_calls": given.get("parallel_tool_calls"),
    }
    messages = _messages(given["messages"])
    request = ollama.parse_chat(msgspec.json.encode(native)).request
    wants_usage = given.get("stream_options", {}).get("include_usage") is True
    request = msgspec.structs.replace(request, messages=messages)
    return AskedChat(request, given.get("stream", False), wants_usage)


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        value = given.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise body.wrong_type(value, f"ChatCompletionRequest.{name}", "float64")
    stop = given.get("stop")
    return {
        "num_predict": given.get("max_completion_tokens", given.get("max_tokens")),
        "seed": given.get("seed"),
        "stop": [stop] if isinstance(stop, str) else stop,
        "temperature": given.get("temperature", 1.0),
        "top_p": given.get("top_p", 1.0),
        "frequency_penalty": given.get("frequency_penalty"),
        "presence_penalty": given.get("presence_penalty"),
    }


def _effort(given: Mapping[str, Any]) -> bool | str | None:
    effort = given.get("reasoning", {}).get("effort") or given.get("reasoning_effort")
    if not effort:
        return None
    if not isinstance(effort, str) or effort not in _EFFORTS:
        raise InvalidRequest(
            f'invalid reasoning value: "{effort}" (must be "minimal", "low", "medium", "high", '
            '"xhigh", "ultra", "max", or "none")'
        )
    return _EFFORTS[effort]


def _format(form: Mapping[str, Any]) -> Any:
    if form.get("type") == "json_object":
        return "json"
    if form.get("type") == "json_schema":
        return (form.get("json_schema") or {}).get("schema")
    return None


def _messages(items: list[Any]) -> tuple[Message, ...]:
    """Each part of a content becomes a message of its own, as in Ollama."""
    found: list[Message] = []
    names: dict[str, str] = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(role := item.get("role", ""), str):
            raise InvalidRequest("invalid message format")
        given_calls = item.get("tool_calls") or []
        if not isinstance(given_calls, list):
            raise InvalidRequest("invalid tool call arguments")
        calls = tuple(_call(each) for each in given_calls)
        names |= {call.id: call.name for call in calls}
        id = item.get("tool_call_id") or ""
        name = item.get("name") or names.get(id, "")
        content = item.get("content")
        thinking = item.get("reasoning") or ""
        if not all(isinstance(text, str) for text in (id, name, thinking)):
            raise InvalidRequest("invalid message format")
        if content is None and not calls:
            raise InvalidRequest("invalid message content type: <nil>")
        texts = _texts(content)
        found += [Message(role.lower(), text) for text in texts[:-1]]
        found.append(Message(role.lower(), texts[-1], thinking, calls, name, id))
    return tuple(found)


def _texts(content: Any) -> list[str]:
    if content is None or isinstance(content, str):
        return [content or ""]
    if not isinstance(content, list):
        shown = "float64" if body.kind(content) == "number" else body.kind(content)
        raise InvalidRequest(f"invalid message content type: {shown}")
    return [_text(part) for part in content] or [""]


def _text(part: Any) -> str:
    sort = part.get("type") if isinstance(part, dict) else None
    if sort == "text" and isinstance(text := part.get("text"), str):
        return text
    if sort == "image_url":
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, dict) else url
        if isinstance(url, str) and url.startswith(("http://", "https://")):
            raise InvalidRequest(
                "image URLs are not currently supported, please use base64 encoded data instead"
            )
        raise InvalidRequest("this model does not support images, leave them out")
    raise InvalidRequest("invalid message format")


def _call(item: Any) -> ToolCall:
    try:
        function = item["function"]
        arguments = msgspec.json.decode(function["arguments"] or "{}", type=dict[str, Any])
        return msgspec.convert(
            {"name": function["name"], "arguments": arguments, "id": item.get("id") or ""}, ToolCall
        )
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        raise InvalidRequest("invalid tool call arguments") from None


# ---- answers ---------------------------------------------------------------------------------------------------------


def _usage(usage: Usage | None) -> dict[str, Any]:
    usage = usage or Usage()
    found: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    if usage.cached_tokens:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return found


class ChatAnswer:
    """Writes one answer, whole or in frames; all of it has one id and one time."""

    def __init__(self, model: str, include_usage: bool = False) -> None:
        self._head = {"id": f"chatcmpl-{random.randrange(999)}", "created": int(time.time())}
        self._head |= {"model": model, "system_fingerprint": "fp_ollama"}
        self._include_usage = include_usage
        self._called = self._begun = False

    def whole(self, chunk: Chunk) -> bytes:
        """The answer that is not streamed."""
        said: dict[str, Any] = {"role": "assistant", "content": chunk.text}
        if chunk.thinking:
            said["reasoning"] = chunk.thinking
        if chunk.tool_calls:
            said["tool_calls"] = [
                _called(i, call.id, call.name, msgspec.json.encode(call.arguments).decode())
                for i, call in enumerate(chunk.tool_calls)
            ]
        reason = "tool_calls" if chunk.tool_calls else chunk.finish_reason
        choice = {"index": 0, "message": said, "finish_reason": reason}
        if chunk.logprobs:
            choice["logprobs"] = {"content": chunk.logprobs}
        head = {**self._head, "object": "chat.completion"}
        return ollama.encode({**head, "choices": [choice], "usage": _usage(chunk.usage)})

    def frames(self, chunk: Chunk) -> bytes:
        """What a chunk adds to the stream, without the last line feed."""
        deltas: list[dict[str, Any]] = []
        if chunk.thinking:
            deltas.append({"content": "", "reasoning": chunk.thinking})
        pieces = [_called(d.index, d.id, d.name, d.arguments) for d in chunk.tool_deltas]
        if chunk.text or pieces or (chunk.logprobs and not deltas):
            calls = {"tool_calls": pieces} if pieces else {}
            deltas.append({"content": chunk.text, **calls})
        self._called |= bool(chunk.tool_deltas or chunk.tool_calls)
        frames = []
        for i, delta in enumerate(deltas):
            choice = {"index": 0, "delta": self._with_role(delta), "finish_reason": None}
            if chunk.logprobs and i == len(deltas) - 1:
                choice["logprobs"] = {"content": chunk.logprobs}
            frames.append(self._frame([choice]))
        if chunk.finish_reason:
            reason = "tool_calls" if self._called else chunk.finish_reason
            frames.append(self._frame([{"index": 0, "delta": {}, "finish_reason": reason}]))
            if self._include_usage:
                frames.append(self._frame([], usage=_usage(chunk.usage)))
        return b"\n".join(frames)

    def _with_role(self, delta: dict[str, Any]) -> dict[str, Any]:
        first, self._begun = not self._begun, True
        return {"role": "assistant", **delta} if first else delta

    def _frame(self, choices: list[Any], **more: Any) -> bytes:
        head = {**self._head, "object": "chat.completion.chunk"}
        return frame(ollama.encode({**head, "choices": choices, **more}))


def _called(index: int, id: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name} if name else {}
    head = {"id": id, "index": index, "type": "function"} if id else {"index": index}
    return {**head, "function": {**function, "arguments": arguments}}


def frame(data: bytes) -> bytes:
    """One event of a stream, without its second line feed."""
    return b"data: " + data + b"\n"


def encode_error(status: int, message: str) -> bytes:
    """An error in OpenAI's shape."""
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    error = {"message": message, "type": kinds.get(status, "api_error")}
    return ollama.encode({"error": {**error, "param": None, "code": None}})

"""The answers of /v1/responses, as one object or as events. Pure.

An answer cut off by the limit of tokens is "incomplete". The tokens of thinking are not counted separately. A tool call is
streamed in one piece, once it is complete.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...types import Chunk, TokenLogprob, ToolCall, Usage
from .. import sse
from ..ollama import wire as ollama
from .responses import ParsedResponse


class ResponseWriter:
    """Writes one response, as one object or as events."""

    def __init__(self, parsed: ParsedResponse) -> None:
        self._id = secrets.token_hex(12)
        self._created = int(time.time())
        self._echo = parsed.echo
        self._members = parsed.members
        self._output: list[dict[str, Any]] = []  # the items that are complete
        self._open = ""  # the type of the item that is being written
        self._text = ""
        self._logprobs: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []  # logprobs whose text has not come yet
        self._sequence = 0

    def answer(self, chunk: Chunk) -> bytes:
        """The answer that is not streamed."""
        self._written(chunk)
        return msgspec.json.encode(self._response(_status(chunk), chunk.usage or Usage()))

    def events(self, chunk: Chunk) -> bytes:
        """The events of a chunk, without the last line feed."""
        return sse.write(self._written(chunk))

    def failed(self, status: int, message: str, code: str = "") -> bytes:
        """The event that ends a stream that failed, without the last line feed."""
        code = code or ("server_error" if status >= 500 else "invalid_prompt")
        response = self._response("failed", error={"code": code, "message": message})
        return sse.write([self._event("response.failed", response=response)])

    def _written(self, chunk: Chunk) -> list[dict[str, Any]]:
        found = []
        if not self._sequence:
            begun = self._response("in_progress")
            found += [self._event(f"response.{at}", response=begun) for at in _BEGINNING]
        self._waiting += [_logprob(each) for each in chunk.logprobs]
        if chunk.thinking:
            self._waiting = []
            found += self._opened("reasoning")
            self._text += chunk.thinking
            found.append(self._part("reasoning_summary_text.delta", delta=chunk.thinking))
        if chunk.text:
            found += self._opened("message")
            logprobs, self._waiting = self._waiting, []
            self._text += chunk.text
            self._logprobs += logprobs
            found.append(self._part("output_text.delta", delta=chunk.text, logprobs=logprobs))
        for call in chunk.tool_calls:
            found += [*self._closed(), *self._called(call)]
        if chunk.finish_reason:
            if self._open != "message" and all(
                each["type"] == "reasoning" for each in self._output
            ):
                found += self._opened("message")  # an empty answer is one, too
            status = _status(chunk)
            found += self._closed(status)
            response = self._response(status, chunk.usage or Usage())
            found.append(self._event(f"response.{status}", response=response))
        return found

    # Items are written one after another: reasoning and messages in pieces, calls in one

    def _opened(self, kind: str) -> list[dict[str, Any]]:
        if self._open == kind:
            return []
        found = self._closed()
        self._open, self._text, self._logprobs = kind, "", []
        item = {**self._item("in_progress"), _PARTS[kind]: []}
        found.append(self._at("output_item.added", item=item))
        if kind == "message":
            found.append(self._part("content_part.added", part=_output_text("", [])))
        return found

    def _closed(self, status: str = "completed") -> list[dict[str, Any]]:
        found, item = [], self._item(status)
        if self._open == "reasoning":
            found.append(self._part("reasoning_summary_text.done", text=self._text))
        if self._open == "message":
            done = {"text": self._text, "logprobs": self._logprobs}
            found.append(self._part("output_text.done", **done))
            found.append(self._part("content_part.done", part=item["content"][0]))
        if self._open:
            found.append(self._at("output_item.done", item=item))
            self._output.append(item)
            self._open = ""
        return found

    def _item(self, status: str) -> dict[str, Any]:
        """The item that is being written, so far."""
        if self._open == "reasoning":
            summary = [{"type": "summary_text", "text": self._text}]
            item = {"id": self._item_id("rs"), "type": "reasoning", "summary": summary}
            return {**item, "encrypted_content": self._text}
        content = [_output_text(self._text, self._logprobs)]
        item = {"id": self._item_id("msg"), "type": "message", "status": status}
        return {**item, "role": "assistant", "content": content}

    def _called(self, call: ToolCall) -> list[dict[str, Any]]:
        arguments = msgspec.json.encode(call.arguments).decode()
        item = {"id": self._item_id("fc"), "type": "function_call", "status": "completed"}
        namespace, name = self._members.get(call.name, ("", call.name))
        item |= {"call_id": call.id, "name": name, "arguments": arguments}
        item |= {"namespace": namespace} if namespace else {}
        begun = {**item, "status": "in_progress", "arguments": ""}
        place = {"item_id": item["id"]}
        done = {"name": name, "arguments": arguments}
        found = [
            self._at("output_item.added", item=begun),
            self._at("function_call_arguments.delta", **place, delta=arguments),
            self._at("function_call_arguments.done", **place, **done),
            self._at("output_item.done", item=item),
        ]
        self._output.append(item)
        return found

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._id}_{len(self._output)}"

    # Events

    def _part(self, kind: str, **more: Any) -> dict[str, Any]:
        """An event of the only part of the item that is being written."""
        thinks = self._open == "reasoning"
        place = {"summary_index": 0} if thinks else {"content_index": 0}
        return self._at(kind, item_id=self._item_id("rs" if thinks else "msg"), **place, **more)

    def _at(self, kind: str, **more: Any) -> dict[str, Any]:
        """An event of the item that is being written, or of the next."""
        return self._event(f"response.{kind}", output_index=len(self._output), **more)

    def _event(self, kind: str, **more: Any) -> dict[str, Any]:
        number, self._sequence = self._sequence, self._sequence + 1
        return {"type": kind, "sequence_number": number, **more}

    def _response(
        self, status: str, usage: Usage | None = None, error: dict[str, str] | None = None
    ) -> dict[str, Any]:
        done = status == "completed"
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if done else None,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "error": error,
            "output": list(self._output),
            "usage": None if usage is None else _usage(usage),
            **self._echo,
            **_CONSTANT,
        }


_BEGINNING = ("created", "in_progress")
_PARTS = {"reasoning": "summary", "message": "content"}

_CONSTANT = {
    "previous_response_id": None, "presence_penalty": 0, "frequency_penalty": 0, "max_tool_calls": None, "store": False,
    "background": False, "service_tier": "default", "safety_identifier": None, "prompt_cache_key": None,
}  # fmt: skip
"""Fields that are the same in every response: other values are not supported."""


def _status(chunk: Chunk) -> str:
    """The status of a response, from its last chunk."""
    return "incomplete" if chunk.finish_reason == "length" else "completed"


def _output_text(text: str, logprobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}


def _logprob(each: TokenLogprob) -> dict[str, Any]:
    top = [_logprob(other) for other in each.top_logprobs]
    head = {"token": each.token, "logprob": each.logprob, "bytes": each.bytes}
    return {**head, "top_logprobs": top}


def _usage(usage: Usage) -> dict[str, Any]:
    """``prompt_truncated`` is our own field: the part of the prompt that was cut because it did not fit."""
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens_details": {"reasoning_tokens": 0},
        **ollama.truncated(usage),
    }

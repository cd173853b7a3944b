"""The answers of /v1/responses, as one object or as events. Pure.

An answer cut off by the limit of tokens is "incomplete". The tokens of thinking are not counted separately. A tool call is
streamed in one piece, once it is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...serving.responses.values import Item, Response, ResponseFailure, Status, merged
from ...types import Chunk, TokenLogprob, ToolCall, Usage
from ..ollama import wire as ollama
from .responses import Head

Event = dict[str, Any]


class ResponseWriter:
    """Writes one response as events, from its chunks: the same ones whenever it is read. ``response`` is the state in which it
    is now: replace it before the chunk that ends it is written; ``is_stored`` too, where it could not be stored."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self._id = response.id.partition("_")[2]
        self.head = msgspec.json.decode(response.head, type=Head)
        self.is_stored = self.head.store
        self._usage: Usage | None = None
        self._own: dict[str, Any] = {}
        self._output: list[dict[str, Any]] = []  # the items that are complete
        self._open = ""  # the type of the item that is being written
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []  # logprobs whose text has not come yet
        self._sequence = 0
        self._is_begun = False

    def opening(self) -> list[Event]:
        """The first events of a response in the background, which may wait in the queue; else none."""
        if self._sequence or not self.head.background:
            return []
        begun = self._response("queued")
        return [self._event(f"response.{at}", response=begun) for at in ("created", "queued")]

    def events(self, chunk: Chunk) -> list[Event]:
        """The events of a chunk."""
        found = self.opening()
        if not self._is_begun:
            self._is_begun = True
            begun = self._response("in_progress")
            kinds = ("in_progress",) if self.head.background else ("created", "in_progress")
            found += [self._event(f"response.{at}", response=begun) for at in kinds]
        self._waiting += [_logprob(each) for each in chunk.logprobs]
        if chunk.thinking:
            self._waiting = []
            found += self._opened("reasoning")
            self._texts.append(chunk.thinking)
            found.append(self._part("reasoning_summary_text.delta", delta=chunk.thinking))
        if chunk.text:
            found += self._opened("message")
            logprobs, self._waiting = self._waiting, []
            self._texts.append(chunk.text)
            self._logprobs += logprobs
            found.append(self._part("output_text.delta", delta=chunk.text, logprobs=logprobs))
        for call in chunk.tool_calls:
            found += [*self._closed(), *self._called(call)]
        if chunk.finish_reason:
            if self._open != "message" and all(
                each["type"] == "reasoning" for each in self._output
            ):
                found += self._opened("message")  # an empty answer is one, too
            self._usage, self._own = chunk.usage or Usage(), ollama.own_fields(chunk)
            status = self.response.status
            found += self._closed(status)
            found.append(self._event(f"response.{status}", response=self._response(status)))
        return found

    def ending(self) -> list[Event]:
        """The last event of a response that its model did not end: it failed or was cancelled."""
        status = self.response.status
        return [self._event(f"response.{status}", response=self._response(status))]

    def whole(self) -> dict[str, Any]:
        """The response as it is now, with the item that is being written."""
        found = self._response(self.response.status)
        if self._open:
            status = "in_progress" if self.response.is_running else "incomplete"
            found["output"].append(self._item(status))
        return found

    # Items are written one after another: reasoning and messages in pieces, calls in one

    def _opened(self, kind: str) -> list[Event]:
        if self._open == kind:
            return []
        found = self._closed()
        self._open, self._texts, self._logprobs = kind, [], []
        item = {**self._item("in_progress"), _PARTS[kind]: []}
        found.append(self._at("output_item.added", item=item))
        if kind == "message":
            found.append(self._part("content_part.added", part=_output_text("", [])))
        return found

    def _closed(self, status: str = "completed") -> list[Event]:
        if not self._open:
            return []
        found, item, text = [], self._item(status), "".join(self._texts)
        if self._open == "reasoning":
            found.append(self._part("reasoning_summary_text.done", text=text))
        else:
            done = {"text": text, "logprobs": self._logprobs}
            found.append(self._part("output_text.done", **done))
            found.append(self._part("content_part.done", part=item["content"][0]))
        found.append(self._at("output_item.done", item=item))
        self._output.append(item)
        self._open = ""
        return found

    def _item(self, status: str) -> dict[str, Any]:
        """The item that is being written, so far."""
        text = "".join(self._texts)
        if self._open == "reasoning":
            summary = [{"type": "summary_text", "text": text}]
            item = {"id": self._item_id("rs"), "type": "reasoning", "summary": summary}
            return {**item, "encrypted_content": text}
        content = [_output_text(text, self._logprobs)]
        item = {"id": self._item_id("msg"), "type": "message", "status": status}
        return {**item, "role": "assistant", "content": content}

    def _called(self, call: ToolCall) -> list[Event]:
        arguments = msgspec.json.encode(call.arguments).decode()
        item = {"id": self._item_id("fc"), "type": "function_call", "status": "completed"}
        namespace, name = self.head.members.get(call.name, ("", call.name))
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

    def _part(self, kind: str, **more: Any) -> Event:
        """An event of the only part of the item that is being written."""
        thinks = self._open == "reasoning"
        place = {"summary_index": 0} if thinks else {"content_index": 0}
        return self._at(kind, item_id=self._item_id("rs" if thinks else "msg"), **place, **more)

    def _at(self, kind: str, **more: Any) -> Event:
        """An event of the item that is being written, or of the next."""
        return self._event(f"response.{kind}", output_index=len(self._output), **more)

    def _event(self, kind: str, **more: Any) -> Event:
        number, self._sequence = self._sequence, self._sequence + 1
        return {"type": kind, "sequence_number": number, **more}

    def _response(self, status: Status) -> dict[str, Any]:
        response, head, error = self.response, self.head, self.response.error
        usage = self._usage
        return {
            "id": response.id,
            "object": "response",
            "created_at": response.created_at,
            "completed_at": response.ended_at if status == "completed" else None,
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "error": None if error is None else _error(error),
            "output": list(self._output),
            "usage": None if usage is None else _usage(usage),
            **head.echo,
            **_CONSTANT,
            "previous_response_id": head.previous,
            "store": self.is_stored,
            "background": head.background,
            **({} if head.conversation is None else {"conversation": {"id": head.conversation}}),
            **self._own,
        }


_PARTS = {"reasoning": "summary", "message": "content"}

_CONSTANT = {
    "presence_penalty": 0, "frequency_penalty": 0, "max_tool_calls": None, "service_tier": "default",
    "safety_identifier": None, "prompt_cache_key": None,
}  # fmt: skip
"""Fields that are the same in every response: other values are not supported."""


def written(response: Response, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """A response as an object, from all that was written of it so far."""
    writer = ResponseWriter(response)
    for chunk in merged(chunks):
        writer.events(chunk)
    return writer.whole()


def output_items(response: Response, chunks: Sequence[Chunk]) -> list[Item]:
    """What a response wrote, as items to be stored."""
    return [
        Item(item["id"], msgspec.json.encode(item)) for item in written(response, chunks)["output"]
    ]


def _error(failure: ResponseFailure) -> dict[str, str]:
    code = failure.code or ("server_error" if failure.status >= 500 else "invalid_prompt")
    return {"code": code, "message": failure.message}


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
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, **ollama.cached_from(usage)},
        "output_tokens_details": {"reasoning_tokens": 0},
        **ollama.truncated(usage),
    }

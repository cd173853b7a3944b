"""The items of /v1/responses and of conversations: as they are stored, and as the messages that they are. Pure.

Stored items are what the client sent, with an id each: what a later response continues is exactly what this one had, its thinking
and its calls too, so that the later prompt begins with the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...serving.responses.values import Item, new_id
from ...types import ContentPart, Message, ToolCall
from .. import attached, body
from . import chat

ROLES = ("user", "assistant", "system", "developer")

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}
_MOST_ID = 100  # characters of an id that an item brings along


# ---- as they are stored ----------------------------------------------------------------------------------------------


def given_items(value: Any) -> list[dict[str, Any]]:
    """The items of an ``input``, unchecked: a text, or a list of items. Raises InvalidRequest."""
    items = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise InvalidRequest("input is required: a text, or a list of items")
    body.check_count(items, "input")
    return items


def stored(items: Sequence[Mapping[str, Any]], *, keeps_ids: bool) -> list[Item]:
    """Items that were checked, as they are stored; ``keeps_ids``: they may have ids of their own."""
    return [_stored(item, keeps_ids) for item in items]


def _stored(item: Mapping[str, Any], keeps_ids: bool) -> Item:
    kind = item.get("type", "message")
    given = item.get("id")
    keeps = keeps_ids and isinstance(given, str) and 0 < len(given) <= _MOST_ID
    id = given if keeps else new_id(_PREFIXES.get(kind, "item"))
    whole = {"id": id, "type": kind, **{k: v for k, v in item.items() if k not in ("id", "type")}}
    if kind == "message":
        whole["content"] = _parts(whole.get("content"), whole.get("role"))
    if kind != "reasoning":
        whole.setdefault("status", "completed")
    assert isinstance(id, str)
    return Item(id, msgspec.json.encode(whole))


def _parts(content: Any, role: Any) -> Any:
    """A content as a list of parts."""
    if not isinstance(content, str):
        return content
    if isinstance(role, str) and role.lower() == "assistant":
        return [{"type": "output_text", "text": content, "annotations": []}]
    return [{"type": "input_text", "text": content}]


def references(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of the stored items that an input refers to. Raises InvalidRequest."""
    return [
        body.text(item, "id", f"input[{place}]")
        for place, item in enumerate(items)
        if item.get("type") == "item_reference"
    ]


def resolved(
    items: Sequence[dict[str, Any]], found: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """An input, with references replaced by the stored items."""
    return [found[item["id"]] if item.get("type") == "item_reference" else item for item in items]


# ---- as messages -----------------------------------------------------------------------------------------------------


def messages(items: Sequence[Mapping[str, Any]], instructions: str) -> tuple[Message, ...]:
    """The messages of a conversation of items. Raises InvalidRequest."""
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
            case "item_reference":
                body.text(item, "id", where)  # the item comes in its place
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


def _content(content: Any, where: str) -> list[ContentPart]:
    """The parts of a content."""
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a text or a list of parts")
    found: list[ContentPart] = []
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
            case "input_audio":
                found.append(attached.openai_sound(part.get("input_audio"), f"{place}.input_audio"))
            case "input_file":
                found.append(attached.openai_file(part, place))
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

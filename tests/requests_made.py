"""Requests as tests write them: the fields of /api/generate and /api/chat in one call each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ollamapy.request import Conversation, Gap, Input, Question, Raw, Request
from ollamapy.types import Message, Options


def generate_request(
    model: str,
    prompt: str = "",
    system: str = "",
    raw: bool = False,
    template: str = "",
    suffix: str = "",
    context: tuple[int, ...] | None = None,
    images: tuple[bytes, ...] = (),
    tokens: tuple[int, ...] = (),
    **more: Any,
) -> Request:
    """Continue one prompt."""
    given: Input
    if raw:
        given = Raw(tokens or prompt, suffix, images)
    elif suffix:
        given = Gap(prompt, suffix, template, context, images)
    else:
        given = Question(prompt, system, template, context, images)
    return Request(model, given, **more)


def chat_request(
    model: str,
    messages: Sequence[Message] = (),
    options: Options | None = None,
    tools: tuple[dict[str, Any], ...] = (),
    tool_choice: str = "auto",
    parallel_tool_calls: bool = True,
    **more: Any,
) -> Request:
    """Answer a conversation."""
    given = Conversation(tuple(messages), tools, tool_choice, parallel_tool_calls)
    return Request(model, given, options or Options(), **more)


def conversation(request: Request) -> Conversation:
    """The conversation that a request asks to answer."""
    assert isinstance(request.input, Conversation)
    return request.input

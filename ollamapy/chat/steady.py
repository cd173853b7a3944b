"""Lines of a system prompt that differ in every request though the conversation does not: nothing after them would be found in the
cache. Pure.

Only what programs write there is changed, in system messages, never in what a user wrote:

- the line with which Claude Code's requests begin, ``x-anthropic-billing-header: ...``, is left out: it is for the billing of
  Anthropic's servers;
- in a line about the current time ("Current time: 2026-11-30T09:48:29.512Z", "Current date and time: ... 9:48:29 AM") the
  seconds become 00 and their fraction is left out, so that requests of one minute agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ..types import Message

BILLING = "x-anthropic-billing-header:"

_BILLING_LINE = re.compile(rf"\A\s*{BILLING}[^\n]*(?:\n+|\Z)")
_ABOUT_NOW = re.compile(
    r"current[ _-]?(?:(?:utc|local|system)[ _-])?(?:date(?:[ _-]?(?:and|&)[ _-]?|/|[ _-]?)time|time)\b[^\n]*",
    re.IGNORECASE,
)
_SECONDS = re.compile(r"(?<![\d:])(\d{1,2}:\d{2}):\d{2}(?:[.,]\d+)?(?![\d:])")


def steady(text: str) -> str:
    """A system prompt without the parts that change with every request."""
    text = _BILLING_LINE.sub("", text)
    return _ABOUT_NOW.sub(lambda line: _SECONDS.sub(r"\1:00", line[0]), text)


def steady_messages(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, the system's among them made steady; a message with nothing left is left out."""
    found = (_steady_message(message) for message in messages)
    return tuple(message for message in found if message is not None)


def _steady_message(message: Message) -> Message | None:
    if message.role not in ("system", "developer") or message.images:
        return message
    text = steady(message.content)
    if text == message.content:
        return message
    return msgspec.structs.replace(message, content=text) if text else None

"""Why a prompt was not reused: compared with the turn before it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..chat.difference import excerpt, place_of
from ..prefix import common_prefix
from ..types import CacheReport, Difference
from .recent import Recent

_JOINT = 2
"""Tokens at the end of a prompt that may be computed again though it continues: the last one always is, and two may join."""


def turn_before(request: Recent, others: Sequence[Recent]) -> Recent | None:
    """The turn before a request, among other requests in the order of their ends: of the same model, with most of the same
    messages at the same places, the latest of these. Without messages in common, one whose whole prompt it continues.
    """
    best, most = None, 0
    for other in others:
        if other.key != request.key or other.id == request.id:
            continue
        same = _same_messages(request, other)
        if not same and other.prompt and request.prompt.startswith(other.prompt):
            same = 1
        if same and same >= most:
            best, most = other, same
    return best


def _same_messages(one: Recent, other: Recent) -> int:
    pairs = zip(one.messages, other.messages, strict=False)
    return sum(a == b for a, b in pairs if a.role != "system")


def report(request: Recent, others: Sequence[Recent]) -> CacheReport:
    """What was reused of a request's prompt, and why not more; ``others`` were answered before it, the latest last."""
    before = turn_before(request, others)
    if before is None:
        words = "no earlier turn of this conversation is remembered"
        return CacheReport(request.prompt_tokens, request.cached_tokens, "first", words)
    reason, words, difference = _reason(before, request, others)
    return CacheReport(
        request.prompt_tokens,
        request.cached_tokens,
        reason,
        words,
        earlier_id=before.id,
        earlier_tokens=before.prompt_tokens,
        difference=difference,
    )


def _reason(
    before: Recent, request: Recent, others: Sequence[Recent]
) -> tuple[Literal["whole", "changed", "reloaded", "replaced"], str, Difference | None]:
    """The reason, as a word and as a sentence, and where the prompts differ."""
    if request.cached_tokens >= min(before.prompt_tokens, request.prompt_tokens) - _JOINT:
        return "whole", "the prompt of the last turn was reused", None
    at = common_prefix(before.prompt, request.prompt)
    if at < min(len(before.prompt), len(request.prompt)):
        found = _difference(before, request, at)
        return "changed", _changed(found), found
    if before.load != request.load:
        return "reloaded", "the model was loaded anew after the last turn", None
    between = sum(each.at > before.at and each.key == request.key for each in others)
    words = "the cache no longer had the last turn, or the model cannot go back to it"
    words += f": {between} other requests came between" if between else ""
    return "replaced", words, None


def _difference(before: Recent, request: Recent, at: int) -> Difference:
    message, character = place_of(request.prompt, request.messages, at)
    return Difference(
        message=message,
        role=request.messages[message].role if message is not None else "",
        character=character,
        earlier=excerpt(before.prompt, at),
        now=excerpt(request.prompt, at),
    )


def _changed(found: Difference) -> str:
    if found.message is None:
        where = "after the last message"
    elif found.character is None:
        where = f"beside the content of message {found.message} ({found.role})"
    else:
        where = f"in message {found.message} ({found.role}) at character {found.character}"
    return f"the prompt differs from the last turn's {where}"

"""Answers with tool calls as the model wrote them, in the prompts of later turns.

A template writes a call from its name and arguments, with its own spaces, order and escapes, which may not be the model's. From the
first call on, the prompt then differs from what the cache holds. So the template is given a mark instead of the whole answer, and
the model's text replaces the mark, if nothing else in the prompt changes. Pure.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from ..types import Message


class Sampled(NamedTuple):
    """An answer with calls as a model wrote it: its text after the thinking, the tokens of that (none where they are not known),
    and the text of the token that ended it."""

    text: str
    tokens: tuple[int, ...] = ()
    end: str = ""


def tail_tokens(
    output: str, text: str, tokens: Sequence[int], sizes: Sequence[int]
) -> tuple[int, ...]:
    """The tokens of the end ``text`` of a model's output; none where it does not begin with a token. ``sizes`` are the bytes of
    each token's text."""
    whole = len(output.encode("utf-8", "surrogatepass"))
    start = whole - len(text.encode("utf-8", "surrogatepass"))
    starts = [0, *accumulate(sizes)]
    if starts[-1] != whole or start not in starts:
        return ()
    return tuple(tokens[starts.index(start) :])


def prompt_parts(prompt: str, answers: Sequence[Sampled]) -> tuple[str | tuple[int, ...], ...]:
    """The prompt in parts, with the answers' tokens in the places of their texts, in their order. A text that another than the
    token that ended it follows stays a text: where it ends, tokens may be joined."""
    found: list[str | tuple[int, ...]] = []
    at = 0
    for answer in answers:
        start = prompt.find(answer.text, at)
        end = start + len(answer.text)
        ends = start > at and bool(answer.end) and prompt.startswith(answer.end, end)
        if ends and answer.tokens:
            found += [prompt[at:start], answer.tokens]
            at = end
    return (*found, prompt[at:])


def after_thinking(text: str, thinking: tuple[str, str]) -> str | None:
    """The part of a model's output that comes after its thinking, without white space before it; None if thinking did not end.
    ``thinking``: the texts around it, "" for a model without."""
    opening, closing = thinking
    if closing and closing in text:
        text = text.partition(closing)[2]
    elif opening and opening in text:
        return None
    return text.lstrip()


def lacking(prompt: str, written: Mapping[int, str]) -> bool:
    """Is one of these texts not in the prompt, in their order?"""
    return _end_in_order(prompt, [text for _, text in sorted(written.items())], 0) < 0


def new_mark() -> str:
    """A text that no conversation has, for the place of an answer."""
    return f"answer{secrets.token_hex(12)}"


def marked(messages: Sequence[Message], marks: Mapping[int, str]) -> tuple[Message, ...]:
    """The messages, with marks as the contents of some, by their places, and without their calls."""
    return tuple(
        msgspec.structs.replace(each, content=marks[place], tool_calls=(), places=(), images=())
        if place in marks
        else each
        for place, each in enumerate(messages)
    )


def exchanged(prompt: str, with_marks: str, texts: Mapping[str, str]) -> str:
    """The prompt in which the template wrote marks, with their ``texts`` in their places; the other prompt, in which it wrote the
    answers itself, where the two differ in anything else.

        prompt      ...<assistant><call>{"name": "f"}</call><end>...
        with_marks  ...<assistant>answer5f2c...<end>...
    """
    pieces, rest = [], with_marks
    for mark in texts:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            return prompt
        pieces.append(before)
    if not _has_in_order(prompt, [*pieces, rest]):
        return prompt
    filled = (part for pair in zip(pieces, texts.values(), strict=True) for part in pair)
    return "".join([*filled, rest])


def _has_in_order(text: str, pieces: Sequence[str]) -> bool:
    """Does a text begin with the first piece, end with the last, and have the others between in their order?"""
    first, *middle, last = pieces
    at = _end_in_order(text, middle, len(first)) if text.startswith(first) else -1
    return text.endswith(last) and 0 <= at <= len(text) - len(last)


def _end_in_order(text: str, pieces: Sequence[str], at: int) -> int:
    """Where the last of the pieces ends that a text has after ``at`` in their order; -1 where it lacks one."""
    for piece in pieces:
        found = text.find(piece, at)
        if found < 0:
            return -1
        at = found + len(piece)
    return at

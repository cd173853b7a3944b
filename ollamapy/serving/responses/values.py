"""Responses as they are stored. Pure.

A response is what the model wrote, as chunks, and a ``head`` of the dialect's own: from both the dialect makes its object and its
events, as often as they are read. Times are seconds since 1970.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import msgspec

from ...errors import InvalidRequest, OllamapyError
from ...types import Chunk

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]

RUNNING: tuple[Status, ...] = ("queued", "in_progress")

MOST_EARLIER = 10_000
"""Responses before a response that are read for its context."""

MOST_CONTEXT = 64 * 1024 * 1024
"""Bytes of the items and chunks before a response; as many as a request may have."""


class ResponseNotFound(OllamapyError):
    """The caller has no response, conversation or item with that id."""

    status = 404


class PreviousNotFound(InvalidRequest):
    """The caller has no response with the id that a request continues."""

    code = "previous_response_not_found"


class ResponseFailure(msgspec.Struct, frozen=True):
    """Why a response failed: the status, the code and the message that the error has elsewhere."""

    status: int
    code: str
    message: str


ENDED = ResponseFailure(500, "", "the daemon ended while it wrote this response")
"""The failure of responses that were being written when the daemon ended."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response. ``background``: it is written without its client. ``previous`` is the response that it continues,
    ``conversation`` the one that it belongs to, as it was up to its item number ``base``."""

    id: str
    status: Status
    created_at: int
    head: bytes
    background: bool = False
    previous: str | None = None
    conversation: str | None = None
    base: int = 0
    ended_at: int | None = None
    error: ResponseFailure | None = None

    @property
    def is_running(self) -> bool:
        """Is it still to be written?"""
        return self.status in RUNNING


class Item(NamedTuple):
    """An item of a conversation: its id, and all of it as JSON."""

    id: str
    json: bytes


class Link(NamedTuple):
    """A step of what a response continues: items, and the response to them with its chunks (None: they have none)."""

    items: Sequence[bytes]
    response: Response | None = None
    chunks: Sequence[Chunk] = ()


class ItemPage(NamedTuple):
    """A page of a list of items; ``has_more``: others follow."""

    items: Sequence[Item]
    has_more: bool


class Listing(NamedTuple):
    """What a request wants of a list of items: those after the item with the id ``after`` ("": from the beginning)."""

    limit: int = 20
    ascending: bool = False
    after: str = ""


def new_id(prefix: str) -> str:
    """An id that no one can guess, of 128 random bits."""
    return f"{prefix}_{secrets.token_hex(16)}"


def merged(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The same answer in fewer pieces, for when no one needs the pieces: neighbouring texts and thoughts are joined."""
    found = []
    for kind, group in groupby(chunks, _kind):
        pieces = list(group)
        if kind == "other":
            found += pieces
            continue
        text, thinking = (
            "".join(each.text for each in pieces),
            "".join(each.thinking for each in pieces),
        )
        logprobs = tuple(each for piece in pieces for each in piece.logprobs)
        found.append(Chunk(text, logprobs, thinking=thinking))
    return found


def _kind(chunk: Chunk) -> str:
    if chunk.text and chunk == Chunk(chunk.text, chunk.logprobs):
        return "text"
    return "thinking" if chunk.thinking and chunk == Chunk(thinking=chunk.thinking) else "other"


def without_notes(chunk: Chunk) -> Chunk:
    """A chunk without what is of use only while it is sent."""
    return msgspec.structs.replace(
        chunk,
        waiting=None,
        prompt_usage=None,
        prompt_tokens=(),
        context=(),
        tool_deltas=(),
        completion_tokens=0,
    )

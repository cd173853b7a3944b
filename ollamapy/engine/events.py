"""What the engine reports about its requests: text as it is generated, and one ending for each."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..types import Prefill, PromptToken, Queued, TokenLogprob
from .embed import Unembedded, Vectors


class TextOut(NamedTuple):
    """New text of a request, after ``n_predicted`` tokens; ``alone``: not to be merged with the next.

    ``first``: no text was emitted before it, so it should not wait. The first tokens may have none: half a character, or
    the beginning of a stop string.
    """

    id: int
    text: str
    logprobs: tuple[TokenLogprob, ...]
    first: bool
    alone: bool = False
    n_predicted: int = 0


class Progressed(NamedTuple):
    """What a request waits for before its first token, if it wants to know."""

    id: int
    waiting: Queued | Prefill


class PromptRead(NamedTuple):
    """A part of a prompt's tokens was computed, if their log probabilities were requested; at the latest with the first token of
    the answer. The counts are final in the last one.
    """

    id: int
    n_prompt: int
    n_cached: int
    n_truncated: int
    tokens: tuple[PromptToken, ...] = ()


class Finished(NamedTuple):
    """The good ending of a request; counts of tokens, times in nanoseconds. ``tokens`` of the answer, if it wants them, with the
    bytes of their texts (``sizes``), and the text of the token that ended it (``end``)."""

    id: int
    reason: Literal["stop", "length", "cancel"]
    n_prompt: int
    n_cached: int
    n_predicted: int
    prompt_ns: int
    predict_ns: int
    n_truncated: int
    stop_text: str = ""
    tokens: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    end: str = ""
    n_restored: int = 0
    n_read: int = 0


class Resized(NamedTuple):
    """The context was made anew: tokens of each slot, and how many slots there are."""

    id: int
    n_ctx: int
    n_slots: int


class Outgrown(NamedTuple):
    """A request comes near the end of the cells, which are fewer than its context has tokens: it needs ``n_cells`` or more, and
    waits for them if it must. The answer is another size."""

    id: int
    n_cells: int


class Refused(NamedTuple):
    """The bad ending of a request; the kinds are those of ``runner.protocol.Failed``."""

    id: int
    kind: Literal["too_long", "invalid", "internal"]
    message: str


Event = (
    TextOut
    | Progressed
    | PromptRead
    | Finished
    | Resized
    | Outgrown
    | Refused
    | Vectors
    | Unembedded
)

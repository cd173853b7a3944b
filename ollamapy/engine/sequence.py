"""One request inside the batch, and the slot of the KV cache that it runs in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..types import Generation, Prefill, Prompt, Queued
from .checkpoints import until_stop
from .grammar import Matcher
from .prompt import Placed
from .text import Awaited, TextStream


def longer_than(n_ctx: int, n_prompt: int) -> str:
    """The message for a prompt of ``n_prompt`` tokens that leaves no room in its context."""
    return (
        f"the prompt is longer than the context: {n_prompt} tokens > {n_ctx};"
        " shorten the prompt or set num_ctx"
    )


@dataclass(slots=True, eq=False)
class Sequence:
    """A request on its way: its tokens so far, and how many of them its slot's KV cache holds.

        tokens    [ prompt ........................ | generated ... ]
        n_past    [ committed in the KV cache ...........]
        pending                                           [........]   1 = decoding, more = prefill

    A follower (``leader`` set) has a slot but no tokens in the batch: it waits until its leader has computed the first
    ``shared`` tokens, which both prompts have in common, and then copies them.

    A ``grammar`` becomes the ``matcher``, which masks logits, at once or when the answer contains the ``awaited`` text.
    ``forced`` are tokens that come next instead of sampled ones: those of ``think_end``, when the budget is used up or the
    model would end before the required form has begun.

    ``insets`` are the images and sounds among its tokens. Each is computed apart, so a batch of tokens ends before it.

    At each of the ``stops``, numbers of tokens, a batch ends, so that a checkpoint can be taken.

    ``n_restored`` of the ``n_cached`` tokens came from saved prefixes, ``n_read`` of these from files.

    After a context shift what follows the first ``n_pure`` tokens was computed with others before it: it is not shared. Where the
    same tokens are wanted whatever the neighbours, only the whole pieces of the prompt are.

    A preempted sequence is an ordinary one with ``n_past`` 0 and no slot: its tokens are prefilled again and its
    sampler continues where it was. ``n_scored``: so many of the prompt's tokens have their log probabilities. ``reported`` is what it was last reported to wait for, at ``reported_at``. ``has_text``: some text of the answer was emitted. ``n_ctx``, the tokens of the slot's context that it may use, is set by the engine. ``sampled``: the answer's tokens with
    the bytes of their texts, if they are wanted; ``end`` is the text of the token that ended it. Times
    are nanoseconds of the engine's clock.
    """

    id: int
    tokens: list[int]
    generation: Generation = Generation(Prompt(("",)))
    n_truncated: int = 0
    n_ctx: int = 0

    grammar: Matcher | None = None
    think_end: tuple[int, ...] = ()
    shown: frozenset[int] = frozenset()
    stops: tuple[int, ...] = ()
    insets: tuple[Placed, ...] = ()
    n_read: int = 0

    n_prompt: int = 0
    n_past: int = 0
    n_cached: int = 0
    n_restored: int = 0
    n_predicted: int = 0
    n_pure: int | None = None
    n_scored: int = 0
    reported: Queued | Prefill | None = None
    reported_at: int = 0
    slot: Slot | None = None
    leader: Sequence | None = None
    shared: int = 0
    sampler: Any = None
    text: TextStream = field(default_factory=TextStream)
    has_text: bool = False
    sampled: list[tuple[int, int]] = field(default_factory=list)
    end: str = ""
    matcher: Matcher | None = None
    awaited: Awaited | None = None
    thinking: Awaited | None = None
    forced: deque[int] = field(default_factory=deque)
    started_at: int = 0
    first_token_at: int = 0

    def __post_init__(self) -> None:
        self.n_prompt = len(self.tokens)
        self.text = TextStream(self.generation.stop)
        if self.grammar is not None and self.generation.constraint_after:
            self.awaited = Awaited(self.generation.constraint_after)
        else:
            self.matcher = self.grammar
        if self.generation.think_budget is not None and self.think_end:
            self.thinking = Awaited(self.generation.think_end)

    def end_thinking(self) -> None:
        """Force the text that ends thinking as the next tokens, once."""
        self.forced.extend(self.think_end)
        self.think_end, self.thinking = (), None

    @property
    def salt(self) -> bytes:
        """Whose cached tokens it may use and adds to."""
        return self.generation.salt.encode()

    @property
    def too_long(self) -> str:
        """The message for a prompt that leaves no room in its context."""
        return longer_than(self.n_ctx, self.n_prompt)

    @property
    def scores(self) -> bool:
        """Are logits of the prompt's tokens still needed?"""
        return self.generation.prompt_logprobs is not None and self.n_scored < self.n_prompt

    @property
    def n_until_stop(self) -> int:
        """Pending tokens that may go into one batch: those before the next stop, and before the next inset."""
        return until_stop(self.stops, self.n_past, self.n_past + self.n_until_inset)

    @property
    def n_until_inset(self) -> int:
        """Pending tokens before the next inset."""
        starts = (each.start for each in self.insets if each.start >= self.n_past)
        return min(starts, default=len(self.tokens)) - self.n_past

    @property
    def inset(self) -> Placed | None:
        """The inset whose rows are computed next; None where a token is."""
        return next((e for e in self.insets if e.start <= self.n_past < e.end), None)

    def position(self, n: int) -> int:
        """The position of what follows the first ``n`` tokens, which do not end within an inset."""
        return n - sum(e.inset.n - e.inset.n_positions for e in self.insets if e.end <= n)

    @property
    def n_pending(self) -> int:
        """Tokens that must be computed before the next one can be sampled."""
        return len(self.tokens) - self.n_past


@dataclass(slots=True, eq=False)
class Slot:
    """A sequence id of the KV cache; ``cached`` are the tokens it holds while no sequence runs in it.

    ``last_used`` counts the engine's admissions; 0 means never used. ``salt`` names whose tokens they are: no other's prompt uses them. ``unsaved``: they are
    to be saved before they are overwritten.
    """

    id: int
    cached: list[int] = field(default_factory=list)
    sequence: Sequence | None = None
    last_used: int = 0
    salt: bytes = b""
    unsaved: bool = False

    def holding_for(self, salt: bytes) -> list[int]:
        """The tokens of ``holding`` that a prompt with this salt may use."""
        return self.holding if self.salt == salt else []

    @property
    def holding(self) -> list[int]:
        """The tokens that the cache holds or will hold soon and that another sequence may share; none for a follower."""
        if self.sequence is None:
            return self.cached
        if self.sequence.leader is not None:
            return []
        return self.sequence.tokens[: self.sequence.n_pure]

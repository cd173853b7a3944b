"""Saved prefixes of one model: when the state of a slot is copied, and how one is put into a slot. ``saved.py`` is the tree of them.

    slot --copy (engine's thread)--> Copy --take_apart (another thread)--> blocks --> tree, files
    slot <--compose, restore (engine's thread)-- blocks in memory

A copy takes as long as a memory copy of its bytes; everything else of saving happens beside the engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .cells import HEAD, Layout, Unfit, compose, cut, n_held, parse, portable, with_streams
from .checkpoints import packed
from .model import Model
from .saved import Block, Kind, Match, Saved, name_of

LEAST = 64
"""Tokens: shorter prefixes are computed again in a moment."""

NEW = 32
"""Tokens that a slot must hold beyond what is saved for a copy of it."""

MOST_COPY_SECONDS = 0.025
"""How long a copy may hold up the steps of other sequences."""


SAVE_SECONDS = 180.0
"""How long a sequence runs until it is saved the first time, and again."""


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A slot's state as it was copied: whole, or where it is nothing but recurrent, the partial one. ``ends``: checkpoints on the way
    to it, as (tokens before it, partial state). There were ``n_slots`` at the time."""

    tokens: Sequence[int]
    salt: bytes
    state: bytearray
    n_slots: int
    ends: tuple[tuple[int, bytearray], ...] = ()


class Saving:
    """What the engine's thread does with saved prefixes. ``keep`` takes copies, to be taken apart elsewhere."""

    def __init__(
        self,
        model: Model,
        saved: Saved,
        keep: Callable[[Copy], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.saved = saved
        self._model, self._keep, self._clock = model, keep, clock
        self._layout: Layout | None = None
        self._works = True
        self._rate = 1e9
        self._began, self._copied = clock(), dict[int, float]()

    # ---- from a slot -----------------------------------------------------------------------------------------------

    def is_worth(self, tokens: Sequence[int], salt: bytes) -> bool:
        """Does a slot with these tokens hold enough that is not saved?"""
        if not self._works or len(tokens) < LEAST:
            return False
        kind: Kind = "rows" if self.saved.has_rows else "end"
        wanted = self.saved.wanted(tokens, salt, kind)
        return bool(wanted) and sum(end - first for _, first, end in wanted) >= min(
            NEW, len(tokens)
        )

    def is_quick(self, slot: int) -> bool:
        """May a slot be copied though other sequences wait for their next token?"""
        size = self._model.state_size(slot, partial=not self.saved.has_rows)
        return size <= self._rate * MOST_COPY_SECONDS

    def is_time(self, slot: int) -> bool:
        """Was nothing of a slot that still runs saved for long? Asked again, it is not before as long has passed again."""
        now = self._clock()
        if now - self._copied.get(slot, self._began) < SAVE_SECONDS:
            return False
        self._copied[slot] = now
        return True

    def save(
        self,
        slot: int,
        tokens: Sequence[int],
        salt: bytes,
        ends: tuple[tuple[int, bytearray], ...] = (),
    ) -> bool:
        """Copy what a slot holds, which are these tokens; False where it cannot be copied now."""
        began = self._clock()
        state = self._model.save(slot, partial=not self.saved.has_rows)
        if state is None:
            return False
        self._copied[slot] = self._clock()
        elapsed = self._copied[slot] - began
        if elapsed > 0 and len(state) > 1_000_000:
            self._rate = (self._rate + len(state) / elapsed) / 2
        self._keep(Copy(tuple(tokens), salt, state, self._model.n_slots, ends))
        return True

    # ---- beside the engine -----------------------------------------------------------------------------------------

    def take_apart(self, copy: Copy) -> tuple[list[tuple[Block, bytes]], Layout]:
        """The blocks of a copy that are not saved yet, the last ones first, and the layout of their rows.

        A state of a form that is not known ends all saving.
        """
        try:
            return self._blocks(copy)
        except Unfit:
            self._works = False
            return [], Layout(0, ())

    def _blocks(self, copy: Copy) -> tuple[list[tuple[Block, bytes]], Layout]:
        saved, n = self.saved, len(copy.tokens)
        found: list[tuple[Block, bytes]] = []
        layout = Layout(0, ())
        partials = [(at, memoryview(state)) for at, state in copy.ends]
        if saved.has_rows:
            cells = parse(copy.state, HEAD, copy.n_slots)
            layout = self._layout = cells.layout
            n = min(n, n_held(cells))  # up to an image that has one position, with M-RoPE
            for parent, first, end in saved.wanted(copy.tokens[:n], copy.salt, "rows"):
                found.append(
                    _block(
                        parent, copy.tokens, first, end, "rows", cut(copy.state, cells, first, end)
                    )
                )
            rest = memoryview(copy.state)[cells.end :]
            partials = [partial for partial in partials if partial[0] <= n]
            if n < len(copy.tokens):
                pass  # it is no state after them
            elif saved.needs_end:
                partials.append((n, memoryview(bytes(copy.state[:HEAD]) + rest)))
            elif rest:
                raise Unfit("more than one cache")
        else:
            partials.append((n, memoryview(copy.state)))
        for at, partial in partials:
            for parent, first, end in saved.wanted(copy.tokens[:at], copy.salt, "end"):
                body = portable(partial, copy.n_slots, self._n_caches)
                found.append(_block(parent, copy.tokens, first, end, "end", body))
        return found[::-1], layout

    @property
    def _n_caches(self) -> int:
        """Caches in a partial state."""
        return int(self._model.n_swa > 0)

    # ---- into a slot -----------------------------------------------------------------------------------------------

    def match(self, tokens: Sequence[int], salt: bytes) -> Match:
        """What of a prompt is in memory."""
        return self.saved.match(tokens, salt, in_memory=True) if self._works else Match(0)

    def know(self, layout: Layout) -> None:
        """Take the layout of the rows from a file."""
        if layout.rows and self._layout is None:
            self._layout = layout

    def restore(self, slot: int, match: Match) -> bool:
        """Make a slot hold the tokens of a match; False where it cannot: the slot must be cleared then."""
        try:
            state = self._composed(match)
        except Unfit:
            return False
        if state is None or not self._model.restore(slot, state, partial=False):
            return False
        self.saved.use(match)
        return True

    def _composed(self, match: Match) -> bytearray | None:
        """The state of a match; None where a part of it has gone meanwhile."""
        n_slots = self._model.n_slots
        last = b""
        if match.end is not None:
            if match.end.body is None:
                return None
            last = with_streams(match.end.body, n_slots, self._n_caches)
        if not self.saved.has_rows:
            return bytearray(last)
        parts = [(body, block.n, take) for block, take in match.rows if (body := block.body)]
        if self._layout is None or len(parts) != len(match.rows):
            return None
        if any(len(body) != n * self._layout.token_size for body, n, _ in parts):
            return None
        last = last[HEAD:]
        state = compose(self._layout, parts, n_slots, after=len(last))
        state[len(state) - len(last) :] = last
        return state


def _block(
    parent: bytes, tokens: Sequence[int], first: int, end: int, kind: Kind, body: bytes
) -> tuple[Block, bytes]:
    part = packed(tokens[first:end])
    return Block(name_of(parent, part, kind), parent, first, part, kind, len(body)), body

"""A model whose next token is a function of the prefix: exact, instant, and strict about how it is used.

It keeps what each slot holds, refuses positions with gaps, counts cells, and so notices every mistake in the engine's
bookkeeping that llama.cpp would turn into wrong text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ollamapy.engine.media import Inset
from ollamapy.engine.rows import ABORTED, Row
from ollamapy.engine.sampling import Stage
from ollamapy.errors import LoadFailed
from ollamapy.loading import LoadPlan
from ollamapy.types import PromptToken, TokenLogprob

END = 0


def next_token(prefix: Sequence[int]) -> int:
    """The token after a prefix: 1 to 250, decided by all of it."""
    value = 7
    for token in prefix:
        value = (value * 31 + token) % 1_000_003
    return value % 250 + 1


def continuation(prompt: Sequence[int], n: int) -> list[int]:
    """The next ``n`` tokens that a request with this prompt must get."""
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class FakePooling:
    """The vector of a text is its sum and its length. ``computed`` has each batch's rows; it notices gaps and what is too much."""

    def __init__(
        self, *, whole: bool = False, n_batch: int = 16, n_cells: int = 64, n_sequences: int = 4
    ) -> None:
        self.whole, self.n_batch = whole, n_batch
        self.n_cells, self.n_sequences = n_cells, n_sequences
        self.held: dict[int, list[int]] = {}
        self.computed: list[list[Row]] = []
        self.statuses: list[int] = []
        self.aborted: Callable[[], bool] = lambda: False
        self.during_compute: Callable[[], None] = lambda: None

    def compute(self, rows: list[Row]) -> int:
        n_tokens = sum(len(tokens) for _, _, tokens, _ in rows)
        assert 0 < n_tokens <= self.n_batch or (self.whole and len(rows) == 1)
        assert len({id for id, *_ in rows}) == len(rows)
        if self.statuses and (status := self.statuses.pop(0)):
            return status
        self.during_compute()
        if self.aborted():
            return ABORTED
        for id, position, tokens, last in rows:
            held = self.held.setdefault(id, [])
            assert position == len(held) and id < self.n_sequences
            assert last or not self.whole
            held += tokens
        assert self.whole or sum(map(len, self.held.values())) <= self.n_cells
        self.computed.append(rows)
        return 0

    def vector(self, id: int) -> Any:
        return [float(sum(self.held[id])), float(len(self.held[id]))]

    def forget(self, id: int) -> None:
        self.held.pop(id, None)


class FakeModel:
    """``cells``: room in the KV cache for all slots together; ``ends_after``: end of sequence at that length;
    ``silent``: tokens without text; ``n_cells``: of each slot at the beginning, the context's number if it is 0."""

    def __init__(
        self,
        n_slots: int = 4,
        n_ctx: int = 64,
        n_batch: int = 16,
        cells: int | None = None,
        n_swa: int = 0,
        recurrent: bool = False,
        has_cells: bool = True,
        checkpoint_size: int = 0,
        ends_at: int | None = None,
        cut: int = 0,
        n_cells: int = 0,
    ) -> None:
        self.n_slots, self.n_ctx, self.n_batch = n_slots, n_ctx, n_batch
        self.n_cells = n_cells or n_ctx
        self.n_swa, self.recurrent = n_swa, recurrent
        self.rewinds = not (n_swa or recurrent)
        self.has_cells, self.checkpoint_size = has_cells, checkpoint_size
        self.mrope = False
        self.encoded: list[Inset] = []
        self.can_shift, self.adds_bos = not recurrent, False
        self.cut = cut
        self.alike = 1
        self.aborted = False
        self.during_decode: Callable[[], None] = lambda: None
        self.cells = cells or n_slots * self.n_cells
        self.ends_at = ends_at
        self.held: dict[int, list[int]] = {slot: [] for slot in range(n_slots)}
        self.first = dict.fromkeys(range(n_slots), 0)  # of the window: what is before is forgotten
        # what a recurrent state has seen
        self.state: dict[int, list[int]] = {slot: [] for slot in range(n_slots)}
        self.unsettled: set[int] = set()
        self.immovable: set[int] = set()
        self.most_ctx, self.can_fit = 1_000_000, True
        self.resizes: list[tuple[int, int]] = []
        self.restored = 0
        self.decoded: list[list[tuple[int, int, int]]] = []
        self.samplers = 0
        self.statuses: list[int] = []
        self.accepted: list[int] = []
        self.silent: set[int] = set()
        self._rows: list[int] = []
        self.pooling = FakePooling()
        self.pooling.aborted = lambda: self.aborted
        self._logits: dict[int, Any] = {}

    def decode(self, spans: list[Row]) -> int:
        assert sum(len(tokens) for _, _, tokens, _ in spans) <= self.n_batch
        assert len({slot for slot, *_ in spans}) == len(spans)
        if self.statuses and (status := self.statuses.pop(0)):
            return status
        self.during_decode()
        if self.aborted:
            slot, position, tokens, _ = spans[0]
            self.held[slot] += tokens[:1]  # what an abort may leave behind
            self.state[slot] = list(self.held[slot])
            return 2
        used = sum(len(held) for held in self.held.values())
        if used + sum(len(tokens) for _, _, tokens, _ in spans) > self.cells:
            return 1
        self._rows = []
        self._logits = {}
        for slot, position, tokens, wanted in spans:
            assert position == len(self.held[slot]), "a gap or an overlap in the KV cache"
            assert self._covers(slot, position), "the window is forgotten"
            assert not self.recurrent or self.state[slot] == self.held[slot], "a wrong state"
            self.held[slot] += tokens
            self.state[slot] = list(self.held[slot])
            self.first[slot] = max(
                self.first[slot], len(self.held[slot]) - (self.n_swa or self.n_ctx)
            )
            assert len(self.held[slot]) <= self.n_cells
            self._rows += [slot] * wanted
        self.unsettled.clear()
        self.decoded.append([(slot, position, len(tokens)) for slot, position, tokens, _ in spans])
        return 0

    def encode(self, inset: Inset) -> None:
        self.encoded.append(inset)

    def decode_inset(
        self, slot: int, position: int, inset: Inset, first: int, n: int, last: bool
    ) -> int:
        assert inset is self.encoded[-1] and (inset.causal or n == inset.n)
        rows = inset.tokens[first : first + n]
        return self.decode([(slot, position + first, rows, int(last))])

    def sample(self, chain: Any, row: int) -> int:
        """The next token, or where its logit is minus infinity the next higher one that is allowed."""
        held = self.held[self._rows[row]]
        wanted = END if len(held) == self.ends_at else next_token(held)
        if row not in self._logits:
            return wanted
        allowed = np.flatnonzero(self._logits[row] > -np.inf)
        return int(min(allowed, key=lambda token: (token - wanted) % 251))

    def accept(self, chain: Any, token: int) -> None:
        self.accepted.append(token)

    def logits(self, row: int) -> Any:
        return self._logits.setdefault(row, np.zeros(251, np.float32))

    def logprobs(self, logits: Any, token: int, top: int) -> TokenLogprob:
        assert (logits == 0).all(), "log probabilities are those before the mask"
        return TokenLogprob(chr(token), -1.0, (token,))

    def prompt_token(self, logits: Any, token: int, top: int) -> PromptToken:
        return PromptToken(token, chr(token), None if logits is None else -1.0)

    def _covers(self, slot: int, n: int) -> bool:
        return not self.n_swa or self.first[slot] <= max(0, n - self.n_swa)

    def trim(self, slot: int, n: int) -> bool:
        if self.recurrent and 0 < n < len(self.state[slot]):
            return False
        del self.held[slot][n:], self.state[slot][n:]
        if n == 0:
            self.first[slot] = 0
        return True

    def abort(self) -> None:
        self.aborted = True

    def rearm(self) -> None:
        self.aborted = False

    def copy(self, source: int, target: int, n: int) -> None:
        assert source != target and n <= len(self.held[source])
        assert not self.recurrent
        self.held[target] = self.held[source][:n]
        self.first[target] = self.first[source]
        self.unsettled.add(target)

    def shift(self, slot: int, keep: int, discard: int, n_past: int) -> None:
        assert n_past == len(self.held[slot])
        del self.held[slot][keep : keep + discard]

    def first_position(self, slot: int) -> int:
        return self.first[slot] if self.held[slot] else -1

    def state_size(self, slot: int, *, partial: bool) -> int:
        return 0 if slot in self.unsettled else 4 * (1 + len(self.held[slot]))

    def save(self, slot: int, *, partial: bool) -> bytearray | None:
        """All tokens, though the real partial state has less: so a wrong one is noticed."""
        if slot in self.unsettled:
            return None
        return bytearray(np.array([self.first[slot], *self.held[slot]], np.int32).tobytes())

    def restore(self, slot: int, state: bytearray, *, partial: bool) -> bool:
        assert slot not in self.unsettled, "the copy that comes would overwrite it"
        self.restored += 1
        first, *tokens = np.frombuffer(state, np.int32).tolist()
        if not partial or not self.has_cells:
            self.held[slot] = list(tokens)
        assert self.held[slot][: len(tokens)] == tokens, "a state of other tokens"
        self.first[slot], self.state[slot] = (
            max(first, len(tokens) - (self.n_swa or self.n_ctx)),
            tokens,
        )
        return True

    def resize(self, plan: LoadPlan, slots: Sequence[int]) -> list[bool]:
        """As the real one: a slot whose data comes with the next decode cannot be moved, nor can the ``immovable`` ones."""
        if plan.held > self.most_ctx:
            raise LoadFailed("no context can be made")
        moved = [slot not in self.unsettled and slot not in self.immovable for slot in slots]
        held, first, state = self.held, self.first, self.state
        self.n_slots, self.n_ctx, self.n_batch = plan.n_slots, plan.n_ctx, plan.n_batch
        self.n_cells = plan.held
        self.cells = plan.n_slots * plan.held
        sources = [slot if there else None for slot, there in zip(slots, moved, strict=True)]
        sources += [None] * (plan.n_slots - len(sources))
        self.held = {at: [] if old is None else held[old] for at, old in enumerate(sources)}
        self.first = {at: 0 if old is None else first[old] for at, old in enumerate(sources)}
        self.state = {at: [] if old is None else state[old] for at, old in enumerate(sources)}
        self.unsettled.clear()
        self.resizes.append((plan.n_slots, plan.n_ctx))
        return moved

    def fitted(self, partial: bytearray, n_slots: int) -> bytearray | None:
        return partial if self.can_fit else None

    def make_sampler(self, stages: Sequence[Stage], history: Sequence[int]) -> Any:
        self.samplers += 1
        return object()

    def free_sampler(self, chain: Any) -> None:
        self.samplers -= 1

    def piece(self, token: int) -> bytes:
        return b"" if token in self.silent else chr(token).encode()

    def written(self, token: int) -> bytes:
        return self.piece(token)

    def ends(self, token: int) -> bool:
        return token == END

    def pooled(self, pooling: str) -> FakePooling:
        return self.pooling


class ShapedModel(FakeModel):
    """A model whose numbers depend on how they were computed, as those of real kernels do: on the rows of its call, on their
    places in it, and on the other sequences."""

    def decode(self, spans: list[Row]) -> int:
        return super().decode(
            [
                (slot, position, [_shaped(t, i, len(tokens), len(spans)) for i, t in enumerate(tokens)], wanted)
                for slot, position, tokens, wanted in spans
            ]
        )  # fmt: skip


class AlikeModel(ShapedModel):
    """One whose single tokens are the same beside one or two others, and different beside more or in other calls."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.alike = 3

    def decode(self, spans: list[Row]) -> int:
        if len(spans) > 3 or any(len(tokens) != 1 for _, _, tokens, _ in spans):
            return super().decode(spans)
        shaped = [(s, p, [_shaped(tokens[0], 0, 1, 1)], wanted) for s, p, tokens, wanted in spans]
        return FakeModel.decode(self, shaped)


def _shaped(token: int, place: int, n_rows: int, n_sequences: int) -> int:
    return (token * 31 + place * 7 + n_rows * 13 + n_sequences * 101) % 997

"""The engine's decisions, as functions from values to values: which slot, which tokens next, how many at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from ..prefix import common_prefix
from .rows import Row
from .sequence import Sequence, Slot

MIN_REUSE = 16
"""A shorter common prefix (a BOS and a few words) is not worth destroying another conversation's cache for."""

MOST_PADDING = 4
"""Rows of padding between two slots of a batch."""

TILED = 65
"""Prompt tokens from which llama.cpp's flash attention on the processor is fast: its kernel is tiled from 64 rows on, and one
row of a prompt is computed with the decoding rows of its batch, apart from the others. No prompt gets fewer in a step, however slow
the machine: each step costs a pass over the weights for the decoding rows, so with a quarter of them prefill takes half as long
again."""

MOST_SCORED = 64
"""Tokens of a prompt in one batch that need logits, a row of the whole vocabulary each."""


CUT = 256
"""Where the same tokens are wanted whatever the neighbours: a prompt is computed in pieces that end at multiples of it, each alone in
its call, and only whole pieces are reused. As fast as longer ones, and others wait less for it."""


class Span(NamedTuple):
    """Tokens [start, start + n) of a sequence go into the next batch; ``last``: the logits of the last one are wanted."""

    sequence: Sequence
    start: int
    n: int
    last: bool

    @property
    def n_outputs(self) -> int:
        """So many of the last tokens need logits."""
        return self.n if self.sequence.scores else int(self.last)


def plan_batch(
    running: Iterable[Sequence],
    n_batch: int,
    chunk: int,
    alone: int | None = None,
    *,
    shortest_first: bool = True,
) -> list[Span]:
    """The next batch: every decoding sequence gets its one token, prompts fill the rest in order of admission.

    Half of their room is for the prompt that lacks least: a short question need not wait until a long text before it is
    read, and of prompts of one length the first stays the first. Room for less than twice TILED is not divided: all of it
    goes to the one that lacks least or, without ``shortest_first``, to the first; the caller lets them take turns.

    ``n_batch`` bounds the whole batch; ``chunk`` bounds the prompt tokens while there is more than one sequence, so that none
    waits long for its next token, nor for the end of a step that it was cancelled in; ``alone`` those of a single one (None:
    not at all), for what may come meanwhile.
    """
    spans = []
    prefills = []
    for sequence in running:
        n = len(sequence.tokens) - sequence.n_past
        if n == 1:
            spans.append(Span(sequence, sequence.n_past, 1, True))
        else:
            prefills.append(sequence)
    if not prefills:
        return spans[:n_batch]
    spans = spans[: max(n_batch - 1, 0)]
    room = n_batch - len(spans)
    bound = chunk if len(spans) + len(prefills) > 1 else alone
    if bound is not None:
        room = min(room, bound)
    return spans + _prompt_spans(prefills, room, shortest_first)


def plan_inset(running: Iterable[Sequence], n_batch: int) -> Span | None:
    """The rows of an image or a sound to compute next, in a call of their own: of the first sequence that has come to one."""
    for sequence in running:
        if (placed := sequence.inset) is not None:
            n = placed.end - sequence.n_past
            n = min(n, n_batch) if placed.inset.causal else n
            last = sequence.n_past + n == len(sequence.tokens)
            return Span(sequence, sequence.n_past, n, last)
    return None


def plan_alone(running: Iterable[Sequence], cut: int, *, shortest_first: bool) -> list[Span]:
    """Spans of which each is to be computed alone, so that what is computed of a sequence does not depend on others: a token of
    every sequence that has computed its prompt, and a piece of one prompt.

    A kernel's sums depend on how many rows are computed together, and on which of them are of one sequence. So an answer's tokens
    are computed one by one, also those of a preempted one, and a prompt in the same pieces whenever it is computed. :func:`calls`
    joins what may be joined.
    """
    spans, prefills = [], []
    for sequence in running:
        if sequence.n_past >= sequence.n_prompt:
            last = sequence.n_past + 1 == len(sequence.tokens)
            spans.append(Span(sequence, sequence.n_past, 1, last))
        else:
            prefills.append(sequence)
    if not prefills:
        return spans
    shortest = min(prefills, key=lambda sequence: sequence.n_pending)
    sequence = shortest if shortest_first else prefills[0]
    size = min(cut, MOST_SCORED) if sequence.generation.prompt_logprobs is not None else cut
    start, most = sequence.n_past, min(sequence.n_until_inset, sequence.n_prompt - sequence.n_past)
    end = min(aligned(start, size) + size, start + most)
    last = end == len(sequence.tokens)
    return [*spans, Span(sequence, start, end - start, last)]


def calls(spans: list[Span], *, alone: bool, alike: int) -> list[list[Span]]:
    """The spans as they are computed, call after call: all in one, or where each is to be computed as if ``alone`` one by one, but
    for the tokens of answers, of which so many are ``alike`` to single ones."""
    if not alone:
        return [spans]
    answers = [span for span in spans if span.start >= span.sequence.n_prompt]
    together = [answers[at : at + alike] for at in range(0, len(answers), alike)]
    return together + [[span] for span in spans if span.start < span.sequence.n_prompt]


def aligned(n: int, cut: int) -> int:
    """The tokens of whole pieces of ``cut`` tokens among ``n``; with 0 for ``cut`` all of them."""
    return n - n % cut if cut else n


def _prompt_spans(prefills: list[Sequence], room: int, shortest_first: bool) -> list[Span]:
    """The prompts' part of a batch. Only the one that comes first gets a piece of fewer than TILED tokens, unless it is the
    end of a prompt or comes before a stop: such pieces are slow."""
    spans: list[Span] = []
    shortest = min(prefills, key=lambda sequence: sequence.n_pending)
    divided = shortest is not prefills[0] and room >= 2 * TILED
    head = shortest if divided or shortest_first else prefills[0]
    others = [(sequence, room) for sequence in prefills if sequence is not head]
    for sequence, most in [(head, room - room // 2 if divided else room), *others]:
        n = min(sequence.n_until_stop, most, room, MOST_SCORED if sequence.scores else room)
        if n == 0 or (spans and n < min(sequence.n_until_stop, TILED) and not sequence.scores):
            break
        spans.append(Span(sequence, sequence.n_past, n, n == sequence.n_pending))
        room -= n
    return spans


def rows_of(spans: Iterable[Span]) -> list[Row]:
    """The rows of a batch of tokens, for the model."""
    return [
        (
            s.sequence.slot.id,
            s.sequence.position(s.start),
            s.sequence.tokens[s.start : s.start + s.n],
            s.n_outputs,
        )
        for s in spans
        if s.sequence.slot is not None
    ]


def gaps(slots: list[int]) -> list[int]:
    """The unused slots between those of a batch (ascending) that are worth a row of padding.

    With a KV cache for each slot llama.cpp computes only neighbouring slots together: slots 0, 1, 3 are two passes over
    the weights, 0, 1, 2, 3 are one. A row of padding costs a fraction of a pass (a fifth on a 1.1B model), a run of
    many rows does not pay.
    """
    found: list[int] = []
    for low, high in pairwise(slots):
        if high - low - 1 <= MOST_PADDING:
            found.extend(range(low + 1, high))
    return found


def halved(spans: list[Span]) -> list[Span]:
    """The first half of a batch, for when the whole does not find room; empty when it is one token already."""
    total = sum(span.n for span in spans)
    if total <= 1:
        return []
    room, kept = total // 2, []
    for span in spans:
        n = min(span.n, room)
        if n == 0:
            break
        kept.append(span._replace(n=n, last=span.last and n == span.n))
        room -= n
    return kept


def chunk_tokens(rate: float, seconds: float, default: int) -> int:
    """How many prompt tokens fit in ``seconds`` at a measured ``rate`` (tokens a second; 0 = not measured yet).

    At least TILED.
    """
    return max(int(rate * seconds), TILED) if rate else default


class Placement(NamedTuple):
    """Where a sequence will run, and the slot (its own or another) whose first ``shared`` tokens it need not compute."""

    slot: Slot
    donor: Slot | None
    shared: int


def place(
    slots: Iterable[Slot], tokens: list[int], *, salt: bytes = b"", shares: bool
) -> Placement | None:
    """A free slot for a prompt, and the longest prefix of it that any slot holds or is computing; None: all are busy.

    A free slot that holds the prefix is taken over where that loses little: most of it is the prefix, and no slot is
    unused. Otherwise the slot unused for longest is taken, and the prefix is copied into it: from a busy slot too,
    also one whose own prefill has not come that far yet. Without ``shares`` (a recurrent state cannot be cut) nothing
    is copied. What a slot holds of another ``salt`` is no prefix.
    """
    slots = list(slots)
    free = [slot for slot in slots if slot.sequence is None]
    if not free:
        return None
    oldest = min(free, key=lambda slot: (slot.last_used, slot.id))
    own, own_shared = None, 0
    for slot in free:
        shared = common_prefix(slot.holding_for(salt), tokens)
        lost = len(slot.cached) - shared
        worth = shared >= MIN_REUSE or shared > lost
        if shares and len(free) > 1 and lost >= MIN_REUSE:
            worth = worth and shared > lost and oldest.last_used > 0
        if worth and shared > own_shared:
            own, own_shared = slot, shared
    target = own or oldest
    donor, shared = best_donor(slots, target, tokens, salt) if shares else (None, 0)
    if donor is not None and shared >= own_shared + MIN_REUSE:
        if own is not None and target is not oldest and donor is not oldest:
            target = oldest  # what the other free slot holds is kept: it would be overwritten now
        return Placement(target, donor, shared)
    return Placement(target, target if own_shared else None, own_shared)


def best_donor(
    slots: Iterable[Slot], target: Slot, tokens: list[int], salt: bytes = b""
) -> tuple[Slot | None, int]:
    """The slot beside ``target`` with the longest prefix of ``tokens`` in its cache or on its way there."""
    best, best_shared = None, 0
    for slot in slots:
        if slot is not target:
            shared = common_prefix(slot.holding_for(salt), tokens[:-1])
            if shared > best_shared:
                best, best_shared = slot, shared
    return best, best_shared


def shift_cut(
    n_ctx: int, n_past: int, num_keep: int, n_prompt: int, adds_bos: bool
) -> tuple[int, int]:
    """(tokens kept at the beginning, tokens discarded after them) when generation has filled the context.

    llama-server's arithmetic: half of what is not kept is dropped; ``num_keep`` < 0 keeps the prompt, a BOS is kept beside it.
    """
    keep = (n_prompt if num_keep < 0 else num_keep) + adds_bos
    keep = min(keep, n_ctx - 4, n_past)
    return keep, (n_past - keep) // 2


def truncated(tokens: list[int], n_ctx: int, num_keep: int, adds_bos: bool) -> list[int]:
    """A prompt that does not fit, without its middle, as Ollama cuts it: about half of the context is left for the answer."""
    keep = min((len(tokens) if num_keep < 0 else num_keep) + adds_bos, n_ctx - 4)
    left = n_ctx - max((n_ctx - keep) // 2, 1)
    return tokens[:keep] + tokens[len(tokens) - (left - keep) :]


def reusable(
    shared: int, cached: int, wanted: int, *, recurrent: bool, n_swa: int, pos_min: int
) -> int:
    """How many tokens of a slot's cache the next prompt may keep.

    ``shared``: common prefix; ``cached``: tokens in the slot; ``wanted``: length of the prompt, whose last token is always
    computed. A recurrent state cannot go back, so it is reused only at exactly the same end. A sliding window
    (``n_swa`` > 0) has forgotten the tokens before ``pos_min``, though llama.cpp would trim it without complaint.
    """
    keep = min(shared, wanted - 1)
    if recurrent:
        return keep if keep == cached else 0
    if n_swa > 0 and keep < cached and pos_min > max(0, keep - n_swa):
        return 0
    return keep

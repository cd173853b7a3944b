"""The engine's loop: admit -> plan -> decode -> sample -> emit. Owns the KV slots and the running sequences.

Everything happens on one thread, the one that calls :meth:`Engine.step`; other threads only put requests and cancellations
into its inbox. The model comes in as an argument, so that the loop is tested with one whose next token is a function of
the prefix. It knows nothing of processes, frames and dialects.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import InvalidRequest
from ..types import TokenLogprob
from .batch import (
    MIN_REUSE,
    Span,
    best_donor,
    chunk_tokens,
    common_prefix,
    gaps,
    halved,
    place,
    plan_batch,
    reusable,
    shift_cut,
)
from .embed import Embeddings, Job, Pooling, Unembedded, Vectors
from .rows import ABORTED, NO_SLOT, Row
from .sampling import Stage, penalized_history, sampler_chain
from .sequence import Sequence, Slot

PREFILL_SECONDS = 0.25
"""How long a step may become for a prompt's sake while there are other sequences."""

FIRST_CHUNK = 64
"""Prompt tokens in the first step beside decoding sequences, when the prefill speed is not known yet."""


class Model(Protocol):
    """What the engine needs of a model; ``engine/llama.py`` documents each."""

    n_ctx: int
    n_slots: int
    n_batch: int
    n_swa: int
    recurrent: bool
    can_shift: bool
    adds_bos: bool

    def decode(self, spans: list[Row]) -> int: ...
    def sample(self, chain: Any, row: int) -> int: ...
    def accept(self, chain: Any, token: int) -> None: ...
    def logits(self, row: int) -> Any: ...
    def logprobs(self, logits: Any, token: int, top: int) -> TokenLogprob: ...
    def abort(self) -> None: ...
    def rearm(self) -> None: ...
    def trim(self, slot: int, n: int) -> bool: ...
    def copy(self, source: int, target: int, n: int) -> None: ...
    def shift(self, slot: int, keep: int, discard: int, n_past: int) -> None: ...
    def first_position(self, slot: int) -> int: ...
    def make_sampler(self, stages: SequenceOf[Stage], history: SequenceOf[int]) -> Any: ...
    def free_sampler(self, chain: Any) -> None: ...
    def piece(self, token: int) -> bytes: ...
    def written(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...
    def pooled(self, pooling: str) -> Pooling: ...


class TextOut(NamedTuple):
    """New text of a request; ``first``: its first, which should not wait; ``alone``: not to be put together with the next."""

    id: int
    text: str
    logprobs: tuple[TokenLogprob, ...]
    first: bool
    alone: bool = False


class Finished(NamedTuple):
    """The good ending of a request; counts of tokens, times in nanoseconds."""

    id: int
    reason: Literal["stop", "length", "cancel"]
    n_prompt: int
    n_cached: int
    n_predicted: int
    prompt_ns: int
    predict_ns: int
    n_truncated: int
    stop_text: str = ""


class Refused(NamedTuple):
    """The bad ending of a request; the kinds are those of ``runner.protocol.Failed``."""

    id: int
    kind: Literal["too_long", "invalid", "internal"]
    message: str


Event = TextOut | Finished | Refused | Vectors | Unembedded


class Engine:
    """Continuous batching over one model.

    ``emit`` is called once a step with the step's events, and ``before_long_step`` before a step with prompt tokens in
    it; both on the engine's thread, and they must not block.
    """

    def __init__(
        self,
        model: Model,
        emit: Callable[[list[Event]], None],
        clock: Callable[[], int] = time.monotonic_ns,
        before_long_step: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._emit = emit
        self._before_long_step = before_long_step
        self._clock = clock
        self._embeddings = Embeddings(model.pooled, clock)
        self._inbox: queue.SimpleQueue[Sequence | Job | int] = queue.SimpleQueue()
        self._slots = [Slot(i) for i in range(model.n_slots)]
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._events: list[Event] = []
        self._admissions = 0
        self._prefill_rate = 0.0
        self._embeds_from = 0
        self._cancelled: set[int] = set()
        self._computing: frozenset[int] = frozenset()

    # ---- from other threads ----------------------------------------------------------------------------------------

    def submit(self, request: Sequence | Job) -> None:
        """Queue a request; its ending comes through ``emit``."""
        self._inbox.put(request)

    def cancel(self, id: int) -> None:
        """Stop working for a request; unknown ids are no error.

        A step that computes for cancelled requests only is aborted. The engine announces whom it computes for before it
        looks at who is cancelled, and here it is the other way round: whoever comes second sees the other's word.
        """
        self._cancelled.add(id)
        self._inbox.put(id)
        if self._computing <= self._cancelled:
            self._model.abort()

    # ---- the loop --------------------------------------------------------------------------------------------------

    def step(self, wait: bool = True) -> bool:
        """One turn of the loop: a batch of each kind of work. False when there was nothing to compute.

        With ``wait`` an idle engine blocks for work.
        """
        busy = self._running or self._waiting or self._embeddings.busy
        self._take_inbox(block=wait and not busy)
        self._release_followers()  # before a newcomer may take the slot that a lost leader left
        self._admit()
        spans = plan_batch(
            [sequence for sequence in self._running if sequence.leader is None],
            self._model.n_batch,
            chunk_tokens(self._prefill_rate, PREFILL_SECONDS, FIRST_CHUNK),
        )
        if spans:
            if len(spans) > 1 and any(span.n > 1 for span in spans):
                self._before_long_step()
            spans.sort(key=_slot_id)
            self._commit(self._decode(spans))
        embeds = self._embeddings.busy and not (spans and self._clock() < self._embeds_from)
        if embeds:
            self._embed()
        if self._events:
            self._emit(self._events)
            self._events = []
        return bool(spans) or embeds

    def _take_inbox(self, block: bool) -> None:
        try:
            while True:
                item = self._inbox.get(block)
                block = False
                if isinstance(item, Sequence):
                    item.n_ctx = min(item.job.n_ctx or self._model.n_ctx, self._model.n_ctx)
                    self._waiting.append(item)
                elif isinstance(item, Job):
                    self._events += self._embeddings.add(item)
                else:
                    self._drop(item)
        except queue.Empty:
            return

    def _drop(self, id: int) -> None:
        """Cancel: the sequence may be waiting, running or already gone."""
        self._cancelled.discard(id)
        for sequence in (*self._waiting, *self._running):
            if sequence.id == id:
                self._finish(sequence, "cancel")
                return
        if self._embeddings.drop(id):
            self._events.append(Finished(id, "cancel", 0, 0, 0, 0, 0, 0))

    # ---- admission -------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give free slots to waiting sequences, first come first served."""
        while self._waiting:
            sequence = self._waiting[0]
            n_ctx = sequence.n_ctx
            if len(sequence.tokens) >= n_ctx and not sequence.n_predicted:
                self._refuse(sequence, "too_long", too_long(sequence.n_prompt, n_ctx))
                continue
            placement = place(self._slots, sequence.tokens, shares=not self._model.recurrent)
            if placement is None:
                return
            try:
                self._start(sequence, placement.slot)
            except InvalidRequest as error:
                self._refuse(sequence, "invalid", str(error))
                continue
            self._waiting.popleft()
            self._running.append(sequence)
            if placement.donor is placement.slot or placement.donor is None:
                self._keep_own(sequence, placement.slot)
            else:
                self._follow(sequence, placement.donor, placement.shared)

    def _start(self, sequence: Sequence, slot: Slot) -> None:
        """Put a sequence into a slot, with a sampler if it has none yet."""
        model = self._model
        if sequence.sampler is None:
            sequence.started_at = self._clock()
            sequence.sampler = model.make_sampler(
                sampler_chain(
                    sequence.job.sampling,
                    sequence.n_ctx,
                    sequence.job.logit_bias,
                    masked=sequence.grammar is not None,
                ),
                penalized_history(sequence.job.sampling, sequence.tokens, sequence.n_ctx),
            )
        self._admissions += 1
        slot.last_used = self._admissions
        slot.sequence, sequence.slot = sequence, slot

    def _keep_own(self, sequence: Sequence, slot: Slot) -> None:
        """Keep what the slot's own cache holds of the prompt."""
        shared, cached = common_prefix(slot.cached, sequence.tokens), len(slot.cached)
        slot.cached = []
        self._reuse(sequence, slot, shared, cached)

    def _follow(self, sequence: Sequence, donor: Slot, shared: int) -> None:
        """Copy the first ``shared`` tokens from another slot; wait until it has them, if it is still computing them."""
        slot, leader = sequence.slot, donor.sequence
        assert slot is not None
        slot.cached = []
        if leader is not None and leader.n_past < shared:
            self._model.trim(slot.id, 0)
            sequence.leader, sequence.shared = leader, shared
            return
        sequence.leader = None
        self._model.copy(donor.id, slot.id, shared)
        held = len(donor.cached) if leader is None else leader.n_past
        self._reuse(sequence, slot, shared, held)

    def _reuse(self, sequence: Sequence, slot: Slot, shared: int, held: int) -> None:
        """Cut a slot that holds ``held`` tokens back to what the prompt may keep of the ``shared`` ones."""
        model = self._model
        keep = reusable(
            shared,
            held,
            len(sequence.tokens),
            recurrent=model.recurrent,
            n_swa=model.n_swa,
            pos_min=model.first_position(slot.id) if model.n_swa and shared else 0,
        )
        if not model.trim(slot.id, keep):
            keep = 0
            model.trim(slot.id, 0)
        sequence.n_past = keep
        if not sequence.n_predicted:
            sequence.n_cached = keep

    def _release_followers(self) -> None:
        """Let followers go whose leaders came far enough.

        A leader that is gone (finished, cancelled, preempted) may have left the prefix in its slot; whatever is the
        best now is taken. So the first of its followers goes on from what it had committed, and the others follow that one.
        A leader that has shifted its context no longer has the prefix.
        """
        for sequence in self._running:
            if (leader := sequence.leader) is None:
                continue
            has_it = leader.n_pure is None or leader.n_pure >= sequence.shared
            if leader.slot is not None and has_it:
                if leader.n_past >= sequence.shared:
                    self._follow(sequence, leader.slot, sequence.shared)
                continue
            assert sequence.slot is not None
            sequence.leader = None
            donor, shared = best_donor(self._slots, sequence.slot, sequence.tokens)
            if donor is not None and shared >= MIN_REUSE:
                self._follow(sequence, donor, shared)

    # ---- decode ----------------------------------------------------------------------------------------------------

    def _decode(self, spans: list[Span]) -> list[Span]:
        """Compute the spans, making room in the KV cache where it runs out; returns what was computed.

        Idle caches go first, the longest unused one before the others; then the youngest sequence is preempted; a sequence
        that is alone is computed in smaller batches.
        """
        while spans:
            began = self._clock()
            self._announce(frozenset(span.sequence.id for span in spans))
            status = self._compute(spans)
            if status == 0:
                self._measure(spans, self._clock() - began)
                return spans
            if status == ABORTED:
                self._roll_back(spans)
                return []
            if status != NO_SLOT:
                self._fail_batch(spans, status)
                return []
            if self._drop_idle_cache():
                continue
            last = max((span.sequence for span in spans), key=self._running.index)
            others = [s for s in self._running if s.n_past and s is not last]
            if others:
                youngest = max(others[-1], last, key=self._running.index)
                self._preempt(youngest)
                spans = [span for span in spans if span.sequence is not youngest]
            elif not (spans := halved(spans)):
                self._finish(last, "length")
        return []

    def _announce(self, ids: frozenset[int]) -> None:
        """Say whom the next batch is for, so that :meth:`cancel` can abort it."""
        self._computing = ids
        self._model.rearm()
        if ids <= self._cancelled:
            self._model.abort()

    def _embed(self) -> None:
        """A batch of texts to embed, brief where others wait for their next token; they get as much time after it."""
        if self._running:
            self._before_long_step()
        began = self._clock()
        self._announce(self._embeddings.plan(brief=bool(self._running)))
        self._events += self._embeddings.compute()
        now = self._clock()
        self._embeds_from = now + (now - began)

    def _compute(self, spans: list[Span]) -> int:
        """Decode a batch in the order of its slots; a gap between them gets a row of padding, forgotten at once."""
        rows = [
            (s.sequence.slot.id, s.start, s.sequence.tokens[s.start : s.start + s.n], s.last)
            for s in spans
            if s.sequence.slot is not None
        ]
        padding = self._padding(rows) if len(rows) > 1 else []
        if not padding:
            return self._model.decode(rows)
        status = self._model.decode(sorted([*rows, *padding]))
        for slot, held, _, _ in padding:
            self._model.trim(slot, held)
        return status

    def _padding(self, rows: list[Row]) -> list[Row]:
        """One row for each gap: any token after what the slot holds. A state that cannot go back gets none."""
        model = self._model
        if model.recurrent or model.n_swa:
            return []
        found: list[Row] = []
        for id in gaps([row[0] for row in rows]):
            slot = self._slots[id]
            held = slot.sequence.n_past if slot.sequence is not None else len(slot.cached)
            if held < model.n_ctx:
                found.append((id, held, rows[0][2][:1], False))
        fits = sum(len(row[2]) for row in rows) + len(found) <= model.n_batch
        return found if fits else []

    def _roll_back(self, spans: list[Span]) -> None:
        """After an abort some of the batch's tokens may be in the cache without logits: back to what was committed."""
        for span in spans:
            if (slot := span.sequence.slot) is None:
                continue
            if not self._model.trim(slot.id, span.start):
                self._model.trim(slot.id, 0)
                span.sequence.n_past = 0

    def _drop_idle_cache(self) -> bool:
        idle = [slot for slot in self._slots if slot.sequence is None and slot.cached]
        if not idle:
            return False
        slot = min(idle, key=lambda slot: slot.last_used)
        self._model.trim(slot.id, 0)
        slot.cached = []
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's slot away; it keeps its tokens and its sampler and is prefilled again when there is room."""
        self._running.remove(sequence)
        slot = sequence.slot
        assert slot is not None
        self._model.trim(slot.id, 0)
        slot.sequence = sequence.slot = sequence.leader = None
        slot.cached = []
        sequence.n_past = 0
        sequence.n_pure = None
        self._waiting.appendleft(sequence)

    def _fail_batch(self, spans: list[Span], status: int) -> None:
        """A fatal decode: the state of these slots is unknown, so they are cleared and their requests end."""
        for span in spans:
            slot = span.sequence.slot
            self._refuse(span.sequence, "internal", f"llama.cpp could not decode (status {status})")
            if slot is not None:
                self._model.trim(slot.id, 0)
                slot.cached = []

    def _measure(self, spans: list[Span], elapsed: int) -> None:
        """Keep the prefill speed, tokens a second, as a mean that follows changes within a few steps."""
        total = sum(span.n for span in spans)
        if total >= 2 * len(spans) and elapsed > 0:
            rate = total * 1e9 / elapsed
            self._prefill_rate = (self._prefill_rate + rate) / 2 if self._prefill_rate else rate

    # ---- after decode ----------------------------------------------------------------------------------------------

    def _commit(self, spans: list[Span]) -> None:
        """The batch is in the KV cache: sample where a sequence's last token was computed."""
        row = 0
        for sequence, start, n, last in spans:
            sequence.n_past = start + n
            if last:
                self._next_token(sequence, row)
                row += 1

    def _next_token(self, sequence: Sequence, row: int) -> None:
        model = self._model
        try:
            token, logits = self._choose(sequence, row)
        except InvalidRequest as error:
            self._refuse(sequence, "invalid", str(error))
            return
        first = sequence.n_predicted == 0
        if first:
            sequence.first_token_at = self._clock()
        sequence.n_predicted += 1
        if model.ends(token):
            self._finish(sequence, "stop")
            return
        sequence.tokens.append(token)
        if sequence.awaited is not None or sequence.thinking is not None:
            self._listen(sequence, token)
        stream = sequence.text
        text = stream.feed(model.written(token) if token in sequence.shown else model.piece(token))
        logprobs: tuple[TokenLogprob, ...] = ()
        if sequence.job.logprobs is not None and not stream.stopped:
            logprobs = (model.logprobs(logits, token, sequence.job.logprobs),)
        if text or logprobs:
            self._events.append(TextOut(sequence.id, text, logprobs, first, sequence.job.by_token))
        if stream.stopped:
            self._finish(sequence, "stop")
        elif sequence.matcher is not None and sequence.matcher.finished:
            sequence.n_predicted += (
                1  # only the end-of-sequence token may follow: it counts, unsampled
            )
            self._finish(sequence, "stop")
        elif sequence.n_predicted == sequence.job.num_predict:
            self._finish(sequence, "length")
        elif len(sequence.tokens) >= sequence.n_ctx:
            self._make_room(sequence)

    def _choose(self, sequence: Sequence, row: int) -> tuple[int, Any]:
        """The next token, and where log probabilities are wanted the logits as the model made them.

        They are those before any mask, as llama-server tells them. Raises InvalidRequest where a grammar gives up.
        """
        model, chain, matcher = self._model, sequence.sampler, sequence.matcher
        budget = sequence.job.think_budget
        if sequence.thinking is not None and budget is not None and sequence.n_predicted >= budget:
            sequence.end_thinking()
        wanted = sequence.job.logprobs is not None
        logits: Any = model.logits(row) if wanted or matcher is not None else None
        if sequence.forced:
            token = sequence.forced.popleft()
            model.accept(chain, token)
        elif matcher is None:
            token = model.sample(chain, row)
            if model.ends(token) and sequence.awaited is not None and sequence.think_end:
                # in the middle of its thoughts, and the form that is wanted has not begun
                sequence.end_thinking()
                token = sequence.forced.popleft()
                model.accept(chain, token)
        else:
            masked, logits = logits, logits.copy() if wanted else None
            matcher.mask(masked)
            token = model.sample(chain, row)
            if not model.ends(token):
                matcher.take(token)
        return token, logits

    def _listen(self, sequence: Sequence, token: int) -> None:
        """Has the answer said what ends its thinking, what its grammar waits for? Control tokens count as text here."""
        written = self._model.written(token)
        if sequence.thinking is not None and sequence.thinking.feed(written) is not None:
            sequence.thinking = None
        if sequence.awaited is None:
            return
        rest = sequence.awaited.feed(written)
        if rest is not None:
            sequence.awaited, sequence.matcher = None, sequence.grammar
            if sequence.matcher is not None and (rest := rest.lstrip()):
                sequence.matcher.begin_with(rest)

    def _make_room(self, sequence: Sequence) -> None:
        """The context is full: forget the older half of it, or end the answer when its last cell is used."""
        model = self._model
        if not (sequence.job.shift and model.can_shift and sequence.slot is not None):
            if len(sequence.tokens) > sequence.n_ctx:
                self._finish(sequence, "length")
            return
        keep, discard = shift_cut(
            sequence.n_ctx,
            sequence.n_past,
            sequence.job.num_keep,
            sequence.n_prompt,
            model.adds_bos,
        )
        if discard < 1:
            self._finish(sequence, "length")
            return
        model.shift(sequence.slot.id, keep, discard, sequence.n_past)
        del sequence.tokens[keep : keep + discard]
        sequence.n_past -= discard
        sequence.n_pure = min(keep, sequence.n_pure or keep)

    # ---- endings: each request gets exactly one --------------------------------------------------------------------

    def _finish(self, sequence: Sequence, reason: Literal["stop", "length", "cancel"]) -> None:
        now = self._clock()
        if reason != "cancel" and (text := sequence.text.flush()):
            self._events.append(TextOut(sequence.id, text, (), False))
        first = sequence.first_token_at or now
        self._events.append(
            Finished(
                sequence.id,
                reason,
                sequence.n_prompt,
                sequence.n_cached,
                sequence.n_predicted,
                first - (sequence.started_at or now),
                now - first,
                sequence.n_truncated,
                sequence.text.stopped,
            )
        )
        self._release(sequence)

    def _refuse(
        self,
        sequence: Sequence,
        kind: Literal["too_long", "invalid", "internal"],
        message: str,
    ) -> None:
        self._events.append(Refused(sequence.id, kind, message))
        self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        """Free the slot, whose cache stays for the next prompt that begins alike."""
        self._cancelled.discard(sequence.id)
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        if (slot := sequence.slot) is not None:
            slot.cached = sequence.tokens[: sequence.n_past][: sequence.n_pure]
            slot.sequence = sequence.slot = sequence.leader = None
            if len(slot.cached) < sequence.n_past:  # what a shift has moved is of no use to others
                self._cut(slot)
        if sequence.sampler is not None:
            self._model.free_sampler(sequence.sampler)
            sequence.sampler = None

    def _cut(self, slot: Slot) -> None:
        """Make a free slot's cache hold what ``slot.cached`` says, or nothing where it cannot go back."""
        if not self._model.trim(slot.id, len(slot.cached)):
            self._model.trim(slot.id, 0)
            slot.cached = []


def _slot_id(span: Span) -> int:
    return span.sequence.slot.id if span.sequence.slot is not None else -1


def too_long(n_prompt: int, n_ctx: int) -> str:
    """The message for a prompt that leaves no room in its context."""
    return f"the prompt is longer than the context: {n_prompt} tokens > {n_ctx}; shorten the prompt or set num_ctx"

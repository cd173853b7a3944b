"""The engine's loop: admit -> plan -> decode -> sample -> emit. Owns the running sequences.

Everything happens on one thread, the one that calls :meth:`Engine.step`; other threads only put requests and cancellations
into its inbox. The model comes in as an argument, so that the loop is tested with one whose next token is a function of
the prefix. The KV cache is in ``slots.py``. Nothing here deals with processes, frames or API dialects.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from ..context import padded
from ..errors import InvalidRequest, LoadFailed
from ..loading import LoadPlan
from ..types import PromptToken, TokenLogprob
from .batch import (
    TILED,
    Span,
    calls,
    chunk_tokens,
    halved,
    plan_alone,
    plan_batch,
    plan_inset,
    rows_of,
    shift_cut,
)
from .choosing import choose, scored, watch
from .embed import Embedder, EmbedTask
from .events import Event, Finished, Outgrown, PromptRead, Refused, Resized, TextOut
from .model import Model
from .prompt import Placed
from .reports import of_prefill, of_queue
from .rows import ABORTED, NO_SLOT
from .sampling import penalized_history, sampler_chain
from .saving import Saving
from .sequence import Sequence
from .slots import Slots

PREFILL_SECONDS = 0.25
"""How long a step may become for a prompt's sake while there are other sequences."""

ALONE_SECONDS = 0.5
"""And for the sake of a prompt that is alone: a request may come meanwhile, for a text or a vector."""

EMBEDS_LAST = 1_000_000_000
"""Nanoseconds after an embedding in which prompts are still computed as if it were not alone: the next one is likely to come."""

CELLS_AHEAD = 256
"""A sequence asks for more cells so many tokens before it needs them."""

FIRST_CHUNK = TILED
"""Prompt tokens in the first step beside other sequences, half of those of one alone, when the prefill speed is not known yet."""


class ResizeTask(NamedTuple):
    """Make the context anew between two steps, for a plan with other slots or another context."""

    id: int
    plan: LoadPlan


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
        saving: Saving | None = None,
    ) -> None:
        self._model = model
        self._emit = emit
        self._before_long_step = before_long_step
        self._clock = clock
        self._embeddings = Embedder(model.pooled, clock)
        self._inbox: queue.SimpleQueue[
            Sequence | EmbedTask | ResizeTask | threading.Event | int | None
        ] = queue.SimpleQueue()
        self._slots = Slots(model, saving)
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._events: list[Event] = []
        self._prefill_rate = 0.0
        self._shortest_first = False
        self._embeds_from = 0
        self._embedded_at = -EMBEDS_LAST
        self._cancelled: set[int] = set()
        self._ending, self._ended = threading.Event(), threading.Event()
        self._computing: frozenset[int] = frozenset()
        self._is_busy, self._busy_until = False, time.monotonic()
        self._computes = True
        self._n_asked = 0
        """Cells that were asked for, until another size comes; then what lacks them waits."""

    # ---- from other threads ----------------------------------------------------------------------------------------

    def submit(self, request: Sequence | EmbedTask | ResizeTask) -> None:
        """Queue a request; its ending comes through ``emit``."""
        self._inbox.put(request)

    def cancel(self, id: int) -> None:
        """Stop working for a request; unknown ids are no error.

        A step that computes for cancelled requests only is aborted. The engine publishes the batch's ids, then reads the
        cancellations; here it is the reverse, so whichever runs second sees the other.
        """
        self._cancelled.add(id)
        self._inbox.put(id)
        if self._computing <= self._cancelled:
            self._model.abort()

    def finish(self, seconds: float) -> None:
        """Make the engine's thread save what the slots hold, whatever it computes; wait for that, for at most so long."""
        self._inbox.put(None)
        self._ending.set()
        self._model.abort()
        self._ended.wait(seconds)

    def forget(self) -> None:
        """Make the engine's thread forget what slots hold of requests that have ended; wait for that."""
        done = threading.Event()
        self._inbox.put(done)
        done.wait()

    def held(self, sequence: Sequence) -> int:
        """How many of a prompt's first tokens need not be computed, about: what a slot has of them that can go back."""
        return self._slots.held(sequence) if self._model.rewinds else 0

    def rest(self) -> float:
        """For how many seconds there has been nothing to compute."""
        return 0.0 if self._is_busy else time.monotonic() - self._busy_until

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens a second, 0 before it is known."""
        return self._prefill_rate

    # ---- the loop --------------------------------------------------------------------------------------------------

    def step(self, wait: bool = True) -> bool:
        """One turn of the loop: a batch of each kind of work. False when there was nothing to compute.

        With ``wait`` an idle engine blocks for work.
        """
        if self._ending.is_set() and not self._ended.is_set():
            self._slots.save_all()
            self._ended.set()
        busy = bool(self._running or self._waiting or self._embeddings.busy)
        if not busy:
            self._slots.save_idle()
            if self._is_busy:
                self._is_busy, self._busy_until = False, time.monotonic()
        self._take_inbox(block=wait and not (busy and self._computes))
        self._is_busy = True
        self._slots.release_followers(
            self._running
        )  # before a new sequence takes a lost leader's slot
        self._admit()
        spans = self._plan()
        embeds = self._embeddings.busy and not (spans and self._clock() < self._embeds_from)
        if embeds:  # before a chunk of a prompt, which takes longer
            self._embed()
        self._computes = bool(spans) or embeds or not self._n_asked
        if spans:
            if len(spans) > 1 and any(span.n > 1 for span in spans):
                self._before_long_step()
            self._compute_all(spans)
        inset = self._compute_inset()
        if self._events:
            self._emit(self._events)
            self._events = []
        return bool(spans) or embeds or inset

    def _compute_all(self, spans: list[Span]) -> None:
        """Compute the spans in one batch, or in several where the same tokens are wanted whatever the neighbours."""
        model = self._model
        for batch in calls(sorted(spans, key=_slot_id), alone=bool(model.cut), alike=model.alike):
            # a call before may have preempted some
            batch = [s for s in batch if s.sequence.slot and s.sequence.n_past == s.start]
            if batch:
                self._commit(self._decode(batch))

    def _compute_inset(self) -> bool:
        """Encode and compute the image or the sound that comes next in a prompt, at most one in a step; False where none does."""
        span = plan_inset(self._ready(), self._model.n_batch)
        if span is None:
            return False
        self._before_long_step()
        assert (placed := span.sequence.inset) is not None
        try:
            self._model.encode(placed.inset)
        except InvalidRequest as error:
            self._refuse(span.sequence, "invalid", str(error))
            return True
        self._commit(self._decode([span]))
        return True

    def _ready(self) -> list[Sequence]:
        """The sequences that wait neither for a leader nor for cells."""
        n_cells = self._model.n_cells
        return [s for s in self._running if s.leader is None and len(s.tokens) <= n_cells]

    def _plan(self) -> list[Span]:
        """The batch of the sequences; prompts are cut for whatever else waits for its turn, or may come."""
        self._shortest_first = not self._shortest_first
        running = [sequence for sequence in self._ready() if sequence.inset is None]
        if cut := self._model.cut:
            return plan_alone(running, cut, shortest_first=self._shortest_first)
        chunk = chunk_tokens(self._prefill_rate, PREFILL_SECONDS, FIRST_CHUNK)
        alone = chunk_tokens(self._prefill_rate, ALONE_SECONDS, 2 * FIRST_CHUNK)
        embeds = self._embeddings.busy or self._clock() < self._embedded_at + EMBEDS_LAST
        return plan_batch(
            running,
            self._model.n_batch,
            chunk,
            chunk if embeds else alone,
            shortest_first=self._shortest_first,
        )

    def _take_inbox(self, block: bool) -> None:
        try:
            while True:
                item = self._inbox.get(block)
                block = False
                if isinstance(item, Sequence):
                    self._limit(item)
                    self._waiting.append(item)
                elif item is None:
                    continue  # the end: it wakes an idle engine
                elif isinstance(item, threading.Event):
                    self._slots.forget()
                    item.set()
                elif isinstance(item, EmbedTask):
                    self._events += self._embeddings.add(item)
                elif isinstance(item, ResizeTask):
                    self._resize(item)
                else:
                    self._drop(item)
        except queue.Empty:
            return

    def _limit(self, sequence: Sequence) -> None:
        """Set how many tokens of the context a sequence may use."""
        sequence.n_ctx = min(sequence.generation.n_ctx or self._model.n_ctx, self._model.n_ctx)

    def _has_cells(self, sequence: Sequence) -> bool:
        """Has a slot cells for a sequence's tokens and the next one? More are asked for before they are needed."""
        n_cells, n_tokens = self._model.n_cells, len(sequence.tokens)
        n_left = sequence.generation.num_predict - sequence.n_predicted
        n_more = min(n_left, CELLS_AHEAD) if n_left > 0 else CELLS_AHEAD
        needed = min(n_tokens + n_more, sequence.n_ctx)
        if needed > n_cells and (n_tokens >= self._n_asked or not self._n_asked):
            self._n_asked = needed
            self._events.append(Outgrown(sequence.id, needed))
        return n_tokens < n_cells or sequence.n_ctx <= n_cells

    def _drop(self, id: int) -> None:
        """Cancel: the sequence may be waiting, running or already gone."""
        self._cancelled.discard(id)
        for sequence in (*self._waiting, *self._running):
            if sequence.id == id:
                self._finish(sequence, "cancel")
                return
        if self._embeddings.drop(id):
            self._events.append(Finished(id, "cancel", 0, 0, 0, 0, 0, 0))

    def _resize(self, task: ResizeTask) -> None:
        """Go on in a context of another size. Sequences whose state cannot be moved are prefilled again; none ends by this."""
        self._before_long_step()
        longest = max((len(each.tokens) for each in self._running), default=0)
        try:
            if longest > padded(task.plan.held) and task.plan.held < self._model.n_cells:
                raise LoadFailed(f"requests need a context of {longest} tokens")
            lost = self._slots.resize(task.plan)
        except LoadFailed as error:
            self._events.append(Refused(task.id, "internal", str(error)))
            return
        for sequence in reversed(lost):
            self._running.remove(sequence)
            self._waiting.appendleft(sequence)
        self._events.append(Resized(task.id, self._model.n_ctx, task.plan.n_slots))
        self._fit_to(self._model.n_ctx)

    def _fit_to(self, n_ctx: int) -> None:
        """Bound the sequences by a context that may be another, and go on with those that waited for it."""
        if self._n_asked <= self._model.n_cells or n_ctx <= self._model.n_cells:
            self._n_asked = 0
        for sequence in self._waiting:
            self._limit(sequence)
        for sequence in tuple(self._running):
            self._limit(sequence)
            if len(sequence.tokens) >= sequence.n_ctx:
                self._make_room(sequence)

    # ---- admission -------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give free slots to waiting sequences, first come first served."""
        while self._waiting:
            sequence = self._waiting[0]
            n_ctx = sequence.n_ctx
            if len(sequence.tokens) >= n_ctx and not sequence.n_predicted:
                self._refuse(sequence, "too_long", sequence.too_long)
                continue
            if len(sequence.tokens) > n_ctx:  # preempted, and the context is shorter now
                self._finish(sequence, "length")
                continue
            if not self._has_cells(sequence):
                self._events += of_queue(self._waiting, self._clock())
                return
            placement = self._slots.place(sequence)
            if placement is None:
                self._events += of_queue(self._waiting, self._clock())
                return
            try:
                self._prepare(sequence)
            except InvalidRequest as error:
                self._refuse(sequence, "invalid", str(error))
                continue
            self._waiting.popleft()
            self._running.append(sequence)
            self._slots.give(sequence, placement)

    def _prepare(self, sequence: Sequence) -> None:
        """Make the sampler, if there is none yet. Raises InvalidRequest."""
        if sequence.sampler is not None:
            return
        sequence.started_at = self._clock()
        sequence.sampler = self._model.make_sampler(
            sampler_chain(
                sequence.generation.sampling,
                sequence.n_ctx,
                sequence.generation.logit_bias,
                masked=sequence.grammar is not None,
            ),
            penalized_history(sequence.generation.sampling, sequence.tokens, sequence.n_ctx),
        )

    # ---- decode ----------------------------------------------------------------------------------------------------

    def _decode(self, spans: list[Span]) -> list[Span]:
        """Compute the spans, making room in the KV cache where it runs out; returns what was computed.

        Idle caches are dropped first, the one unused for longest before the others; then the youngest sequence is preempted;
        a sequence that is alone is computed in smaller batches.
        """
        while spans:
            began = self._clock()
            self._publish(frozenset(span.sequence.id for span in spans))
            status = self._compute(spans)
            if status == 0:
                self._measure(spans, self._clock() - began)
                return spans
            if status == ABORTED:
                self._slots.roll_back(spans)
                return []
            if status != NO_SLOT:
                self._fail_batch(spans, status)
                return []
            if self._slots.drop_idle():
                continue
            last = max((span.sequence for span in spans), key=self._running.index)
            others = [s for s in self._running if s.n_past and s is not last]
            if others:
                youngest = max(others[-1], last, key=self._running.index)
                self._preempt(youngest)
                spans = [span for span in spans if span.sequence is not youngest]
            elif last.inset is not None or not (spans := halved(spans)):
                self._finish(last, "length")
                return []
        return []

    def _publish(self, ids: frozenset[int]) -> None:
        """Publish the ids that the next batch computes for, so that :meth:`cancel` can abort it."""
        self._computing = ids
        self._model.rearm()
        if ids <= self._cancelled or self._ending.is_set():
            self._model.abort()

    def _embed(self) -> None:
        """A batch of texts to embed, brief where others wait for their next token; they get as much time after it."""
        if self._running:
            self._before_long_step()
        began = self._clock()
        self._publish(self._embeddings.plan(brief=bool(self._running)))
        self._events += self._embeddings.compute()
        now = self._clock()
        self._embeds_from = now + (now - began)
        self._embedded_at = now

    def _compute(self, spans: list[Span]) -> int:
        """Decode a batch in the order of its slots; a gap between them gets a row of padding, forgotten at once."""
        if (placed := spans[0].sequence.inset) is not None:
            return self._decode_inset(spans[0], placed)
        rows = rows_of(spans)
        padding = self._slots.padding(rows) if len(rows) > 1 else []
        if not padding:
            return self._model.decode(rows)
        status = self._model.decode(sorted([*rows, *padding]))
        for slot, held, _, _ in padding:
            self._model.trim(slot, held)
        return status

    def _decode_inset(self, span: Span, placed: Placed) -> int:
        sequence, slot = span.sequence, span.sequence.slot
        assert slot is not None
        first = span.start - placed.start
        at = sequence.position(placed.start)
        return self._model.decode_inset(slot.id, at, placed.inset, first, span.n, span.last)

    def _preempt(self, sequence: Sequence) -> None:
        """Take a sequence's slot away; it keeps its tokens and its sampler and is prefilled again when there is room."""
        self._running.remove(sequence)
        self._slots.take(sequence)
        self._waiting.appendleft(sequence)

    def _fail_batch(self, spans: list[Span], status: int) -> None:
        """A fatal decode: the state of these slots is unknown, so they are cleared and their requests end."""
        for span in spans:
            slot = span.sequence.slot
            self._refuse(span.sequence, "internal", f"llama.cpp could not decode (status {status})")
            if slot is not None:
                self._slots.clear(slot)

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
        for span in spans:
            sequence, n_outputs = span.sequence, span.n_outputs
            sequence.n_past = span.start + span.n
            self._slots.note(sequence)
            if sequence.scores:
                self._report_prompt(sequence, scored(self._model, span, row))
            row += n_outputs
            if span.last:
                self._next_token(sequence, row - 1)
            else:
                self._events += of_prefill(sequence, self._running, self._clock())

    def _report_prompt(self, sequence: Sequence, tokens: tuple[PromptToken, ...] = ()) -> None:
        counts = sequence.n_prompt, sequence.n_cached, sequence.n_truncated
        self._events.append(PromptRead(sequence.id, *counts, tokens))

    def _next_token(self, sequence: Sequence, row: int) -> None:
        model = self._model
        try:
            token, logits = choose(model, sequence, row)
        except InvalidRequest as error:
            self._refuse(sequence, "invalid", str(error))
            return
        if sequence.n_predicted == 0:
            sequence.first_token_at = self._clock()
            self._report_prompt(sequence)
        sequence.n_predicted += 1
        if model.ends(token):
            sequence.end = model.written(token).decode(errors="replace")
            if sequence.generation.prompt_logprobs is not None and logits is not None:
                # who measures a prompt leaves out the last entry: there must be one
                ending = model.logprobs(logits, token, sequence.generation.logprobs or 0)
                self._events.append(TextOut(sequence.id, "", (ending,), False))
            self._finish(sequence, "stop")
            return
        sequence.tokens.append(token)
        if sequence.awaited is not None or sequence.thinking is not None:
            watch(sequence, model.written(token))
        stream = sequence.text
        piece = model.written(token) if token in sequence.shown else model.piece(token)
        text = stream.feed(piece)
        if sequence.generation.with_tokens:
            sequence.sampled.append((token, len(piece)))
        logprobs: tuple[TokenLogprob, ...] = ()
        if sequence.generation.logprobs is not None and not stream.stopped:
            logprobs = (model.logprobs(logits, token, sequence.generation.logprobs),)
        if text or logprobs:
            first = not sequence.has_text
            sequence.has_text = sequence.has_text or text != ""
            self._events.append(
                TextOut(
                    sequence.id,
                    text,
                    logprobs,
                    first,
                    sequence.generation.by_token,
                    sequence.n_predicted,
                )
            )
        if stream.stopped:
            self._finish(sequence, "stop")
        elif sequence.matcher is not None and sequence.matcher.finished:
            sequence.n_predicted += (
                1  # only the end-of-sequence token may follow: it counts, unsampled
            )
            self._finish(sequence, "stop")
        elif sequence.n_predicted == sequence.generation.num_predict:
            self._finish(sequence, "length")
        elif len(sequence.tokens) >= sequence.n_ctx:
            self._make_room(sequence)
        else:
            self._has_cells(sequence)

    def _make_room(self, sequence: Sequence) -> None:
        """The context is full: forget the older half of it, or end the answer when its last cell is used."""
        model = self._model
        can_shift = model.can_shift and not sequence.insets
        if not (sequence.generation.shift and can_shift and sequence.slot is not None):
            if len(sequence.tokens) > sequence.n_ctx:
                self._finish(sequence, "length")
            return
        keep, discard = shift_cut(
            sequence.n_ctx,
            sequence.n_past,
            sequence.generation.num_keep,
            sequence.n_prompt,
            model.adds_bos,
        )
        if discard < 1:
            self._finish(sequence, "length")
            return
        model.shift(sequence.slot.id, keep, discard, sequence.n_past)
        del sequence.tokens[keep : keep + discard]
        sequence.n_past -= discard
        sequence.n_pure = keep if sequence.n_pure is None else min(keep, sequence.n_pure)

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
                tuple(token for token, _ in sequence.sampled),
                tuple(size for _, size in sequence.sampled),
                sequence.end if sequence.generation.with_tokens else "",
                sequence.n_restored,
                min(sequence.n_read, sequence.n_restored),
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
        """Forget a sequence that has its ending."""
        self._cancelled.discard(sequence.id)
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        self._slots.free(sequence)
        if sequence.sampler is not None:
            self._model.free_sampler(sequence.sampler)
            sequence.sampler = None


def _slot_id(span: Span) -> int:
    return span.sequence.slot.id if span.sequence.slot is not None else -1

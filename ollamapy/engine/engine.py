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
    Span,
    chunk_tokens,
    common_prefix,
    halved,
    pick_slot,
    plan_batch,
    reusable,
)
from .sampling import Stage, penalized_history, sampler_chain
from .sequence import Sequence, Slot

PREFILL_SECONDS = 0.25
"""How long a step may become for a prompt's sake while other sequences decode."""

FIRST_CHUNK = 64
"""Prompt tokens in the first step beside decoding sequences, when the prefill speed is not known yet."""

NO_SLOT = 1
ABORTED = 2


class Model(Protocol):
    """What the engine needs of a model; ``engine/llama.py`` documents each."""

    n_ctx: int
    n_slots: int
    n_batch: int
    n_swa: int
    recurrent: bool

    def decode(self, spans: list[tuple[int, int, list[int], bool]]) -> int: ...
    def sample(self, chain: Any, row: int) -> int: ...
    def logprobs(self, row: int, token: int, top: int) -> TokenLogprob: ...
    def trim(self, slot: int, n: int) -> bool: ...
    def first_position(self, slot: int) -> int: ...
    def make_sampler(self, stages: SequenceOf[Stage], history: SequenceOf[int]) -> Any: ...
    def free_sampler(self, chain: Any) -> None: ...
    def piece(self, token: int) -> bytes: ...
    def ends(self, token: int) -> bool: ...


class TextOut(NamedTuple):
    """New text of a request; ``first``: its first, which should not wait."""

    id: int
    text: str
    logprobs: tuple[TokenLogprob, ...]
    first: bool


class Finished(NamedTuple):
    """The good ending of a request; counts of tokens, times in nanoseconds."""

    id: int
    reason: Literal["stop", "length", "cancel"]
    n_prompt: int
    n_cached: int
    n_predicted: int
    prompt_ns: int
    predict_ns: int


class Refused(NamedTuple):
    """The bad ending of a request; the kinds are those of ``runner.protocol.Failed``."""

    id: int
    kind: Literal["too_long", "invalid", "internal"]
    message: str


Event = TextOut | Finished | Refused


class Engine:
    """Continuous batching over one model.

    ``emit`` is called once a step with the step's events, on the engine's thread; it must not block.
    """

    def __init__(
        self,
        model: Model,
        emit: Callable[[list[Event]], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._model = model
        self._emit = emit
        self._clock = clock
        self._inbox: queue.SimpleQueue[Sequence | int | None] = queue.SimpleQueue()
        self._slots = [Slot(i) for i in range(model.n_slots)]
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._events: list[Event] = []
        self._admissions = 0
        self._prefill_rate = 0.0

    # ---- from other threads ----------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence) -> None:
        """Queue a request; its ending comes through ``emit``."""
        self._inbox.put(sequence)

    def cancel(self, id: int) -> None:
        """Stop working for a request; unknown ids are no error."""
        self._inbox.put(id)

    def wake(self) -> None:
        """Make a waiting :meth:`step` return."""
        self._inbox.put(None)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def step(self, wait: bool = True) -> bool:
        """One turn of the loop; False when there was nothing to compute. With ``wait`` an idle engine blocks for work."""
        self._take_inbox(block=wait and not self._running and not self._waiting)
        self._admit()
        spans = plan_batch(
            self._running,
            self._model.n_batch,
            chunk_tokens(self._prefill_rate, PREFILL_SECONDS, FIRST_CHUNK),
        )
        if spans and (spans := self._decode(spans)):
            self._commit(spans)
        if self._events:
            self._emit(self._events)
            self._events = []
        return bool(spans)

    def _take_inbox(self, block: bool) -> None:
        try:
            while True:
                item = self._inbox.get(block)
                block = False
                if isinstance(item, Sequence):
                    self._waiting.append(item)
                elif item is not None:
                    self._drop(item)
        except queue.Empty:
            return

    def _drop(self, id: int) -> None:
        """Cancel: the sequence may be waiting, running or already gone."""
        for sequence in (*self._waiting, *self._running):
            if sequence.id == id:
                self._finish(sequence, "cancel")
                return

    # ---- admission -------------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Give free slots to waiting sequences, first come first served."""
        while self._waiting:
            sequence = self._waiting[0]
            if len(sequence.tokens) >= self._model.n_ctx and not sequence.n_predicted:
                self._refuse(sequence, "too_long", too_long(sequence.n_prompt, self._model.n_ctx))
                continue
            slot = pick_slot(self._slots, sequence.tokens)
            if slot is None:
                return
            try:
                self._start(sequence, slot)
            except InvalidRequest as error:
                self._refuse(sequence, "invalid", str(error))
                continue
            self._waiting.popleft()
            self._running.append(sequence)

    def _start(self, sequence: Sequence, slot: Slot) -> None:
        """Put a sequence into a slot and keep what the slot's cache already holds of its prompt."""
        model = self._model
        if sequence.sampler is None:
            sequence.started_at = self._clock()
            sequence.sampler = model.make_sampler(
                sampler_chain(sequence.sampling, model.n_ctx),
                penalized_history(sequence.sampling, sequence.tokens, model.n_ctx),
            )
        shared = common_prefix(slot.cached, sequence.tokens)
        keep = reusable(
            shared,
            len(slot.cached),
            len(sequence.tokens),
            recurrent=model.recurrent,
            n_swa=model.n_swa,
            pos_min=model.first_position(slot.id) if model.n_swa and shared else 0,
        )
        if not model.trim(slot.id, keep):
            keep = 0
            model.trim(slot.id, 0)
        self._admissions += 1
        slot.last_used = self._admissions
        slot.cached = []
        slot.sequence, sequence.slot = sequence, slot
        sequence.n_past = keep
        if not sequence.n_predicted:
            sequence.n_cached = keep

    # ---- decode ----------------------------------------------------------------------------------------------------

    def _decode(self, spans: list[Span]) -> list[Span]:
        """Compute the spans, making room in the KV cache where it runs out; returns what was computed.

        Idle caches go first, the longest unused one before the others; then the youngest sequence is preempted; a sequence
        that is alone is computed in smaller batches.
        """
        while spans:
            began = self._clock()
            status = self._model.decode(
                [
                    (
                        s.sequence.slot.id,
                        s.start,
                        s.sequence.tokens[s.start : s.start + s.n],
                        s.last,
                    )
                    for s in spans
                    if s.sequence.slot is not None
                ]
            )
            if status == 0:
                self._measure(spans, self._clock() - began)
                return spans
            if status != NO_SLOT:
                self._fail_batch(spans, status)
                return []
            if self._drop_idle_cache():
                continue
            if len(self._running) > 1:
                youngest = self._running[-1]
                self._preempt(youngest)
                spans = [span for span in spans if span.sequence is not youngest]
            elif not (spans := halved(spans)):
                self._finish(self._running[0], "length")
        return []

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
        slot.sequence = sequence.slot = None
        slot.cached = []
        sequence.n_past = 0
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
        token = model.sample(sequence.sampler, row)
        first = sequence.n_predicted == 0
        if first:
            sequence.first_token_at = self._clock()
        sequence.n_predicted += 1
        if model.ends(token):
            self._finish(sequence, "stop")
            return
        sequence.tokens.append(token)
        stream = sequence.text
        text = stream.feed(model.piece(token))
        logprobs: tuple[TokenLogprob, ...] = ()
        if sequence.logprobs is not None and not stream.stopped:
            logprobs = (model.logprobs(row, token, sequence.logprobs),)
        if text or logprobs:
            self._events.append(TextOut(sequence.id, text, logprobs, first))
        if stream.stopped:
            self._finish(sequence, "stop")
        elif sequence.n_predicted == sequence.num_predict or len(sequence.tokens) > model.n_ctx:
            self._finish(sequence, "length")

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
        if sequence in self._running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        if (slot := sequence.slot) is not None:
            slot.cached = sequence.tokens[: sequence.n_past]
            slot.sequence = sequence.slot = None
        if sequence.sampler is not None:
            self._model.free_sampler(sequence.sampler)
            sequence.sampler = None


def too_long(n_prompt: int, n_ctx: int) -> str:
    """The message for a prompt that leaves no room in its context."""
    return (
        f"the prompt is longer than the context: {n_prompt} tokens, the context has {n_ctx};"
        " shorten the prompt or set num_ctx"
    )

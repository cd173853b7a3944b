"""Requests on their way into the engine: texts become tokens and constraints become grammars, in threads beside the engine's."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from ..engine.batch import truncated
from ..engine.checkpoints import places, stops
from ..engine.embed import EmbedTask, input_tokens, pair_tokens
from ..engine.engine import Engine
from ..engine.grammar import STACK, Grammars, Matcher, NeedsLonger
from ..engine.llama import Model
from ..engine.mediatokens import edge
from ..engine.prompt import (
    Check,
    Tokens,
    count_tokens,
    is_far_too_long,
    prompt_tokens,
    tokens_within,
)
from ..engine.sequence import Sequence, longer_than
from ..errors import InvalidRequest, PromptTooLong
from ..types import Constraint, EmbedInputs, Generation, Media
from . import protocol
from .keeper import Keeper
from .outbox import Outbox

LONG_TEXT = 16_384
"""Characters; a longer text is tokenized by a thread of its own, so that short ones need not wait for it."""


MOST_SCORES = 250_000
"""Log probabilities of one prompt, with those of the likeliest tokens: 100 MB in the daemon, or so."""


class Cancelled(Exception):
    """The request that was worked on is not wanted any more."""


RequestFrame = (
    protocol.Generate
    | protocol.Embed
    | protocol.Rerank
    | protocol.Count
    | protocol.Tokenize
    | protocol.Detokenize
)


class Inbox(Protocol):
    """Frames on their way to one thread."""

    def put(self, frame: RequestFrame) -> None: ...
    def get(self) -> RequestFrame: ...


class ShortestFirst:
    """Generate frames with a constraint, those with the shortest one first."""

    def __init__(self) -> None:
        self._frames: queue.PriorityQueue[tuple[int, int, RequestFrame]] = queue.PriorityQueue()

    def put(self, frame: RequestFrame) -> None:
        """Queue a frame."""
        form = frame.generation.constraint if isinstance(frame, protocol.Generate) else None
        self._frames.put((len(form.text) if form else 0, frame.id, frame))

    def get(self) -> RequestFrame:
        """Wait for a frame."""
        return self._frames.get()[2]


def start_deep(work: Callable[[], None], name: str) -> None:
    """Start a thread that has stack enough for grammars."""
    before = threading.stack_size(STACK)
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    finally:
        threading.stack_size(before)


class Worker:
    """The threads that prepare requests, before the engine sees them.

    One for short texts, one for long ones, one for requests with a constraint, and one for constraints that need longer
    than a moment: extreme and hostile ones. A JSON object's grammar is kept ready, and needs none of the latter two.
    """

    def __init__(
        self, model: Model, engine: Engine, outbox: Outbox, keeper: Keeper | None = None
    ) -> None:
        self._model, self._engine, self._outbox = model, engine, outbox
        self._keeper = keeper
        self._short: Inbox = queue.SimpleQueue()
        self._long: Inbox = queue.SimpleQueue()
        self._constrained: Inbox = queue.SimpleQueue()
        self._extreme = ShortestFirst()
        self._grammars = Grammars(model.token_table)
        self._lock = threading.Lock()
        self._pending: set[int] = set()  # ids whose texts are not tokenized yet
        self._reading: set[int] = set()  # those of them whose saved prefixes are read
        for name, inbox in (("short texts", self._short), ("long texts", self._long)):
            threading.Thread(target=self._run, args=(inbox,), name=name, daemon=True).start()
        start_deep(lambda: self._run(self._constrained), "constraints")
        start_deep(lambda: self._run(self._extreme), "extreme constraints")

    def put(self, frame: RequestFrame) -> None:
        """Queue a request; the engine gets the result, or the daemon."""
        match frame:
            case (
                protocol.Generate(generation=Generation(prompt=given))
                | protocol.Count(prompt=given)
                | protocol.Tokenize(text=given)
                | protocol.Detokenize(tokens=given)
            ):
                size = len(given)
            case (
                protocol.Embed(inputs=EmbedInputs(inputs=inputs))
                | protocol.Rerank(documents=inputs)
            ):
                size = sum(map(len, inputs))
        with self._lock:
            self._pending.add(frame.id)
        form = frame.generation.constraint if isinstance(frame, protocol.Generate) else None
        if form is not None and not self._grammars.is_ready(form):
            self._constrained.put(frame)
        else:
            (self._long if size > LONG_TEXT else self._short).put(frame)

    def cancel(self, id: int) -> None:
        """Drop a request that still waits here; cancel it in the engine otherwise."""
        with self._lock:
            waiting = id in self._pending
            self._pending.discard(id)
        if not waiting:
            self._engine.cancel(id)

    def _run(self, inbox: Inbox) -> None:
        while True:
            frame = inbox.get()
            try:
                if frame.id in self._pending:
                    self._handle(frame, quick=inbox is not self._extreme)
            except NeedsLonger:
                self._extreme.put(frame)
                continue
            except Cancelled:
                pass  # no one waits for an ending
            except PromptTooLong as error:
                self._outbox.send(protocol.Failed(frame.id, "too_long", str(error)))
            except InvalidRequest as error:
                self._outbox.send(protocol.Failed(frame.id, "invalid", str(error)))
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                self._outbox.send(protocol.Failed(frame.id, "internal", message))
            with self._lock:
                if frame.id not in self._reading:
                    self._pending.discard(frame.id)
            if inbox is not self._short:
                self._outbox.send(protocol.Working())

    def _handle(self, frame: RequestFrame, *, quick: bool) -> None:
        """Prepare a request. Raises Cancelled, InvalidRequest, and where it must be ``quick`` NeedsLonger."""

        def check() -> None:
            if frame.id not in self._pending:
                raise Cancelled

        match frame:
            case protocol.Generate(generation=Generation(prompt=prompt)) if is_far_too_long(
                self._model, prompt, check
            ):
                raise PromptTooLong(
                    f"the prompt is longer than the context: {len(prompt)} characters,"
                    f" the context has {self._model.n_ctx} tokens; shorten the prompt"
                )
            case protocol.Generate():
                self._fetch(self._sequence(frame.id, frame.generation, check, quick))
            case protocol.Embed():
                self._submit(self._texts_to_embed(frame.id, frame.inputs, check))
            case protocol.Rerank(query=query):
                inputs = []
                for place, text in enumerate(frame.documents):
                    check()
                    inputs.append(pair_tokens(self._model, query, text, place))
                self._submit(EmbedTask(frame.id, inputs, "rank", normalize=False))
            case protocol.Tokenize():
                tokens, count = tokens_within(
                    self._model, frame.text, frame.most, frame.add_special, check
                )
                self._outbox.send(protocol.Tokens(frame.id, tuple(tokens), count))
            case protocol.Count():
                count = count_tokens(self._model, frame.prompt, check)
                self._outbox.send(protocol.Tokens(frame.id, (), count))
            case protocol.Detokenize():
                self._outbox.send(protocol.Text(frame.id, self._model.detokenize(frame.tokens)))

    def _fetch(self, sequence: Sequence) -> None:
        """Submit a sequence, once its saved prefix is read from files, if that spares time."""
        keeper, engine = self._keeper, self._engine
        with self._lock:
            self._reading.add(sequence.id)
        held = engine.held(sequence)
        if keeper is None or not keeper.fetch(
            sequence, held, engine.prefill_rate, lambda: self._submit(sequence)
        ):
            self._submit(sequence)

    def _submit(self, request: Sequence | EmbedTask) -> None:
        with self._lock:  # a cancel comes before this, or finds it in the engine
            self._reading.discard(request.id)
            if request.id in self._pending:
                self._pending.discard(request.id)
                self._engine.submit(request)

    def _texts_to_embed(self, id: int, wanted: EmbedInputs, check: Check) -> EmbedTask:
        model = self._model
        longest = model.longest_input if wanted.n_ctx is None else wanted.n_ctx
        longest = min(longest, model.longest_input)
        inputs = []
        for place, given in enumerate(wanted.inputs):
            check()
            inputs.append(input_tokens(model, given, place, longest, wanted.truncate))
        return EmbedTask(id, inputs, dimensions=wanted.dimensions, normalize=wanted.normalize)

    def _sequence(self, id: int, generation: Generation, check: Check, quick: bool) -> Sequence:
        model = self._model
        if not model.generates:
            raise InvalidRequest("the model does not support generate, it only embeds")
        prompt = self._prompt(generation, check)
        tokens = prompt.ids
        for token, _ in generation.logit_bias:
            if not 0 <= token < model.n_vocab:
                raise InvalidRequest(f"logit_bias: token {token} is not in the model's vocabulary")
        n_whole = len(tokens)
        n_ctx = min(generation.n_ctx or model.n_ctx, model.n_ctx)
        if generation.truncate and n_whole >= n_ctx and not prompt.insets:
            tokens = truncated(tokens, n_ctx, generation.num_keep, model.adds_bos)
        n_scores = len(tokens) * (1 + (generation.prompt_logprobs or 0))
        if generation.prompt_logprobs is not None and n_scores > MOST_SCORES:
            raise InvalidRequest(
                f"{n_scores} log probabilities of the prompt are too many, at most {MOST_SCORES}:"
                " shorten it or ask for fewer at each token"
            )
        return Sequence(
            id,
            tokens,
            generation,
            n_truncated=n_whole - len(tokens),
            grammar=self._grammar(generation.constraint, quick),
            stops=self._stops(prompt, generation)
            if n_whole == len(tokens)
            else self._every(tokens),
            insets=prompt.insets,
            think_end=tuple(model.tokenize(generation.think_end, add_special=False)),
            shown=frozenset(
                control
                for written in generation.shown
                if (control := model.control_token(written)) is not None
            ),
        )

    def _prompt(self, generation: Generation, check: Check) -> Tokens:
        """The tokens of a prompt. Files are not decoded for one that does not fit."""
        model, prompt = self._model, generation.prompt
        if any(isinstance(part, Media) for part in prompt.parts):
            if generation.prompt_logprobs is not None:
                raise InvalidRequest(
                    "a prompt with an image or a sound has no log probabilities: leave prompt_logprobs out"
                )
            n, n_ctx = (
                count_tokens(model, prompt, check),
                min(generation.n_ctx or model.n_ctx, model.n_ctx),
            )
            if n >= n_ctx:
                raise PromptTooLong(longer_than(n_ctx, n))
        return prompt_tokens(model, prompt, check)

    def _stops(self, prompt: Tokens, generation: Generation) -> tuple[int, ...]:
        """Where the engine takes checkpoints of a prompt; nowhere for a model that can go back to any token."""
        model, tokens = self._model, prompt.ids
        if model.rewinds or model.cut:
            return ()
        if not generation.marks:
            return self._every(tokens)
        n_opening = int(model.adds_bos and tokens[0] == model.bos)
        lengths = islice(prompt.lengths(lambda token: len(model.written(token))), n_opening, None)
        marked = [n_opening + n for n in places(lengths, generation.marks)]
        return tuple(edge(tokens, stop) for stop in stops(len(tokens), marked))

    def _every(self, tokens: list[int]) -> tuple[int, ...]:
        """Where it takes them if nothing is known of the messages."""
        if self._model.rewinds or self._model.cut:
            return ()
        return tuple(edge(tokens, stop) for stop in stops(len(tokens)))

    def _grammar(self, constraint: Constraint | None, quick: bool) -> Matcher | None:
        if constraint is None:
            return None
        matcher = self._grammars.compile(constraint, quick=quick)
        for warning in matcher.warnings:
            print(f"constraint: {warning}"[:300], file=sys.stderr, flush=True)
        return matcher

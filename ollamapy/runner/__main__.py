"""The runner process: frames in -> engine -> frames out. Exits when its stdin closes.

    stdin reader (main thread) -> tokenizer threads -> engine's inbox -> engine thread -> outbox -> writer thread -> fd 1

Tokenizing and pipe writes stay off the engine's thread. Texts wait in the outbox for at most 25 ms, so that a fast model
costs few frames; a request's first text, its ending and errors go at once. At start fd 1 is duplicated for the frames and then
points at stderr, so that a stray printf in C cannot corrupt them.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..engine.batch import truncated
from ..engine.embed import Job, Vectors, input_tokens, pair_tokens
from ..engine.engine import Engine
from ..engine.events import Event, Finished, TextOut
from ..engine.grammar import STACK, Grammars, Matcher
from ..engine.llama import Model
from ..engine.prompt import is_far_too_long, prompt_tokens
from ..engine.quantize import quantize
from ..engine.sequence import Sequence
from ..errors import InvalidRequest, OllamapyError
from ..loading import LoadPlan
from ..types import Constraint, Embedding, Generation
from . import protocol
from .protocol import Frame, Piece

MERGE_SECONDS = 0.025
SIGN_OF_LIFE_SECONDS = 1.0


class Outbox:
    """Frames on their way to the daemon. The engine's thread merges its texts here; a thread of its own writes.

    ``add``, ``flush`` and ``alive`` are for the engine's thread, ``send`` for any. There is no timer: the engine looks at the
    clock after each of its steps, and flushes before a long one. A thread that wakes twice a frame to keep time cost a
    fast model 9 % of its speed, one that wakes once, to write, next to nothing.
    """

    def __init__(
        self, write: Callable[[bytes], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._queue: queue.SimpleQueue[list[Event | Frame] | None] = queue.SimpleQueue()
        self._texts: list[Event | Frame] = []
        self._last = 0.0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def add(self, events: list[Event]) -> None:
        """Take a step's events. Texts wait for at most 25 ms; a request's first text and its ending go at once."""
        self._texts += events
        urgent = any(not isinstance(event, TextOut) or event.first for event in events)
        if urgent or self._clock() - self._last >= MERGE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what was merged so far."""
        if self._texts:
            self._last = self._clock()
            self._queue.put(self._texts)
            self._texts = []

    def alive(self) -> None:
        """Tell the daemon that work goes on, when nothing else has told it for a while."""
        if self._clock() - self._last > SIGN_OF_LIFE_SECONDS:
            self._last = self._clock()
            self._queue.put([protocol.Working()])

    def send(self, frame: Frame) -> None:
        """Send a frame at once."""
        self._queue.put([frame])

    def close(self) -> None:
        """Write what is there, then stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (events := self._queue.get()) is not None:
            self._write(b"".join(protocol.encode(frame) for frame in merged(events)))


def merged(events: list[Event | Frame]) -> list[Frame]:
    """Events as frames in their order; neighbouring texts become one frame with one piece for each request, or
    for each text that stands alone."""
    frames: list[Frame] = []
    texts: dict[int, list[TextOut]] = {}

    def flush() -> None:
        if texts:
            pieces = tuple(piece for outs in texts.values() for piece in _pieces(outs))
            frames.append(protocol.Texts(pieces))
            texts.clear()

    for event in events:
        if isinstance(event, TextOut):
            texts.setdefault(event.id, []).append(event)
            continue
        flush()
        if isinstance(event, Frame):
            frames.append(event)
        elif isinstance(event, Finished):
            frames.append(protocol.Done(*event))
        elif isinstance(event, Vectors):
            frames.append(protocol.Embedded(*event))
        else:
            frames.append(protocol.Failed(*event))
    flush()
    return frames


def _pieces(outs: list[TextOut]) -> list[Piece]:
    if len(outs) == 1 or outs[0].alone:
        return [Piece(out.id, out.text, out.logprobs) for out in outs]
    logprobs = tuple(logprob for out in outs for logprob in out.logprobs)
    return [Piece(outs[0].id, "".join(out.text for out in outs), logprobs)]


LONG_TEXT = 16_384
"""Characters; a longer text is tokenized by a thread of its own, so that short ones need not wait for it."""


Asked = (
    protocol.Generate | protocol.Embed | protocol.Rerank | protocol.Tokenize | protocol.Detokenize
)


def start_deep(work: Callable[[], None], name: str) -> None:
    """Start a thread that has stack enough for grammars."""
    before = threading.stack_size(STACK)
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    finally:
        threading.stack_size(before)


class Texts:
    """The threads that turn texts into tokens, and constraints into grammars, before the engine sees them.

    One for short texts, one for long ones, and one for the requests with a constraint, whose grammar takes its time.
    """

    def __init__(self, model: Model, engine: Engine, outbox: Outbox) -> None:
        self._model, self._engine, self._outbox = model, engine, outbox
        self._short: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._long: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._constrained: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self._grammars = Grammars(model.token_table)
        self._lock = threading.Lock()
        self._pending: set[int] = set()  # ids whose texts are not tokenized yet
        for name, inbox in (("short texts", self._short), ("long texts", self._long)):
            threading.Thread(target=self._run, args=(inbox,), name=name, daemon=True).start()
        start_deep(lambda: self._run(self._constrained), "constraints")

    def put(self, frame: Asked) -> None:
        """Queue a text; the engine or the daemon gets what it becomes."""
        match frame:
            case (
                protocol.Generate(job=Generation(prompt=given))
                | protocol.Tokenize(text=given)
                | protocol.Detokenize(tokens=given)
            ):
                size = len(given)
            case protocol.Embed(job=Embedding(inputs=inputs)) | protocol.Rerank(documents=inputs):
                size = sum(map(len, inputs))
        with self._lock:
            self._pending.add(frame.id)
        if isinstance(frame, protocol.Generate) and frame.job.constraint is not None:
            self._constrained.put(frame)
        else:
            (self._long if size > LONG_TEXT else self._short).put(frame)

    def cancel(self, id: int) -> None:
        """Forget a text that waits; what is past this is the engine's to cancel."""
        with self._lock:
            waiting = id in self._pending
            self._pending.discard(id)
        if not waiting:
            self._engine.cancel(id)

    def _run(self, inbox: queue.SimpleQueue[Asked]) -> None:
        while True:
            frame = inbox.get()
            try:
                if frame.id in self._pending:
                    self._handle(frame)
            except InvalidRequest as error:
                self._outbox.send(protocol.Failed(frame.id, "invalid", str(error)))
            except Exception as error:
                message = f"{type(error).__name__}: {error}"
                self._outbox.send(protocol.Failed(frame.id, "internal", message))
            with self._lock:
                self._pending.discard(frame.id)
            if inbox is not self._short:
                self._outbox.send(protocol.Working())

    def _handle(self, frame: Asked) -> None:
        match frame:
            case protocol.Generate(job=Generation(prompt=prompt)) if is_far_too_long(
                self._model, prompt
            ):
                words = (
                    f"the prompt is longer than the context: {len(prompt)} characters,"
                    f" the context has {self._model.n_ctx} tokens; shorten the prompt"
                )
                self._outbox.send(protocol.Failed(frame.id, "too_long", words))
            case protocol.Generate():
                self._submit(self._sequence(frame.id, frame.job))
            case protocol.Embed():
                self._submit(self._texts_to_embed(frame.id, frame.job))
            case protocol.Rerank(query=query):
                pairs = enumerate(frame.documents)
                inputs = [pair_tokens(self._model, query, text, place) for place, text in pairs]
                self._submit(Job(frame.id, inputs, "rank", normalize=False))
            case protocol.Tokenize():
                tokens = self._model.tokenize(frame.text, frame.add_special)
                self._outbox.send(protocol.Tokens(frame.id, tuple(tokens)))
            case protocol.Detokenize():
                self._outbox.send(protocol.Text(frame.id, self._model.detokenize(frame.tokens)))

    def _submit(self, request: Sequence | Job) -> None:
        with self._lock:  # a cancel comes before this, or finds it in the engine
            if request.id in self._pending:
                self._pending.discard(request.id)
                self._engine.submit(request)

    def _texts_to_embed(self, id: int, job: Embedding) -> Job:
        model = self._model
        longest = model.longest_input if job.n_ctx is None else job.n_ctx
        longest = min(longest, model.longest_input)
        inputs = [
            input_tokens(model, given, place, longest, job.truncate)
            for place, given in enumerate(job.inputs)
        ]
        return Job(id, inputs, dimensions=job.dimensions, normalize=job.normalize)

    def _sequence(self, id: int, job: Generation) -> Sequence:
        model = self._model
        if not model.generates:
            raise InvalidRequest("the model does not support generate, it only embeds")
        tokens = prompt_tokens(model, job.prompt)
        for token, _ in job.logit_bias:
            if not 0 <= token < model.n_vocab:
                raise InvalidRequest(f"logit_bias: token {token} is not in the model's vocabulary")
        n_whole = len(tokens)
        n_ctx = min(job.n_ctx or model.n_ctx, model.n_ctx)
        if job.truncate and n_whole >= n_ctx:
            tokens = truncated(tokens, n_ctx, job.num_keep, model.adds_bos)
        return Sequence(
            id,
            tokens,
            job,
            n_truncated=n_whole - len(tokens),
            grammar=self._grammar(job.constraint),
            think_end=tuple(model.tokenize(job.think_end, add_special=False)),
            shown=frozenset(
                control
                for written in job.shown
                if (control := model.control_token(written)) is not None
            ),
        )

    def _grammar(self, constraint: Constraint | None) -> Matcher | None:
        if constraint is None:
            return None
        matcher = self._grammars.compile(constraint)
        for warning in matcher.warnings:
            print(f"constraint: {warning}"[:300], file=sys.stderr, flush=True)
        return matcher


def read_frames(fd: int, reader: protocol.FrameReader) -> list[Frame]:
    """The next frames from a pipe; empty at its end."""
    while data := os.read(fd, 1 << 16):
        if frames := list(reader.feed(data)):
            return frames
    return []


def load(plan: LoadPlan, outbox: Outbox) -> Model:
    """Load the model of the first frame, reporting progress in steps of a hundredth."""
    reported = -1

    def progress(fraction: float) -> None:
        nonlocal reported
        if int(fraction * 100) > reported:
            reported = int(fraction * 100)
            outbox.send(protocol.Loading(fraction))

    model = Model(plan, progress, lambda line: print(line, file=sys.stderr, flush=True))
    if plan.warm_up:
        model.warm_up()
    if plan.embeds:
        model.pooled(model.pooling)
    return model


def quantized(job: protocol.Quantize, outbox: Outbox) -> int:
    """Do the one job of a child that quantizes; the exit status."""

    def end_with_daemon() -> None:
        while os.read(0, 1 << 16):
            pass
        os._exit(0)

    threading.Thread(target=end_with_daemon, name="stdin", daemon=True).start()
    try:
        quantize(
            Path(job.source),
            Path(job.target),
            job.number,
            lambda fraction: outbox.send(protocol.Loading(fraction)),
        )
        outbox.send(protocol.Quantized())
    except OllamapyError as error:
        outbox.send(protocol.Failed(0, "load", str(error)))
    outbox.close()
    return 0


def main() -> int:
    """Serve one model until stdin closes or Stop comes; the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the daemon's to handle
    out = os.dup(1)
    os.dup2(2, 1)

    def write(data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(out, view) :]
        except BrokenPipeError:
            os._exit(0)  # the daemon is gone and nobody reads: nothing is left to do for anybody

    reader = protocol.FrameReader("runner")
    frames = read_frames(0, reader)
    if frames and isinstance(frames[0], protocol.Quantize):
        return quantized(frames[0], Outbox(write))
    if not frames or not isinstance(frames[0], protocol.Load):
        return 0
    outbox = Outbox(write)
    plan = frames[0].plan
    try:
        model = load(plan, outbox)
    except OllamapyError as error:
        outbox.send(protocol.Failed(0, "load", str(error)))
        outbox.close()
        return 1
    engine = Engine(model, outbox.add, before_long_step=outbox.flush)
    texts = Texts(model, engine, outbox)
    outbox.send(
        protocol.Ready(
            n_ctx=model.n_ctx,
            n_slots=plan.n_slots,
            gpu_layers=model.gpu_layers,
            n_layers=model.n_layers,
            bos=model.token_text(model.bos),
            eos=model.token_text(model.eos),
            adds_bos=model.adds_bos,
            adds_eos=model.adds_eos,
        )
    )

    def compute() -> None:
        try:
            while True:
                if engine.step():
                    outbox.alive()
        except BaseException as error:
            # A defect of ours: the daemon ends every open request with these words.
            print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(70)

    start_deep(compute, "engine")
    pending = frames[1:]
    while pending or (pending := read_frames(0, reader)):
        for frame in pending:
            match frame:
                case protocol.Stop():
                    os._exit(0)
                case protocol.Cancel():
                    texts.cancel(frame.id)
                case _ if isinstance(frame, Asked):
                    texts.put(frame)
        pending = []
    # The daemon died or closed the pipe. No clean-up: the engine's thread may be deep in C, and the system takes it all.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

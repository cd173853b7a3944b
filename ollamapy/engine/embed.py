"""Which texts are pooled next: requests for vectors, cut into batches that several of them share.

    add() -> tasks, which give their next texts in turn -> running texts -> one batch a step -> vectors -> Vectors

A request with thousands of texts so delays one with a single text by one batch. What makes the vectors comes in as an
argument (``pooled.py``, or a function in tests); the engine decides whether a step embeds or decodes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from ..errors import InvalidRequest, LoadFailed
from .batch import chunk_tokens
from .rows import ABORTED, NO_SLOT, Row

STEP_SECONDS, FIRST_STEP = 0.25, 64
"""How long a step may become while texts are generated, where texts can be cut; its tokens when the speed is not known yet."""


class Pooling(Protocol):
    """What makes vectors; ``engine/pooled.py`` documents each."""

    whole: bool
    n_batch: int
    n_cells: int
    n_sequences: int

    def compute(self, rows: list[Row]) -> int: ...
    def vector(self, id: int) -> Any: ...
    def forget(self, id: int) -> None: ...


@dataclass(slots=True, eq=False)
class EmbedTask:
    """A request: the token ids of its texts, each shorter than the context, and how its vectors are made.

    ``pooling`` as in ``Model.pooled``. ``dimensions``: the first so many numbers of a vector, 0 for all. ``normalize``: vectors
    of length 1. ``vectors`` are float32 in bytes, in the order of the inputs. ``over``: it was dropped, with all its texts.
    """

    id: int
    inputs: list[list[int]]
    pooling: str = ""
    dimensions: int = 0
    normalize: bool = True
    vectors: list[bytes] = field(default_factory=list)
    n_taken: int = 0
    n_done: int = 0
    over: bool = False

    def __post_init__(self) -> None:
        self.vectors = [b""] * len(self.inputs)


@dataclass(slots=True, eq=False)
class _Text:
    """One input in work, in the sequence ``id`` of the context; ``n_past`` of its tokens are computed."""

    task: EmbedTask
    index: int
    id: int = -1
    n_past: int = 0

    @property
    def tokens(self) -> list[int]:
        return self.task.inputs[self.index]


class Vectors(NamedTuple):
    """The good ending of a task: its vectors one after the other, float32 in bytes, and the tokens of each input."""

    id: int
    vectors: bytes
    n_tokens: tuple[int, ...]


class Unembedded(NamedTuple):
    """The bad ending of a task; the kinds are those of ``runner.protocol.Failed``."""

    id: int
    kind: Literal["invalid", "internal"]
    message: str


class Embedder:
    """All tasks of an engine. ``open`` gives the context for a pooling; ``clock`` counts nanoseconds."""

    def __init__(self, open: Callable[[str], Pooling], clock: Callable[[], int]) -> None:
        self._open = open
        self._clock = clock
        self._queues: deque[_Queue] = deque()

    @property
    def busy(self) -> bool:
        """Is there work?"""
        return bool(self._queues)

    def add(self, task: EmbedTask) -> list[Vectors | Unembedded]:
        """Take a task; its ending at once where it cannot begin."""
        if not task.inputs:
            return [Vectors(task.id, b"", ())]
        queue = next((q for q in self._queues if q.pooling == task.pooling), None)
        if queue is None:
            try:
                queue = _Queue(task.pooling, self._open(task.pooling), self._clock)
            except InvalidRequest as error:
                return [Unembedded(task.id, "invalid", str(error))]
            except LoadFailed as error:
                return [Unembedded(task.id, "internal", str(error))]
            self._queues.append(queue)
        queue.tasks.append(task)
        return []

    def drop(self, id: int) -> bool:
        """Forget a task; False when there is none with this id."""
        found = any(queue.drop(id) for queue in self._queues)
        self._tidy()
        return found

    def plan(self, *, brief: bool) -> frozenset[int]:
        """Choose the next batch; the ids of the tasks it computes for. ``brief``: others wait for this step to end."""
        self._queues.rotate(-1)
        return self._queues[0].plan(brief)

    def compute(self) -> list[Vectors | Unembedded]:
        """Compute the batch that was planned; the tasks that it ends."""
        endings = self._queues[0].compute()
        self._tidy()
        return endings

    def _tidy(self) -> None:
        self._queues = deque(queue for queue in self._queues if queue.busy)


class _Queue:
    """The tasks of one pooling."""

    def __init__(self, pooling: str, context: Pooling, clock: Callable[[], int]) -> None:
        self.pooling = pooling
        self.tasks: deque[EmbedTask] = deque()  # with texts that are not in work yet
        self._context = context
        self._clock = clock
        self._again: deque[_Text] = deque()  # started, and put back
        self._running: list[_Text] = []
        self._free = list(range(context.n_sequences - 1, -1, -1))
        self._batch: list[tuple[_Text, int]] = []
        self._rate = 0.0

    @property
    def busy(self) -> bool:
        return bool(self.tasks or self._running or self._again)

    def drop(self, id: int) -> bool:
        texts = [text for text in (*self._running, *self._again) if text.task.id == id]
        tasks = [task for task in self.tasks if task.id == id]
        for text in texts:
            self._end(text)
        for task in tasks:
            self.tasks.remove(task)
        for task in (*tasks, *(text.task for text in texts)):
            task.over = True
        return bool(texts or tasks)

    # ---- the next batch --------------------------------------------------------------------------------------------

    def plan(self, brief: bool) -> frozenset[int]:
        room = self._context.n_batch
        if brief:
            room = min(room, chunk_tokens(self._rate, STEP_SECONDS, FIRST_STEP))
        self._batch = []
        for text in self._running:
            room = self._add(text, room)
        while room > 0 and self._free and (next := self._next()) is not None:
            if not self._fits(next, room):
                break
            self._take(next)
            room = self._add(next, room)
        return frozenset(text.task.id for text, _ in self._batch)

    def _add(self, text: _Text, room: int) -> int:
        """Put what fits of a text into the batch, all of it if it must be whole; the room that is left."""
        left = len(text.tokens) - text.n_past
        n = left if self._context.whole else min(left, room)
        if n > 0:
            self._batch.append((text, n))
        return room - n

    def _next(self) -> _Text | None:
        if self._again:
            return self._again[0]
        return _Text(self.tasks[0], self.tasks[0].n_taken) if self.tasks else None

    def _fits(self, text: _Text, room: int) -> bool:
        """Is there a place for it? The first one always fits, also a whole one that is longer than a batch."""
        if not self._running:
            return True
        held = sum(len(other.tokens) for other in self._running)
        n = len(text.tokens)
        return n <= room if self._context.whole else held + n <= self._context.n_cells

    def _take(self, text: _Text) -> None:
        """Start a text; the next one is another task's."""
        if self._again:
            self._again.popleft()
        else:
            task = self.tasks.popleft()
            task.n_taken += 1
            if task.n_taken < len(task.inputs):
                self.tasks.append(task)
        text.id = self._free.pop()
        self._running.append(text)

    # ---- computing it ----------------------------------------------------------------------------------------------

    def compute(self) -> list[Vectors | Unembedded]:
        began = self._clock()
        context = self._context
        rows: list[Row] = []
        for text, n in self._batch:
            start, end = text.n_past, text.n_past + n
            rows.append((text.id, start, text.tokens[start:end], end == len(text.tokens)))
        status = context.compute(rows)
        if status == 0:
            self._measure(sum(n for _, n in self._batch), self._clock() - began)
            return self._commit()
        if status == ABORTED:
            self._put_back([text for text, _ in self._batch])
            return []
        if status == NO_SLOT and len(self._running) > 1:
            self._put_back(self._running[1:])  # the oldest has the cache for itself
            return []
        return self._fail({text.task.id for text, _ in self._batch}, status)

    def _commit(self) -> list[Vectors | Unembedded]:
        endings: list[Vectors | Unembedded] = []
        for text, n in self._batch:
            task = text.task
            if task.over:
                continue
            text.n_past += n
            if text.n_past < len(text.tokens):
                continue
            vector = self._context.vector(text.id)
            try:
                task.vectors[text.index] = finished(vector, task.dimensions, task.normalize)
            except InvalidRequest as error:
                self.drop(task.id)
                endings.append(Unembedded(task.id, "invalid", str(error)))
                continue
            self._end(text)
            task.n_done += 1
            if task.n_done == len(task.inputs):
                counts = tuple(len(tokens) for tokens in task.inputs)
                endings.append(Vectors(task.id, b"".join(task.vectors), counts))
        return endings

    def _end(self, text: _Text) -> None:
        """A text leaves, and its sequence is free."""
        if text in self._again:
            self._again.remove(text)
            return
        self._running.remove(text)
        self._release(text)

    def _release(self, text: _Text) -> None:
        self._context.forget(text.id)
        self._free.append(text.id)
        text.id, text.n_past = -1, 0

    def _put_back(self, texts: list[_Text]) -> None:
        """To be computed from their beginning, later but before all others."""
        for text in reversed(texts):
            self._running.remove(text)
            self._release(text)
            self._again.appendleft(text)

    def _fail(self, ids: set[int], status: int) -> list[Vectors | Unembedded]:
        words = f"llama.cpp could not compute the embeddings (status {status})"
        for id in ids:
            self.drop(id)
        return [Unembedded(id, "internal", words) for id in sorted(ids)]

    def _measure(self, n: int, elapsed: int) -> None:
        """Tokens a second, as a mean that follows changes."""
        if elapsed > 0:
            rate = n * 1e9 / elapsed
            self._rate = (self._rate + rate) / 2 if self._rate else rate


def finished(vector: Any, dimensions: int, normalize: bool) -> bytes:
    """A vector in the task's form: its first numbers, of length 1, as float32 in bytes.

    Ollama normalises, cuts and normalises again, which is the same. Raises InvalidRequest where a number is none.
    """
    import numpy

    values = numpy.asarray(vector, numpy.float64)
    if not numpy.isfinite(values).all():
        raise InvalidRequest("embedding contains NaN or Inf values")
    if 0 < dimensions < len(values):
        values = values[:dimensions]
    length = float(numpy.sqrt((values * values).sum())) if normalize else 0.0
    if length > 0:
        values = values / length
    return values.astype(numpy.float32).tobytes()


# ---- texts as token ids ----------------------------------------------------------------------------------------------


class Vocabulary(Protocol):
    """What of a model turns texts into inputs; ``engine/llama.py`` documents each."""

    n_vocab: int
    longest_input: int

    def tokenize(
        self, text: str, add_special: bool = True, parse_special: bool = True
    ) -> list[int]: ...
    def detokenize(self, tokens: list[int]) -> str: ...
    def n_closing(self) -> int: ...
    def rerank_tokens(self, query: str, document: str) -> list[int]: ...


def input_tokens(
    model: Vocabulary, given: str | tuple[int, ...], place: int, longest: int, truncate: bool
) -> list[int]:
    """The token ids of the input at ``place``, at most ``longest``. Raises InvalidRequest.

    A text that is too long loses its end, but not the token that closes every text (BERT's [SEP], for example). Of a very long one
    only the beginning is looked at.
    """
    if isinstance(given, str):
        tokens = _beginning(model, given, longest) if truncate else model.tokenize(given)
    else:
        tokens = list(given)
        if any(not 0 <= token < model.n_vocab for token in tokens):
            raise InvalidRequest(f"input[{place}] has a token that is not in the vocabulary")
    if not tokens:
        raise InvalidRequest(f"input[{place}] has no tokens, give it a text or leave it out")
    if len(tokens) <= longest:
        return tokens
    if not truncate:
        raise InvalidRequest(
            f"the input length exceeds the context length: input[{place}] has {len(tokens)} tokens,"
            f" at most {longest} fit; shorten it, set truncate or raise num_ctx"
        )
    closing = model.n_closing() if isinstance(given, str) else 0
    if longest <= len(model.tokenize("")):
        raise InvalidRequest("input after truncation exceeds maximum context length, raise num_ctx")
    return tokens[: longest - closing] + tokens[len(tokens) - closing :]


CHARACTERS = 64
"""A text with more characters for each token that fits is not tokenized whole."""


def _beginning(model: Vocabulary, text: str, longest: int) -> list[int]:
    """The tokens of a text, or of so much of it as is sure to be too long."""
    part = CHARACTERS * max(longest, 16)
    while len(text) > part:
        tokens = model.tokenize(text[:part])
        if len(tokens) > longest + CHARACTERS:
            return tokens
        part *= 2
    return model.tokenize(text)


def pair_tokens(model: Vocabulary, query: str, document: str, place: int) -> list[int]:
    """A query and a document in a reranker's form; a document that does not fit loses its end. Raises InvalidRequest."""
    longest = model.longest_input
    kept = model.tokenize(document[: CHARACTERS * longest], False, False)
    tokens = model.rerank_tokens(query, document[: CHARACTERS * longest])
    while len(tokens) > longest and kept:
        del kept[max(len(kept) - (len(tokens) - longest), 0) :]
        tokens = model.rerank_tokens(query, model.detokenize(kept))
    if not tokens or len(tokens) > longest:
        raise InvalidRequest(
            f"the query leaves no room for documents[{place}]: the context has {longest} tokens;"
            " shorten it or raise num_ctx"
        )
    return tokens

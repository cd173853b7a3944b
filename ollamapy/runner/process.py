"""The parent's side of a runner: spawn the child, wait until it is ready, submit, cancel, report a crash, stop.

Owns the ids of its open requests and one child at a time (child.py); a child that faults while it loads is replaced once. Every
open request gets exactly one ending: when the child ends, in whatever way, RunnerCrashed or RunnerError ends them all.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from msgspec.structs import replace

from ..config import child_command
from ..errors import (
    InvalidRequest,
    LoadFailed,
    OllamapyError,
    PromptTooLong,
    RunnerCrashed,
    RunnerError,
    reason,
)
from ..loading import LoadPlan
from ..types import EmbedInputs, Generation, LoadStage, Prompt
from .child import Child, Ending, Spawn
from .frames import Frame
from .kernels import REBUILD, Kernels, is_fault
from .protocol import (
    PROTOCOL,
    CacheFolder,
    Cancel,
    Count,
    Detokenize,
    Done,
    Embed,
    Embedded,
    Failed,
    Forget,
    Forgotten,
    FromRunner,
    Generate,
    Held,
    Load,
    Loading,
    Outgrown,
    Piece,
    Progressed,
    PromptRead,
    Ready,
    Rerank,
    Resize,
    Resized,
    Stop,
    Text,
    Texts,
    Tokenize,
    Tokens,
)

log = logging.getLogger(__name__)

MAX_WAITING = 8 * 1024 * 1024
"""Characters that may wait for a slow client before its request is cancelled; a log probability counts as `LOGPROB` of them."""

MOST_TOKENS, MOST_CHARACTERS = 500_000, 4 * 1024 * 1024
"""Token ids in one answer of `tokenize` or for one `detokenize`, and characters for one `tokenize`: decoding so many token ids takes
the event loop 20 ms, and neither holds up the streams of a runner for long."""

LOGPROB = 64

_FAILURES: Mapping[str, type[OllamapyError]] = {
    "too_long": PromptTooLong,
    "invalid": InvalidRequest,
}
"""Kinds of failed requests; all others are a RunnerError."""


class _Request:
    """One open id: what arrived and was not taken yet, and how it ended."""

    def __init__(self) -> None:
        self.arrived: deque[Frame | Piece | OllamapyError] = deque()
        self.waiting = 0
        self.wake = asyncio.Event()

    def put(self, item: Frame | Piece | OllamapyError) -> None:
        self.arrived.append(item)
        self.wake.set()

    async def take(self) -> Frame | Piece:
        while not self.arrived:
            self.wake.clear()
            await self.wake.wait()
        item = self.arrived.popleft()
        if isinstance(item, OllamapyError):
            raise item
        return item


class RunnerProcess:
    """One child process that serves one model; made on the event loop, which spawns it.

    ``command`` and ``spawn`` are for tests; ``on_progress`` gets the stage and the fraction of the weights, 0 to 1, while the model loads; ``on_outgrown`` gets
    the cells of a slot that a request needs and does not have. A child that
    has work and gives no sign of life for ``stall_timeout`` seconds (None: for ever) is killed.

    ``kernels`` remembers which builds fault. A combination that it does not know is warmed up; a child that faults before
    it is ready is started once more without repacked weights; a later fault makes the combination unknown again.
    """

    def __init__(
        self,
        plan: LoadPlan,
        *,
        command: Sequence[str] | None = None,
        on_progress: Callable[[LoadStage, float], None] | None = None,
        stall_timeout: float | None = None,
        kernels: Kernels | None = None,
        spawn: Spawn | None = None,
        cache: CacheFolder | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._command = list(command or child_command("ollamapy.runner"))
        self._spawn_process = spawn
        self._kernels = kernels
        self._cache = cache
        self.on_progress = on_progress
        self.on_outgrown: Callable[[int], None] = lambda n_cells: None
        self._stall_timeout = stall_timeout
        self._ids = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._ready: asyncio.Future[Ready] = loop.create_future()
        self._exited: asyncio.Future[Ending] = loop.create_future()
        self._stopping = False
        self.held = 0
        """Bytes of memory that its saved prefixes take, about."""
        works = kernels.work(plan.tensor_types) if kernels is not None else True
        extra_bufts = plan.extra_bufts and works is not False
        self.plan = replace(plan, extra_bufts=extra_bufts, warm_up=extra_bufts and works is None)
        self._child = self._spawn()
        self._serving = loop.create_task(self._serve(), name="runner")
        self._serving.add_done_callback(self._served)

    def _spawn(self) -> Child:
        """A child that loads ``self.plan``."""
        self._last_sign = time.monotonic()
        child = Child(
            self._command,
            FromRunner,
            self._frame_arrived,
            name="runner",
            farewell=Stop(),
            spawn=self._spawn_process,
        )
        child.send(Load(self.plan, self._cache))
        return child

    @property
    def pid(self) -> int | None:
        """The child's process id; None before it is spawned."""
        return self._child.pid

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of the child's stderr."""
        return self._child.tail

    @property
    def in_flight(self) -> int:
        """How many requests are open."""
        return len(self._requests)

    # ---- use -------------------------------------------------------------------------------------------------------

    async def started(self) -> None:
        """Wait until the child is spawned and has its Load, or cannot be."""
        await self._child.started()

    async def ready(self) -> Ready:
        """Wait until the model is loaded; how it is loaded now. Raises LoadFailed, RunnerCrashed, or RunnerError (no process)."""
        return await asyncio.shield(self._ready)

    async def generate(
        self, generation: Generation
    ) -> AsyncGenerator[Progressed | PromptRead | Piece | Done, None]:
        """Continue a prompt: what it waits for, what was read of it, pieces of text, then one Done. Closing the iterator cancels the request.

        Raises PromptTooLong, InvalidRequest (an invalid constraint) and RunnerCrashed.
        """
        id, request = self._open()
        try:
            self._child.send(Generate(id, generation))
            while True:
                item = await request.take()
                if isinstance(item, Piece):
                    request.waiting -= _weight(item)
                    yield item
                elif isinstance(item, Progressed | PromptRead):
                    yield item
                elif isinstance(item, Done):
                    yield item
                    return
        finally:
            self._close(id)

    async def embed(self, inputs: EmbedInputs) -> Embedded:
        """A vector for each input. Cancelling this cancels the work.

        Raises InvalidRequest (an input that is too long too) and RunnerError.
        """
        id, request = self._open()
        answer = await self._ask(id, request, Embed(id, inputs))
        assert isinstance(answer, Embedded)
        return answer

    async def rerank(self, query: str, documents: tuple[str, ...]) -> Embedded:
        """The scores of documents. Raises InvalidRequest for a model that has no head for it, and as :meth:`embed`."""
        id, request = self._open()
        answer = await self._ask(id, request, Rerank(id, query, documents))
        assert isinstance(answer, Embedded)
        return answer

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]:
        """The token ids of a text, with BOS and the like if ``add_special``. Raises InvalidRequest for more than MOST_TOKENS, and
        for more than MOST_CHARACTERS."""
        if len(text) <= MOST_CHARACTERS:
            tokens, count = await self.tokens_within(text, MOST_TOKENS, add_special)
            if len(tokens) == count:
                return tokens
        raise InvalidRequest(
            f"the text is too long to be tokenized at once: {len(text):,} characters; send it in parts"
        )

    async def tokens_within(
        self, text: str, most: int, add_special: bool = True
    ) -> tuple[tuple[int, ...], int]:
        """The token ids of a text, none if they are more than ``most``, and their number (about right for a text of more than
        4 million characters, which has no ids either)."""
        id, request = self._open()
        answer = await self._ask(id, request, Tokenize(id, text, most, add_special))
        assert isinstance(answer, Tokens)
        return answer.tokens, answer.count

    async def count_tokens(self, prompt: Prompt) -> int:
        """The number of tokens of a prompt, whose files are not decoded for it. Raises InvalidRequest for a file that cannot be read."""
        id, request = self._open()
        answer = await self._ask(id, request, Count(id, prompt))
        assert isinstance(answer, Tokens)
        return answer.count

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids. Raises InvalidRequest for ids outside the vocabulary, and for more than MOST_TOKENS."""
        if len(tokens) > MOST_TOKENS:
            raise InvalidRequest(
                f"{len(tokens):,} tokens are too many to be made a text at once, at most {MOST_TOKENS:,}"
            )
        id, request = self._open()
        answer = await self._ask(id, request, Detokenize(id, tokens))
        assert isinstance(answer, Text)
        return answer.text

    async def forget(self) -> None:
        """Make the runner forget everything that was computed of prompts that have ended."""
        id, request = self._open()
        await self._ask(id, request, Forget(id))

    async def resize(self, plan: LoadPlan) -> Ready:
        """Make the child's context anew for a plan with another size; what is loaded then. Requests go on meanwhile.

        Raises RunnerError: the context is as it was.
        """
        plan = replace(plan, extra_bufts=self.plan.extra_bufts, warm_up=self.plan.warm_up)
        id, request = self._open()
        answer = await self._ask(id, request, Resize(id, plan))
        assert isinstance(answer, Resized)
        ready = replace(await self.ready(), n_ctx=answer.n_ctx, n_slots=answer.n_slots)
        self.plan = plan
        self._ready = asyncio.get_running_loop().create_future()
        self._ready.set_result(ready)
        return ready

    async def wait(self) -> int | None:
        """The child's exit code, once it has ended (negative: a signal; None: there was no process, or it cannot be killed)."""
        return (await asyncio.shield(self._exited)).code

    async def stop(self, grace: float = 5.0) -> None:
        """Ask the child to exit and, each after at most ``grace`` seconds, terminate and kill it; returns when it is gone."""
        self._stopping = True
        await self._child.stop(grace)
        await self.wait()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _open(self) -> tuple[int, _Request]:
        if self._exited.done():
            raise self._crash(self._exited.result())
        if not self._requests:
            self._last_sign = time.monotonic()
        id = next(self._ids)
        request = self._requests[id] = _Request()
        return id, request

    def _close(self, id: int) -> None:
        """Cancel a request that has no ending yet."""
        if self._requests.pop(id, None) is not None:
            self._child.send(Cancel(id))

    async def _ask(self, id: int, request: _Request, frame: Frame) -> Frame | Piece:
        try:
            self._child.send(frame)
            return await request.take()
        finally:
            self._close(id)

    async def _serve(self) -> Ending:
        """How the child ended; one that faults in its warm-up gets a second try."""
        ending = await self._watched(self._child)
        faulted = is_fault(ending.code)
        if faulted and self.plan.warm_up and not self._ready.done() and not self._stopping:
            log.warning("the runner faulted while it loaded, trying without its fastest kernels")
            self.plan = replace(self.plan, extra_bufts=False)
            self._child = self._spawn()
            ending = await self._watched(self._child)
        elif faulted and self._kernels is not None:
            self._kernels.forget(self.plan.tensor_types)
        return ending

    def _served(self, serving: asyncio.Task[Ending]) -> None:
        """Settle every waiter. A callback of the task, so that it runs however the task ends."""
        if serving.cancelled():
            ending = Ending(None, self.tail, asyncio.CancelledError("cancelled"))
            self._child.close()
        elif (unforeseen := serving.exception()) is not None:
            log.error("the runner was lost", exc_info=unforeseen)
            ending = Ending(None, self.tail, unforeseen)
        else:
            ending = serving.result()
        self._child.kill()  # without effect on one that has ended
        error = self._crash(ending)
        self._exited.set_result(ending)
        if not self._ready.done():
            self._ready.set_exception(error)
        self._ready.exception()  # looked at: asyncio warns about failures that no one has seen
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.put(error)

    async def _watched(self, child: Child) -> Ending:
        """Wait for a child's end, and kill it when it stalls."""
        watch = asyncio.create_task(self._watch(child), name="watch runner")
        try:
            return await child.wait()
        finally:
            watch.cancel()

    async def _watch(self, child: Child) -> None:
        """Kill a child that has work and gives no sign of life."""
        while (limit := self._stall_timeout) is not None:
            silent = time.monotonic() - self._last_sign
            busy = bool(self._requests) or not self._ready.done()
            if busy and silent > limit:
                child.kill(TimeoutError(f"no sign of life for {limit:g} s"))
                return
            await asyncio.sleep(max(limit - silent, limit / 10) if busy else limit / 2)

    def _frame_arrived(self, frame: Frame) -> None:
        self._last_sign = time.monotonic()
        match frame:
            case Texts():
                for piece in frame.pieces:
                    self._piece_arrived(piece)
            case Progressed() | PromptRead():
                if request := self._requests.get(frame.id):
                    request.put(frame)
            case Done() | Embedded() | Tokens() | Text() | Forgotten() | Resized():
                if request := self._requests.pop(frame.id, None):
                    request.put(frame)
            case Failed(id=0):
                if not self._ready.done():
                    self._ready.set_exception(LoadFailed(frame.message))
            case Failed():
                if request := self._requests.pop(frame.id, None):
                    request.put(_FAILURES.get(frame.kind, RunnerError)(frame.message))
            case Loading():
                if self.on_progress is not None:
                    self.on_progress(frame.stage, frame.fraction)
            case Held():
                self.held = frame.size
            case Outgrown():
                self.on_outgrown(frame.n_cells)
            case Ready() if not self._ready.done():
                self._ready_arrived(frame)

    def _ready_arrived(self, frame: Ready) -> None:
        if frame.protocol == PROTOCOL:
            self._ready.set_result(frame)
            self._note_outcome()
            return
        self._ready.set_exception(
            LoadFailed(
                f"the runner speaks protocol {frame.protocol}, this daemon {PROTOCOL};"
                " restart it: ollamapy daemon restart"
            )
        )

    def _note_outcome(self) -> None:
        """The child is ready: a warm-up has shown that its kernels work; a second try, that they do not."""
        if self._kernels is None or not self.plan.warm_up:
            return
        self._kernels.remember(self.plan.tensor_types, works=self.plan.extra_bufts)
        if not self.plan.extra_bufts:
            log.warning(REBUILD)

    def _piece_arrived(self, piece: Piece) -> None:
        request = self._requests.get(piece.id)
        if request is None:
            return
        request.waiting += _weight(piece)
        if request.waiting > MAX_WAITING:
            self._close(piece.id)
            request.arrived.clear()
            request.put(RunnerError("the client reads too slowly, its answer was given up"))
            return
        request.put(piece)

    def _crash(self, ending: Ending) -> RunnerError:
        """The error of everything that was open when the child ended."""
        tail = "\n".join(ending.tail)
        if self._stopping:
            return RunnerCrashed("the model was stopped while it answered", ending.code, tail)
        if not ending.spawned and ending.error is not None:
            return RunnerError(f"a runner process cannot be started: {reason(ending.error)}")
        words = f"the model runner ended {ending.how}{ending.last_line}; see the log: ollamapy daemon logs"
        return RunnerCrashed(words, ending.code, tail)


def _weight(piece: Piece) -> int:
    """How much of `MAX_WAITING` a piece takes."""
    if not piece.logprobs:
        return 1 + len(piece.text)
    return (
        1 + len(piece.text) + LOGPROB * sum(1 + len(each.top_logprobs) for each in piece.logprobs)
    )

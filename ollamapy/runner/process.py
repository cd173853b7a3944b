"""The parent's side of a runner: spawn the child, wait until it is ready, submit, cancel, report a crash, stop.

Owns one child, its pipes and the ids of its open requests. The child is started in the constructor, without an event loop, so
that ``serve`` can start it before it imports anything heavy; the pipes are attached to the running loop at the first await.
Every open request gets exactly one ending: a child that dies, whatever the way, ends them all with RunnerCrashed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from msgspec.structs import replace

from ..config import child_command, environment
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
from ..types import Embedding, Generation
from .protocol import (
    PROTOCOL,
    Cancel,
    Detokenize,
    Done,
    Embed,
    Embedded,
    Failed,
    Frame,
    FrameReader,
    Generate,
    Load,
    Loading,
    Piece,
    Ready,
    Rerank,
    Stop,
    Text,
    Texts,
    Tokenize,
    Tokens,
    Working,
    encode,
)
from .proven import REBUILD, Proven, is_fault

log = logging.getLogger(__name__)

MAX_WAITING = 8 * 1024 * 1024
"""Characters that may wait for a slow client before its request is cancelled; a log probability counts as `LOGPROB` of them."""

LOGPROB = 64

TAIL_LINES = 20

CLOSE_GRACE = 2.0
"""Seconds that a child which closed its stdout has to exit before it is killed."""

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
    """One child process that serves one model.

    ``command`` is for tests; ``on_progress`` is told the loaded fraction, 0 to 1, while the model loads. A child that
    has work and gives no sign of life for ``stall_timeout`` seconds (None: for ever) is killed.

    ``proven`` remembers which builds fault. A combination that it does not know is warmed up; a child that faults before
    it is ready is started once more without repacked weights; a later fault makes the combination unknown again.
    """

    def __init__(
        self,
        plan: LoadPlan,
        *,
        command: Sequence[str] | None = None,
        on_progress: Callable[[float], None] | None = None,
        stall_timeout: float | None = None,
        proven: Proven | None = None,
    ) -> None:
        self._command = list(command or child_command("ollamapy.runner"))
        self._proven = proven
        self.on_progress = on_progress
        self._stall_timeout = stall_timeout
        self._last_sign = time.monotonic()
        self._unsent: list[bytes] = []
        self._ids = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._attached: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Ready] | None = None
        self._exited: asyncio.Future[int] | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._stopping = False
        works = proven.works(plan.tensor_types) if proven is not None else True
        extra_bufts = plan.extra_bufts and works is not False
        self._spawn(replace(plan, extra_bufts=extra_bufts, warm_up=extra_bufts and works is None))

    def _spawn(self, plan: LoadPlan) -> None:
        """Start a child and send it what to load."""
        self.plan = plan
        try:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                # abort() would otherwise fork a debugger to print a backtrace
                env=environment() | {"GGML_NO_BACKTRACE": "1"},
            )
        except OSError as error:
            raise RunnerError(f"a runner process cannot be started: {reason(error)}") from error
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(encode(Load(plan)))
            self._child.stdin.flush()
        except BrokenPipeError:
            log.debug(
                "the runner died before it was told what to load"
            )  # its exit is reported by ready()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of the child's stderr."""
        return tuple(self._tail)

    @property
    def in_flight(self) -> int:
        """How many requests are open."""
        return len(self._requests)

    # ---- use -------------------------------------------------------------------------------------------------------

    async def ready(self) -> Ready:
        """Wait until the model is loaded. Raises LoadFailed or RunnerCrashed."""
        self._attach()
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    async def generate(self, job: Generation) -> AsyncGenerator[Piece | Done, None]:
        """Continue a prompt: pieces of text, then one Done. Closing the iterator cancels the request.

        Raises PromptTooLong, InvalidRequest (a constraint that is none) and RunnerCrashed.
        """
        id, request = self._open()
        try:
            self._send(Generate(id, job))
            while True:
                item = await request.take()
                if isinstance(item, Piece):
                    request.waiting -= _weight(item)
                    yield item
                elif isinstance(item, Done):
                    yield item
                    return
        finally:
            if self._requests.pop(id, None) is not None:
                self._send(Cancel(id))

    async def embed(self, job: Embedding) -> Embedded:
        """A vector for each input, as the job says. Cancelling this cancels the work.

        Raises InvalidRequest (an input that is too long too) and RunnerError.
        """
        id, request = self._open()
        answer = await self._ask(id, request, Embed(id, job))
        assert isinstance(answer, Embedded)
        return answer

    async def rerank(self, query: str, documents: tuple[str, ...]) -> Embedded:
        """The scores of documents. Raises InvalidRequest for a model that has no head for it, and as :meth:`embed`."""
        id, request = self._open()
        answer = await self._ask(id, request, Rerank(id, query, documents))
        assert isinstance(answer, Embedded)
        return answer

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]:
        """The token ids of a text, with BOS and the like if ``add_special``."""
        id, request = self._open()
        answer = await self._ask(id, request, Tokenize(id, text, add_special))
        assert isinstance(answer, Tokens)
        return answer.tokens

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        """The text of token ids. Raises InvalidRequest for ids outside the vocabulary."""
        id, request = self._open()
        answer = await self._ask(id, request, Detokenize(id, tokens))
        assert isinstance(answer, Text)
        return answer.text

    async def wait(self) -> int:
        """The child's exit code, once it has ended for whatever reason (negative: a signal)."""
        self._attach()
        assert self._exited is not None
        return await asyncio.shield(self._exited)

    async def stop(self, grace: float = 5.0) -> None:
        """Ask the child to exit, then SIGTERM after ``grace`` seconds, then SIGKILL; returns when it is gone."""
        self._stopping = True
        self._attach()
        self._send(Stop())
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                async with asyncio.timeout(grace):
                    await self.wait()
                return
            except TimeoutError:
                self._kill(number)
        await self.wait()

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        """Connect the pipes to the running loop, once."""
        if self._attached is None:
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            self._exited = loop.create_future()
            self._attached = loop.create_task(self._run(), name=f"runner {self.pid}")

    def _open(self) -> tuple[int, _Request]:
        self._attach()
        assert self._exited is not None
        if self._exited.done():
            raise self._crash(self._exited.result())
        if not self._requests:
            self._last_sign = time.monotonic()
        id = next(self._ids)
        request = self._requests[id] = _Request()
        return id, request

    async def _ask(self, id: int, request: _Request, frame: Frame) -> Frame | Piece:
        try:
            self._send(frame)
            return await request.take()
        finally:
            if self._requests.pop(id, None) is not None:
                self._send(Cancel(id))

    def _send(self, frame: Frame) -> None:
        """Queue a frame; the loop writes it. A child that is gone needs no frames: its exit ends the requests."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(encode(frame))
        elif self._stdin is None and self._exited is not None and not self._exited.done():
            self._unsent.append(encode(frame))

    async def _run(self) -> None:
        """Serve a child until it ends, then end what is open. One that faults while it loads gets a second try."""
        assert self._ready is not None and self._exited is not None
        error: OllamapyError
        try:
            code = await self._serve_child()
            trying = self.plan.warm_up and not self._ready.done() and not self._stopping
            if trying and is_fault(code):
                log.warning(
                    "the runner faulted while it loaded, trying without its fastest kernels"
                )
                self._spawn(replace(self.plan, extra_bufts=False))
                code = await self._serve_child()
            elif is_fault(code) and self._proven is not None:
                self._proven.forget(self.plan.tensor_types)
            error = self._crash(code)
        except (
            OSError,
            OllamapyError,
        ) as failure:  # no second process, no pipes: as if it had died
            self._kill(signal.SIGKILL)
            code = self._child.wait()
            error = RunnerError(f"the model runner was lost: {failure}")
        self._exited.set_result(code)
        if not self._ready.done():
            self._ready.set_exception(error)
        self._ready.exception()  # looked at, so that a failure nobody waits for is no warning of asyncio's
        for request in self._requests.values():
            request.put(error)

    async def _serve_child(self) -> int:
        """Read the child's pipes until both are at their end, and reap it; its exit code."""
        loop = asyncio.get_running_loop()
        child = self._child
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        self._stdin, _ = await loop.connect_write_pipe(asyncio.Protocol, child.stdin)
        self._stdin.write(b"".join(self._unsent))
        self._unsent.clear()
        watch = loop.create_task(self._watch(), name=f"watch runner {self.pid}")
        frames, lines = _Pipe(self._frames_arrived), _Pipe(self._lines_arrived)
        self._reader = FrameReader("daemon")
        self._line = b""
        readers = [
            (await loop.connect_read_pipe(lambda: frames, child.stdout))[0],
            (await loop.connect_read_pipe(lambda: lines, child.stderr))[0],
        ]
        await frames.ended
        watch.cancel()
        code = await self._reap()
        # What a grandchild keeps open must not keep us: the last words have a moment to arrive.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await lines.ended
        for transport in (*readers, self._stdin):
            transport.close()
        self._stdin = None
        return code

    async def _watch(self) -> None:
        """Kill a child that has work and gives no sign of life."""
        assert self._ready is not None
        while (limit := self._stall_timeout) is not None:
            silent = time.monotonic() - self._last_sign
            busy = bool(self._requests) or not self._ready.done()
            if busy and silent > limit:
                self._tail.append(f"error: no sign of life for {limit:g} s")
                self._kill(signal.SIGKILL)
                return
            await asyncio.sleep(max(limit - silent, limit / 10) if busy else limit / 2)

    async def _reap(self) -> int:
        """The exit code; a child that closed its stdout but lives on is of no use and is killed after a moment."""
        deadline = time.monotonic() + CLOSE_GRACE
        while (code := self._child.poll()) is None:
            if time.monotonic() > deadline:
                self._kill(signal.SIGKILL)
            await asyncio.sleep(0.002)
        return code

    def _frames_arrived(self, data: bytes) -> None:
        self._last_sign = time.monotonic()
        try:
            for frame in self._reader.feed(data):
                self._frame_arrived(frame)
        except ValueError as error:
            self._tail.append(f"error: the runner sent what is no frame: {error}")
            self._kill(signal.SIGKILL)

    def _frame_arrived(self, frame: Frame) -> None:
        assert self._ready is not None
        match frame:
            case Texts():
                for piece in frame.pieces:
                    self._piece_arrived(piece)
            case Done() | Embedded() | Tokens() | Text():
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
                    self.on_progress(frame.fraction)
            case Working():
                pass  # its arrival is all it says
            case Ready():
                if self._ready.done():
                    return
                if frame.protocol != PROTOCOL:
                    self._ready.set_exception(
                        LoadFailed(
                            f"the runner speaks protocol {frame.protocol}, this daemon {PROTOCOL};"
                            " restart it: ollamapy daemon restart"
                        )
                    )
                else:
                    self._ready.set_result(frame)
                    self._note_outcome()

    def _note_outcome(self) -> None:
        """The child is ready: a warm-up has shown that its kernels work; a second try, that they do not."""
        if self._proven is None or not self.plan.warm_up:
            return
        self._proven.remember(self.plan.tensor_types, works=self.plan.extra_bufts)
        if not self.plan.extra_bufts:
            log.warning(REBUILD)

    def _piece_arrived(self, piece: Piece) -> None:
        request = self._requests.get(piece.id)
        if request is None:
            return
        request.waiting += _weight(piece)
        if request.waiting > MAX_WAITING:
            del self._requests[piece.id]
            self._send(Cancel(piece.id))
            request.arrived.clear()
            request.put(RunnerError("the client reads too slowly, its answer was given up"))
            return
        request.put(piece)

    def _lines_arrived(self, data: bytes) -> None:
        *lines, self._line = (self._line[-65536:] + data).split(b"\n")
        for raw in lines:
            if line := raw.decode(errors="replace").strip():
                self._tail.append(line[:500])
                log.info("runner %d: %s", self.pid, line[:500])

    def _crash(self, code: int) -> RunnerCrashed:
        how = f"by signal {signal_name(-code)}" if code < 0 else f"with exit status {code}"
        tail = "\n".join(self._tail)
        last = f": {self._tail[-1]}" if self._tail else ""
        if self._stopping:
            return RunnerCrashed("the model was stopped while it answered", code, tail)
        return RunnerCrashed(
            f"the model runner ended {how}{last}; see the log: ollamapy daemon logs", code, tail
        )

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, number)


class _Pipe(asyncio.Protocol):
    """Hands on what arrives; ``ended`` resolves at end of file."""

    def __init__(self, arrived: Callable[[bytes], None]) -> None:
        self._arrived = arrived
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._arrived(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def _weight(piece: Piece) -> int:
    """How much of `MAX_WAITING` a piece takes."""
    if not piece.logprobs:
        return len(piece.text)
    return len(piece.text) + LOGPROB * sum(1 + len(each.top_logprobs) for each in piece.logprobs)


def signal_name(number: int) -> str:
    """SIGSEGV for 11; the number itself where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

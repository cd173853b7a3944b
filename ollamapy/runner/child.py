"""One child process: spawned, spoken to in frames, stopped, reaped. Every child of the daemon is one of these.

A child ends in many ways: it exits, a signal ends it, a pipe breaks, it sends bytes that are no frame, it closes its stdout and
lives on, it ignores every request to stop, it is never spawned, the task that spawns it is cancelled. All of them lead to the
state ENDED, which settles :meth:`Child.wait` exactly once:

    STARTING --spawned--> RUNNING --exit--> EXITED --drained--> ENDED
    RUNNING  --stop--> STOPPING --exit--> EXITED,  or --given up--> ENDED
    STARTING --stop--> DOOMED --spawned--> STOPPING
    STARTING, DOOMED --not spawned--> ENDED

Stopping is a ladder: ask (a frame), end stdin, terminate, kill, give up, each rung with its grace. The process is reaped by
asyncio, which owns its handle; nothing here sends a signal to a number, and after the exit nothing is signalled at all.

Children read hostile input (weights, templates, folders of models), so they get a minimal environment, without tokens and
proxies. On Windows asyncio spawns the process with overlapped pipes, terminate and kill are the same call, and no signal is
named; ``tests/runner/test_child.py`` checks that with a fake platform. No part of this was run on Windows itself.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, cast

from ..config import child_environment
from ..errors import reason
from .frames import MAX_FRAME, Frame, FrameReader, encode

log = logging.getLogger(__name__)

SPAWN_SECONDS = 10.0
"""For the system to start a process and connect its pipes; not for the program in it."""

CLOSE_GRACE = 2.0
"""Seconds that a child which closed stdin or stdout has to exit before it is killed."""

EOF_GRACE = 1.0
"""Seconds between the end of stdin and SIGTERM."""

KILL_GRACE = 10.0
"""Seconds that a killed process may hang in the system before it is given up."""

DRAIN_GRACE = 1.0
"""Seconds for the last bytes of a process that has exited: a process of its own may keep the pipes open."""

TAIL_LINES = 20
LINE_LENGTH = 500
_WRITE = 256 * 1024  # bytes a call: a long frame must not be copied in one go
_LONGEST_PART = 64 * 1024  # bytes kept of a line that has no end yet

Spawn = Callable[..., Awaitable[Any]]
"""``loop.subprocess_exec``, or what stands for it in a test."""


class State(Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    DOOMED = "doomed"  # stopped before it was spawned
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"  # reaped; its last frames and lines may still be in the pipes
    ENDED = "ended"


class Event(Enum):
    """What happens to a child."""

    SPAWNED = "spawned"
    NOT_SPAWNED = "not spawned"
    STOP = "stop"
    EXIT = "exit"
    DRAINED = "drained"
    GIVEN_UP = "given up"


TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    State.STARTING: {
        Event.SPAWNED: State.RUNNING,
        Event.NOT_SPAWNED: State.ENDED,
        Event.STOP: State.DOOMED,
    },
    State.DOOMED: {
        Event.SPAWNED: State.STOPPING,
        Event.NOT_SPAWNED: State.ENDED,
        Event.STOP: State.DOOMED,
    },
    State.RUNNING: {Event.STOP: State.STOPPING, Event.EXIT: State.EXITED},
    State.STOPPING: {
        Event.STOP: State.STOPPING,
        Event.EXIT: State.EXITED,
        Event.GIVEN_UP: State.ENDED,
    },
    State.EXITED: {Event.STOP: State.EXITED, Event.DRAINED: State.ENDED},
    State.ENDED: {
        Event.STOP: State.ENDED,
        Event.SPAWNED: State.ENDED,  # later than SPAWN_SECONDS
        Event.EXIT: State.ENDED,  # of a process that was given up
    },
}


class Rung(IntEnum):
    """The ladder of stopping, from the top down."""

    ASK = 0
    END_OF_STDIN = 1
    TERMINATE = 2
    KILL = 3
    GIVE_UP = 4


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended.

    ``code`` is its exit code, negative for a signal; None where it was not ``spawned``, or cannot be killed. ``tail`` holds the
    last lines of its stderr. ``error`` is what we saw it do: it could not be spawned, or sent what is no frame.
    """

    code: int | None
    tail: tuple[str, ...] = ()
    error: BaseException | None = None
    spawned: bool = True

    @property
    def how(self) -> str:
        """In words, after "it ended"."""
        if self.code is None:
            return "without an exit code"
        if self.code < 0:
            return f"by signal {signal_name(-self.code)}"
        # Windows reports a fault as an exit code with its highest bit set
        return f"with exit status {self.code if self.code < 2**31 else hex(self.code)}"

    @property
    def last_line(self) -> str:
        """ ": " and the last line of stderr, or nothing."""
        return f": {self.tail[-1]}" if self.tail else ""


class Child(asyncio.SubprocessProtocol):
    """One process. It is spawned by a task that the constructor starts; frames sent before that wait.

    ``messages`` is the union of the frames that it may send, ``receive`` gets each of them. ``name`` is for the log.
    ``farewell`` is the frame that asks it to stop. ``environment`` is added to the minimal one. ``spawn`` is for tests.
    """

    def __init__(
        self,
        command: Sequence[str],
        messages: Any,
        receive: Callable[[Frame], None],
        *,
        name: str,
        farewell: Frame | None = None,
        environment: Mapping[str, str] | None = None,
        limit: int = MAX_FRAME,
        log_level: int = logging.INFO,
        spawn: Spawn | None = None,
        platform: str = sys.platform,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._command = command
        self._receive = receive
        self._reader = FrameReader(messages, limit)
        self._limit = limit
        self._name = name
        self._farewell = farewell
        self._environment = child_environment() | dict(environment or {})
        self._log_level = log_level
        self._state = State.STARTING
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._outgoing: deque[memoryview] = deque()
        self._paused = False
        self._reading = {1, 2}  # pipes that have not ended
        self._rung: Rung | None = None
        self._grace = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._line = b""
        self._error: BaseException | None = None
        self._code: int | None = None
        self._spawning = self._spawned_by(spawn or self._loop.subprocess_exec, platform)

    @property
    def pid(self) -> int | None:
        """The process id, for the log and for tests; None before the process is there."""
        return self._transport.get_pid() if self._transport is not None else None

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def tail(self) -> tuple[str, ...]:
        """The last lines of its stderr so far."""
        return tuple(self._tail)

    async def started(self) -> None:
        """Wait until the process is there, or it is certain that it will not be."""
        await asyncio.shield(self._started)

    async def wait(self) -> Ending:
        """Wait for the end, whatever it is. Cancelling this leaves the child alone."""
        return await asyncio.shield(self._ended)

    def when_ended(self, callback: Callable[[Ending], None]) -> None:
        """Call back once, soon after the end."""
        self._ended.add_done_callback(lambda ended: callback(ended.result()))

    def send(self, frame: Frame) -> None:
        """Queue a frame. Nothing is sent to a child that is gone: its ending is the answer. Raises FrameTooLong."""
        self.send_encoded(encode(frame, self._limit))

    def send_encoded(self, data: bytes) -> None:
        """Queue a frame that was encoded elsewhere: a long one, in a thread."""
        if self._state not in (State.EXITED, State.ENDED):
            self._outgoing.append(memoryview(data))
            self._write()

    async def stop(self, grace: float = 5.0) -> Ending:
        """Go down the ladder, ``grace`` seconds for each polite rung; returns when the child is gone."""
        self._descend(Rung.END_OF_STDIN if self._farewell is None else Rung.ASK, grace)
        return await self.wait()

    def kill(self, error: BaseException | None = None) -> None:
        """Kill it now, without waiting for its end; ``error`` is the reason."""
        if error is not None and self._error is None:
            self._error = error
            self._tail.append(f"error: {error}"[:LINE_LENGTH])
        self._descend(Rung.KILL, 0.0)

    def close(self) -> None:
        """Kill it and close its pipes at once: for an event loop that is about to end, and will not report the exit."""
        self.kill()
        if self._transport is not None:
            self._transport.close()

    # ---- life ------------------------------------------------------------------------------------------------------

    def _becomes(self, event: Event) -> State:
        """Follow the table. Raises RuntimeError for what cannot happen."""
        following = TRANSITIONS[self._state].get(event)
        if following is None:
            raise RuntimeError(f"{self._name}: {event.value} while {self._state.value}")
        self._state = following
        return following

    def _spawned_by(self, spawn: Spawn, platform: str) -> asyncio.Task[None]:
        task = self._loop.create_task(
            self._spawn(spawn, spawn_options(platform)), name=f"spawn {self._name}"
        )
        # Not a handler in the task: a task that is cancelled before its first step runs none
        task.add_done_callback(self._spawn_returned)
        return task

    async def _spawn(self, spawn: Spawn, options: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SPAWN_SECONDS):
                await spawn(lambda: self, *self._command, env=self._environment, **options)
        except TimeoutError:
            message = f"its pipes were not connected within {SPAWN_SECONDS:g} s"
            raise TimeoutError(message) from None

    def _spawn_returned(self, spawning: asyncio.Task[None]) -> None:
        cancelled = spawning.cancelled()
        error = asyncio.CancelledError("cancelled") if cancelled else spawning.exception()
        if error is None:
            return
        if self._state in (State.STARTING, State.DOOMED):
            self._error = error
            self._becomes(Event.NOT_SPAWNED)
            self._end()
        else:
            self.kill(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process is there and its pipes are connected."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        if self._becomes(Event.SPAWNED) is State.ENDED:
            self._transport.close()
            return
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        log.log(self._log_level, "%s %s is started", self._name, self.pid)
        _resolve(self._started)
        self._write()
        if self._rung is not None:
            self._step(self._rung)

    def process_exited(self) -> None:
        """The process is reaped; what it wrote last may still come."""
        assert self._transport is not None
        code = self._transport.get_returncode()
        if self._becomes(Event.EXIT) is State.EXITED:
            self._code = code
            self._after(DRAIN_GRACE, self._drained)
            if not self._reading:
                self._drained()

    def _drained(self) -> None:
        self._becomes(Event.DRAINED)
        self._end()

    def _end(self) -> None:
        """Settle the waiters, and release the pipes."""
        self._cancel_timer()
        self._outgoing.clear()
        if self._line:
            self._add_line(self._line)
        if self._transport is not None:
            self._transport.close()
        self._stdin = None
        _resolve(self._started)
        spawned = self._transport is not None
        self._ended.set_result(Ending(self._code, self.tail, self._error, spawned))

    # ---- stopping --------------------------------------------------------------------------------------------------

    def _descend(self, rung: Rung, grace: float) -> None:
        """Begin to stop, or go on faster: never up the ladder, never with more patience than before."""
        hurries = self._rung is None or rung > self._rung or grace < self._grace
        self._grace = grace if self._rung is None else min(grace, self._grace)
        self._rung = rung if self._rung is None else max(rung, self._rung)
        if self._becomes(Event.STOP) is State.STOPPING and hurries:
            self._step(self._rung)

    def _step(self, rung: Rung) -> None:
        """Take one rung now, and the next one after its grace."""
        assert self._transport is not None
        self._rung = rung
        graces = {Rung.END_OF_STDIN: min(EOF_GRACE, self._grace), Rung.KILL: KILL_GRACE}
        try:
            match rung:
                case Rung.ASK:
                    assert self._farewell is not None
                    self.send(self._farewell)
                case Rung.END_OF_STDIN if self._stdin is not None:
                    self._stdin.close()
                case Rung.TERMINATE:
                    self._transport.terminate()
                case Rung.KILL:
                    self._transport.kill()
                case Rung.GIVE_UP:
                    log.warning("%s %s cannot be killed, it is left alone", self._name, self.pid)
                    self._becomes(Event.GIVEN_UP)
                    self._end()
                    return
        except ProcessLookupError:
            pass  # it has just exited: asyncio is about to report it
        except OSError as error:
            log.warning("%s %s: %s: %s", self._name, self.pid, rung.name.lower(), reason(error))
        if self._state is State.STOPPING and self._rung is rung:
            self._after(graces.get(rung, self._grace), self._step, Rung(rung + 1))

    def _after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """One timer at a time: for the next rung, or for the end of waiting for the last bytes."""
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, call, *arguments)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    # ---- pipes -----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Give the pipe what it takes now, in pieces."""
        try:
            while (
                self._outgoing
                and not self._paused
                and self._stdin is not None
                and not self._stdin.is_closing()
            ):
                data = self._outgoing.popleft()
                if len(data) > _WRITE:
                    self._outgoing.appendleft(data[_WRITE:])
                self._stdin.write(data[:_WRITE])
        except (
            Exception
        ) as error:  # asyncio reports broken pipes by a callback; this is something else
            self.kill(error)

    def pause_writing(self) -> None:
        """The pipe is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """The child has read some."""
        self._paused = False
        self._write()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Frames on stdout, lines on stderr."""
        if fd == 2:
            self._read_lines(data)
        elif self._error is None and self._state is not State.ENDED:
            self._read_frames(data)

    def _read_frames(self, data: bytes) -> None:
        """Hand on the frames. Whatever fails here, the child is of no further use."""
        try:
            frames = self._reader.feed(data)
        except Exception as error:
            self.kill(ValueError(f"{self._name} sent what is no frame: {error}"))
            return
        try:
            for frame in frames:
                self._receive(frame)
        except Exception as error:
            log.exception("a frame of %s %s cannot be handled", self._name, self.pid)
            self.kill(error)

    def _read_lines(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[-_LONGEST_PART:]
        for line in lines:
            self._add_line(line)

    def _add_line(self, raw: bytes) -> None:
        if line := raw.decode(errors="replace").strip()[:LINE_LENGTH]:
            self._tail.append(line)
            log.log(self._log_level, "%s %s: %s", self._name, self.pid, line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A pipe is at its end, or broke: without stdin or stdout a child cannot work, and it gets a moment to exit."""
        self._reading.discard(fd)
        if self._state is State.EXITED and not self._reading:
            self._drained()
        elif self._state is State.RUNNING and fd != 2:
            self._becomes(Event.STOP)
            self._rung = Rung.TERMINATE
            self._after(CLOSE_GRACE, self._step, Rung.KILL)


def spawn_options(platform: str) -> dict[str, Any]:
    """How a process is spawned such that Ctrl-C in a terminal reaches the daemon alone. ``platform`` is as in ``sys``."""
    if platform == "win32":
        # CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW; the module subprocess has these names on Windows only
        return {"creationflags": 0x00000200 | 0x08000000}
    return {"start_new_session": True}


def signal_name(number: int) -> str:
    """SIGSEGV for 11; the number itself where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""Frames on their way out of the runner: texts merged for a moment, everything else at once, one thread that writes.

engine's thread --events--> add: texts wait for at most 25 ms --> queue --> writer thread: merged, encoded, written
other threads   --frames--> send ------------------------------->
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from ..engine.embed import Vectors
from ..engine.events import Event, Finished, Outgrown, Progressed, PromptRead, Resized, TextOut
from . import protocol
from .frames import Frame, encode
from .protocol import Piece

MERGE_SECONDS = 0.025
SIGN_OF_LIFE_SECONDS = 1.0


class Outbox:
    """Frames on their way to the daemon. The engine's thread merges its texts here; a thread of its own writes.

    ``add``, ``flush``, ``alive`` and ``before_long_step`` are for the engine's thread, ``send`` for any. There is no timer: the engine looks at the
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
        """Send a sign of life, when nothing else was sent for a while."""
        if self._clock() - self._last > SIGN_OF_LIFE_SECONDS:
            self._last = self._clock()
            self._queue.put([protocol.Working()])

    def before_long_step(self) -> None:
        """Send what there is, and a sign of life: the next step may take long."""
        self.flush()
        self.alive()

    def send(self, frame: Frame) -> None:
        """Send a frame at once."""
        self._queue.put([frame])

    def close(self) -> None:
        """Write what is there, then stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (events := self._queue.get()) is not None:
            self._write(b"".join(encode(frame) for frame in merged(events)))


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
        elif isinstance(event, Progressed):
            frames.append(protocol.Progressed(*event))
        elif isinstance(event, PromptRead):
            frames.append(protocol.PromptRead(*event))
        elif isinstance(event, Finished):
            frames.append(protocol.Done(*event))
        elif isinstance(event, Vectors):
            frames.append(protocol.Embedded(*event))
        elif isinstance(event, Resized):
            frames.append(protocol.Resized(*event))
        elif isinstance(event, Outgrown):
            frames.append(protocol.Outgrown(event.n_cells))
        else:
            frames.append(protocol.Failed(*event))
    flush()
    return frames


def _pieces(outs: list[TextOut]) -> list[Piece]:
    if len(outs) == 1 or outs[0].alone:
        return [Piece(out.id, out.text, out.logprobs, out.n_predicted) for out in outs]
    logprobs = tuple(logprob for out in outs for logprob in out.logprobs)
    last = outs[-1]
    return [Piece(last.id, "".join(out.text for out in outs), logprobs, last.n_predicted)]

"""The child's end of the pipes, the same in every child process: frames from stdin, frames to what was stdout.

fd 1 is duplicated for the frames and then points at stderr, so that a stray print, in Python or in C, cannot corrupt them. The
end of stdin means that the daemon is gone. Reads and writes block: a child uses them in threads of its own choice.

On Windows, Python opens the standard descriptors in binary mode, and there is no limit of memory: neither was run there.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from .frames import MAX_FRAME, Frame, FrameReader, encode


class Pipes:
    """Frames in and out. ``messages`` is the union of the frames that the daemon may send."""

    def __init__(self, messages: Any, limit: int = MAX_FRAME) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal belongs to the daemon
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._reader = FrameReader(messages, limit)

    def read(self) -> list[Frame]:
        """The next frames, at least one; empty at the end of stdin. Raises ValueError for bytes that are no frame."""
        while data := os.read(0, 1 << 16):
            if frames := self._reader.feed(data):
                return frames
        return []

    def send(self, frame: Frame) -> None:
        """Write one frame. Raises FrameTooLong."""
        self.write(encode(frame))

    def write(self, data: bytes) -> None:
        """Write encoded frames; ends the process when the daemon no longer reads."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._out, view) :]
        except BrokenPipeError:
            os._exit(0)  # the daemon is gone, so the work has no reader


def end_with_stdin() -> None:
    """Start a thread that ends this process at the end of stdin: for a child that reads nothing after its first frame."""

    def wait() -> None:
        while os.read(0, 1 << 16):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="stdin", daemon=True).start()


def limit_memory(size: int) -> None:
    """Limit the address space of this process to ``size`` bytes, and write no core dump.

    Best effort: Windows has no such limit and macOS does not enforce it.
    """
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    except (ImportError, ValueError, OSError):
        pass  # no limit here: the parent's clock still ends a child that grows without end


def limit_processor(seconds: int) -> None:
    """End this process by a signal once it has used a processor for so long. Best effort: Windows has no such limit."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    except (ImportError, ValueError, OSError):
        pass  # the parent's clock ends it

"""The render child: a model's chat template and messages in, a prompt out, in a process with little
memory and little time.

    daemon -> child   {kind: "jinja", source, messages, bos_token, eos_token, tools, variables}
                      {kind: "go", source, messages, tools, think, prompt, suffix}
    child -> daemon   {ready: true} once, then {text} or {error} for each request, in order

Frames: a 4-byte little-endian length, then JSON in UTF-8. The child ends when its stdin does. It
does not keep time: the parent kills a child that takes too long, and only if the parent has died too
an alarm ends it. See ``daemon/render.py``.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import warnings
from typing import IO, Any

from ..errors import TemplateError

MAX_MEMORY = 512 * 1024 * 1024
"""Bytes of address space. Measured: Python with jinja2 takes 25 MB, a prompt of the largest size
250 MB."""

MAX_DEPTH = 10_000
"""Of Python's stack: a template within a template takes nine calls (see golang.MAX_CALLS)."""

ORPHAN_SECONDS = 10.0
"""Longer than any parent waits."""

MAX_FRAME = 128 * 1024 * 1024
"""Bytes; longer than the longest prompt can be."""

_LENGTH = struct.Struct("<I")


def main() -> None:
    """Limit this process, then answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the daemon handles Ctrl+C
    warnings.simplefilter("ignore")  # a template could fill the daemon's log
    _limit_memory()
    sys.setrecursionlimit(MAX_DEPTH)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not look like a frame

    from . import golang, jinja  # only now: the limit holds for them too

    write_frame(replies, {"ready": True})
    while (request := read_frame(requests)) is not None:
        _alarm(ORPHAN_SECONDS)
        kind, source = request.pop("kind"), request.pop("source")
        try:
            if kind == "go":
                reply = {"text": golang.parse(source).execute(**request)}
            else:
                reply = {"text": jinja.render(source, **request)}
        except TemplateError as error:
            reply = {"error": str(error)}
        except MemoryError:
            reply = {"error": "the model's chat template needs too much memory"}
        _alarm(0)
        write_frame(replies, reply)


def read_frame(stream: IO[bytes]) -> Any:
    """The next frame's value; None where the stream ends, also in the middle of a frame.

    Raises ValueError when the bytes cannot be a frame.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise ValueError(f"frame of {length} bytes")
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


def write_frame(stream: IO[bytes], value: Any) -> None:
    """One frame, flushed. Lone surrogates pass: a message may hold them."""
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def _limit_memory() -> None:
    """Best effort: Windows has no such limit and macOS does not enforce it; there the parent's
    clock must do."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def _alarm(seconds: float) -> None:
    """End this process after ``seconds`` (0: do not), for the case that the daemon died while a
    template loops."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()

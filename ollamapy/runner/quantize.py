"""The parent's side of quantizing: a child process that writes the file while its progress is told.

A child does one file and ends. Cancelling (closing the iterator, or the task that reads it) kills it, and what it has written
is removed; the same happens when the daemon dies, for the child ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from ..config import child_command, environment
from ..errors import RunnerCrashed, RunnerError, reason
from .protocol import Failed, FrameReader, Loading, Quantize, Quantized, encode

_TAIL_LINES = 20


async def quantize(
    source: Path, target: Path, number: int, *, command: Sequence[str] | None = None
) -> AsyncGenerator[float, None]:
    """Write the GGUF `source` at `target` in the type of that number; yields the fraction that is done, 1.0 once it is whole.

    `source` must be in F32, F16 or BF16: llama.cpp refuses to quantize twice. `command` is for tests. Raises
    RunnerError when llama.cpp refuses the file, RunnerCrashed when the child dies. `target` stays only if whole.
    """
    whole = False
    try:
        async with _child(command) as (child, tail):
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write(encode(Quantize(str(source), str(target), number)))
            reader = FrameReader("daemon")
            while not whole and (data := await child.stdout.read(65_536)):
                for frame in reader.feed(data):
                    match frame:
                        case Loading(fraction=fraction) if fraction < 1.0:
                            yield fraction
                        case Failed(message=message):
                            raise RunnerError(message)
                        case Quantized():
                            whole = True
            if not whole:
                code = await child.wait()
                last = f": {tail[-1]}" if tail else ""
                raise RunnerCrashed(
                    f"the process that quantizes ended with status {code}{last}",
                    code,
                    "\n".join(tail),
                )
        yield 1.0
    finally:
        if not whole:
            _remove(target)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _child(
    command: Sequence[str] | None,
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, deque[str]], None]:
    """A child and the last lines of its stderr; it is dead afterwards, whatever happens."""
    try:
        child = await asyncio.create_subprocess_exec(
            *(command or child_command("ollamapy.runner")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            # abort() would otherwise fork a debugger to print a backtrace
            env=environment() | {"GGML_NO_BACKTRACE": "1"},
        )
    except OSError as error:
        raise RunnerError(f"a process to quantize cannot be started: {reason(error)}") from error
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    drain = asyncio.create_task(_keep_tail(child, tail), name=f"log of quantizing {child.pid}")
    try:
        yield child, tail
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
        await drain


async def _keep_tail(child: asyncio.subprocess.Process, tail: deque[str]) -> None:
    assert child.stderr is not None
    rest = b""
    while data := await child.stderr.read(65_536):
        *lines, rest = (rest[-65_536:] + data).split(b"\n")
        tail.extend(line.decode(errors="replace")[:500] for line in lines if line.strip())

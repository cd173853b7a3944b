"""The parent's side of quantizing: which types there are, and a child process that writes the file while its progress is told.

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
from ..errors import InvalidRequest, RunnerCrashed, RunnerError
from .protocol import Failed, FrameReader, Loading, Quantize, Quantized, encode

TYPES = {
    **{"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q6_K": 18},
    **{"Q5_K_M": 17, "Q5_K_S": 16, "Q5_1": 9, "Q5_0": 8},
    **{"Q4_K_M": 15, "Q4_K_S": 14, "Q4_1": 3, "Q4_0": 2, "IQ4_NL": 25, "IQ4_XS": 30, "MXFP4": 38},
    **{"Q3_K_L": 13, "Q3_K_M": 12, "Q3_K_S": 11, "IQ3_M": 27, "IQ3_S": 26},
    **{"Q2_K": 10, "TQ2_0": 37, "TQ1_0": 36, "Q2_0": 41, "Q1_0": 40},
}
"""What llama.cpp can write without further data: names and its numbers (enum llama_ftype), largest first."""

NEED_MATRIX = frozenset(
    {"IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "Q2_K_S", "IQ1_M", "IQ1_S"}
)
"""Types that need an importance matrix, measured on texts, which there is no way to give."""

_ALIASES = {"FP32": "F32", "FP16": "F16", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "Q3_K": "Q3_K_M"}

_TAIL_LINES = 20


def type_name(given: str) -> str:
    """The type that is meant, as GGUF files call it: "q4_K_M" -> "Q4_K_M". Raises InvalidRequest for what is none."""
    name = _ALIASES.get(given.strip().upper(), given.strip().upper())
    if name in NEED_MATRIX:
        raise InvalidRequest(
            f"quantization type {name} needs an importance matrix, which cannot be given;"
            " take Q2_K, Q3_K_S or IQ3_S, or a GGUF of that type"
        )
    if name not in TYPES:
        raise InvalidRequest(
            f"unknown quantization type {given[:40]!r}, one of: {', '.join(TYPES)}"
        )
    return name


async def quantize(
    source: Path, target: Path, type: str, *, command: Sequence[str] | None = None
) -> AsyncGenerator[float, None]:
    """Write the GGUF `source` at `target` as `type` (any case); yields the fraction that is done, 1.0 once it is whole.

    `source` must be in F32, F16 or BF16: llama.cpp refuses to quantize twice. `command` is for tests. Raises InvalidRequest for
    the type, RunnerError when llama.cpp refuses the file, RunnerCrashed when the child dies. `target` stays only if whole.
    """
    number = TYPES[type_name(type)]
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
        raise RunnerError(f"a process to quantize cannot be started: {error.strerror}") from error
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

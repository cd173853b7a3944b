"""The parent's side of quantizing: a child process writes a GGUF in another type."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from ..config import child_command
from .protocol import FromRunner, Loading, Quantize
from .writing import write_file


async def quantize(
    source: Path, target: Path, number: int, *, command: Sequence[str] | None = None
) -> AsyncGenerator[float, None]:
    """Write the GGUF `source` at `target` in the type of that number; yields the fraction that is done, 1.0 once it is whole.

    `source` must be in F32, F16 or BF16: llama.cpp refuses to quantize twice. `command` is for tests. Raises
    RunnerError when llama.cpp refuses the file, RunnerCrashed when the child dies. `target` stays only if whole.
    """
    frames = write_file(
        Quantize(str(source), str(target), number),
        target,
        command=command or child_command("ollamapy.runner"),
        messages=FromRunner,
        work="quantizes",
    )
    async with aclosing(frames):
        async for frame in frames:
            if isinstance(frame, Loading) and frame.fraction < 1.0:
                yield frame.fraction
    yield 1.0

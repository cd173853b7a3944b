"""The parent's side of conversion: a child process writes the GGUF of a folder of safetensors, an adapter or a llama2.c checkpoint.

The files come from anyone, and reading them takes memory: so it happens in a process with a limit (convert_child.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from ..config import child_command
from ..errors import InvalidModel, OllamapyError, StoreError
from .protocol import Convert, Converting, FromConverter
from .writing import Refusal, write_file

_ERRORS: dict[str, type[OllamapyError]] = {"load": InvalidModel, "disk": StoreError}

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""numpy only copies and scales here, and the stacks of threads count against the limit of memory."""


async def convert(
    order: Convert, *, command: Sequence[str] | None = None
) -> AsyncGenerator[tuple[int, int], None]:
    """Write the GGUF at ``order.target``; yields how many bytes of the weights are done, of how many.

    Closing the iterator ends the work; the target stays only if it is whole. ``command`` is for tests. Raises InvalidModel
    (the files), StoreError (the target), RunnerCrashed and RunnerError (the process).
    """
    try:
        frames = write_file(
            order,
            order.target,
            command=command or child_command("ollamapy.runner.convert_child"),
            messages=FromConverter,
            work="converts",
            environment=_ONE_THREAD,
        )
        async with aclosing(frames):
            async for frame in frames:
                if isinstance(frame, Converting):
                    yield frame.done, frame.total
    except UnicodeEncodeError:
        raise InvalidModel("the name of a file is not a text, rename it") from None
    except Refusal as error:
        raise _ERRORS.get(error.kind, Refusal)(str(error)) from None

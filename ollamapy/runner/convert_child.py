"""The conversion child, started by ``python -m ollamapy.runner.convert_child``: one order in, progress and one result out.

It has an address space of at most MAX_MEMORY bytes and ends when its stdin does. The conversions are those of formats/.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..errors import InvalidModel, StoreError
from ..formats import llama2c
from ..formats.convert import convert
from ..formats.gguf import joined, read_header
from ..formats.lora import convert_adapter
from ..formats.seeing import convert_projector
from .frames import Frame
from .pipes import Pipes, end_with_stdin, limit_memory
from .protocol import Convert, Converted, Converting, Failed

MAX_MEMORY = 2 * 1024 * 1024 * 1024
"""Bytes of address space. Weights are read in pieces, a vocabulary as a whole: measured, a folder with 262,144 tokens (13 MB of
tokenizer.json) takes 284 MB in all, one with 300 tokens 112 MB."""


def main() -> int:
    """Do one order; the exit status."""
    limit_memory(MAX_MEMORY)
    pipes = Pipes(Convert)
    match pipes.read():
        case [Convert() as order, *_]:
            end_with_stdin()
            pipes.send(result(order, in_hundredths(pipes.send)))
    return 0


def result(order: Convert, progress: Callable[[int, int], None]) -> Frame:
    """Do the conversion; the frame that reports its end."""
    try:
        written(order, progress)
    except InvalidModel as error:
        return Failed(0, "load", str(error))
    except StoreError as error:
        return Failed(0, "disk", str(error))
    except MemoryError:
        return Failed(0, "load", "the files take too much memory to convert")
    return Converted()


def written(order: Convert, progress: Callable[[int, int], None]) -> None:
    """Write the target. Raises InvalidModel, StoreError, MemoryError."""
    match order.kind:
        case "model":
            convert(order.files, order.target, progress=progress)
        case "projector":
            convert_projector(order.files, order.target, progress=progress)
        case "adapter":
            base = joined([read_header(path) for path in order.base])
            convert_adapter(order.files, base, order.target, progress=progress)
        case "llama2c":
            checkpoint, tokenizer = order.files["checkpoint"], order.files.get("tokenizer")
            llama2c.convert(checkpoint, tokenizer, order.target, progress=progress)


def in_hundredths(send: Callable[[Frame], None]) -> Callable[[int, int], None]:
    """Report progress at most a hundred times."""
    sent = -1

    def progress(done: int, total: int) -> None:
        nonlocal sent
        if (now := done * 100 // max(total, 1)) > sent:
            sent = now
            send(Converting(done, total))

    return progress


if __name__ == "__main__":
    sys.exit(main())

"""The document reader, started by ``python -m ollamapy.runner.read_child``: one document in, its text out.

Documents come from anyone. This process has an address space of MAX_MEMORY bytes, MAX_SECONDS of a processor, and ends when its
stdin does; whatever a document does to it, its request alone fails.
"""

from __future__ import annotations

import sys
import time

from ..errors import InvalidRequest
from ..formats.documents.extract import extract
from .frames import Frame
from .pipes import Pipes, end_with_stdin, limit_memory, limit_processor
from .protocol import Extracted, Read, Refused

MAX_MEMORY = 1024 * 1024 * 1024
"""Bytes of address space."""

MAX_SECONDS = 30
ENOUGH_SECONDS = 15.0
"""Of a processor: after that no further page is begun, and what was read is the result."""


def main() -> int:
    """Read one document; the exit status."""
    limit_memory(MAX_MEMORY)
    limit_processor(MAX_SECONDS)
    pipes = Pipes(Read)
    match pipes.read():
        case [Read() as order, *_]:
            end_with_stdin()
            pipes.send(result(order))
    return 0


def result(order: Read) -> Frame:
    """Read the document; the frame that reports its end."""
    try:
        return Extracted(
            extract(
                order.content,
                order.kind,
                most=order.most,
                images=order.images,
                in_time=lambda: time.process_time() < ENOUGH_SECONDS,
            )
        )
    except InvalidRequest as error:
        return Refused(str(error))
    except (MemoryError, RecursionError):
        return Refused("is too complex to read")


if __name__ == "__main__":
    sys.exit(main())

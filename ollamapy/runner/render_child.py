"""The render child, started by ``python -m ollamapy.runner.render_child``: a model's chat template and messages in, a prompt out.

It has little memory. It keeps no time: the parent (render.py) kills a child that takes too long, and only if the parent has died
too an alarm ends it; where there are no alarms (Windows), a template that loops then goes on. It ends when its stdin does.
"""

from __future__ import annotations

import json
import signal
import sys
import warnings
from typing import Any

from ..chat import golang, jinja
from ..errors import RefusedByTemplate, TemplateError
from .frames import Frame, FrameTooLong, encode
from .pipes import Pipes, limit_memory
from .protocol import MAX_RENDER_FRAME, Refused, Render, Rendered, RendererReady

MAX_MEMORY = 512 * 1024 * 1024
"""Bytes of address space. Measured: Python with jinja2 takes 25 MB, a prompt of the largest size
250 MB."""

MAX_DEPTH = 10_000
"""Of Python's stack: a template within a template takes nine calls (see golang.MAX_CALLS)."""

ORPHAN_SECONDS = 60.0
"""Longer than any parent waits."""


def main() -> None:
    """Limit this process, then answer requests until stdin ends."""
    warnings.simplefilter("ignore")  # a template could fill the daemon's log
    limit_memory(MAX_MEMORY)
    sys.setrecursionlimit(MAX_DEPTH)
    pipes = Pipes(Render, MAX_RENDER_FRAME)
    pipes.send(RendererReady())
    while frames := pipes.read():
        for frame in frames:
            assert isinstance(frame, Render)
            _alarm(ORPHAN_SECONDS)
            answer = encoded(rendered(frame))
            _alarm(0)
            pipes.write(answer)


def rendered(request: Render) -> Frame:
    """Execute the template."""
    try:
        arguments: dict[str, Any] = json.loads(request.arguments)
        source = arguments.pop("source")
        if request.language == "go":
            text = golang.parse(source).execute(**arguments)
        else:
            text = jinja.render(source, **arguments)
        return Rendered(jinja.without_surrogates(text))
    except RefusedByTemplate as error:
        return Refused(jinja.without_surrogates(str(error)), by_template=True)
    except TemplateError as error:
        return Refused(jinja.without_surrogates(str(error)))
    except MemoryError:
        return Refused("the model's chat template needs too much memory")


def encoded(answer: Frame) -> bytes:
    """The frame as bytes; one that is too long becomes a refusal."""
    try:
        return encode(answer, MAX_RENDER_FRAME)
    except (FrameTooLong, MemoryError):
        return encode(Refused("the model's chat template makes a text that is too long"))


def _alarm(seconds: float) -> None:
    """End this process after ``seconds`` (0: do not), for the case that the daemon died while a
    template loops."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()

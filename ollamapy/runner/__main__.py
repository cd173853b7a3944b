"""The runner process, started by ``python -m ollamapy.runner``: one model, or one file to quantize, by the first frame.

    stdin reader (main thread) -> worker's threads -> engine's inbox -> engine thread -> outbox -> writer thread -> stdout

Tokenizing and pipe writes stay off the engine's thread. The process ends with Stop and with the end of stdin, without a
clean-up: the engine's thread may be deep in C, and the system takes everything back.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..engine.alike import most_alike
from ..engine.build import build
from ..engine.cores import threads_for
from ..engine.engine import Engine, ResizeTask
from ..engine.llama import Model
from ..engine.quantize import quantize
from ..engine.saved import Saved, root_of
from ..errors import OllamapyError
from ..loading import LoadPlan
from ..types import LoadStage
from . import protocol
from .frames import Frame
from .keeper import Keeper, disk_of, key_of
from .outbox import Outbox
from .pipes import Pipes, end_with_stdin
from .worker import RequestFrame, Worker, start_deep

COPY_SECONDS, WRITE_SECONDS = 1.0, 3.0
"""How long the end waits for the engine's thread, and for the writing of what it copied; the daemon kills after 5 s."""


SWITCH_SECONDS = 0.0005
"""How long a thread that computes in Python may keep the engine's from going on. Python's default, 5 ms, is longer than a step of a
small model, and it is paid at each call into llama.cpp."""


def main() -> int:
    """Do the work of the first frame, until stdin ends; the exit status."""
    pipes = Pipes(protocol.ToRunner)
    sys.setswitchinterval(SWITCH_SECONDS)
    match pipes.read():
        case [protocol.Quantize() as order, *_]:
            return quantized(order, Outbox(pipes.write))
        case [protocol.Load(plan, cache), *rest]:
            return served(plan, cache, rest, pipes)
    return 0


def quantized(order: protocol.Quantize, outbox: Outbox) -> int:
    """Write one file in another type."""
    end_with_stdin()
    try:
        quantize(
            Path(order.source),
            Path(order.target),
            order.number,
            lambda fraction: outbox.send(protocol.Loading(fraction)),
        )
        outbox.send(protocol.Quantized())
    except OllamapyError as error:
        outbox.send(protocol.Failed(0, "load", str(error)))
    outbox.close()
    return 0


def served(
    plan: LoadPlan, cache: protocol.CacheFolder | None, rest: list[Frame], pipes: Pipes
) -> int:
    """Load a model and answer requests about it; ``rest`` are the frames that came with the first one."""
    outbox = Outbox(pipes.write)
    try:
        model = load(plan, outbox)
    except OllamapyError as error:
        outbox.send(protocol.Failed(0, "load", str(error)))
        outbox.close()
        return 1
    keeper = keeper_of(model, plan, cache, lambda size: outbox.send(protocol.Held(size)))
    saving = keeper.saving if keeper is not None else None
    engine = Engine(model, outbox.add, before_long_step=outbox.before_long_step, saving=saving)
    if keeper is not None:
        keeper.start(engine.rest)
    worker = Worker(model, engine, outbox, keeper)
    outbox.send(ready(model, plan))
    start_deep(lambda: compute(engine, outbox), "engine")
    frames = rest or pipes.read()
    while frames:
        for each in frames:
            match each:
                case protocol.Stop():
                    end(engine, keeper)
                case protocol.Cancel():
                    worker.cancel(each.id)
                case protocol.Forget():
                    work = partial(forget, each.id, engine, keeper, outbox)
                    threading.Thread(target=work, daemon=True).start()
                case protocol.Resize(id, resized):
                    engine.submit(ResizeTask(id, resized))
                case _ if isinstance(each, RequestFrame):
                    worker.put(each)
        frames = pipes.read()
    os._exit(0)  # the daemon was killed: nothing is written behind the back of who did that


def end(engine: Engine, keeper: Keeper | None) -> None:
    """Save what the slots hold, within a bounded time, and exit."""
    if keeper is not None:
        engine.finish(COPY_SECONDS)
        keeper.drain(WRITE_SECONDS)
    os._exit(0)


def forget(id: int, engine: Engine, keeper: Keeper | None, outbox: Outbox) -> None:
    """Forget what was computed of prompts that have ended: first in the slots, so that none of it is saved again."""
    engine.forget()
    if keeper is not None:
        keeper.forget(WRITE_SECONDS)
    outbox.send(protocol.Forgotten(id))


def keeper_of(
    model: Model,
    plan: LoadPlan,
    cache: protocol.CacheFolder | None,
    report: Callable[[int], None],
) -> Keeper | None:
    """The keeper of saved prefixes; None where there are none. ``report`` gets the bytes that they take in memory."""
    if not plan.saved_size or not model.generates:
        return None
    root = root_of(key_of(plan, model.identity, cache.salt if cache is not None else ""))
    saved = Saved(root, plan.saved_size, needs_end=not model.rewinds, has_rows=model.has_cells)
    return Keeper(model, saved, disk_of(cache, plan, root) if cache is not None else None, report)


def load(plan: LoadPlan, outbox: Outbox) -> Model:
    """Load the model of the first frame, reporting the stages, and progress in steps of a hundredth."""
    reported: tuple[LoadStage, int] | None = None

    def progress(stage: LoadStage, fraction: float) -> None:
        nonlocal reported
        step = (stage, int(fraction * 100))
        if step != reported:
            reported = step
            outbox.send(protocol.Loading(fraction, stage))

    model = Model(plan, progress, lambda line: print(line, file=sys.stderr, flush=True))
    if plan.warm_up:
        progress("warm-up", 1.0)
        model.warm_up()
    if plan.deterministic and model.generates:
        progress("warm-up", 1.0)
        model.alike = most_alike(model, model.n_vocab)
    if plan.embeds:
        model.pooled(model.pooling)
    return model


def ready(model: Model, plan: LoadPlan) -> protocol.Ready:
    """What the daemon must know about a model that is loaded."""
    return protocol.Ready(
        n_ctx=model.n_ctx,
        n_slots=plan.n_slots,
        gpu_layers=model.gpu_layers,
        n_layers=model.n_layers,
        bos=model.token_text(model.bos),
        eos=model.token_text(model.eos),
        adds_bos=model.adds_bos,
        adds_eos=model.adds_eos,
        build=build(),
        threads=threads_for(plan.threads),
    )


def compute(engine: Engine, outbox: Outbox) -> None:
    """The engine's thread."""
    try:
        while True:
            if engine.step():
                outbox.alive()
    except BaseException as error:
        # A defect of ours: the daemon ends every open request with this line.
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(70)


if __name__ == "__main__":
    sys.exit(main())

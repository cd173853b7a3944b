"""A runner of a few lines, for what a real one does only when it breaks. Its behaviour is the model's "path" in the Load frame.

ready: echo prompts    load-crash, load-exit, load-silent, load-refused: what happens at the load
crash, exit, silent, garbage, close: what happens at a prompt, after one piece of text    deaf: ignores Stop, SIGTERM and the end of stdin
"""

from __future__ import annotations

import os
import signal
import sys
import time

from ollamapy.loading import LoadPlan
from ollamapy.runner import protocol
from ollamapy.runner.frames import Frame, FrameReader, encode
from ollamapy.runner.protocol import Piece
from ollamapy.types import Generation, Prompt, TokenLogprob


def send(frame: Frame) -> None:
    os.write(1, encode(frame))


def misbehave(how: str) -> None:
    if how.endswith("crash"):
        print("fake: about to fault", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how.endswith("exit"):
        sys.exit(3)
    elif how == "garbage":
        os.write(1, b"\xff\xff\xff\x7fthis is no frame")
    elif how == "close":
        os.close(1)
    time.sleep(600)


def main() -> None:
    reader = FrameReader(protocol.ToRunner)
    how = ""
    while data := os.read(0, 65536):
        for frame in reader.feed(data):
            match frame:
                case protocol.Load(plan):
                    how = plan.files.weights.path.name
            match frame:
                case protocol.Load() if how == "load-refused":
                    send(protocol.Failed(0, "load", "no such magic"))
                    sys.exit(1)
                case protocol.Load() if how.startswith("load-"):
                    send(protocol.Loading(0.5))
                    misbehave(how)
                case protocol.Load(LoadPlan(extra_bufts=True, warm_up=True)) if (
                    how == "repack-faults"
                ):
                    misbehave("warm-up-crash")
                case protocol.Load(plan):
                    if how == "deaf":
                        signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    send(protocol.Ready(n_ctx=plan.n_ctx, n_slots=plan.n_slots))
                case protocol.Generate(generation=Generation(prompt=Prompt((str(prompt),)))):
                    send(protocol.Texts((Piece(frame.id, "first "),)))
                    send(protocol.Held(7))
                    if how not in ("ready", "deaf", "slow", "repack-faults") and "flood" not in how:
                        misbehave(how)
                    if how == "flood":
                        for _ in range(100):
                            send(protocol.Texts((Piece(frame.id, "x" * 100_000),)))
                    if how == "flood-logprobs":
                        each = TokenLogprob(
                            "a", -1.0, (97,), (TokenLogprob("a", -1.0, (97,)),) * 20
                        )
                        for _ in range(100):
                            send(protocol.Texts((Piece(frame.id, "", (each,) * 100),)))
                    if how != "slow":
                        send(protocol.Texts((Piece(frame.id, prompt),)))
                        send(protocol.Done(frame.id, "stop", n_prompt=1, n_predicted=2))
                case protocol.Cancel():
                    print(f"fake: cancelled {frame.id}", file=sys.stderr, flush=True)
                    send(protocol.Done(frame.id, "cancel"))
                case protocol.Stop() if how != "deaf":
                    sys.exit(0)
    if how == "deaf":
        time.sleep(600)


main()

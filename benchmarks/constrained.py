"""The cost of constraints: the speed of constrained and of free answers, taking turns in one runner; and the delay of a new form.

    python -m benchmarks.constrained MODEL.gguf

One runner process without the daemon and HTTP, because their noise is larger than the difference. The form is an array of
objects with strings, numbers and choices: some steps allow nearly every token, others only one.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path

from benchmarks.load import words
from ollamapy.loading import File, Files, LoadPlan
from ollamapy.runner.process import RunnerProcess
from ollamapy.runner.protocol import Done
from ollamapy.types import Constraint, Generation, Prompt, Sampling

ANSWER = 300
"""Tokens of each answer."""

TURNS = 8

FORM = Constraint(
    "schema",
    json.dumps(
        {
            "type": "array",
            "minItems": 10_000,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 60},
                    "count": {"type": "integer", "minimum": 0, "maximum": 9999},
                    "kind": {"enum": ["animal", "mineral", "plant", None]},
                    "tags": {
                        "type": "array",
                        "items": {"type": "string", "pattern": "^[a-z]{3,9}$"},
                    },
                },
                "required": ["name", "count", "kind", "tags"],
            },
        }
    ),
)


async def _rate(runner: RunnerProcess, constraint: Constraint | None, clients: int) -> float:
    """Tokens a second of so many answers at once, after the first token of each."""

    async def one(number: int) -> Done:
        generation = Generation(
            Prompt((words(20, number),)), Sampling(seed=7), ANSWER, constraint=constraint, logit_bias=((2, -1e6),)
        )  # fmt: skip
        async for event in runner.generate(generation):
            if isinstance(event, Done):
                return event
        raise RuntimeError("no ending")

    endings = await asyncio.gather(*(one(number) for number in range(clients)))
    assert all(each.n_predicted == ANSWER for each in endings), "the form must not end by itself"
    return sum((each.n_predicted - 1) / each.predict_ns * 1e9 for each in endings)


async def _first(runner: RunnerProcess, constraint: Constraint | None) -> float:
    """Seconds to the first token."""
    began = time.perf_counter()
    async for _ in runner.generate(
        Generation(Prompt((words(20),)), num_predict=1, constraint=constraint)
    ):
        return time.perf_counter() - began
    raise RuntimeError("no answer")


async def _measure(path: Path) -> dict[str, float]:
    runner = RunnerProcess(LoadPlan(Files(File(path)), n_ctx=1024, n_slots=8))
    try:
        await runner.ready()
        await _rate(runner, None, 1)
        free_first = await _first(runner, None)
        out = {"first_later": await _first(runner, FORM) - free_first}
        out["next_later"] = await _first(runner, FORM) - await _first(runner, None)
        for clients in (1, 8):
            pairs = [
                (await _rate(runner, None, clients), await _rate(runner, FORM, clients))
                for _ in range(TURNS)
            ]
            out[f"free{clients}"] = max(free for free, _ in pairs)
            out[f"form{clients}"] = max(form for _, form in pairs)
            out[f"ratio{clients}"] = statistics.median(form / free for free, form in pairs)
        return out
    finally:
        await runner.stop()


def measure(path: Path) -> dict[str, float]:
    """Rates in tokens a second, the medians of their ratios (form / free), and a first token's delay in seconds."""
    return asyncio.run(_measure(path))


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1])), indent=1))

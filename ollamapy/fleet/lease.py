"""A lease: the right to use a loaded model's runner, for as long as a request needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from ..loading import LoadPlan
from ..runner.protocol import Done, Embedded, Piece, Progressed, PromptRead, Ready
from ..types import EmbedInputs, Generation, LoadStage, Prompt


class Runner(Protocol):
    """A model in a process of its own: what the scheduler and a lease use of RunnerProcess."""

    on_progress: Callable[[LoadStage, float], None] | None
    on_outgrown: Callable[[int], None]

    plan: LoadPlan
    held: int

    @property
    def pid(self) -> int | None: ...

    async def ready(self) -> Ready: ...

    def generate(
        self, generation: Generation
    ) -> AsyncGenerator[Progressed | PromptRead | Piece | Done, None]: ...

    async def embed(self, inputs: EmbedInputs) -> Embedded: ...

    async def rerank(self, query: str, documents: tuple[str, ...]) -> Embedded: ...

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]: ...

    async def tokens_within(
        self, text: str, most: int, add_special: bool = True
    ) -> tuple[tuple[int, ...], int]: ...

    async def count_tokens(self, prompt: Prompt) -> int: ...

    async def detokenize(self, tokens: tuple[int, ...]) -> str: ...

    async def forget(self) -> None: ...

    async def resize(self, plan: LoadPlan) -> Ready: ...

    async def wait(self) -> int | None: ...

    async def stop(self, grace: float = 5.0) -> None: ...


@dataclass(frozen=True, slots=True)
class Lease:
    """A runner for one request.

    ``grown_from``: tokens of context that the model had before it got a longer one for this request; 0 if it did not.
    """

    runner: Runner
    grown_from: int = 0

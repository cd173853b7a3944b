"""A fake runner whose steps the test releases, and the services around it."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from ollamapy.config import Settings
from ollamapy.errors import OllamapyError
from ollamapy.fleet.scheduler import Scheduler
from ollamapy.loading import LoadPlan
from ollamapy.models.jobs import Jobs
from ollamapy.models.models import Models
from ollamapy.models.offers import Offers
from ollamapy.registry.catalog import Catalog
from ollamapy.registry.store import Store
from ollamapy.request import Caller, Request
from ollamapy.runner.protocol import Done, Embedded, Piece, Progressed, PromptRead, Ready
from ollamapy.runner.render import Renderer
from ollamapy.serving.answer import answer, check
from ollamapy.serving.chats.chats import Answering, Chats
from ollamapy.serving.preread import preread
from ollamapy.serving.responses.responses import Responses
from ollamapy.serving.services import Services
from ollamapy.types import (
    Chunk,
    EmbedInputs,
    Generation,
    LoadStage,
    Media,
    Prefill,
    Prompt,
    Queued,
    TokenLogprob,
)

CALLER = Caller("test")


class FakeRunner:
    """Generates "one", "two", "three". Waits for ``loaded`` and ``prefilled``, and for ``next_word`` before each word: all are set
    from the beginning, and a test clears those at which the runner is to wait.

    ``generations`` has the argument of each generate, ``endings`` how it ended: "done" or "cancelled". A request that wants
    progress gets ``waits`` before it is prefilled.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.on_progress: Callable[[LoadStage, float], None] | None = None
        self.on_outgrown: Callable[[int], None] = lambda n_cells: None
        self.loaded, self.prefilled, self.next_word = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        for event in (self.loaded, self.prefilled, self.next_word):
            event.set()
        self.words = ["one", " two", " three"]
        self.breaks_after: int | None = None
        self.error: Exception = OllamapyError("the runner broke")
        self.waits: list[Queued | Prefill] = [Queued(1), Prefill(0.5, 4, 2)]
        self.generations: list[Generation] = []
        self.embeds: list[EmbedInputs] = []
        self.endings: list[str] = []
        self.changed = asyncio.Event()
        self.gone = asyncio.Event()

    pid = 1
    held = 0

    async def ready(self) -> Ready:
        await self.loaded.wait()
        return Ready(n_ctx=self.plan.n_ctx, n_slots=self.plan.n_slots, bos="<s>", eos="</s>")

    async def generate(
        self, generation: Generation
    ) -> AsyncGenerator[Progressed | PromptRead | Piece | Done, None]:
        self.generations.append(generation)
        self.changed.set()
        ending = "cancelled"
        try:
            for waiting in self.waits if generation.progress else ():
                yield Progressed(1, waiting)
            await self.prefilled.wait()
            yield PromptRead(1, 4, 2)
            for number, word in enumerate(self.words):
                await self.next_word.wait()
                await asyncio.sleep(0)  # a pipe would not have everything at once either
                if number == self.breaks_after:
                    raise self.error
                some = (TokenLogprob(word, -1.0, tuple(word.encode())),)
                logprobs = some if generation.logprobs is not None else ()
                yield Piece(1, word, logprobs, number + 1)
            ending = "done"
            yield Done(
                1, "stop", n_prompt=4, n_cached=2, n_predicted=3, prompt_ns=10, predict_ns=20
            )
        finally:
            self.endings.append(ending)
            self.changed.set()

    async def embed(self, inputs: EmbedInputs) -> Embedded:
        """Each vector is the length of its text and 0.5."""
        self.embeds.append(inputs)
        self.changed.set()
        await self.prefilled.wait()
        numbers = [number for text in inputs.inputs for number in (float(len(text)), 0.5)]
        return Embedded(
            1, array("f", numbers).tobytes(), tuple(len(text) for text in inputs.inputs)
        )

    async def rerank(self, query: str, documents: tuple[str, ...]) -> Embedded:
        """A document's score is its length."""
        scores = array("f", [float(len(document)) for document in documents])
        return Embedded(1, scores.tobytes(), tuple(len(document) for document in documents))

    async def tokenize(self, text: str, add_special: bool = True) -> tuple[int, ...]:
        return ((1,) if add_special else ()) + tuple(text.encode())

    async def tokens_within(
        self, text: str, most: int, add_special: bool = True
    ) -> tuple[tuple[int, ...], int]:
        tokens = await self.tokenize(text, add_special)
        return tokens if len(tokens) <= most else (), len(tokens)

    async def count_tokens(self, prompt: Prompt) -> int:
        """A file counts as ten tokens."""
        return sum(10 if isinstance(part, Media) else len(part) for part in prompt.parts)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        return bytes(tokens).decode()

    async def forget(self) -> None:
        """It keeps nothing."""

    async def resize(self, plan: LoadPlan) -> Ready:
        self.plan = plan
        return Ready(plan.n_ctx, plan.n_slots)

    async def wait(self) -> int:
        await self.gone.wait()
        return 0

    async def stop(self, grace: float = 5.0) -> None:
        self.gone.set()

    async def has(self, condition: Callable[[FakeRunner], bool]) -> None:
        """Wait until a request came or ended and the condition holds."""
        async with asyncio.timeout(60):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()


class Made:
    """The services, and the runners that their scheduler started: prepared by ``prepare`` at once."""

    def __init__(self, store: Path, prepare: Callable[[FakeRunner], None], **environ: str) -> None:
        self.runners: list[FakeRunner] = []
        self.free_memory = 10**10  # bytes, as the scheduler measures them
        self.started = asyncio.Event()
        settings = Settings.from_env(
            {
                "OLLAMAPY_HOME": str(store),
                "OLLAMAPY_MODELS": str(store),
                "OLLAMAPY_HOST": "127.0.0.1:0",
            }
            | {f"OLLAMAPY_{name}": value for name, value in environ.items()}
        )

        def start(plan: LoadPlan) -> FakeRunner:
            runner = FakeRunner(plan)
            prepare(runner)
            self.runners.append(runner)
            self.started.set()
            return runner

        renderer = Renderer()

        def answered(request: Request, caller: Caller) -> AsyncGenerator[Chunk, None]:
            return answer(self.services, request, caller)

        async def checked(request: Request) -> None:
            await check(self.services, request)

        async def read_ahead(request: Request, caller: Caller) -> None:
            await preread(self.services, request, caller)

        chats = Chats(None, None, Answering(answered, checked, read_ahead))
        self.services = Services(
            settings,
            Models(Store([store])),
            Scheduler(start_runner=start, free_memory=lambda: self.free_memory, settings=settings),
            renderer,
            Jobs(Store([store]), Catalog(()), renderer, settings.hub),
            Offers(settings),
            chats,
            Responses(chats.in_database, answered, checked, days=30, is_kept=False),
        )

    async def runner(self) -> FakeRunner:
        """The first runner, once it is started."""
        async with asyncio.timeout(60):
            await self.started.wait()
        return self.runners[0]

    async def idle(self) -> None:
        """Return when no request holds or waits for a lease any more."""
        async with asyncio.timeout(60):
            while self.services.scheduler.busy:  # noqa: ASYNC110 - it has no event to wait for
                await asyncio.sleep(0)


@asynccontextmanager
async def made(
    store: Path, prepare: Callable[[FakeRunner], None] = lambda runner: None, **environ: str
) -> AsyncIterator[Made]:
    """Services over a store whose runners are fakes; ``environ`` without OLLAMAPY_."""
    services = Made(store, prepare, **environ)
    try:
        yield services
    finally:
        await services.services.responses.close()
        await services.services.chats.close()
        await services.services.scheduler.close()
        await services.services.renderer.close()

"""The real child process with a real model: texts of every length, cancelled at every stage."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ollamapy.errors import InvalidRequest, LoadFailed, RunnerError
from ollamapy.runner.process import RunnerProcess
from ollamapy.runner.protocol import Done, Piece
from ollamapy.types import Constraint, Generation, Prompt, Sampling
from tests.plans import plan
from tests.small_models import random_model

pytestmark = pytest.mark.llama
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("models") / "random.gguf")


def with_runner(path: Path, scenario: Any) -> None:
    """Run a scenario with a runner that has three slots."""

    async def inside() -> None:
        async with asyncio.timeout(60):
            runner = RunnerProcess(plan(path, n_ctx=512, n_slots=3, threads=1, warm_up=True))
            try:
                await runner.ready()
                await scenario(runner)
            finally:
                await runner.stop()

    coroutine: Coroutine[Any, Any, None] = inside()
    asyncio.run(coroutine)


async def ask(
    runner: RunnerProcess, prompt: str | tuple[int, ...], n: int = 8, **more: Any
) -> tuple[str, Done]:
    text = ""
    async for item in runner.generate(Generation(Prompt((prompt,)), GREEDY, n, **more)):
        if isinstance(item, Piece):
            text += item.text
        elif isinstance(item, Done):
            return text, item
    raise AssertionError("no ending")


def test_a_prompt_of_megabytes_holds_nobody_up(path: Path) -> None:
    async def scenario(runner: RunnerProcess) -> None:
        huge = "ba ke li mo " * 700_000
        refused = asyncio.ensure_future(ask(runner, huge, truncate=True))
        text, done = await ask(runner, "ba ke")
        assert text and not refused.done(), "the short one is first"
        with pytest.raises(InvalidRequest, match="8400000 characters"):
            await refused

    with_runner(path, scenario)


def test_a_long_prompt_is_truncated_and_says_so(path: Path) -> None:
    async def scenario(runner: RunnerProcess) -> None:
        whole = len(await runner.tokenize("ba ke li mo " * 300))
        assert whole > 512
        with pytest.raises(InvalidRequest, match=f"{whole} tokens > 512"):
            await ask(runner, "ba ke li mo " * 300)
        _, done = await ask(runner, "ba ke li mo " * 300, truncate=True)
        assert done.n_truncated == whole - done.n_prompt > 0

    with_runner(path, scenario)


def test_as_many_tokens_as_are_asked_for_and_their_number(path: Path) -> None:
    """Only the ids that are needed reach the event loop: those of 60 MB block it for seconds."""

    async def scenario(runner: RunnerProcess) -> None:
        tokens = await runner.tokenize("ba ke")
        n_tokens = len(tokens)
        assert await runner.tokens_within("ba ke", n_tokens) == (tokens, n_tokens)
        assert await runner.tokens_within("ba ke", n_tokens - 1) == ((), n_tokens)
        ids, count = await runner.tokens_within("ba " * 2_000_000, 10)
        assert ids == () and count >= 2_000_000
        with pytest.raises(InvalidRequest, match=r"too long .* 6,000,000 characters; send it in"):
            await runner.tokenize("ba " * 2_000_000)

    with_runner(path, scenario)


def test_leaving_while_the_prompt_is_tokenized(path: Path) -> None:
    async def scenario(runner: RunnerProcess) -> None:
        for _ in range(5):
            async with aclosing(
                runner.generate(Generation(Prompt(("ba " * 8000,)), GREEDY))
            ) as pieces:
                task = asyncio.ensure_future(anext(pieces))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
        assert (await ask(runner, "ba ke"))[1].reason == "length"
        assert runner.in_flight == 0

    with_runner(path, scenario)


def test_token_ids_as_a_prompt(path: Path) -> None:
    async def scenario(runner: RunnerProcess) -> None:
        tokens = await runner.tokenize("ba ke")
        assert (await ask(runner, tokens))[0] == (await ask(runner, "ba ke"))[0]
        with pytest.raises(InvalidRequest, match="vocabulary"):
            await ask(runner, (10**6,))

    with_runner(path, scenario)


def test_absurd_threads_are_bounded(path: Path) -> None:
    async def scenario() -> None:
        runner = RunnerProcess(plan(path, n_ctx=256, threads=2**31 - 1))
        await runner.ready()
        assert (await ask(runner, "ba"))[0]
        await runner.stop()

    asyncio.run(scenario())


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "no.gguf").write_bytes(b"not a model")
        runner = RunnerProcess(plan(tmp_path / "no.gguf", n_ctx=256))
        with pytest.raises(LoadFailed, match="magic"):
            await runner.ready()
        assert await runner.wait() == 1

    asyncio.run(scenario())


def test_a_constraint_that_is_none_is_the_callers_fault(path: Path) -> None:
    async def scenario(runner: RunnerProcess) -> None:
        with pytest.raises(InvalidRequest, match="regular expression cannot be used"):
            await ask(runner, "ba", constraint=Constraint("regex", "("))
        with pytest.raises(InvalidRequest, match="logit_bias: token 1000000"):
            await ask(runner, "ba", logit_bias=((10**6, 1.0),))
        text, done = await ask(runner, "ba", constraint=Constraint("choice", '["yes", "no"]'))
        assert text in ("yes", "no") and done.reason == "stop"

    with_runner(path, scenario)


def test_constraints_beside_free_answers(path: Path) -> None:
    async def scenario(runner: RunnerProcess) -> None:
        alone, _ = await ask(runner, "ba ke", 40)
        digits = Constraint("regex", "[0-9]{12}")
        first, free, second = await asyncio.gather(
            ask(runner, "ba", 40, constraint=digits),
            ask(runner, "ba ke", 40),
            ask(runner, "mo", 40, constraint=digits, stop=("12345678901",)),
        )
        assert free[0] == alone
        assert all(len(text) == 12 and text.isdigit() for text, _ in (first, second))

    with_runner(path, scenario)


def test_another_size_while_an_answer_runs(path: Path) -> None:
    """More slots and a longer context, and one that llama.cpp refuses: the process stays, and so do the tokens."""

    async def scenario(runner: RunnerProcess) -> None:
        whole, _ = await ask(runner, "ba ke", 120)
        pid, before = runner.pid, runner.plan
        answer = asyncio.ensure_future(ask(runner, "ba ke", 120))
        ready = await runner.resize(replace(before, n_slots=5, n_ctx=1024))
        assert (ready.n_slots, ready.n_ctx, ready.build) == (5, 1024, (await runner.ready()).build)
        assert await runner.ready() == ready and runner.plan.n_slots == 5
        with pytest.raises(RunnerError, match="tokens can be made"):
            await runner.resize(replace(before, n_slots=1, flash_attention=False, kv_type="q8_0"))
        assert await runner.ready() == ready and runner.plan.n_slots == 5
        assert (await answer)[0] == whole
        assert (await ask(runner, "ba ke li mo " * 150, 4))[1].n_prompt > 512
        assert runner.pid == pid and runner.in_flight == 0

    with_runner(path, scenario)

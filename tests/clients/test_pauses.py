"""The official clients read streams that say what they wait for as if these did not; over runners whose steps the test releases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from ollamapy.types import Prefill, Waiting
from ollamapy.web import pauses, stream
from tests.fakes import FakeRunner
from tests.web.raw import Client, run

TEXT = "one two three"
HI: list[Any] = [{"role": "user", "content": "Hi"}]


async def chat(client: openai.AsyncOpenAI) -> str:
    chunks = await client.chat.completions.create(model="hello", messages=HI, stream=True)
    return "".join([each.choices[0].delta.content or "" async for each in chunks])


async def completion(client: openai.AsyncOpenAI) -> str:
    chunks = await client.completions.create(model="plain", prompt="Hi", stream=True)
    return "".join([each.choices[0].text async for each in chunks])


async def response(client: openai.AsyncOpenAI) -> str:
    events = await client.responses.create(model="hello", input="Hi", stream=True)
    deltas = [event async for event in events if event.type == "response.output_text.delta"]
    return "".join(event.delta for event in deltas)


async def message(client: anthropic.AsyncAnthropic) -> str:
    async with client.messages.stream(model="hello", max_tokens=9, messages=HI) as events:
        return "".join([text async for text in events.text_stream])


async def with_comments(client: Client, ask: Awaitable[str], said: list[str]) -> str:
    """The answer to a request that is loaded, then prefilled, each after a comment about it."""
    async with asyncio.timeout(30):
        asked = asyncio.ensure_future(ask)
        runner = await client.made.runner()
        for words, step in (("loading", runner.loaded), ("prefill", runner.prefilled)):
            while not (said and said[-1].startswith(words)):  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0)
            step.set()
        return await asked


def slow(runner: FakeRunner) -> None:
    runner.loaded.clear()
    runner.prefilled.clear()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The comments, which are written after a moment of silence here."""
    monkeypatch.setattr(stream, "IDLE", 0.001)
    words, found = pauses.described, list[str]()

    def described(waiting: Waiting | None) -> str:
        found.append(words(waiting))
        return found[-1]

    monkeypatch.setattr(pauses, "described", described)
    return found


@pytest.mark.parametrize("ask", [chat, completion, response])
def test_openai(
    model_store: Path, ask: Callable[[openai.AsyncOpenAI], Awaitable[str]], said: list[str]
) -> None:
    async def test(client: Client) -> None:
        url = f"http://127.0.0.1:{client.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as judge:
            assert await with_comments(client, ask(judge), said) == TEXT

    run(model_store, test, slow)


def test_anthropic(model_store: Path, said: list[str]) -> None:
    async def test(client: Client) -> None:
        url = f"http://127.0.0.1:{client.port}"
        async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as judge:
            assert await with_comments(client, message(judge), said) == TEXT

    run(model_store, test, slow)


def test_ollama(model_store: Path) -> None:
    """Its client cannot ask for reports; a program that passes them on to it loses nothing."""

    def prepare(runner: FakeRunner) -> None:
        runner.waits = [Prefill(0.5, 4, 2)] * 3

    async def test(client: Client) -> None:
        body = {"model": "hello", "messages": HI, "progress": True}
        lines = (await client.ask("POST", "/api/chat", body)).lines
        found = [ollama.ChatResponse(**line) for line in lines]
        assert "".join(each.message.content or "" for each in found) == TEXT
        assert [each.done for each in found] == [False] * (len(found) - 1) + [True]
        lines = (await client.generate(model="hello", progress=True)).lines
        assert "".join(ollama.GenerateResponse(**line).response or "" for line in lines) == TEXT
        assert sum("progress" in line for line in lines) == 3

    run(model_store, test, prepare)

"""A prompt that does not fit loses its oldest messages: no more than it must, and found with few renderings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollamapy.chat.prompt import cuts, without_oldest
from ollamapy.chat.template import Marks
from ollamapy.models.models import Models
from ollamapy.models.spec import ModelSpec
from ollamapy.registry.store import Store
from ollamapy.serving.prompting import PromptWriter, Written
from ollamapy.serving.turn import Turn
from ollamapy.types import Message
from tests.requests_made import chat_request, generate_request
from tests.small_models import install, scripted_model


class Letters:
    """A runner whose tokens are bytes; ``counted`` are the lengths of the texts that it counted."""

    def __init__(self) -> None:
        self.counted: list[int] = []

    async def tokens_within(
        self, text: str, most: int, add_special: bool = True
    ) -> tuple[tuple[int, ...], int]:
        self.counted.append(len(text))
        tokens = tuple(text.encode())
        return tokens if len(tokens) <= most else (), len(tokens)

    async def detokenize(self, tokens: tuple[int, ...]) -> str:
        return bytes(tokens).decode()


class Renderer:
    """Renders a message as its role's first letter and its content; ``renderings`` counts, ``arguments`` are the last ones."""

    def __init__(self) -> None:
        self.renderings = 0
        self.arguments: dict[str, Any] = {}

    async def render(self, template: Any, messages: Sequence[Message], **arguments: Any) -> str:
        self.renderings += 1
        self.arguments = arguments
        return "".join(f"{message.role[0]}{message.content}|" for message in messages)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    root = tmp_path_factory.mktemp("store")
    install(root, "m", scripted_model(root / "m.gguf", "Yes."))
    return asyncio.run(Models(Store([root])).load("m"))


def conversation(lengths: Sequence[int], system: str = "") -> tuple[Message, ...]:
    """Questions and answers of these lengths in turn, a question last."""
    roles = [
        "user" if n % 2 == len(lengths) % 2 else "assistant" for n in range(1, len(lengths) + 1)
    ]
    messages = [Message(role, "x" * n) for role, n in zip(roles, lengths, strict=True)]
    return (*((Message("system", system),) if system else ()), *messages)


class Fitted:
    """A conversation, and the prompt of it that fits into a context."""

    def __init__(self, spec: ModelSpec, messages: tuple[Message, ...], n_ctx: int) -> None:
        self.renderer, self.runner = Renderer(), Letters()
        turn = replace(Turn.of(spec, chat_request("m", messages)), messages=messages)
        self.writer = PromptWriter(turn, self.renderer, self.runner, Marks("", ""))  # type: ignore[arg-type]
        self.written = asyncio.run(self._fit(n_ctx))

    async def _fit(self, n_ctx: int) -> Written:
        return await self.writer.fit(await self.writer.write(), n_ctx)


def test_a_prompt_that_fits_is_not_even_counted(spec: ModelSpec) -> None:
    fitted = Fitted(spec, conversation([5, 5, 5]), 100)
    assert fitted.written == Written("uxxxxx|axxxxx|uxxxxx|") and fitted.runner.counted == []


def test_a_template_gets_the_variables_of_the_request(spec: ModelSpec) -> None:
    request = msgspec.structs.replace(
        chat_request("m", conversation([5])), variables={"mood": "calm"}
    )
    renderer = Renderer()
    writer = PromptWriter(Turn.of(spec, request), renderer, Letters(), Marks("", ""))  # type: ignore[arg-type]
    asyncio.run(writer.write())
    assert renderer.arguments["variables"] == {"mood": "calm"}


def test_one_that_may_not_fit_is_counted_once_and_its_tokens_are_kept(spec: ModelSpec) -> None:
    fitted = Fitted(spec, conversation([5, 5, 5]), 22)
    assert fitted.written.tokens == tuple(fitted.written.text.encode())
    assert fitted.runner.counted == [21] and fitted.written.dropped_messages == 0


def test_the_oldest_messages_go_and_the_system_message_stays(spec: ModelSpec) -> None:
    fitted = Fitted(spec, conversation([20, 20, 5, 5, 5], "be kind"), 40)
    assert fitted.written.text == "sbe kind|uxxxxx|axxxxx|uxxxxx|"
    assert (fitted.written.dropped_messages, fitted.written.dropped_tokens) == (2, 44)


def test_a_last_message_that_is_too_long_alone_is_left_to_the_runner(spec: ModelSpec) -> None:
    """It refuses the whole prompt, with both numbers."""
    fitted = Fitted(spec, conversation([5, 5, 90]), 40)
    assert fitted.written.text.count("|") == 3 and fitted.written.dropped_messages == 0
    assert fitted.renderer.renderings == 2, "the shortest is tried first, and no other"
    assert Fitted(spec, conversation([90]), 40).renderer.renderings == 1


def test_many_messages_are_fitted_with_few_renderings(spec: ModelSpec) -> None:
    fitted = Fitted(spec, conversation([3] * 4001), 1000)
    assert fitted.written.dropped_messages == 4001 - 199
    assert fitted.renderer.renderings < 16 and len(fitted.runner.counted) < 16


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=9),
    system=st.sampled_from(["", "s", "be kind"]),
    n_ctx=st.integers(4, 90),
)
def test_as_few_go_as_possible(
    spec: ModelSpec, lengths: list[int], system: str, n_ctx: int
) -> None:
    messages = conversation(lengths, system)
    written = Fitted(spec, messages, n_ctx).written

    def text(cut: int) -> str:
        kept = without_oldest(messages, cut)
        return "".join(f"{message.role[0]}{message.content}|" for message in kept)

    fitting = [cut for cut in cuts(messages) if len(text(cut)) < n_ctx]
    assert written.text == text(fitting[0] if fitting else 0)
    kept = len(without_oldest(messages, fitting[0])) if fitting else len(messages)
    assert written.dropped_messages == len(messages) - kept


def test_raw_texts_and_tokens_are_prompts_as_they_are(spec: ModelSpec) -> None:
    def write(**fields: Any) -> Written:
        turn = Turn.of(spec, generate_request("m", raw=True, **fields))
        writer = PromptWriter(turn, Renderer(), Letters(), Marks("", ""))  # type: ignore[arg-type]
        return asyncio.run(writer.write())

    assert write(prompt="a {{ b }}") == Written("a {{ b }}")
    assert write(tokens=(1, 2)) == Written("", (1, 2))


def test_an_earlier_answer_comes_first(spec: ModelSpec) -> None:
    turn = Turn.of(spec, generate_request("m", "b", context=(97, 98)))
    writer = PromptWriter(turn, Renderer(), Letters(), Marks("", ""))  # type: ignore[arg-type]
    assert asyncio.run(writer.write()) == Written("abub|")


def test_what_begins_the_answer_makes_counted_tokens_useless() -> None:
    assert Written("a", (97,)).then("b") == Written("ab")
    assert Written("a", (97,), 2, 3).then("") == Written("a", (97,), 2, 3)

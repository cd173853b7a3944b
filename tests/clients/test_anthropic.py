"""Anthropic's own Python client, sync and async: messages whole and streamed, tools, thinking, counts, errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import Usage
from pydantic import BaseModel

from tests.documents import docx, paragraph
from tests.served import Daemon, until

from .conftest import ANSWER, CITY, HELLO, THOUGHTS, WEATHER, newly_loaded

HI: list[Any] = [{"role": "user", "content": "Hi"}]
FUNCTION: Any = WEATHER["function"]
TOOL: Any = {"name": "get_weather", "input_schema": FUNCTION["parameters"]}
IMAGE: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "UE5H"},
}


class City(BaseModel):
    city: str
    size: int


def prompt_tokens(usage: Usage) -> int:
    """The tokens of the whole prompt: this API counts those from the cache apart."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.fixture(scope="module")
def client(judged: Daemon) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=judged.url, api_key="none", max_retries=0) as opened:
        yield opened


def texts(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message(client: anthropic.Anthropic) -> None:
    found = client.messages.create(model="hello", max_tokens=64, messages=HI, system="Be brief.")
    assert texts(found) == HELLO and found.stop_reason == "end_turn" and found.role == "assistant"
    assert prompt_tokens(found.usage) > 0 and found.usage.output_tokens > 0
    again = client.messages.create(model="hello", max_tokens=64, messages=HI, system="Be brief.")
    assert prompt_tokens(again.usage) == prompt_tokens(found.usage)
    assert (again.usage.cache_read_input_tokens or 0) > 0


def test_a_message_about_a_document(client: anthropic.Anthropic) -> None:
    content = base64.b64encode(docx(paragraph("The meeting is on Monday. " * 20))).decode()
    source = {"type": "base64", "media_type": "application/pdf", "data": content}
    document: Any = {"type": "document", "source": source, "title": "m.docx"}
    text: Any = {"type": "text", "text": "When?"}
    messages: list[Any] = [{"role": "user", "content": [document, text]}]
    found = client.messages.create(model="hello", max_tokens=64, messages=messages)
    assert texts(found) == HELLO and prompt_tokens(found.usage) > 500
    counted = client.messages.count_tokens(model="hello", messages=messages)
    assert counted.input_tokens == prompt_tokens(found.usage)
    document["source"] = {"type": "text", "media_type": "text/plain", "data": "x" * 700}
    found = client.messages.create(model="hello", max_tokens=64, messages=messages)
    assert prompt_tokens(found.usage) > 700
    document["source"] = {**source, "data": "AAECAw=="}
    with pytest.raises(anthropic.BadRequestError, match="is of type application/octet-stream"):
        client.messages.create(model="hello", max_tokens=64, messages=messages)


def test_ends(client: anthropic.Anthropic) -> None:
    found = client.messages.create(model="rand", max_tokens=3, messages=HI)
    assert found.stop_reason == "max_tokens" and found.usage.output_tokens == 3
    found = client.messages.create(
        model="hello", max_tokens=64, messages=HI, stop_sequences=["scripted"]
    )
    assert found.stop_sequence == "scripted" and texts(found) == "Hello! I am a "


def test_a_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="hello", max_tokens=64, messages=HI) as stream:
        said = "".join(stream.text_stream)
        found = stream.get_final_message()
    assert said == texts(found) == HELLO and found.stop_reason == "end_turn"
    assert prompt_tokens(found.usage) > 1 and found.usage.output_tokens > 1


def test_a_stream_of_raw_events(client: anthropic.Anthropic) -> None:
    events = list(client.messages.create(model="hello", max_tokens=64, messages=HI, stream=True))
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]


@pytest.mark.parametrize(
    "thinking", [None, {"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}]
)
def test_thoughts(client: anthropic.Anthropic, thinking: Any) -> None:
    asked = {} if thinking is None else {"thinking": thinking}
    found = client.messages.create(model="think", max_tokens=512, messages=HI, **asked)
    thought, text = found.content
    assert thought.type == "thinking" and thought.thinking == THOUGHTS
    assert text.type == "text" and text.text == ANSWER
    with client.messages.stream(model="think", max_tokens=512, messages=HI, **asked) as stream:
        assert [block.type for block in stream.get_final_message().content] == ["thinking", "text"]
    more: list[Any] = [*HI, {"role": "assistant", "content": found.content}, *HI]
    assert texts(client.messages.create(model="think", max_tokens=512, messages=more)) == ANSWER


def test_thinking_is_left_out_for_a_model_without_it(client: anthropic.Anthropic) -> None:
    found = client.messages.create(
        model="hello",
        max_tokens=2048,
        messages=HI,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    assert texts(found) == HELLO


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "auto"},
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
    ],
)
def test_a_call_and_its_result(client: anthropic.Anthropic, choice: Any) -> None:
    asked: dict[str, Any] = {"model": "tool", "max_tokens": 200, "tools": [TOOL]}
    found = client.messages.create(messages=HI, tool_choice=choice, **asked)
    [call] = found.content
    assert call.type == "tool_use" and call.id.startswith("toolu_")
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    assert found.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "11"}
    more = [
        *HI,
        {"role": "assistant", "content": found.content},
        {"role": "user", "content": [result]},
    ]
    again = client.messages.create(messages=more, tool_choice={"type": "none"}, **asked)
    assert [block.type for block in again.content] == ["text"]


def test_a_call_streamed(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="tool", max_tokens=200, messages=HI, tools=[TOOL]) as stream:
        found = stream.get_final_message()
    assert found.content[0].type == "tool_use" and found.content[0].input == {"city": "Paris"}
    assert found.stop_reason == "tool_use"


def test_parsed(client: anthropic.Anthropic) -> None:
    found = client.messages.parse(model="city", max_tokens=64, messages=HI, output_format=City)
    assert found.parsed_output == City(**json.loads(CITY))


def test_counts(client: anthropic.Anthropic) -> None:
    short = client.messages.count_tokens(model="hello", messages=HI)
    answered = client.messages.create(model="hello", max_tokens=1, messages=HI)
    assert short.input_tokens == prompt_tokens(answered.usage)
    system = client.messages.count_tokens(model="hello", messages=HI, system="Be brief.")
    tools = client.messages.count_tokens(model="tool", messages=HI, tools=[TOOL])
    assert short.input_tokens < system.input_tokens < tools.input_tokens


def test_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model 'nosuch' not found"):
        client.messages.create(model="nosuch", max_tokens=1, messages=HI)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nosuch", max_tokens=1, messages=HI, stream=True)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nosuch", messages=HI)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required") as error:
        client.messages.create(model="hello", max_tokens=0, messages=HI)
    assert error.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
    seen: list[Any] = [{"role": "user", "content": [IMAGE]}]
    with pytest.raises(anthropic.BadRequestError, match="images"):
        client.messages.create(model="hello", max_tokens=5, messages=seen)
    with pytest.raises(anthropic.BadRequestError, match="images"):
        client.messages.count_tokens(model="hello", messages=seen)
    with pytest.raises(anthropic.BadRequestError, match="does not support tools"):
        client.messages.create(model="hello", max_tokens=5, messages=HI, tools=[TOOL])


def test_a_runner_that_dies_ends_the_stream_with_an_error(
    client: anthropic.Anthropic, judged: Daemon
) -> None:
    runner, events = newly_loaded(judged, "rand"), []
    with pytest.raises(anthropic.APIStatusError, match="api_error"):
        for event in client.messages.create(
            model="rand", max_tokens=1900, messages=HI, stream=True, extra_body={"temperature": 1}
        ):
            events.append(event)
            if len(events) == 3:
                runner.kill()
    assert events[0].type == "message_start" and events[-1].type != "message_stop"


def test_a_client_that_leaves(client: anthropic.Anthropic, judged: Daemon) -> None:
    stream = client.messages.create(model="rand", max_tokens=1900, messages=HI, stream=True)
    next(iter(stream))
    stream.close()
    until(lambda: judged.busy() == 0, "the work of who left has ended")


def test_async(judged: Daemon) -> None:
    async def ask() -> None:
        async with anthropic.AsyncAnthropic(
            base_url=judged.url, api_key="none", max_retries=0
        ) as client:
            found = await client.messages.create(model="hello", max_tokens=64, messages=HI)
            assert texts(found) == HELLO
            async with client.messages.stream(model="think", max_tokens=64, messages=HI) as stream:
                assert [text async for text in stream.text_stream]
                assert texts(await stream.get_final_message()) == ANSWER
            counted = await client.messages.count_tokens(model="hello", messages=HI)
            assert counted.input_tokens == prompt_tokens(found.usage)
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(model="nosuch", max_tokens=1, messages=HI)

    asyncio.run(ask())

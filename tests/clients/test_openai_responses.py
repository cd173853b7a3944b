"""OpenAI's own Python client, sync and async: responses, whole, streamed and parsed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.documents import docx, paragraph
from tests.served import Daemon, until

from .conftest import ANSWER, CITY, HELLO, THOUGHTS, WEATHER, newly_loaded

FUNCTION: Any = WEATHER["function"]
TOOL: Any = {"type": "function", "strict": False, **FUNCTION}


class City(BaseModel):
    city: str
    size: int


class Choice(BaseModel):
    is_right: bool


@pytest.fixture(scope="module")
def client(judged: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{judged.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_a_response(client: openai.OpenAI) -> None:
    found = client.responses.create(model="hello", input="Hi", instructions="Be brief.")
    assert found.output_text == HELLO and found.status == "completed" and found.error is None
    assert found.usage and found.usage.input_tokens > 0 and found.instructions == "Be brief."
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens


def test_a_file_stays_in_a_conversation(client: openai.OpenAI) -> None:
    content = base64.b64encode(docx(paragraph("The meeting is on Monday. " * 20))).decode()
    uri = f"data:application/msword;base64,{content}"
    file: Any = {"type": "input_file", "filename": "m.docx", "file_data": uri}
    parts: list[Any] = [file, {"type": "input_text", "text": "When?"}]
    asked: list[Any] = [{"role": "user", "content": parts}]
    found = client.responses.create(model="hello", input=asked)
    assert found.output_text == HELLO and found.usage and found.usage.input_tokens > 500
    later = client.responses.create(model="hello", input="Sure?", previous_response_id=found.id)
    assert later.usage and later.usage.input_tokens > found.usage.input_tokens
    file["file_data"] = "AAECAw=="
    with pytest.raises(openai.BadRequestError, match="is of type application/octet-stream"):
        client.responses.create(model="hello", input=asked)


def test_a_limit(client: openai.OpenAI) -> None:
    found = client.responses.create(model="rand", input="Hi", max_output_tokens=5)
    assert found.usage and found.usage.output_tokens == 5 and found.max_output_tokens == 5


def test_a_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="hello", input="Hi", temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        found = stream.get_final_response()
    assert "".join(deltas) == found.output_text == HELLO
    assert found.usage and found.usage.output_tokens > 0


def test_a_stream_of_raw_events(client: openai.OpenAI) -> None:
    stream = client.responses.create(model="think", input="Hi", stream=True)
    events = list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    thoughts = [
        each.delta for each in events if each.type == "response.reasoning_summary_text.delta"
    ]
    assert "".join(thoughts) == THOUGHTS


def test_thoughts(client: openai.OpenAI) -> None:
    found = client.responses.create(model="think", input="Hi", reasoning={"effort": "low"})
    assert found.output_text == ANSWER and found.output[0].type == "reasoning"
    assert found.output[0].summary[0].text == THOUGHTS
    again: Any = [*found.output, {"role": "user", "content": "And?"}]
    assert client.responses.create(model="think", input=again).output_text == ANSWER


@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "name": "get_weather"}]
)
def test_a_call_and_its_result(client: openai.OpenAI, choice: Any) -> None:
    first = client.responses.create(
        model="tool", input="Hi", tools=[TOOL], tool_choice=choice, parallel_tool_calls=False,
        reasoning={"effort": "none"},
    )  # fmt: skip
    [call] = first.output
    assert call.type == "function_call" and call.name == "get_weather"
    assert json.loads(call.arguments) == {"city": "Paris"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "11"}
    given: Any = [{"role": "user", "content": "Hi"}, call, result]
    second = client.responses.create(model="tool", input=given, tools=[TOOL], tool_choice="none")
    assert second.status == "completed" and second.tool_choice == "none"


def test_a_call_streamed(client: openai.OpenAI) -> None:
    with client.responses.stream(model="tool", input="Hi", tools=[TOOL]) as stream:
        kinds = [event.type for event in stream]
        [call] = stream.get_final_response().output
    assert "response.function_call_arguments.done" in kinds
    assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Paris"}


def test_parsed(client: openai.OpenAI) -> None:
    found = client.responses.parse(model="city", input="Hi", text_format=City)
    assert found.output_parsed == City(**json.loads(CITY))
    asked = client.responses.parse(model="rand", input="Hi", text_format=Choice)
    assert isinstance(asked.output_parsed, Choice)


def test_log_probabilities(client: openai.OpenAI) -> None:
    found = client.responses.create(
        model="hello", input="Hi", include=["message.output_text.logprobs"], top_logprobs=2
    )
    assert found.output[0].type == "message"
    part = found.output[0].content[0]
    assert part.type == "output_text" and part.logprobs
    assert "".join(each.token for each in part.logprobs) == HELLO
    assert {len(each.top_logprobs) for each in part.logprobs} == {2}


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="model 'nosuch' not found"):
        client.responses.create(model="nosuch", input="Hi", stream=True)
    with pytest.raises(openai.BadRequestError, match="does not support thinking"):
        client.responses.create(model="hello", input="Hi", reasoning={"effort": "high"})
    with pytest.raises(openai.BadRequestError, match="file_search") as error:
        client.responses.create(
            model="hello", input="Hi", tools=[{"type": "file_search", "vector_store_ids": []}]
        )
    assert error.value.type == "invalid_request_error"
    image: Any = {"type": "input_image", "image_url": "data:image/png;base64,UE5H"}
    with pytest.raises(openai.BadRequestError, match="images"):
        client.responses.create(model="hello", input=[{"role": "user", "content": [image]}])
    with pytest.raises(openai.BadRequestError, match="content-encoding 'zstd'"):
        client.responses.create(
            model="hello", input="Hi", extra_headers={"Content-Encoding": "zstd"}
        )


def test_a_runner_that_dies_ends_the_stream_with_a_failure(
    client: openai.OpenAI, judged: Daemon
) -> None:
    runner = newly_loaded(judged, "rand")
    stream = client.responses.create(
        model="rand",
        input="Hi",
        stream=True,
        max_output_tokens=1900,
        extra_body={"options": {"seed": 3}},
    )
    events = []
    for event in stream:
        events.append(event)
        if len(events) == 3:
            runner.kill()
    assert [each.type for each in events].count("response.failed") == 1
    last = events[-1]
    assert last.type == "response.failed" and last.response.status == "failed"
    assert last.response.error and last.response.error.code == "server_error"


def test_a_client_that_leaves(client: openai.OpenAI, judged: Daemon) -> None:
    stream = client.responses.create(model="rand", input="Hi", stream=True, max_output_tokens=1900)
    next(iter(stream))
    stream.close()
    until(lambda: judged.busy() == 0, "the work of who left has ended")


def test_async(judged: Daemon) -> None:
    async def ask() -> None:
        url = f"{judged.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            found = await client.responses.create(model="hello", input="Hi")
            assert found.output_text == HELLO
            async with client.responses.stream(model="think", input="Hi") as stream:
                kinds = [event.type async for event in stream]
                assert (await stream.get_final_response()).output_text == ANSWER
            assert kinds[-1] == "response.completed"
            parsed = await client.responses.parse(model="city", input="Hi", text_format=City)
            assert parsed.output_parsed == City(city="Rome", size=7)
            with pytest.raises(openai.NotFoundError):
                await client.responses.create(model="nosuch", input="Hi")

    asyncio.run(ask())

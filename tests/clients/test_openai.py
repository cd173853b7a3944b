"""OpenAI's own Python client, sync and async: chats, completions, embeddings, models and errors, streamed and whole."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from array import array
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.documents import docx, paragraph
from tests.served import Daemon, until

from .conftest import ANSWER, CITY, HELLO, THOUGHTS, WEATHER

HI: list[Any] = [{"role": "user", "content": "Hi"}]
IMAGE: list[Any] = [
    {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
    }
]
FOREVER: dict[str, Any] = {"model": "rand", "messages": HI, "max_tokens": 2000, "seed": 1}


class City(BaseModel):
    city: str
    size: int


@pytest.fixture(scope="module")
def client(judged: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{judged.url}/v1", api_key="none", max_retries=0) as open_client:
        yield open_client


def together(judged: Daemon, work: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Any:
    """What a coroutine makes of an async client."""

    async def run() -> Any:
        url = f"{judged.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            return await work(client)

    return asyncio.run(run())


DOCUMENT = base64.b64encode(docx(paragraph("The meeting is on Monday. " * 20))).decode()
"""A Word document of 500 characters, each of which is a token of the scripted models."""


# ---- chats -----------------------------------------------------------------------------------------------------------


def test_a_chat_about_a_document(client: openai.OpenAI) -> None:
    file: Any = {"file_data": f"data:application/msword;base64,{DOCUMENT}", "filename": "m.docx"}
    parts: list[Any] = [{"type": "text", "text": "When?"}, {"type": "file", "file": file}]
    messages: list[Any] = [{"role": "user", "content": parts}]
    found = client.chat.completions.create(model="hello", messages=messages)
    assert found.choices[0].message.content == HELLO
    assert found.usage and found.usage.prompt_tokens > 500
    file["file_data"] = "data:application/pdf;base64,AAECAw=="
    with pytest.raises(openai.BadRequestError, match="is of type application/octet-stream"):
        client.chat.completions.create(model="hello", messages=messages)


def test_a_chat(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="hello", messages=HI, temperature=0)
    assert found.choices[0].message.content == HELLO and found.choices[0].finish_reason == "stop"
    assert found.usage and found.usage.total_tokens > found.usage.prompt_tokens > 0
    again = client.chat.completions.create(model="hello", messages=HI, temperature=0)
    assert again.usage and again.usage.prompt_tokens_details
    assert again.usage.prompt_tokens_details.cached_tokens


def test_a_chat_streamed(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="hello", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    *chunks, end, usage = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == HELLO
    assert [chunk.choices[0].delta.role for chunk in chunks].count("assistant") == 1
    assert end.choices[0].finish_reason == "stop"
    assert usage.choices == [] and usage.usage and usage.usage.completion_tokens


def test_limits_and_stops(client: openai.OpenAI) -> None:
    for limit in ({"max_tokens": 2}, {"max_completion_tokens": 2}):
        found = client.chat.completions.create(model="rand", messages=HI, **limit)  # type: ignore[call-overload]
        assert found.choices[0].finish_reason == "length" and found.usage.completion_tokens == 2
    stopped = client.chat.completions.create(model="hello", messages=HI, stop="scripted")
    assert stopped.choices[0].message.content == HELLO.partition("scripted")[0]


@pytest.mark.parametrize("num_ctx", [-(2**31), -4, 0, 1, 2**40])
def test_a_context_of_any_size(client: openai.OpenAI, num_ctx: int) -> None:
    found = client.chat.completions.create(
        model="rand", messages=HI, max_tokens=2, extra_body={"num_ctx": num_ctx}
    )
    assert found.usage and found.usage.completion_tokens == 2


def test_several_choices(client: openai.OpenAI) -> None:
    def texts(n: int, seed: int) -> list[str | None]:
        found = client.chat.completions.create(
            model="rand", messages=HI, n=n, seed=seed, max_tokens=12
        )
        assert [choice.index for choice in found.choices] == list(range(n))
        assert found.usage and found.usage.completion_tokens == 12 * n
        return [choice.message.content for choice in found.choices]

    three = texts(3, seed=7)
    assert len(set(three)) == 3
    assert [texts(1, seed=seed) for seed in (7, 8, 9)] == [[text] for text in three]


def test_several_choices_streamed(client: openai.OpenAI) -> None:
    said = ["", ""]
    ends = []
    for chunk in client.chat.completions.create(model="hello", messages=HI, n=2, stream=True):
        (choice,) = chunk.choices
        said[choice.index] += choice.delta.content or ""
        ends += [choice.index] if choice.finish_reason else []
    assert said == [HELLO, HELLO] and sorted(ends) == [0, 1]


def test_log_probabilities(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="rand", messages=HI, max_tokens=3, logprobs=True, top_logprobs=2
    )
    logprobs = found.choices[0].logprobs
    assert logprobs and logprobs.content and len(logprobs.content) == 3
    for each in logprobs.content:
        assert len(each.top_logprobs) == 2 and each.logprob <= 0 and each.bytes


def test_a_bias_makes_a_token_certain(client: openai.OpenAI, judged: Daemon) -> None:
    text = judged.ask("POST", "/api/detokenize", {"model": "rand", "tokens": [300]}).json()["text"]
    found = client.chat.completions.create(
        model="rand", messages=HI, max_tokens=2, logit_bias={"300": 100}
    )
    assert (found.choices[0].message.content or "").split() == [text.strip() * 2]


def test_json_and_schemas(client: openai.OpenAI) -> None:
    schema: Any = {"type": "json_schema", "json_schema": {"name": "c", "schema": City.model_json_schema()}}  # fmt: skip
    forms: list[Any] = [{"type": "json_object"}, schema]
    for form in forms:
        found = client.chat.completions.create(model="city", messages=HI, response_format=form)
        assert json.loads(found.choices[0].message.content or "") == json.loads(CITY)


def test_an_answer_parsed(client: openai.OpenAI) -> None:
    found = client.chat.completions.parse(model="city", messages=HI, response_format=City)
    assert found.choices[0].message.parsed == City(city="Rome", size=7)


def test_an_answer_parsed_while_it_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="city", messages=HI, response_format=City) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"content.delta", "content.done"} <= kinds
    assert final.choices[0].message.parsed == City(city="Rome", size=7)


def test_thinking(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="think", messages=HI, reasoning_effort="high")
    message = found.choices[0].message
    assert message.content == ANSWER and message.model_extra
    assert message.model_extra["reasoning"] == THOUGHTS
    without = client.chat.completions.create(model="think", messages=HI, reasoning_effort="none")
    assert "reasoning" not in (without.choices[0].message.model_extra or {})


# ---- tools -----------------------------------------------------------------------------------------------------------


def test_a_tool_is_called_and_its_result_read(client: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    found = client.chat.completions.create(model="tool", messages=HI, tools=tools)
    assert found.choices[0].finish_reason == "tool_calls"
    message = found.choices[0].message
    assert message.tool_calls
    call = message.tool_calls[0]
    assert call.type == "function" and call.id
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "11 degrees"}
    history = [
        *HI,
        message.model_dump(),
        result,
    ]  # as many send it back: with null for what is not there
    after = client.chat.completions.create(model="tool", messages=history)
    assert after.choices[0].message.content


def test_a_call_while_it_streams(client: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    with client.chat.completions.stream(model="tool", messages=HI, tools=tools) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in kinds
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert (
        calls and calls[0].type == "function" and calls[0].function.arguments == '{"city":"Paris"}'
    )


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "get_weather"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "get_weather"}}],
            },
        },
    ],
)
def test_a_tool_that_must_be_called(client: openai.OpenAI, choice: Any) -> None:
    tools: Any = [WEATHER, {"type": "function", "function": {"name": "other"}}]
    found = client.chat.completions.create(
        model="tool", messages=HI, tools=tools, tool_choice=choice, parallel_tool_calls=False
    )
    calls = found.choices[0].message.tool_calls
    assert calls and len(calls) == 1
    call = calls[0]
    assert call.type == "function" and call.function.name == "get_weather"


def test_no_tool_is_called_where_none_may_be(client: openai.OpenAI) -> None:
    tools: Any = [WEATHER]
    found = client.chat.completions.create(
        model="tool", messages=HI, tools=tools, tool_choice="none"
    )
    assert not found.choices[0].message.tool_calls and found.choices[0].finish_reason == "stop"


# ---- completions -----------------------------------------------------------------------------------------------------


def test_a_completion(client: openai.OpenAI) -> None:
    found = client.completions.create(model="hello", prompt="Hi", temperature=0)
    assert found.choices[0].text == HELLO and found.choices[0].finish_reason == "stop"
    assert found.usage and found.usage.prompt_tokens > 2


def test_a_completion_streamed_after_its_prompt(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="hello", prompt="Hi", echo=True, stream=True, stream_options={"include_usage": True}
    )
    *chunks, usage = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hi" + HELLO
    assert chunks[-1].choices[0].finish_reason == "stop" and chunks[-1].usage is None
    assert usage.choices == [] and usage.usage and usage.usage.completion_tokens


def test_several_prompts_with_several_choices(client: openai.OpenAI) -> None:
    found = client.completions.create(
        model="hello", prompt=["a", "bcd"], n=2, echo=True, max_tokens=40
    )
    texts = [choice.text for choice in found.choices]
    assert texts == ["a" + HELLO] * 2 + ["bcd" + HELLO] * 2
    one = client.completions.create(model="hello", prompt="a", max_tokens=40).usage
    assert one and found.usage
    assert found.usage.prompt_tokens == 2 * one.prompt_tokens + 2
    assert found.usage.completion_tokens == 4 * one.completion_tokens


def test_token_ids(client: openai.OpenAI, judged: Daemon) -> None:
    body = {"model": "rand", "text": "ba ke", "add_special": False}
    tokens = judged.ask("POST", "/api/tokenize", body).json()["tokens"]
    one = client.completions.create(model="rand", prompt=tokens, seed=1, max_tokens=5, echo=True)
    assert one.usage and one.usage.prompt_tokens == len(tokens)
    assert one.choices[0].text.startswith("ba ke")
    two = client.completions.create(model="rand", prompt=[tokens, tokens], seed=1, max_tokens=5)
    assert [choice.text for choice in two.choices] == [
        one.choices[0].text.removeprefix("ba ke")
    ] * 2


def test_log_probabilities_of_a_completion(client: openai.OpenAI) -> None:
    found = client.completions.create(model="rand", prompt="Hi", max_tokens=3, logprobs=2)
    logprobs = found.choices[0].logprobs
    assert logprobs and logprobs.tokens and logprobs.text_offset and logprobs.token_logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 3
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])
    assert logprobs.top_logprobs and max(map(len, logprobs.top_logprobs)) == 2


# ---- vectors ---------------------------------------------------------------------------------------------------------


def test_embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="vectors", input=["ba ke", "me"])
    assert [each.index for each in found.data] == [0, 1] and found.usage.prompt_tokens > 2
    for each in found.data:
        assert math.isclose(math.hypot(*each.embedding), 1, abs_tol=1e-4)
    plain = client.embeddings.create(model="vectors", input="ba ke", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(found.data[0].embedding, abs=1e-6)
    short = client.embeddings.create(model="vectors", input="ba ke", dimensions=8)
    assert len(short.data[0].embedding) == 8


def test_embeddings_of_token_ids(client: openai.OpenAI, judged: Daemon) -> None:
    body = {"model": "vectors", "text": "ba ke"}
    tokens = judged.ask("POST", "/api/tokenize", body).json()["tokens"]
    text = client.embeddings.create(model="vectors", input="ba ke").data[0].embedding
    for given in (tokens, [tokens]):
        (found,) = client.embeddings.create(model="vectors", input=given).data
        assert found.embedding == pytest.approx(text, abs=1e-4)


def test_embeddings_packed(judged: Daemon) -> None:
    body = {"model": "vectors", "input": "ba ke", "encoding_format": "base64"}
    (found,) = judged.ask("POST", "/v1/embeddings", body).json()["data"]
    packed = array("f", base64.b64decode(found["embedding"]))
    (plain,) = judged.ask("POST", "/v1/embeddings", {**body, "encoding_format": "float"}).json()["data"]  # fmt: skip
    assert list(packed) == pytest.approx(plain["embedding"], abs=1e-6)


def test_rerank(judged: Daemon) -> None:
    body = {"model": "rank", "query": "ba", "documents": ["ke", {"text": "ba"}, "me"], "top_n": 2}
    found = judged.ask("POST", "/v1/rerank", {**body, "return_documents": True}).json()
    scores = [each["relevance_score"] for each in found["results"]]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True)
    assert (
        found["results"][0]["document"]["text"] == ["ke", "ba", "me"][found["results"][0]["index"]]
    )
    assert found["usage"]["total_tokens"] > 0
    short = judged.ask("POST", "/v1/rerank", body).json()
    assert "document" not in short["results"][0]


# ---- models ----------------------------------------------------------------------------------------------------------


def test_models(client: openai.OpenAI) -> None:
    found = {model.id: model for model in client.models.list()}
    assert {"hello:latest", "rand:latest"} <= set(found)
    assert found["hello:latest"].owned_by == "library" and found["hello:latest"].created
    assert client.models.retrieve("hello").id == "hello"


def test_names_with_slashes(client: openai.OpenAI, judged: Daemon) -> None:
    assert judged.ask(
        "POST", "/api/copy", {"source": "hello", "destination": "someone/hello:small"}
    ).status == 200  # fmt: skip
    assert client.models.retrieve("someone/hello:small").owned_by == "someone"
    assert judged.ask("GET", "/v1/models/someone/hello:small").json()["owned_by"] == "someone"
    found = client.chat.completions.create(model="someone/hello:small", messages=HI)
    assert found.choices[0].message.content == HELLO
    assert judged.ask("DELETE", "/api/delete", {"model": "someone/hello:small"}).status == 200


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_unknown_models(client: openai.OpenAI) -> None:
    for ask in (
        lambda: client.models.retrieve("nosuch"),
        lambda: client.models.retrieve("a/nosuch:x"),
        lambda: client.chat.completions.create(model="nosuch", messages=HI),
        lambda: client.chat.completions.create(model="nosuch", messages=HI, stream=True, n=2),
        lambda: client.completions.create(model="nosuch", prompt="Hi"),
        lambda: client.embeddings.create(model="nosuch", input="Hi"),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            ask()
        assert error.value.type == "not_found_error" and "nosuch" in str(error.value)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("chat/completions", {}, "too short"),
        ("chat/completions", [], "unmarshal array"),
        ("chat/completions", {"messages": HI, "n": 1000}, "n must be"),
        ("chat/completions", {"messages": HI, "tools": [WEATHER]}, "does not support tools"),
        ("chat/completions", {"messages": HI, "reasoning_effort": "low"}, "support thinking"),
        (
            "chat/completions",
            {"messages": HI, "logit_bias": {"999999": 1}},
            "logit_bias|vocabulary",
        ),
        ("chat/completions", {"messages": IMAGE}, "does not support multimodal"),
        ("chat/completions", {"messages": HI, "model": "vectors"}, "does not support chat"),
        ("chat/completions", {"messages": HI, "model": "///"}, "invalid model name"),
        ("chat/completions", {"messages": HI, "model": 5}, "of type string"),
        ("completions", {"prompt": 5}, "invalid prompt"),
        ("completions", {"prompt": []}, "invalid prompt"),
        ("completions", {"prompt": ["a", 5]}, "invalid prompt"),
        ("completions", {"prompt": [-1]}, "invalid prompt"),
        ("completions", {"prompt": [[1], []]}, "invalid prompt"),
        ("completions", {"prompt": [True]}, "invalid prompt"),
        ("completions", {"prompt": [10**6]}, "vocabulary"),
        ("completions", {"prompt": [10**6], "echo": True}, "vocabulary"),
        ("completions", {"prompt": "a", "suffix": "b"}, "does not support insert"),
        ("completions", {"prompt": [1], "suffix": "b"}, "suffix needs"),
        ("completions", {"prompt": "a", "best_of": 3}, "best_of is not supported"),
        (
            "completions",
            {"prompt": "a", "suffix": "b", "echo": True, "logprobs": 1},
            "logprobs of a prompt",
        ),
        ("completions", {"prompt": "a", "logprobs": 50}, "top_logprobs"),
        ("completions", {"prompt": "a", "logprobs": True}, "of type int"),
        ("completions", {"prompt": ["a"] * 100, "n": 100}, "at most 2048"),
        ("completions", {"prompt": ["a", ""]}, r"prompt\[1\] is empty"),
        ("embeddings", {}, "invalid input"),
        ("embeddings", {"input": []}, "invalid input"),
        ("embeddings", {"input": {}}, "invalid input"),
        ("embeddings", {"input": ["a", [1.5]]}, "invalid input"),
        ("embeddings", {"input": ["a", ""]}, r"input\[1\] is empty"),
        ("embeddings", {"input": [10**6]}, "vocabulary"),
        ("embeddings", {"input": "a", "dimensions": -1}, "dimensions"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("embeddings", {"input": "a", "encoding_format": 5}, "of type string"),
        ("rerank", {}, "query is required"),
        ("rerank", {"query": "a"}, "documents must be"),
        ("rerank", {"query": "a", "documents": [5]}, r"documents\[0\]"),
        ("rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ("rerank", {"query": "a", "documents": ["b"]}, "rerank"),
    ],
)
def test_what_is_refused(client: openai.OpenAI, path: str, body: Any, message: str) -> None:
    if isinstance(body, dict):
        body = {"model": "hello", **body}
    with pytest.raises(openai.BadRequestError, match=message) as error:
        client.post(f"/{path}", body=body, cast_to=object)
    assert error.value.type == "invalid_request_error"


def test_a_failed_stream_ends_with_an_error(client: openai.OpenAI, judged: Daemon) -> None:
    stream = client.chat.completions.create(stream=True, **FOREVER)
    next(stream)
    for runner in judged.runners():
        runner.kill()
    with pytest.raises(openai.APIError, match="runner ended"):
        for _ in stream:
            pass
    hello = {"model": "hello", "prompt": "Hi"}
    until(lambda: judged.ask("POST", "/v1/completions", hello).status == 200, "the daemon goes on")


def test_a_broken_stream_is_done_too(judged: Daemon) -> None:
    answer = judged.open("POST", "/v1/chat/completions", {**FOREVER, "stream": True, "n": 2})
    answer.response.readline()
    for runner in judged.runners():
        runner.kill()
    *_, error, done = answer.read().decode().strip().split("\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["type"] == "api_error"
    assert done == "data: [DONE]"


def test_who_leaves_stops_all_choices(client: openai.OpenAI, judged: Daemon) -> None:
    stream = client.chat.completions.create(stream=True, n=4, **FOREVER)
    next(stream)
    stream.close()
    until(lambda: judged.busy() == 0, "the choices end")


# ---- async -----------------------------------------------------------------------------------------------------------


def test_the_async_client(judged: Daemon) -> None:
    async def work(client: openai.AsyncOpenAI) -> None:
        found = await client.chat.completions.create(model="hello", messages=HI)
        assert found.choices[0].message.content == HELLO
        text = ""
        async for chunk in await client.chat.completions.create(
            model="hello", messages=HI, stream=True
        ):
            text += chunk.choices[0].delta.content or ""
        assert text == HELLO
        parsed = await client.chat.completions.parse(
            model="city", messages=HI, response_format=City
        )
        assert parsed.choices[0].message.parsed == City(city="Rome", size=7)
        completions = await asyncio.gather(
            *(client.completions.create(model="hello", prompt=str(i)) for i in range(8))
        )
        assert {each.choices[0].text for each in completions} == {HELLO}
        vectors = await client.embeddings.create(model="vectors", input=["a", "b"])
        assert len(vectors.data) == 2
        assert "hello:latest" in [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nosuch", messages=HI)

    together(judged, work)

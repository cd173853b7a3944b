"""LangChain's client of Ollama: chats, texts, vectors, tools and forms, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

import ollama
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel, Field

from tests.served import Daemon

from .conftest import ANSWER, CITY, HELLO, THOUGHTS


class City(BaseModel):
    """A city and its size"""

    city: str = Field(max_length=8)
    size: int = Field(ge=0, le=9)


@tool
def get_weather(city: str) -> str:
    """The weather of a city"""
    return f"{city} is sunny."


def chat(judged: Daemon, model: str, **more: Any) -> ChatOllama:
    return ChatOllama(model=model, base_url=judged.url, temperature=0, num_predict=200, **more)


def test_invoke(judged: Daemon) -> None:
    hello = chat(judged, "hello", validate_model_on_init=True, keep_alive="5m", stop=["never"])
    answer = hello.invoke([SystemMessage("Be kind."), HumanMessage("Hi")])
    assert answer.content == HELLO
    assert answer.response_metadata["done_reason"] == "stop"
    usage = answer.usage_metadata
    assert usage and usage["output_tokens"] and usage["input_tokens"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert [each.content for each in hello.batch(["a", "b", "c"])] == [HELLO] * 3


def test_stream(judged: Daemon) -> None:
    chunks = list(chat(judged, "hello").stream("Hi"))
    assert "".join(str(chunk.content) for chunk in chunks) == HELLO and len(chunks) > 2


def test_async(judged: Daemon) -> None:
    async def run() -> None:
        hello = chat(judged, "hello")
        assert (await hello.ainvoke("Hi")).content == HELLO
        assert "".join([str(chunk.content) async for chunk in hello.astream("Hi")]) == HELLO
        assert [each.content for each in await hello.abatch(["a", "b"])] == [HELLO] * 2

    asyncio.run(run())


def test_tools(judged: Daemon) -> None:
    able = chat(judged, "tool").bind_tools([get_weather])
    answer = able.invoke("How is Paris?")
    assert isinstance(answer, AIMessage)
    [call] = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"}) and call["id"]
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage) and result.content == "Paris is sunny."
    assert able.invoke([HumanMessage("How is Paris?"), answer, result])
    whole: Any = None
    for chunk in able.stream("How is Paris?"):
        whole = chunk if whole is None else whole + chunk
    assert whole and [each["args"] for each in getattr(whole, "tool_calls", [])] == [
        {"city": "Paris"}
    ]


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_a_form(judged: Daemon, method: Any) -> None:
    model = "rand" if method == "json_schema" else "city"
    found = chat(judged, model).with_structured_output(City, method=method).invoke("Which?")
    assert isinstance(found, City)
    assert model == "rand" or found == City.model_validate_json(CITY)


def test_a_form_by_a_tool(judged: Daemon) -> None:
    """A model that calls another tool than the one of the form gives none."""
    asked = chat(judged, "tool").with_structured_output(
        City, method="function_calling", include_raw=True
    )
    found = asked.invoke("Which?")
    assert isinstance(found, dict) and found["parsed"] is None


def test_thinking(judged: Daemon) -> None:
    answer = chat(judged, "think", reasoning=True).invoke("Why?")
    assert (answer.content, answer.additional_kwargs["reasoning_content"]) == (ANSWER, THOUGHTS)


def test_texts(judged: Daemon) -> None:
    hello = OllamaLLM(model="hello", base_url=judged.url, temperature=0)
    assert hello.invoke("Hi") == HELLO == "".join(hello.stream("Hi"))

    async def run() -> None:
        assert await hello.ainvoke("Hi") == HELLO
        assert "".join([piece async for piece in hello.astream("Hi")]) == HELLO

    asyncio.run(run())


def test_vectors(judged: Daemon) -> None:
    vectors = OllamaEmbeddings(model="vectors", base_url=judged.url)
    documents = vectors.embed_documents(["one text", "another"])
    assert [len(each) for each in documents] == [64, 64]
    assert vectors.embed_query("one text") == pytest.approx(documents[0], abs=1e-4)
    assert len(asyncio.run(vectors.aembed_query("one text"))) == 64


def test_errors(judged: Daemon) -> None:
    with pytest.raises(ollama.ResponseError) as error:
        chat(judged, "absent").invoke("Hi")
    assert error.value.status_code == 404
    with pytest.raises(ValueError, match="not found"):
        chat(judged, "absent", validate_model_on_init=True)
    with pytest.raises(ollama.ResponseError, match="does not support tools"):
        chat(judged, "hello").bind_tools([get_weather]).invoke("Hi")

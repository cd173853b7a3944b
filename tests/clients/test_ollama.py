"""Ollama's own Python client, sync and async: every method that has to do with this machine, streamed and whole."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest
from pydantic import BaseModel, Field

from tests.registry.fake_hub import FakeHub
from tests.registry.test_upload import Elsewhere, there
from tests.served import Daemon
from tests.small_models import scripted_model

from .conftest import ANSWER, CITY, HELLO, THOUGHTS, WEATHER

__all__ = ["there"]

HI = [{"role": "user", "content": "Hi"}]
COLD = {"temperature": 0, "num_predict": 16}


@pytest.fixture(scope="module")
def client(judged: Daemon) -> Iterator[ollama.Client]:
    with ollama.Client(judged.url) as open_client:
        yield open_client


def together(judged: Daemon, work: Callable[[ollama.AsyncClient], Awaitable[Any]]) -> Any:
    """What a coroutine makes of an async client."""

    async def run() -> Any:
        async with ollama.AsyncClient(judged.url) as client:
            return await work(client)

    return asyncio.run(run())


# ---- generate and chat -----------------------------------------------------------------------------------------------


def test_generate(client: ollama.Client) -> None:
    answer = client.generate("hello", "Hi")
    assert (answer.response, answer.done, answer.done_reason) == (HELLO, True, "stop")
    assert answer.prompt_eval_count and answer.eval_count and answer.context
    chunks = list(client.generate("hello", "Hi", stream=True))
    assert "".join(chunk.response or "" for chunk in chunks) == HELLO
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].eval_count == answer.eval_count


def test_generate_s_other_arguments(client: ollama.Client) -> None:
    base = client.generate("rand", "Hi", options=COLD)
    more = client.generate("rand", "Hi", options=COLD, context=base.context)
    assert more.prompt_eval_count and base.prompt_eval_count
    assert more.prompt_eval_count > base.prompt_eval_count
    raw = client.generate("rand", "Hi", raw=True, options=COLD)
    own = client.generate("rand", "Hi", template="{{ .Prompt }}", options=COLD)
    assert raw.response == own.response != base.response and raw.context is None
    kept = client.generate("rand", "Hi", system="Be kind.", keep_alive="10m", options=COLD)
    assert kept.prompt_eval_count and kept.prompt_eval_count > base.prompt_eval_count
    with pytest.raises(ollama.ResponseError, match="does not support insert") as error:
        client.generate("hello", "a", suffix="b")
    assert error.value.status_code == 400
    client.create("gap", from_="rand", template="<{{ .Suffix }}>{{ .Prompt }}")
    assert client.generate("gap", "a", suffix="b", options=COLD).done_reason == "length"
    client.delete("gap")


def test_loading_and_unloading(client: ollama.Client) -> None:
    assert client.generate("city").done_reason == "load"
    assert "city:latest" in [each.model for each in client.ps().models]
    assert client.generate("city", keep_alive=0).done_reason == "unload"
    assert "city:latest" not in [each.model for each in client.ps().models]


def test_chat(client: ollama.Client) -> None:
    answer = client.chat("hello", HI)
    assert (answer.message.role, answer.message.content) == ("assistant", HELLO)
    assert answer.done_reason == "stop" and answer.total_duration
    chunks = list(client.chat("hello", HI, stream=True))
    assert "".join(chunk.message.content or "" for chunk in chunks) == HELLO
    assert chunks[-1].done and chunks[-1].eval_count == answer.eval_count


def test_options_as_the_client_types_them(client: ollama.Client) -> None:
    options = ollama.Options(temperature=0, num_predict=3, seed=1, stop=["never"], num_ctx=512)
    answer = client.generate("rand", "Hi", options=options)
    assert (answer.eval_count, answer.done_reason) == (3, "length")


def test_a_form_of_the_answer(client: ollama.Client) -> None:
    class City(BaseModel):
        city: str = Field(max_length=8)
        size: int = Field(ge=0, le=9)

    options = {"temperature": 0, "num_predict": 200}
    given = client.chat("rand", HI, format=City.model_json_schema(), options=options)
    City.model_validate_json(given.message.content or "")
    loose = client.generate("city", "Hi", format="json")
    assert json.loads(loose.response or "") == json.loads(CITY)


def get_weather(city: str) -> str:
    """The weather of a city

    Args:
      city: Its name
    """
    return f"{city} is sunny."


@pytest.mark.parametrize("tool", [get_weather, WEATHER])
def test_tools(client: ollama.Client, tool: Any) -> None:
    answer = client.chat("tool", HI, tools=[tool])
    [call] = answer.message.tool_calls or ()
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Paris"})
    assert not answer.message.content
    result = {"role": "tool", "tool_name": "get_weather", "content": get_weather("Paris")}
    assert client.chat("tool", [*HI, answer.message, result], tools=[tool]).done
    streamed = list(client.chat("tool", HI, tools=[tool], stream=True))
    [again] = [call for chunk in streamed for call in chunk.message.tool_calls or ()]
    assert again.function.arguments == {"city": "Paris"}


def test_thinking(client: ollama.Client) -> None:
    answer = client.chat("think", HI, think=True)
    assert (answer.message.thinking, answer.message.content) == (THOUGHTS, ANSWER)
    chunks = list(client.chat("think", HI, think=True, stream=True))
    assert "".join(chunk.message.thinking or "" for chunk in chunks) == THOUGHTS
    assert "".join(chunk.message.content or "" for chunk in chunks) == ANSWER
    assert client.generate("think", "Hi", think=True).thinking == THOUGHTS
    with pytest.raises(ollama.ResponseError, match="does not support thinking"):
        client.chat("hello", HI, think=True)


def test_logprobs(client: ollama.Client) -> None:
    answer = client.chat("rand", HI, logprobs=True, top_logprobs=2, options=COLD)
    assert len(answer.logprobs or ()) == answer.eval_count == 16
    for each in answer.logprobs or ():
        first, second = each.top_logprobs or ()
        assert each.token == first.token and 0 >= first.logprob >= second.logprob
    streamed = client.generate("rand", "Hi", logprobs=True, stream=True, options=COLD)
    assert sum(len(chunk.logprobs or ()) for chunk in streamed) == 16


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_images_for_a_model_that_cannot_see(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match='"hello" does not support multi') as error:
        client.generate("hello", "What is it?", images=[PIXEL])
    assert error.value.status_code == 400
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match='"hello" does not support multi'):
            asked = [{"role": "user", "content": "What is it?", "images": [PIXEL]}]
            list(client.chat("hello", asked, stream=stream))


# ---- vectors ---------------------------------------------------------------------------------------------------------


def test_embeddings(client: ollama.Client) -> None:
    found = client.embed("vectors", ["some text", "another"])
    assert [len(vector) for vector in found.embeddings] == [64, 64]
    assert math.isclose(sum(x * x for x in found.embeddings[0]), 1, abs_tol=1e-5)
    short = client.embed(
        "vectors", "some text", dimensions=8, truncate=True, options={"num_ctx": 64}
    )
    assert len(short.embeddings[0]) == 8 and short.prompt_eval_count
    assert client.embed("vectors", []).embeddings == []
    assert len(client.embeddings("vectors", "some text").embedding) == 64
    assert len(client.embed("rand", "a model that chats").embeddings[0]) == 64
    with pytest.raises(ollama.ResponseError, match="exceeds") as error:
        client.embed("vectors", "long " * 200, truncate=False)
    assert error.value.status_code == 400


# ---- models ----------------------------------------------------------------------------------------------------------


def test_list_show_ps(client: ollama.Client) -> None:
    names = [each.model for each in client.list().models]
    assert {"hello:latest", "vectors:latest"} <= set(names)
    shown = client.show("tool")
    assert shown.capabilities and {"completion", "tools"} <= set(shown.capabilities)
    assert shown.modelinfo and shown.modelinfo["general.architecture"] == "llama"
    assert shown.details and shown.details.format == "gguf" and shown.template
    client.generate("hello")
    [running] = [each for each in client.ps().models if each.model == "hello:latest"]
    assert running.size and running.expires_at and running.context_length
    assert running.details and running.details.family == "llama"


def test_copy_and_delete(client: ollama.Client) -> None:
    assert client.copy("hello", "copied").status == "success"
    assert client.generate("copied", "Hi").response == HELLO
    assert client.delete("copied").status == "success"
    with pytest.raises(ollama.ResponseError, match="not found") as error:
        client.delete("copied")
    assert error.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="not found") as error:
        client.copy("copied", "again")
    assert error.value.status_code == 404


def test_create_from_a_model(client: ollama.Client) -> None:
    made = client.create(
        "made",
        from_="rand",
        system="Be kind.",
        template="{{ .System }} {{ .Prompt }}",
        license=["MIT"],
        parameters={"temperature": 0, "stop": ["x", "y"]},
        messages=[ollama.Message(role="user", content="a"), ollama.Message(role="assistant", content="b")],
    )  # fmt: skip
    assert made.status == "success"
    shown = client.show("made")
    assert (shown.template, shown.license) == ("{{ .System }} {{ .Prompt }}", "MIT")
    assert shown.parameters and shown.parameters.count("stop") == 2
    steps = [step.status for step in client.create("made", from_="hello", stream=True)]
    assert steps[-1] == "success" and "writing manifest" in steps
    client.delete("made")


def test_create_from_a_file(client: ollama.Client, tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "new.gguf", "Something else is said.")
    digest = client.create_blob(path)
    assert client.create("fresh", files={"new.gguf": digest}).status == "success"
    assert client.generate("fresh", "Hi").response == "Something else is said."
    small = [
        s.status
        for s in client.create("small", files={"new.gguf": digest}, quantize="q8_0", stream=True)
    ]
    assert any("quantizing" in (status or "") for status in small)
    assert client.show("small").details.quantization_level == "Q8_0"  # type: ignore[union-attr]
    client.delete("fresh")
    client.delete("small")


def test_pull(client: ollama.Client, hub: FakeHub) -> None:
    steps = list(client.pull("hf.co/me/repo", stream=True))
    assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
    moved = [step for step in steps if step.digest]
    assert moved[-1].completed == moved[-1].total and moved[-1].total
    assert client.pull("hf.co/me/repo").status == "success"
    assert client.chat("hf.co/me/repo", HI).message.content == HELLO
    client.delete("hf.co/me/repo")
    with pytest.raises(ollama.ResponseError) as error:
        client.pull("hf.co/me/absent")
    assert error.value.status_code in (404, 500) and "me/absent" in error.value.error
    with pytest.raises(ollama.ResponseError):
        list(client.pull("hf.co/me/absent", stream=True))


def test_push(client: ollama.Client, there: Elsewhere) -> None:
    name = f"{there.url.removeprefix('http://')}/me/model:1"
    client.copy("hello", name)
    assert client.push(name, insecure=True).status == "success"
    assert there.manifests and len(there.blobs) >= 2
    assert [step.status for step in client.push(name, insecure=True, stream=True)][-1] == "success"
    client.delete(name)
    with pytest.raises(ollama.ResponseError):
        client.push(name, insecure=True)


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_errors(client: ollama.Client) -> None:
    for ask in (
        lambda: client.generate("absent", "Hi"),
        lambda: client.chat("absent", HI),
        lambda: client.embed("absent", "Hi"),
        lambda: client.embeddings("absent", "Hi"),
        lambda: client.show("absent"),
        lambda: list(client.chat("absent", HI, stream=True)),
    ):
        with pytest.raises(ollama.ResponseError, match="not found") as error:
            ask()
        assert error.value.status_code == 404
    for options in ({"temperature": "hot"}, {"num_ctx": [1]}):
        with pytest.raises(ollama.ResponseError, match="must be of type") as error:
            client.generate("hello", "Hi", options=options)
        assert error.value.status_code == 400
    with pytest.raises(ollama.ResponseError) as error:
        client.chat("vectors", HI)
    assert (error.value.status_code, error.value.error) == (400, '"vectors" does not support chat')


def test_what_is_not_here(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as error:
        client.systemone("hello", "a state", {})
    assert error.value.status_code == 404


# ---- async -----------------------------------------------------------------------------------------------------------


def test_async_answers(judged: Daemon) -> None:
    async def work(client: ollama.AsyncClient) -> None:
        assert (await client.generate("hello", "Hi")).response == HELLO
        assert (await client.chat("hello", HI)).message.content == HELLO
        text = [
            chunk.response or ""
            async for chunk in await client.generate("hello", "Hi", stream=True)
        ]
        assert "".join(text) == HELLO
        chunks = [chunk async for chunk in await client.chat("think", HI, think=True, stream=True)]
        assert "".join(chunk.message.thinking or "" for chunk in chunks) == THOUGHTS
        answer = await client.chat("tool", HI, tools=[get_weather])
        assert answer.message.tool_calls
        assert len((await client.embed("vectors", ["a", "b"])).embeddings) == 2
        assert len((await client.embeddings("vectors", "a")).embedding) == 64

    together(judged, work)


def test_async_models(judged: Daemon, hub: FakeHub, there: Elsewhere, tmp_path: Path) -> None:
    path = scripted_model(tmp_path / "new.gguf", "Said by the async one.")
    name = f"{there.url.removeprefix('http://')}/me/model:2"

    async def work(client: ollama.AsyncClient) -> None:
        assert (await client.list()).models and (await client.show("hello")).modelinfo
        assert (await client.ps()).models is not None
        digest = await client.create_blob(path)
        created = await client.create("async", files={"new.gguf": digest}, stream=True)
        assert [step.status async for step in created][-1] == "success"
        await client.copy("async", name)
        assert (await client.push(name, insecure=True)).status == "success"
        pulled = await client.pull("hf.co/me/repo", stream=True)
        assert [step.status async for step in pulled][-1] == "success"
        for each in ("async", name, "hf.co/me/repo"):
            assert (await client.delete(each)).status == "success"
        with pytest.raises(ollama.ResponseError) as error:
            await client.show("async")
        assert error.value.status_code == 404

    together(judged, work)


def test_many_at_once_and_one_who_leaves(judged: Daemon) -> None:
    """Answers are not mixed up, and one that is broken off is the only one that ends."""

    async def work(client: ollama.AsyncClient) -> None:
        long = await client.chat("rand", HI, stream=True, options={"num_predict": 1500})
        await anext(aiter(long))
        others = [client.chat(name, HI) for name in ("hello", "think") * 4]
        answers = await asyncio.gather(*others)
        assert {answer.message.content for answer in answers} == {HELLO, ANSWER}
        await long.aclose()  # type: ignore[attr-defined]

    together(judged, work)

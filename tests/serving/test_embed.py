"""Embeddings, scores and tokens: their requests, the runner's part, and a real daemon that serves other requests meanwhile."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollamapy.errors import InvalidRequest, NotEnoughMemory
from ollamapy.fleet import fit as memory
from ollamapy.request import DetokenizeRequest, EmbedRequest, TokenizeRequest
from ollamapy.serving import embed
from ollamapy.types import Embeddings, Options, Scores
from ollamapy.web.ollama import vectors as api
from tests.fakes import CALLER, made
from tests.served import Daemon, command, environment, serve, until
from tests.small_models import CHATML, bert_model, install, random_model, scripted_model


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


# ---- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ("", ()), ([], ()), (None, ())],
)
def test_inputs(given: Any, inputs: tuple[str, ...]) -> None:
    assert api.parse_embed(body(input=given)).inputs == inputs


@pytest.mark.parametrize("given", [5, True, {"a": 1}, ["a", 5], [["a"]], [None]])
def test_inputs_of_a_wrong_type(given: Any) -> None:
    with pytest.raises(InvalidRequest, match="^invalid input type$"):
        api.parse_embed(body(input=given))


def test_an_empty_text_among_others_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"input\[1\] is empty"):
        api.parse_embed(body(input=["a", "", "b"]))


def test_the_other_fields() -> None:
    request = api.parse_embed(
        body(Input="a", truncate=False, dimensions=8, keep_alive="5m", options={"num_ctx": 16})
    )
    assert request == EmbedRequest("m", ("a",), False, 8, True, Options(num_ctx=16), 300.0)
    assert api.parse_embed(body(input="a", dimensions=0)).dimensions is None
    assert api.parse_embeddings(body(prompt="a")) == EmbedRequest("m", ("a",), truncate=False)
    assert api.parse_embeddings(body()).inputs == ()
    asked = api.parse_tokenize(body(text="a", add_special=False))
    assert (asked.model, asked.text, asked.add_special) == ("m", "a", False)


@pytest.mark.parametrize(
    ("parse", "given", "error"),
    [
        (api.parse_rerank, body(documents=["a"]), "query is required"),
        (api.parse_rerank, body(query="q", documents=["a"], top_n=-1), "top_n must not"),
        (api.parse_rerank, body(query="q", documents=[5]), "cannot unmarshal number"),
        (api.parse_detokenize, body(tokens=[-1]), "no token id"),
        (api.parse_detokenize, body(tokens="a"), "cannot unmarshal string"),
        (api.parse_embed, body(input=["a"] * 10_001), "input has 10,001 items, at most 10,000"),
        (api.parse_rerank, body(query="q", documents=["a"] * 10_001), "documents has 10,001 items"),
        (api.parse_embed, b'{"input": "a"}', "model is required"),
        (api.parse_embed, b"", "missing request body"),
        (api.parse_embed, body(input="a", options={"num_ctx": "x"}), '"num_ctx" must be of type'),
    ],
)
def test_refused(parse: Any, given: bytes, error: str) -> None:
    with pytest.raises(InvalidRequest, match=error):
        parse(given)


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_numbers_survive_encoding() -> None:
    vector = array("f", [0.1, -1e-30, 1.0, 0.0, 3.4e38, 1 / 3])
    assert array("f", json.loads(api.encode_vector(vector))) == vector
    assert api.encode_vector(array("f")) == b"[]"


def test_encoded() -> None:
    found = Embeddings((array("f", [0.5, 1]), array("f", [2, 3])), 7, 20, 10)
    assert api.encode_embed("m", found) == (
        b'{"model":"m","embeddings":[[0.5,1],[2,3]],'
        b'"total_duration":20,"load_duration":10,"prompt_eval_count":7}'
    )
    empty = Embeddings((), 0, 20, 10)
    assert json.loads(api.encode_embed("m", empty)) == {"model": "m", "embeddings": []}
    assert json.loads(api.encode_embeddings(found)) == {"embedding": [0.5, 1]}
    assert json.loads(api.encode_embeddings(empty)) == {"embedding": []}


def test_the_best_documents_first() -> None:
    asked = api.parse_rerank(body(query="q", documents=["a", "b", "c"], top_n=2))
    answer = json.loads(api.encode_rerank(asked, Scores((-1.0, 5.0, 0.5), 9, 2, 1)))
    assert list(answer)[:2] == ["model", "results"]
    assert answer["results"] == [
        {"index": 1, "relevance_score": 5.0, "document": "b"},
        {"index": 2, "relevance_score": 0.5, "document": "c"},
    ]
    assert answer["prompt_eval_count"] == 9


# ---- the runner's part -----------------------------------------------------------------------------------------------


def test_groups_are_small_and_keep_their_order() -> None:
    texts = ["a" * (600_000 if n == 3 else 10) for n in range(600)] + ["b" * 3_000_000, "c"]
    found = list(embed.groups(texts))
    assert [text for group in found for text in group] == texts
    assert all(len(group) <= embed.MOST_INPUTS for group in found)
    assert all(len(g) == 1 or sum(map(len, g)) <= embed.MOST_LENGTH for g in found)
    assert list(embed.groups([])) == []


def test_options_reach_the_runner_and_vectors_come_back_in_order(model_store: Path) -> None:
    async def scenario() -> None:
        async with made(model_store) as services:
            inputs = tuple("x" * (n % 50 + 1) for n in range(600))
            request = EmbedRequest("plain", inputs, False, 3, False, Options(num_ctx=77))
            found = await embed.embed(services.services, request, CALLER)
            assert [vector[0] for vector in found.vectors] == [len(text) for text in inputs]
            assert found.tokens == sum(map(len, inputs)) and found.load_duration > 0
            runner = services.runners[0]
            for job in runner.embeds:
                asked = (job.truncate, job.n_ctx, job.dimensions, job.normalize)
                assert asked == (False, 77, 3, False)
            assert len(runner.embeds) == 3
            assert runner.plan.embeds and runner.plan.generates
            assert await embed.embed(services.services, EmbedRequest("plain", ()), CALLER) != found

    asyncio.run(scenario())


def test_a_loaded_model_grows_at_its_first_request_to_embed(model_store: Path) -> None:
    async def scenario() -> None:
        async with made(model_store) as services:
            scheduler = services.services.scheduler
            tokens = TokenizeRequest("plain", "a", keep_alive=60)
            await embed.tokenize(services.services, tokens, CALLER)
            [before] = scheduler.loaded()
            await embed.embed(services.services, EmbedRequest("plain", ("a",)), CALLER)
            [after] = scheduler.loaded()
            load = services.runners[0].plan
            more = memory.embedding_size(after.request.header, load)
            assert len(services.runners) == 1 and after.size == before.size + more > before.size
            services.free_memory = 1000
            await embed.embed(services.services, EmbedRequest("plain", ("a",)), CALLER)
            await scheduler.unload(after.request.key)

    asyncio.run(scenario())


def test_no_room_to_grow(model_store: Path) -> None:
    async def scenario() -> None:
        async with made(model_store) as services:
            text = DetokenizeRequest("plain", (65,), keep_alive=60)
            await embed.detokenize(services.services, text, CALLER)
            services.free_memory = 1000
            with pytest.raises(NotEnoughMemory, match="embeddings of plain.* need .* are free"):
                await embed.embed(services.services, EmbedRequest("plain", ("a",)), CALLER)
            await services.idle()

    asyncio.run(scenario())


# ---- a real daemon ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """bert (128 tokens), rank, hello (scripted), long (slow, 8,192 tokens)."""
    gguf, store = tmp_path_factory.mktemp("gguf"), tmp_path_factory.mktemp("store")
    install(store, "bert", bert_model(gguf / "bert.gguf"))
    install(store, "rank", bert_model(gguf / "rank.gguf", pooling="RANK"))
    install(store, "silent", bert_model(gguf / "silent.gguf", pooling=None, seed=1))
    install(store, "hello", scripted_model(gguf / "hello.gguf", "Hello! I am scripted."))
    large = random_model(
        gguf / "long.gguf", n_embd=256, n_ff=640, n_layers=4, n_ctx=8192, chat_template=CHATML
    )
    install(store, "long", large)
    with serve(tmp_path_factory.mktemp("home"), store) as running:
        yield running


def vectors(daemon: Daemon, model: str, given: Any, **more: Any) -> list[list[float]]:
    answer = daemon.ask("POST", "/api/embed", {"model": model, "input": given, **more})
    assert answer.status == 200, answer.body
    found: list[list[float]] = answer.json()["embeddings"]
    return found


@pytest.mark.llama
@pytest.mark.parametrize("model", ["bert", "rank", "silent", "hello", "long"])
def test_every_model_embeds(embedder: Daemon, model: str) -> None:
    first, second, again = vectors(embedder, model, ["ba ke", "li mo", "ba ke"])
    assert math.isclose(math.hypot(*first), 1, rel_tol=1e-5)
    assert first == pytest.approx(again, abs=2e-3)
    # all tokens of hello have vectors of one direction
    assert model == "hello" or first != pytest.approx(second, abs=1e-2)
    old = embedder.ask("POST", "/api/embeddings", {"model": model, "prompt": "ba ke"}).json()
    assert old["embedding"] == pytest.approx(first, abs=2e-3)


@pytest.mark.llama
def test_encoders_do_not_generate(embedder: Daemon) -> None:
    for model in ("bert", "silent"):
        answer = embedder.generate(model)
        assert answer.status == 400 and "does not support generate" in answer.json()["error"]
    assert vectors(embedder, "silent", "ba"), "it lives on"


@pytest.mark.llama
def test_rerank(embedder: Daemon) -> None:
    asked = {"model": "rank", "query": "ba ke", "documents": ["li", "ba", "mo mo"]}
    results = embedder.ask("POST", "/api/rerank", asked).json()["results"]
    scores = [result["relevance_score"] for result in results]
    assert sorted(result["index"] for result in results) == [0, 1, 2]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    refused = embedder.ask("POST", "/api/rerank", asked | {"model": "bert"})
    assert refused.status == 400 and "does not support rerank" in refused.json()["error"]


@pytest.mark.llama
def test_tokens_and_back(embedder: Daemon) -> None:
    tokens = embedder.ask("POST", "/api/tokenize", {"model": "long", "text": "ba ke"}).json()[
        "tokens"
    ]
    bare = {"model": "long", "text": "ba ke", "add_special": False}
    assert embedder.ask("POST", "/api/tokenize", bare).json()["tokens"] == tokens[1:]
    text = embedder.ask("POST", "/api/detokenize", {"model": "long", "tokens": tokens[1:]}).json()
    assert text["text"].strip() == "ba ke"
    wrong = embedder.ask("POST", "/api/detokenize", {"model": "long", "tokens": [10**6]})
    assert wrong.status == 400
    many = embedder.ask("POST", "/api/detokenize", {"model": "long", "tokens": tokens * 200_000})
    assert many.status == 400 and "at most 500,000" in many.json()["error"]
    long = embedder.ask("POST", "/api/tokenize", {"model": "long", "text": "ba " * 1_400_000})
    assert long.status == 400 and "send it in parts" in long.json()["error"]


@pytest.mark.llama
@pytest.mark.parametrize("options", [{"num_ctx": 16}, {"num_ctx": 100}, {}])
def test_a_text_that_is_too_long(embedder: Daemon, options: dict[str, int]) -> None:
    most = options.get("num_ctx", 128)
    asked = {"model": "bert", "input": "ba ke " * 500, "options": options}
    assert embedder.ask("POST", "/api/embed", asked).json()["prompt_eval_count"] == most
    refused = embedder.ask("POST", "/api/embed", asked | {"truncate": False})
    assert refused.status == 400
    assert "the input length exceeds the context length" in refused.json()["error"]


@pytest.mark.llama
@pytest.mark.parametrize("num_ctx", [0, 1])
def test_no_context_at_all(embedder: Daemon, num_ctx: int) -> None:
    asked = {"model": "bert", "input": "ba ke", "options": {"num_ctx": num_ctx}}
    refused = embedder.ask("POST", "/api/embed", asked)
    assert refused.status == 400
    assert "input after truncation exceeds maximum context length" in refused.json()["error"]


@pytest.mark.llama
@pytest.mark.long
def test_ten_thousand_texts_and_ten_megabytes(embedder: Daemon) -> None:
    some = vectors(embedder, "bert", [f"ba {n}" for n in range(50)])
    many = vectors(embedder, "bert", [f"ba {n % 50}" for n in range(10_000)])
    assert len(many) == 10_000
    for n in (0, 49, 5_007, 9_999):
        assert many[n] == pytest.approx(some[n % 50], abs=2e-3)
    [huge] = vectors(embedder, "bert", "ba ke li mo " * 900_000)
    assert huge == pytest.approx(vectors(embedder, "bert", "ba ke li mo " * 100)[0], abs=1e-5)


@pytest.mark.llama
def test_a_stream_goes_on_while_the_same_model_embeds(embedder: Daemon) -> None:
    chat = {"model": "long", "prompt": "ba ke", "options": {"num_predict": 60, "temperature": 0}}
    alone = "".join(
        line["response"] for line in embedder.open("POST", "/api/generate", chat).lines()
    )
    stream = embedder.open("POST", "/api/generate", chat)
    text = stream.line()["response"]
    found: list[list[list[float]]] = []
    texts = [f"ba ke {n}" for n in range(300)]
    thread = threading.Thread(target=lambda: found.append(vectors(embedder, "long", texts)))
    thread.start()
    text += "".join(line["response"] for line in stream.lines())
    thread.join(30)
    assert text == alone
    assert len(found[0]) == 300


@pytest.mark.llama
def test_a_disconnect_stops_the_work(embedder: Daemon) -> None:
    vectors(embedder, "long", "ba")
    gone = embedder.open("POST", "/api/embed", {"model": "long", "input": ["ba ke " * 2000] * 2000})
    until(lambda: embedder.busy() == 1, "the request is at work")
    gone.leave()
    until(lambda: embedder.busy() == 0, "it is given up")
    assert vectors(embedder, "long", "ba")


@pytest.mark.llama
def test_a_runner_that_dies_ends_the_request_and_the_next_one_is_served(embedder: Daemon) -> None:
    doomed = embedder.open(
        "POST", "/api/embed", {"model": "long", "input": ["ba ke " * 2000] * 2000}
    )
    child = until(lambda: _computing(embedder), "a runner computes")
    os.kill(child.pid, signal.SIGKILL)
    doomed.read()
    assert doomed.status == 500 and "SIGKILL" in doomed.json()["error"]
    assert vectors(embedder, "long", "ba")


def _computing(daemon: Daemon) -> psutil.Process | None:
    return next((each for each in daemon.runners() if each.cpu_percent(0.05) > 20), None)


@pytest.mark.llama
def test_run_prints_the_vector(embedder: Daemon, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("run", *arguments),
            env=environment(tmp_path, HOST=f"127.0.0.1:{embedder.port}"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = run("bert", "--dimensions", "4", "--truncate", "ba", "ke")
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    expected = vectors(embedder, "bert", "ba ke", dimensions=4)[0]
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-6)
    done = run("bert", "--truncate=false", "ba " * 500)
    assert done.returncode == 1 and "exceeds the context length" in done.stderr
    done = run("bert")
    assert done.returncode == 1 and done.stderr.startswith(
        "Error: embedding models require input text. Usage: ollamapy run NAME"
    )

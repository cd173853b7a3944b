"""OpenAI's embeddings, rerank and list of models; and any body for all parsers of the dialect."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest, OllamapyError
from ollamapy.models.listing import ListedModel
from ollamapy.models.spec import Details
from ollamapy.types import Embeddings, Scores
from ollamapy.web.openai import chat, completions, models, vectors


def embeddings(**body: Any) -> vectors.ParsedEmbeddings:
    return vectors.parse_embeddings(json.dumps({"model": "m", **body}).encode())


def rerank(**body: Any) -> vectors.ParsedRerank:
    return vectors.parse_rerank(json.dumps({"model": "m", **body}).encode())


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        (["a", [1, 2]], ("a", (1, 2))),
        ([[1], "a"], ((1,), "a")),
    ],
)
def test_inputs(given: Any, inputs: Any) -> None:
    assert embeddings(input=given).request.inputs == inputs


@pytest.mark.parametrize("given", [None, [], {}, 5, True, [None], [["a"]], [[]], [1, "a"], [-1], [1.0]])  # fmt: skip
def test_no_inputs(given: Any) -> None:
    with pytest.raises(InvalidRequest, match="invalid input"):
        embeddings(input=given)


@pytest.mark.parametrize(("given", "where"), [("", "input"), (["a", ""], r"input\[1\]")])
def test_empty_texts(given: Any, where: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{where} is empty"):
        embeddings(input=given)


@pytest.mark.parametrize("each", ["a", [1]])
def test_inputs_are_counted(each: Any) -> None:
    with pytest.raises(InvalidRequest, match="input has 10,001 items, at most 10,000"):
        embeddings(input=[each] * 10_001)
    assert len(embeddings(input=[1] * 10_001).request.inputs) == 1
    body = {"model": "m", "query": "q", "documents": ["a"] * 10_001}
    with pytest.raises(InvalidRequest, match="documents has 10,001 items"):
        vectors.parse_rerank(json.dumps(body).encode())


def test_documents_may_be_in_texts() -> None:
    body = {"model": "m", "query": "q", "texts": ["a", "b"]}
    assert vectors.parse_rerank(json.dumps(body).encode()).request.documents == ("a", "b")


def test_vectors_as_numbers_and_packed() -> None:
    numbers = array("f", [0.1, -2.0])
    found = Embeddings((numbers,), 3)
    plain = json.loads(vectors.encode_embeddings(embeddings(input="a"), found))
    assert plain["data"][0]["embedding"] == pytest.approx([0.1, -2.0])
    assert plain["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    parsed = embeddings(input="a", encoding_format="base64")
    packed = json.loads(vectors.encode_embeddings(parsed, found))
    assert array("f", base64.b64decode(packed["data"][0]["embedding"])) == numbers


def test_the_best_documents() -> None:
    parsed = rerank(query="q", documents=["a", {"text": "b"}, "c"], top_n=2, return_documents=True)
    found = json.loads(vectors.encode_rerank(parsed, Scores((0.1, 0.5, 0.3), 9)))
    assert found["results"] == [
        {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}},
        {"index": 2, "relevance_score": 0.3, "document": {"text": "c"}},
    ]


def test_models_in_anthropics_shape() -> None:
    details = Details("", "gguf", "llama", None, "1B", "Q8_0")
    time = "2026-11-21T10:00:00Z"
    listed = [ListedModel("a:latest", "a:latest", time, 1, "d", details)]
    found = json.loads(models.encode_anthropic_list(listed))
    [model] = found["data"]
    assert (model["type"], model["id"], model["created_at"]) == ("model", "a:latest", time)
    assert (found["first_id"], found["last_id"], found["has_more"]) == ("a:latest",) * 2 + (False,)
    assert json.loads(models.encode_anthropic_list([]))["first_id"] is None


def test_models() -> None:
    details = Details("", "gguf", "llama", None, "1M", "F32")
    listed = ListedModel("me/x:1", "me/x:1", "2026-08-20T10:51:41.338123456-07:00", 1, "d", details)
    assert json.loads(models.encode_list([])) == {"object": "list", "data": []}
    assert json.loads(models.encode_list([listed]))["data"] == [
        {"id": "me/x:1", "object": "model", "created": 1787248301, "owned_by": "me"}
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["user", "tool", "text", "image_url", "function", "allowed_tools", "json_schema", "data:;base64,"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["role", "content", "type", "text", "function", "name", "arguments", "tool_calls", "tools", "mode", "effort",
             "schema", "json_schema", "image_url", "url", "include_usage", "allowed_tools", "temperature", "seed", "5"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = (
    "messages", "prompt", "input", "query", "documents", "n", "tools", "tool_choice", "response_format", "stop", "seed",
    "temperature", "logit_bias", "logprobs", "top_logprobs", "options", "keep_alive", "stream_options", "reasoning",
    "reasoning_effort", "max_tokens", "suffix", "echo", "best_of", "dimensions", "encoding_format", "top_n", "modalities",
)  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "needed"),
    [
        (chat.parse, {"messages": [{"role": "user", "content": "Hi"}]}),
        (completions.parse, {"prompt": "Hi"}),
        (vectors.parse_embeddings, {"input": "Hi"}),
        (vectors.parse_rerank, {"query": "Hi", "documents": ["a"]}),
    ],
)
@settings(max_examples=150, deadline=None)
@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_any_body_is_parsed_or_refused(
    parse: Callable[[bytes], object], needed: dict[str, Any], body: dict[str, Any]
) -> None:
    data = json.dumps({"model": "m", **needed, **body}).encode()
    try:
        parse(data)
    except OllamapyError as error:
        assert error.status == 400 and str(error)

"""OpenAI's completions: prompts of every kind, and encoded answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from ollamapy.errors import InvalidRequest
from ollamapy.request import Question, Raw, Request
from ollamapy.types import Chunk, Options, PromptToken, TokenLogprob, Usage
from ollamapy.web.openai import completions
from tests.requests_made import generate_request

PLAIN = Options(temperature=1.0, top_p=1.0)


def parse(**body: Any) -> completions.ParsedCompletion:
    return completions.parse(json.dumps({"model": "m", **body}).encode())


@pytest.mark.parametrize(
    ("body", "requests"),
    [
        ({}, [generate_request("m")]),
        ({"prompt": None}, [generate_request("m")]),
        ({"prompt": "a"}, [generate_request("m", "a")]),
        ({"prompt": "a", "suffix": "b"}, [generate_request("m", "a", suffix="b")]),
        ({"prompt": ["a", "b"]}, [generate_request("m", "a"), generate_request("m", "b")]),
        ({"prompt": [1, 2]}, [generate_request("m", tokens=(1, 2), raw=True)]),
        (
            {"prompt": [[1], [2, 3]]},
            [
                generate_request("m", tokens=(1,), raw=True),
                generate_request("m", tokens=(2, 3), raw=True),
            ],
        ),
        ({"prompt": "a", "logprobs": 0}, [generate_request("m", "a", logprobs=0)]),
        ({"prompt": "a", "logprobs": 3}, [generate_request("m", "a", logprobs=3)]),
        ({"prompt": "a", "best_of": 1}, [generate_request("m", "a")]),
    ],
)
def test_prompts(body: dict[str, Any], requests: list[Request]) -> None:
    found = parse(options={"temperature": 1.0, "top_p": 1.0}, **body).requests
    assert list(found) == [replace(each, options=PLAIN) for each in requests]


def test_choices_of_a_prompt_follow_one_another() -> None:
    parsed = parse(prompt=["a", "b"], n=2, seed=3)
    found = [(each.input, each.options.seed) for each in parsed.requests]
    assert found == [
        (Question("a"), 3),
        (Question("a"), 4),
        (Question("b"), 3),
        (Question("b"), 4),
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": {}}, "invalid prompt"),
        ({"prompt": [[]]}, r"invalid prompt\[0\]"),
        ({"prompt": [1, "a"]}, "invalid prompt"),
        ({"prompt": [1.5]}, "invalid prompt"),
        ({"prompt": [2**31]}, "invalid prompt"),
        ({"prompt": ["", "a"]}, r"prompt\[0\] is empty"),
        ({"prompt": "a", "echo": "yes"}, "echo of type bool"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "logprobs": -1}, "top_logprobs"),
    ],
)
def test_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(**body)


def test_the_prompt_comes_once_and_offsets_count_the_answer() -> None:
    writer = completions.CompletionWriter(parse(prompt="Hi ", echo=True, logprobs=None))
    writer.echo(["Hi "])
    first, second = (_choice(writer.events((0, Chunk(text)))) for text in ("a", "b"))
    assert first["text"] == "Hi a" and second["text"] == "b"

    writer = completions.CompletionWriter(parse(prompt="Hi", logprobs=1))
    tokens = [TokenLogprob(text, -1.0, (), (TokenLogprob("x", -0.5, ()),)) for text in ("ab", "c")]
    first = _choice(writer.events((0, Chunk("ab", (tokens[0],)))))
    second = _choice(writer.events((0, Chunk("c", (tokens[1],)))))
    assert first["logprobs"] == {
        "tokens": ["ab"],
        "token_logprobs": [-1.0],
        "top_logprobs": [{"x": -0.5}],
        "text_offset": [0],
    }
    assert second["logprobs"]["text_offset"] == [2]


def test_a_prompt_whose_log_probabilities_are_requested_is_raw_and_whole() -> None:
    for fields, scores in (
        ({"echo": True, "logprobs": 2}, 2),
        ({"prompt_logprobs": 0}, 0),
        ({"echo": True, "logprobs": 1, "prompt_logprobs": 3}, 3),
    ):
        for prompt in ("Hi", (1, 2)):
            (request,) = parse(prompt=prompt, **fields).requests
            assert request.input == Raw(prompt)
            assert request.prompt_logprobs == scores and not request.truncate
    assert parse(prompt="Hi", echo=True).requests[0].prompt_logprobs is None
    assert parse(prompt="Hi", logprobs=1).requests[0].prompt_logprobs is None
    for wrong in (
        {"prompt_logprobs": 21},
        {"prompt_logprobs": -1},
        {"prompt_logprobs": 1, "suffix": "b"},
    ):
        with pytest.raises(InvalidRequest, match="logprobs"):
            parse(prompt="a", **wrong)


PROMPT = (
    PromptToken(1, "", None),
    PromptToken(
        7, " Hi", -2.0, 2, (PromptToken(8, " Ho", -0.5, 1), PromptToken(7, " Hi", -2.0, 2))
    ),
)


def test_an_echoed_prompt_with_its_log_probabilities() -> None:
    writer = completions.CompletionWriter(parse(prompt="Hi", echo=True, logprobs=1))
    writer.echo(["Hi"])
    top = (TokenLogprob("!", -0.1, ()),)
    chunk = Chunk("!", (TokenLogprob("!", -0.1, (), top),), prompt_tokens=PROMPT)
    found = _choice(writer.events((0, chunk)))
    assert found["text"] == "Hi!" and "prompt_logprobs" not in found
    assert found["logprobs"] == {
        "tokens": ["", " Hi", "!"],
        "token_logprobs": [None, -2.0, -0.1],
        "top_logprobs": [None, {" Ho": -0.5}, {"!": -0.1}],
        "text_offset": [0, 0, 3],
    }


def test_prompt_logprobs_as_vllm_has_them() -> None:
    writer = completions.CompletionWriter(parse(prompt="Hi", prompt_logprobs=1))
    found = _choice(writer.events((0, Chunk("!", prompt_tokens=PROMPT))))
    assert found["text"] == "!" and "logprobs" not in found
    assert found["prompt_logprobs"] == [
        None,
        {
            "7": {"logprob": -2.0, "rank": 2, "decoded_token": " Hi"},
            "8": {"logprob": -0.5, "rank": 1, "decoded_token": " Ho"},
        },
    ]


def _choice(event: bytes) -> Any:
    return json.loads(event.removeprefix(b"data: "))["choices"][0]


def test_the_usage_counts_a_prompt_once() -> None:
    writer = completions.CompletionWriter(parse(prompt=["a", "b"], n=2))
    chunks = [
        Chunk(text, finish_reason="stop", usage=Usage(prompt, completion_tokens=2))
        for text, prompt in (("w", 3), ("x", 3), ("y", 5), ("z", 5))
    ]
    found = json.loads(writer.answer(chunks))
    assert [choice["text"] for choice in found["choices"]] == list("wxyz")
    assert found["usage"] == {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16}


def test_the_usage_of_a_stream_is_null_until_all_choices_have_ended() -> None:
    parsed = parse(prompt="a", n=2, stream=True, stream_options={"include_usage": True})
    writer = completions.CompletionWriter(parsed)
    end = Chunk(finish_reason="length", usage=Usage(3, completion_tokens=2))
    first = writer.events((1, end)).decode()
    assert json.loads(first.removeprefix("data: "))["usage"] is None
    *_, last = writer.events((0, end)).decode().strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["usage"]["total_tokens"] == 7


def test_thinking_is_beside_the_text() -> None:
    writer = completions.CompletionWriter(parse(prompt="a"))
    found = json.loads(writer.answer([Chunk("b", thinking="hm", finish_reason="stop")]))
    assert found["choices"] == [
        {"text": "b", "index": 0, "reasoning": "hm", "finish_reason": "stop"}
    ]

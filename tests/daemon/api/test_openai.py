"""OpenAI's dialect: requests as a table of JSON, answers as they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.daemon.api import openai
from ollamapy.errors import InvalidRequest
from ollamapy.types import Chunk, Constraint, ToolDelta, Usage

USER = [{"role": "user", "content": "Hi"}]


def parse(**body: Any) -> openai.AskedChat:
    return openai.parse_chat(json.dumps({"model": "m", "messages": USER, **body}).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "too short"),
        ({"n": 2}, "n must be 1"),
        ({"temperature": "0"}, "of type float64"),
        ({"reasoning_effort": "extreme"}, "invalid reasoning value"),
        ({"messages": [{"role": "user", "content": 5}]}, "content type: float64"),
    ],
)
def test_what_is_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(**body)


def test_what_is_understood() -> None:
    request = parse(
        max_completion_tokens=3, stop="x", response_format={"type": "json_object"}
    ).request
    assert request.options.num_predict == 3 and request.options.stop == ("x",)
    assert request.options.temperature == 1.0 and request.constraint == Constraint("json")


def test_a_stream_has_thoughts_calls_and_usage() -> None:
    answer = openai.ChatAnswer("m", include_usage=True)
    said = answer.frames(Chunk(thinking="hm")) + b"\n"
    said += answer.frames(Chunk(tool_deltas=(ToolDelta(0, "c", "f", "{}"),))) + b"\n"
    said += answer.frames(Chunk(finish_reason="stop", usage=Usage(3, 2, completion_tokens=1)))
    first, call, last, usage = (
        json.loads(part[6:]) for part in said.decode().strip().split("\n\n")
    )
    delta = {"role": "assistant", "content": "", "reasoning": "hm"}
    assert first["choices"][0]["delta"] == delta
    assert call["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "f"
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}

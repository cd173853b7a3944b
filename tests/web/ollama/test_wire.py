"""Ollama's dialect: requests as tables of JSON, answers byte for byte."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from ollamapy.errors import InvalidRequest
from ollamapy.fleet.loaded import LoadedModel
from ollamapy.fleet.request import LeaseRequest
from ollamapy.fleet.state import Status
from ollamapy.formats.gguf import Header
from ollamapy.loading import File, Files
from ollamapy.names import Name
from ollamapy.request import Request
from ollamapy.types import (
    Chunk,
    Constraint,
    Message,
    Options,
    RenderedPrompt,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ollamapy.web.ollama import wire as ollama
from tests.requests_made import chat_request, conversation, generate_request


def generate(**body: Any) -> ollama.ParsedRequest:
    return ollama.parse_generate(json.dumps({"model": "m", **body}).encode())


def chat(**body: Any) -> ollama.ParsedRequest:
    return ollama.parse_chat(json.dumps({"model": "m", **body}).encode())


HI = [{"role": "user", "content": "Hi"}]


# ---- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ({}, generate_request("m")),
        ({"prompt": "Hi", "system": "S"}, generate_request("m", "Hi", "S")),
        ({"Prompt": "Hi"}, generate_request("m", "Hi")),
        ({"prompt": None, "raw": None, "options": None}, generate_request("m")),
        ({"raw": True, "context": []}, generate_request("m", raw=True, context=())),
        ({"context": [1, 2]}, generate_request("m", context=(1, 2))),
        ({"options": {"temperature": 1, "stop": ["x", ""]}}, generate_request("m", options=Options(temperature=1.0, stop=("x",)))),
        ({"options": {"num_ctx": 64.9, "seed": None}}, generate_request("m", options=Options(num_ctx=64))),
        ({"keep_alive": "1h30m"}, generate_request("m", keep_alive=5400.0)),
        ({"keep_alive": "300"}, generate_request("m", keep_alive=300.0)),
        ({"keep_alive": "-1"}, generate_request("m", keep_alive=None)),
        ({"keep_alive": 0}, generate_request("m", keep_alive=0.0)),
        ({"keep_alive": -1}, generate_request("m", keep_alive=None)),
        ({"keep_alive": None}, generate_request("m", keep_alive=UNSET)),
        ({"logprobs": True}, generate_request("m", logprobs=0)),
        ({"logprobs": True, "top_logprobs": 20}, generate_request("m", logprobs=20)),
        ({"top_logprobs": 3}, generate_request("m")),
        ({"think": False}, generate_request("m", think=False)),
        ({"suffix": "s", "template": "t"}, generate_request("m", suffix="s", template="t")),
        ({"images": ["YW\nJj", "YQ==", ""]}, generate_request("m", images=(b"abc", b"a", b""))),
        ({"suffix": "", "template": "", "images": [], "format": "", "truncate": True}, generate_request("m")),
        ({"truncate": False, "shift": False}, generate_request("m", truncate=False, shift=False)),
        ({"think": True}, generate_request("m", think=True)),
        ({"think": "high", "think_budget": 9}, generate_request("m", think="high", think_budget=9)),
        ({"format": "json"}, generate_request("m", constraint=Constraint("json"))),
        ({"format": {"type": "null"}}, generate_request("m", constraint=Constraint("schema", '{"type":"null"}'))),
        ({"grammar": 'root ::= "x"'}, generate_request("m", constraint=Constraint("gbnf", 'root ::= "x"'))),
        ({"logit_bias": {"7": 1, "8": -1e9}}, generate_request("m", logit_bias=((7, 1.0), (8, -100.0)))),
        ({"logit_bias": {"7": 10**400}}, generate_request("m", logit_bias=((7, 100.0),))),
        ({"options": {"context_policy": "error"}}, generate_request("m", options=Options(context_policy="error"))),
    ],
)  # fmt: skip
def test_generate(body: dict[str, Any], request_: Request) -> None:
    assert generate(**body).request == request_


def test_chat() -> None:
    parsed = chat(
        messages=[{"role": "USER", "Content": "Hi", "thinking": "hm"}, {"role": "assistant"}],
        tools=[],
        options={"top_k": 3},
    )
    assert parsed.request == chat_request(
        "m", (Message("user", "Hi", "hm"), Message("assistant", "")), Options(top_k=3)
    )
    assert parsed.stream


@pytest.mark.parametrize(
    ("parsed", "stream", "render_only"),
    [
        (generate(prompt="x"), True, False),
        (generate(prompt="x", stream=None), True, False),
        (generate(prompt="x", stream=False), False, False),
        (generate(), False, False),  # loading is answered with one object
        (generate(prompt="x", _debug_render_only=True), False, True),
        (chat(messages=HI), True, False),
        (chat(messages=HI, stream=False), False, False),
        (chat(messages=[]), False, False),
        (chat(messages=None), False, False),
        (chat(messages=HI, _debug_render_only=True, stream=True), False, True),
    ],
)
def test_how_the_answer_is_sent(parsed: Any, stream: bool, render_only: bool) -> None:
    assert (parsed.stream, parsed.render_only) == (stream, render_only)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": ""}, "model is required"),
        ({"model": None}, "model is required"),
        ({"model": 5}, "cannot unmarshal number into Go struct field GenerateRequest.model of type string"),
        ({"raw": True, "system": "S"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "template": "S"}, "raw mode does not support template, system, or context"),
        ({"raw": True, "context": [1]}, "raw mode does not support template, system, or context"),
        ({"context": [-1]}, "context holds a number that is no token id"),
        ({"context": [2**40]}, "context holds a number that is no token id"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"keep_alive": "soon"}, 'time: invalid duration "soon"'),
        ({"keep_alive": "300x"}, 'time: unknown unit "x" in duration "300x"'),
        ({"keep_alive": True}, "Unsupported type: 'bool'"),
        ({"options": {"temperature": "hot"}}, 'option "temperature" must be of type float32'),
        ({"options": {"stop": "x"}}, 'option "stop" must be of type array'),
        ({"options": "x"}, "of type map[string]interface {}"),
        ({"format": "xml"}, 'invalid format: "xml"; expected "json" or a valid JSON Schema object'),
        ({"format": 5}, "invalid format: 5"),
        ({"format": "json", "grammar": "x"}, "give format or grammar, not both"),
        ({"logit_bias": {"x": 1}}, "logit_bias must be an object of token ids and numbers"),
        ({"logit_bias": {"1": True}}, "logit_bias must be an object of token ids and numbers"),
        ({"think_budget": -1}, "think_budget must not be negative"),
        ({"options": {"context_policy": "x"}}, 'option "context_policy" must be one of error, drop-oldest, shift'),
        ({"suffix": 5}, "of type string"),
        ({"template": "x", "raw": True}, "raw mode does not support template"),
        ({"images": ["%%%"]}, "illegal base64 data at input byte 0"),
        ({"images": ["iVBO", "YWJj"[:3]]}, "illegal base64 data at input byte 0"),
        ({"images": ["YWJjé"]}, "illegal base64 data at input byte 4"),
        ({"images": ["YWJj=="]}, "illegal base64 data at input byte 4"),
        ({"images": [5]}, "cannot unmarshal number into Go struct field GenerateRequest.images"),
        ({"images": "iVBO"}, "cannot unmarshal string into Go struct field GenerateRequest.images"),
        ({"think": "huge"}, 'invalid think value: "huge" (must be "high", "medium", "low", "max", true, or false)'),
        ({"think": 5}, "invalid think value"),
    ],
)  # fmt: skip
def test_generate_refuses(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        generate(prompt="Hi", **body) if "model" not in body else generate(**body)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("hi", "cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message"),
        (["hi"], "cannot unmarshal string into Go struct field ChatRequest.messages of type api.Message"),
        ([{"role": "user", "content": 5}], "number into Go struct field ChatRequest.messages.content of type string"),
        ([{"role": "user", "content": []}], "array into Go struct field ChatRequest.messages.content of type string"),
        ([{"role": "robot", "content": "x"}], "role 'robot' of messages[0] is unknown"),
        ([*HI, {"content": "x"}], "role '' of messages[1] is unknown"),
        ([*HI, {"role": "assistant", "tool_calls": 5}], "messages[1].tool_calls must be a list"),
        ([*HI, {"role": "assistant", "tool_calls": [{}]}], "messages[1].tool_calls[0] must have a function with a name"),
        ([{"tool_calls": [{"function": {"name": "f", "arguments": "{"}}], "role": "assistant"}], "arguments is no JSON"),
        ([{"tool_calls": [{"function": {"name": "f", "arguments": 5}}], "role": "assistant"}], "must be an object"),
        ([{"role": "user", "content": "x", "images": ["data:image/png;base64,iVBO"]}], "illegal base64 data at input byte 4"),
    ],
)  # fmt: skip
def test_chat_refuses_messages(messages: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        chat(messages=messages)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def test_chat_with_tools() -> None:
    called = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    result = {"role": "tool", "content": "x", "tool_name": "f", "tool_call_id": "1"}
    messages = [{"role": "assistant", "tool_calls": [called]}, result]
    request = chat(messages=messages, tools=[TOOL], tool_choice="f").request
    assert conversation(request).messages == (
        Message("assistant", tool_calls=(ToolCall("f", {"a": 1}, "1"),)),
        Message("tool", "x", tool_name="f", tool_call_id="1"),
    )
    assert (conversation(request).tools, conversation(request).tool_choice) == ((TOOL,), "f")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0] must have a function with a name"),
        ({"tool_choice": "required"}, "no tools are given"),
        ({"tools": [TOOL], "tool_choice": "g"}, "tool_choice must be auto, none, required"),
        ({"tools": {"a": 1}}, "tools must be a list"),
        ({"tools": [{"function": {"name": "f", "parameters": []}}]}, "must be an object"),
    ],
)
def test_chat_refuses_tools(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        chat(messages=HI, **body)


def test_unknown_options_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        generate(prompt="x", options={"no_such": 1, "mirostat": 2, "top_k": 1})
    assert "'no_such', 'mirostat'" in caplog.text and "top_k" not in caplog.text


def test_show() -> None:
    parsed = ollama.parse_show(b'{"name": "x", "verbose": true, "options": {"a": 1}}')
    assert parsed == ollama.ShowRequest("x", True, "", {"a": 1})
    assert ollama.parse_show(b'{"model": "y", "name": "x"}').model == "y"
    with pytest.raises(InvalidRequest, match="longer than 8.4 MB"):
        ollama.parse_show(b'{"model": "y", "system": "%s"}' % bytes(ollama.MAX_SHOW))
    with pytest.raises(InvalidRequest, match="model is required"):
        ollama.parse_show(b"{}")


# ---- answers -----------------------------------------------------------------------------------

TIME = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"')
USAGE = Usage(prompt_tokens=7, cached_tokens=3, completion_tokens=5, total_duration=100)
LOGPROB = TokenLogprob("H", -0.5, (72,), (TokenLogprob("H", -0.5, (72,)),))


def timeless(data: bytes) -> str:
    """The answer with its one time replaced by 0."""
    text, count = TIME.subn(b"0", data)
    assert count == 1
    return text.decode()


@pytest.mark.parametrize(
    ("chunk", "generated", "chatted"),
    [
        (
            Chunk('<"é'),
            '{"model":"m","created_at":0,"response":"<\\"é","done":false}',
            '{"model":"m","created_at":0,"message":{"role":"assistant","content":"<\\"é"},"done":false}',
        ),
        (
            Chunk("H", (LOGPROB,)),
            '{"model":"m","created_at":0,"response":"H","done":false,"logprobs":[{"token":"H","logprob":-0.5,'
            '"bytes":[72],"top_logprobs":[{"token":"H","logprob":-0.5,"bytes":[72]}]}]}',
            '{"model":"m","created_at":0,"message":{"role":"assistant","content":"H"},"done":false,'
            '"logprobs":[{"token":"H","logprob":-0.5,"bytes":[72],'
            '"top_logprobs":[{"token":"H","logprob":-0.5,"bytes":[72]}]}]}',
        ),
        (
            Chunk(finish_reason="load"),
            '{"model":"m","created_at":0,"response":"","done":true,"done_reason":"load"}',
            '{"model":"m","created_at":0,"message":{"role":"assistant","content":""},"done":true,'
            '"done_reason":"load"}',
        ),
    ],
)  # fmt: skip
def test_chunks(chunk: Chunk, generated: str, chatted: str) -> None:
    assert timeless(ollama.encode_generate("m", chunk)) == generated
    assert timeless(ollama.encode_chat("m", chunk)) == chatted


def test_the_keys_are_in_ollamas_order() -> None:
    metrics = [
        "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration",
    ]  # fmt: skip
    chunk = Chunk("H", (LOGPROB,), "stop", USAGE, (1,))
    assert list(json.loads(ollama.encode_generate("m", chunk))) == [
        "model", "created_at", "response", "done", "done_reason", "context", *metrics, "logprobs",
    ]  # fmt: skip
    assert list(json.loads(ollama.encode_chat("m", chunk))) == [
        "model", "created_at", "message", "done", "done_reason", *metrics, "logprobs",
    ]  # fmt: skip


def test_the_last_chunk_has_all_six_metrics_even_if_they_are_zero() -> None:
    last = json.loads(ollama.encode_generate("m", Chunk("", (), "stop", Usage(), (1, 2))))
    assert last["context"] == [1, 2] and last["done_reason"] == "stop"
    metrics = {key: value for key, value in last.items() if "_duration" in key or "_count" in key}
    assert metrics == {
        "total_duration": 0,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": 0,
        "eval_duration": 0,
    }
    last = json.loads(ollama.encode_chat("m", Chunk("", (), "length", USAGE)))
    assert (last["prompt_eval_count"], last["eval_count"], last["total_duration"]) == (7, 5, 100)
    assert not {"context", "logprobs", "prompt_truncated"} & set(last)


def test_a_cut_prompt_is_reported() -> None:
    cut = Chunk("", (), "stop", Usage(truncated_tokens=9))
    assert json.loads(ollama.encode_chat("m", cut))["prompt_truncated"] == {"tokens": 9}


def test_rendered_prompts() -> None:
    assert json.loads(timeless(ollama.encode_rendered_generate("m", RenderedPrompt("P", 3)))) == {
        "model": "m",
        "created_at": 0,
        "response": "",
        "done": False,
        "_debug_info": {"rendered_template": "P", "prompt_tokens": 3},
    }
    chat = json.loads(timeless(ollama.encode_rendered_chat("m", RenderedPrompt("P", 3))))
    assert chat["message"] == {"role": "", "content": ""}


def loaded(name: str, expires_in: float | None) -> LoadedModel:
    header = Header(3, {"general.architecture": "llama", "general.file_type": 7}, (), 0, 0)
    request = LeaseRequest(Name.parse(name), "d" * 64, Files(File(Path("m"))), header)
    return LoadedModel(request, Status.READY, 100, 50, 2048, expires_in, 0)


def test_ps_lists_the_model_that_stays_longest_first() -> None:
    answer = json.loads(
        ollama.encode_ps(
            [loaded("a", 5), loaded("b", None), loaded("c", 0), loaded("d", 600)], 3, 4
        )
    )
    assert [each["name"] for each in answer["models"]] == [
        "b:latest",
        "d:latest",
        "a:latest",
        "c:latest",
    ]
    first = answer["models"][0]
    assert re.fullmatch(r"2[12]\d\d-.*(Z|[+-]\d\d:\d\d)", first["expires_at"])  # for ever
    assert (first["size"], first["size_vram"]) == (100, 50)
    assert first["context_length"] == 2048
    assert first["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "0",
        "quantization_level": "Q8_0",
    }
    assert json.loads(ollama.encode_ps([], 3, 4)) == {
        "models": [],
        "memory": {"free": 3, "total": 4},
    }


def test_version() -> None:
    answer = json.loads(ollama.encode_version(busy=3, models=Path("/m")))
    assert answer["version"] == ollama.OLLAMA_VERSION and answer["busy"] == 3
    assert answer["ollamapy"] and answer["pid"] > 0 and answer["models"] == "/m"
    assert "models" not in json.loads(ollama.encode_version(busy=3, models=None))

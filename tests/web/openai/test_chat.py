"""OpenAI's dialect: requests as a table of JSON, and encoded answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.request import Request
from ollamapy.serving.answer import merge
from ollamapy.types import (
    Chunk,
    Constraint,
    Document,
    Link,
    Message,
    TokenLogprob,
    ToolCall,
    ToolDelta,
    Usage,
)
from ollamapy.web.body import Misread
from ollamapy.web.openai import chat
from tests.requests_made import conversation

USER = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "g"}}


def parse(**body: Any) -> chat.ParsedChat:
    return chat.parse(json.dumps({"model": "m", "messages": USER, **body}).encode())


def request(**body: Any) -> Request:
    (found,) = parse(**body).requests
    return found


def content(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "too short"),
        ({"messages": {}}, "cannot unmarshal object"),
        ({"messages": [5]}, "cannot unmarshal number"),
        ({"messages": [{"role": "poet", "content": "x"}]}, "role 'poet' of messages"),
        ({"messages": [{"role": 5, "content": "x"}]}, "messages.role"),
        (content(5), "content type: float64"),
        (content({}), "content type: map"),
        (content(None), "content type: <nil>"),
        (content([{"type": "video"}]), "invalid message format"),
        (content(["x"]), "invalid message format"),
        (content([{"type": "text", "text": 5}]), "invalid message format"),
        (content([{"type": "refusal", "refusal": "no"}]), "refusal is not supported"),
        (content([{"type": "input_audio"}]), "must be an object with data and format"),
        (content([{"type": "input_audio", "input_audio": {"data": "aGk=", "format": "ogg"}}]), "one of wav, mp3, flac"),
        (content([{"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}]), "illegal base64"),
        (content([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]), "is empty"),
        (content([{"type": "input_audio", "input_audio": {"format": "wav"}}]), "data"),
        (content([{"type": "file", "file": {"file_id": "file-1"}}]), "no stored files here"),
        (content([{"type": "file", "file": {"file_data": "data:text/plain,a"}}]), "must be base64"),
        (content([{"type": "file", "file": {"file_data": "data:;base64,"}}]), "is empty"),
        (content([{"type": "file"}]), "must be an object with file_data"),
        (content([{"type": "image_url", "image_url": {"url": "data:text/html;base64,"}}]), "image input"),
        (content([{"type": "image_url", "image_url": {"url": "data:;base64,!"}}]), "image input"),
        (content("x", audio={"id": "a"}), "audio of messages"),
        (content("x", tool_calls=5), "tool call arguments"),
        (content("x", tool_calls=[{"function": {"name": "f", "arguments": "{"}}]), "tool call arguments"),
        (content("x", tool_calls=[{"function": {"name": "f", "arguments": "[]"}}]), "tool call arguments"),
        (content("x", tool_calls=[{"function": {"name": "f", "arguments": 5}}]), "tool call arguments"),
        ({"n": 0}, "n must be between 1 and 128"),
        ({"n": 129}, "n must be between 1 and 128"),
        ({"n": 1.5}, "of type int"),
        ({"temperature": "0"}, "temperature of type float64"),
        ({"top_p": True}, "top_p of type float64"),
        ({"seed": 1.5}, "seed of type int"),
        ({"seed": 2**70}, "seed"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop"),
        ({"stream": "yes"}, "stream of type bool"),
        ({"stream_options": {"include_usage": 1}}, "include_usage of type bool"),
        ({"reasoning_effort": "extreme"}, "invalid reasoning value"),
        ({"reasoning_effort": 5}, "invalid reasoning value"),
        ({"reasoning": {"effort": ["high"]}}, "invalid reasoning value"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": "json_object"}, "response_format of type map"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"functions": [{"name": "f"}]}, "functions is the older form"),
        ({"modalities": ["text", "audio"]}, "audio and other modalities"),
        ({"audio": {"voice": "x"}}, "audio and other modalities"),
        ({"tools": 5}, "tools must be a list"),
        ({"tools": [{"type": "custom"}]}, "must have a function"),
        ({"tool_choice": "required"}, "no tools are given"),
        ({"tools": [TOOL], "tool_choice": "g"}, "tool_choice must be"),
        ({"tools": [TOOL], "tool_choice": 5}, "tool_choice must be"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice must be"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "allowed_tools must have"),
        ({"keep_alive": "x"}, "keep_alive|duration"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"max_completion_tokens": 0}, "max_tokens must be at least 1"),
        ({"grammar": "root ::= x", "response_format": {"type": "json_object"}}, "the request's format or grammar"),
        ({"response_format": {"type": "json_object", "schema": 5}}, "must be a JSON Schema"),
        ({"chat_template_kwargs": {"enable_thinking": 1}}, "enable_thinking must be true or false"),
        ({"chat_template_kwargs": {"messages": []}}, "messages is decided by the request"),
        ({"options": {"num_ctx": "x"}}, "num_ctx"),
        ({"model": None}, "model is required"),
    ],
)  # fmt: skip
def test_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse(**body)


@pytest.mark.parametrize(
    ("body", "think"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"thinking": True}}, True),
        ({"chat_template_kwargs": {"other": 1}}, None),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}, "low"),
    ],
)
def test_thinking_as_a_variable_of_the_template(body: dict[str, Any], think: Any) -> None:
    assert request(**body).think == think
    assert request(**body).variables == body["chat_template_kwargs"]


def test_an_answer_that_continues_the_last_message() -> None:
    begun = [*USER, {"role": "assistant", "content": "Hel"}]
    assert conversation(request(messages=begun, continue_final_message=True)).continues_last
    assert not conversation(request(messages=begun)).continues_last
    with pytest.raises(InvalidRequest, match="last message of the assistant"):
        request(continue_final_message=True)
    with pytest.raises(InvalidRequest, match="not both"):
        request(messages=begun, continue_final_message=True, add_generation_prompt=True)


def test_an_empty_body_and_errors_of_ollamas_own_api() -> None:
    with pytest.raises(Misread, match="EOF"):
        chat.parse(b"")
    with pytest.raises(InvalidRequest) as error:
        parse(model="")
    assert not isinstance(error.value, Misread)


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, {"temperature": 1.0, "top_p": 1.0}),
        ({"max_tokens": 3}, {"num_predict": 3}),
        ({"max_tokens": 3, "max_completion_tokens": 4}, {"num_predict": 4}),
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"stop": ["x", "y"]}, {"stop": ("x", "y")}),
        ({"seed": 7, "temperature": 0, "top_k": 5}, {"seed": 7, "temperature": 0.0, "top_k": 5}),
        ({"options": {"temperature": 0.5, "num_ctx": 64}}, {"temperature": 0.5, "num_ctx": 64}),
        ({"options": {"seed": 1}, "seed": 2}, {"seed": 2}),
    ],
)
def test_options(body: dict[str, Any], options: dict[str, Any]) -> None:
    found = request(**body).options
    assert {name: getattr(found, name) for name in options} == options


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        ({"response_format": {"type": "text"}}, "constraint", None),
        ({"response_format": {"type": "json_object"}}, "constraint", Constraint("json")),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
            "constraint",
            Constraint("schema", '{"a":1}'),
        ),
        ({"reasoning_effort": "none"}, "think", False),
        ({"reasoning_effort": "minimal"}, "think", "low"),
        ({"reasoning": {"effort": "xhigh"}}, "think", "max"),
        ({"logprobs": True}, "logprobs", 0),
        ({"logprobs": True, "top_logprobs": 2}, "logprobs", 2),
        ({"logit_bias": {"5": -100}}, "logit_bias", ((5, -100.0),)),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice", "required"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
            "f",
        ),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls", False),
        ({"user": "me", "store": True, "metadata": {}, "modalities": ["text"]}, "model", "m"),
        ({"n": None, "stop": None, "tools": None, "seed": None}, "tools", ()),
    ],
)
def test_fields(body: dict[str, Any], field: str, value: Any) -> None:
    found = request(**body)
    assert getattr(found if hasattr(found, field) else found.input, field) == value


@pytest.mark.parametrize(
    ("choice", "several"),
    [("auto", True), ("required", True), ({"type": "function", "function": {"name": "f"}}, False)],
)
def test_a_tool_that_is_named_is_called_once(choice: Any, several: bool) -> None:
    [request] = parse(tools=[TOOL], tool_choice=choice, parallel_tool_calls=True).requests
    assert conversation(request).parallel_tool_calls is several


def test_allowed_tools_are_the_only_ones() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    found = request(tools=[TOOL, OTHER], tool_choice=choice)
    assert conversation(found).tools == (OTHER,) and conversation(found).tool_choice == "required"


def test_messages() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = request(
        messages=[
            {"role": "developer", "content": "be kind"},
            {"role": "USER", "content": parts, "name": "Bob"},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm",
             "refusal": None, "audio": None, "function_call": None},
            {"role": "tool", "tool_call_id": "c", "content": parts},
        ]
    )  # fmt: skip
    assert conversation(found).messages == (
        Message("developer", "be kind"),
        Message("user", "a"),
        Message("user", "b"),
        Message("assistant", "", "hm", (ToolCall("f", {"a": 1}, "c"),)),
        Message("tool", "ab", tool_name="f", tool_call_id="c"),
    )


def test_images_and_sounds_are_messages_of_their_own() -> None:
    url = "data:image/png;base64,aGk="
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": url}}]
    sound = {"data": "UklGRg==", "format": "wav"}
    parts.append({"type": "input_audio", "input_audio": sound})
    found = request(messages=[{"role": "user", "content": parts}])
    images = [Message("user", images=(file,)) for file in (b"hi", b"RIFF")]
    assert conversation(found).messages == (Message("user", "a"), *images)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "image_url", "image_url": {"url": "https://a/b.png"}}, Link("https://a/b.png")),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk=", "filename": "a.pdf"}}, Document(b"hi", "a.pdf")),
        ({"type": "file", "file": {"file_data": "aGk="}}, Document(b"hi")),
    ],
)  # fmt: skip
def test_files_and_links_are_messages_of_their_own(part: dict[str, Any], found: Any) -> None:
    parts = [part, {"type": "text", "text": "a"}]
    made = request(messages=[{"role": "user", "content": parts}])
    assert conversation(made).messages == (Message("user", unread=(found,)), Message("user", "a"))


def test_each_choice_has_a_seed_of_its_own() -> None:
    assert [each.options.seed for each in parse(n=3, seed=5).requests] == [5, 6, 7]
    free = [each.options.seed for each in parse(n=3).requests]
    assert free[0] is None and None not in free[1:] and len(set(free)) == 3


# ---- answers ---------------------------------------------------------------------------------------------------------


def events(lines: list[bytes]) -> list[Any]:
    """The JSON of a stream that Lines would write of these events."""
    text = b"".join(each + b"\n" for each in lines if each).decode()
    assert text.endswith("\n\n")
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n")[:-1]]


def test_a_stream_has_thinking_calls_and_usage() -> None:
    writer = chat.ChatWriter("m", include_usage=True)
    end = Chunk(finish_reason="stop", usage=Usage(3, 2, 5, completion_tokens=1))
    call_ = Chunk(tool_deltas=(ToolDelta(0, "c", "f", "{}"),), tool_calls=(ToolCall("f", {}, "c"),))
    chunks = [Chunk(thinking="hm"), call_, end]
    first, call, last, usage = events([writer.events((0, chunk)) for chunk in chunks])
    delta = {"role": "assistant", "content": "", "reasoning": "hm"}
    assert first["choices"][0]["delta"] == delta
    assert call["choices"][0]["delta"]["tool_calls"] == [
        {"id": "c", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 1,
        "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2},
        "prompt_truncated": {"tokens": 5},
    }
    assert len({each["id"] for each in (first, call, last, usage)}) == 1


def test_a_call_that_was_cut_off_does_not_change_the_reason() -> None:
    writer = chat.ChatWriter("m")
    chunks = [Chunk(tool_deltas=(ToolDelta(0, "c", "f", "{"),)), Chunk(finish_reason="length")]
    *_, last = events([writer.events((0, chunk)) for chunk in chunks])
    assert last["choices"][0]["finish_reason"] == "length"


def test_thinking_and_text_in_one_chunk_are_two_events() -> None:
    first, second = events([chat.ChatWriter("m").events((0, Chunk("a", thinking="b")))])
    assert "role" in first["choices"][0]["delta"]
    assert second["choices"][0]["delta"] == {"content": "a"}


@pytest.mark.parametrize("size", range(1, 8))
def test_the_pieces_of_a_call_lose_their_white_space(size: int) -> None:
    text = '{ "a b": "c \\" d",\n "e\\\\": [1, 2] }'
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    writer = chat.ChatWriter("m")
    chunks = [
        writer.events((0, Chunk(tool_deltas=(ToolDelta(0, arguments=each),)))) for each in pieces
    ]
    calls = [each["choices"][0]["delta"]["tool_calls"][0] for each in events(chunks)]
    assert (
        "".join(call["function"]["arguments"] for call in calls)
        == '{"a b":"c \\" d","e\\\\":[1,2]}'
    )


def test_choices_of_a_stream_have_their_index() -> None:
    writer = chat.ChatWriter("m", 2, include_usage=True)
    end = Chunk(finish_reason="length", usage=Usage(5, completion_tokens=1))
    chunks = [(1, Chunk("b")), (0, Chunk("a")), (1, end), (0, end)]
    *others, usage = events([writer.events(each) for each in chunks])
    assert [each["choices"][0]["index"] for each in others] == [1, 0, 1, 0]
    assert all(each["choices"][0]["delta"]["role"] == "assistant" for each in others[:2])
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_the_token_limit_is_the_reason_where_it_cuts_a_second_call() -> None:
    first = Chunk(tool_deltas=(ToolDelta(0, "c", "f", "{}"),), tool_calls=(ToolCall("f", {}, "c"),))
    begun = Chunk(tool_deltas=(ToolDelta(1, "d", "f", '{"x'),))
    chunks = [first, begun, Chunk(finish_reason="length", cut_call=True)]
    writer = chat.ChatWriter("m")
    *_, last = events([writer.events((0, chunk)) for chunk in chunks])
    assert last["choices"][0]["finish_reason"] == "length"
    whole = json.loads(chat.ChatWriter("m").answer([merge(chunks)]))["choices"][0]
    assert whole["finish_reason"] == "length" and len(whole["message"]["tool_calls"]) == 1


def test_an_answer_that_is_not_streamed() -> None:
    top = TokenLogprob("a", -0.5, (97,))
    logprob = TokenLogprob("a", -0.5, (97,), (top,))
    chunk = Chunk("a", (logprob,), "stop", Usage(2, completion_tokens=1), thinking="hm",
                  tool_calls=(ToolCall("f", {"x": [1, 2]}, "c"),))  # fmt: skip
    found = json.loads(chat.ChatWriter("m", 2).answer([chunk, Chunk("b", finish_reason="length")]))
    one, two = found["choices"]
    assert one["finish_reason"] == "tool_calls" and two["finish_reason"] == "length"
    assert one["message"]["reasoning"] == "hm"
    assert one["message"]["tool_calls"][0]["function"]["arguments"] == '{"x":[1,2]}'
    assert one["logprobs"]["content"] == [
        {
            "token": "a",
            "logprob": -0.5,
            "bytes": [97],
            "top_logprobs": [{"token": "a", "logprob": -0.5, "bytes": [97]}],
        }
    ]
    assert "logprobs" not in two and found["usage"]["total_tokens"] == 3

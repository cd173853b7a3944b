"""Anthropic's dialect: requests as tables of JSON, answers and events as they are written."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.request import Request
from ollamapy.types import (
    Chunk,
    Constraint,
    ContentPart,
    Document,
    Link,
    Message,
    ToolCall,
    Usage,
)
from ollamapy.web.anthropic import wire as anthropic
from ollamapy.web.body import Misread
from tests.requests_made import conversation

USER = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "f", "description": "does f", "input_schema": {"type": "object"}}
FUNCTION = {"name": "f", "description": "does f", "parameters": {"type": "object"}}
PIXEL = base64.b64encode(b"\x89PNG").decode()


def parsed(**body: Any) -> anthropic.ParsedMessage:
    found = {"model": "m", "max_tokens": 9, "messages": USER, **body}
    return anthropic.parse_messages(json.dumps(found).encode())


def parse(**body: Any) -> Request:
    return parsed(**body).request


def messages(*items: Any) -> tuple[Message, ...]:
    return conversation(parse(messages=items)).messages


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", **source}}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


# ---- requests ----------------------------------------------------------------------------------


def test_defaults_are_the_models() -> None:
    request = parse()
    assert (
        conversation(request).messages == (Message("user", "Hi"),)
        and request.options.num_predict == 9
    )
    assert request.options.temperature is None and request.options.top_p is None
    assert (
        request.think is None and conversation(request).tools == () and request.options.stop is None
    )
    assert not parsed().stream


def test_fields() -> None:
    request = parse(
        temperature=0.5, top_p=0.25, top_k=3, stop_sequences=["a", "b"], metadata={"user_id": "u"}
    )
    options = request.options
    assert (options.temperature, options.top_p, options.top_k) == (0.5, 0.25, 3)
    assert options.stop == ("a", "b")
    assert parsed(stream=True).stream


BILLING = text("x-anthropic-billing-header: cc_version=2.1; cch=a1b2c;")


@pytest.mark.parametrize(
    "system",
    ["Be brief.", [text("Be "), text("brief.")], [BILLING, text("Be "), text("brief.")]],
)
def test_the_system_comes_first(system: Any) -> None:
    request = parse(system=system)
    assert conversation(request).messages == (Message("system", "Be brief."), Message("user", "Hi"))


@pytest.mark.parametrize(
    ("body", "think", "budget"),
    [
        ({}, None, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 4}}, True, 4),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            True,
            None,
        ),  # more than max_tokens: no limit
        ({"thinking": {"type": "enabled"}}, True, None),
        ({"thinking": {"type": "disabled"}}, False, None),
        ({"thinking": {"type": "adaptive"}}, None, None),
        ({"output_config": {"effort": "medium"}}, "medium", None),
        ({"output_config": {"effort": "xhigh"}}, "high", None),
        ({"output_config": {"effort": "low"}, "thinking": {"type": "disabled"}}, False, None),
    ],
)
def test_thinking(body: dict[str, Any], think: Any, budget: int | None) -> None:
    request = parse(**body)
    assert (request.think, request.think_budget) == (think, budget)


@pytest.mark.parametrize(
    ("choice", "means", "parallel"),
    [
        ({"type": "auto"}, "auto", True),
        ({"type": "none"}, "none", True),
        ({"type": "any"}, "required", True),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "tool", "name": "f"}, "f", True),
    ],
)
def test_tool_choice(choice: dict[str, Any], means: str, parallel: bool) -> None:
    request = parse(tools=[TOOL], tool_choice=choice)
    assert conversation(request).tools == ({"type": "function", "function": FUNCTION},)
    assert (conversation(request).tool_choice, conversation(request).parallel_tool_calls) == (
        means,
        parallel,
    )


def test_a_tool_that_the_client_runs_has_no_schema() -> None:
    request = parse(tools=[{"type": "bash_20250124", "name": "bash"}])
    assert conversation(request).tools[0]["function"] == {"name": "bash", "parameters": {}}


def test_the_form_of_an_answer() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    request = parse(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert request.constraint == Constraint("schema", json.dumps(schema, separators=(",", ":")))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([user(text("a"), text("b"))], [Message("user", "ab")]),
        ([user({"type": "search_result", "source": "x"}, text("a"))], [Message("user", "a")]),
        (
            [user(text("a"), image(data=PIXEL))],
            [Message("user", "a", images=(b"\x89PNG",), places=(1,))],
        ),
        ([{"role": "System", "content": "s"}], [Message("system", "s")]),
        (
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "redacted_thinking", "data": "x"},
                        text("I look."),
                        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
                    ],
                },
                user(
                    text("and now?"),
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("11")]},
                ),
            ],
            [
                Message("assistant", "I look.", "hm", (ToolCall("f", {"a": 1}, "toolu_1"),)),
                Message("tool", "11", tool_name="f", tool_call_id="toolu_1"),
                Message("user", "and now?"),
            ],
        ),
        (
            [user({"type": "tool_result", "tool_use_id": "t", "content": [image(data=PIXEL)]})],
            [Message("tool", tool_call_id="t", images=(b"\x89PNG",))],
        ),
        (
            [user({"type": "tool_result", "tool_use_id": "t", "is_error": True})],
            [Message("tool", tool_call_id="t")],
        ),
    ],
)
def test_messages_and_their_blocks(given: list[Any], found: list[Message]) -> None:
    assert messages(*given) == tuple(found)


NOTES = base64.b64encode(b"notes").decode()
INNER = [text("b"), image(data=PIXEL), document(type="text", data="not read here")]


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        (document(type="base64", media_type="application/pdf", data=NOTES), [Document(b"notes")]),
        ({**document(type="base64", data=NOTES), "title": "N"}, [Document(b"notes", "N")]),
        ({**document(type="text", data="ä"), "title": 5}, [Document("ä".encode())]),
        (document(type="url", url="https://a/b.pdf"), [Link("https://a/b.pdf", is_image=False)]),
        (image(type="url", url="https://a/b.png"), [Link("https://a/b.png")]),
        (document(type="content", content="b"), ["b"]),
        (document(type="content", content=INNER), ["b", b"\x89PNG"]),
    ],
)
def test_documents_and_links_keep_their_places(
    block: dict[str, Any], parts: list[ContentPart]
) -> None:
    whole = ["a", *parts, "c"]
    assert messages(user(text("a"), block, text("c"))) == (Message.of("user", whole),)
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("a"), block, text("c")]}
    assert messages(user(result)) == (Message.of("tool", whole, tool_call_id="t"),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": ""}, "model is required"),
        ({"max_tokens": None}, "max_tokens is required and must be positive"),
        ({"max_tokens": 0}, "max_tokens is required and must be positive"),
        ({"max_tokens": "9"}, "max_tokens of type int"),
        ({"messages": []}, "messages is required"),
        ({"messages": {}}, "MessagesRequest.messages"),
        ({"messages": ["x"]}, "messages"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "role 'robot' of messages.0. is unknow",
        ),
        ({"messages": [{"role": "user"}]}, "messages.0..content must be a text or a list"),
        ({"messages": [user("x")]}, "messages.0..content.0. must be a block with a type"),
        ({"messages": [user({"type": "text"})]}, "must have a text as text"),
        ({"messages": [user({"type": "custom"})]}, "messages say nothing"),
        ({"messages": [user(image(type="file", file_id="x"))]}, "invalid image source type: file"),
        (
            {"messages": [user(document(type="file", file_id="x"))]},
            "no document source 'file' here",
        ),
        ({"messages": [user(document(type="base64", data="%"))]}, "illegal base64"),
        ({"messages": [user(document(type="content", content=5))]}, "must be a text or a list"),
        ({"messages": [user({"type": "document"})]}, "must have a source"),
        ({"messages": [user(image(data="%"))]}, "no base64"),
        ({"messages": [user({"type": "image"})]}, "must have a source"),
        ({"messages": [user({"type": "tool_use", "name": "f"})]}, "must have an id and a name"),
        (
            {"messages": [user({"type": "tool_use", "id": "i", "name": "f", "input": "{}"})]},
            "input must be an object",
        ),
        ({"messages": [user({"type": "tool_result"})]}, "must have a text as tool_use_id"),
        ({"system": 5}, "system must be a text or a list of blocks"),
        ({"system": [{"type": "text", "text": None}]}, "system.0. must have a text"),
        ({"temperature": "0"}, 'option "temperature" must be of type float32'),
        ({"top_k": 1.5}, "top_k of type int"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": ["x"] * 300}, "at most 256"),
        ({"tools": {}}, "tools must be a list"),
        ({"tools": [{"input_schema": {}}]}, "tools.0. must have a name"),
        ({"tools": [{"name": "f", "input_schema": "x"}]}, "tools.0. must have a text as"),
        ({"tools": [{"type": "web_search_20250305", "name": "s"}]}, "no 'web_search_20250305'"),
        ({"tool_choice": {"type": "any"}}, "tool_choice must be"),
        ({"tool_choice": {"type": "tool", "name": "g"}, "tools": [TOOL]}, "tool_choice must be"),
        ({"tool_choice": {"type": ["auto"]}}, "tool_choice must be"),
        ({"tool_choice": {"disable_parallel_tool_use": 1}}, "must be true or false"),
        ({"thinking": True}, "thinking"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type must be"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "a number of tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort must be one of low"),
        ({"output_config": {"format": {"type": "xml"}}}, "must be a json_schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": 1}}}, "must be an object"),
    ],
)
def test_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(Misread, match=message):
        parse(**body)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b'"x"', b"[" * 100_000])
def test_bodies_that_are_no_request(data: bytes) -> None:
    with pytest.raises(Misread):
        anthropic.parse_messages(data)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("af", max_size=3)
    | st.sampled_from(["text", "image", "tool_use", "tool_result", "thinking", "user", "tool", "base64"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "text", "role", "content", "source", "data", "id", "name", "input", "tool_use_id"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = ["system", "messages", "tools", "tool_choice", "thinking", "output_config", "stop_sequences", "temperature"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3))
def test_any_body_is_parsed_or_refused(body: dict[str, Any]) -> None:
    try:
        assert isinstance(parse(**body), Request)
    except Misread as error:
        assert str(error)


def test_counting_needs_no_limit() -> None:
    body = json.dumps({"model": "m", "messages": USER}).encode()
    assert conversation(anthropic.parse_count(body).request).messages == (Message("user", "Hi"),)


# ---- answers -----------------------------------------------------------------------------------

USAGE = Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=3)
COUNTS = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}
CALL = ToolCall("f", {"a": 1}, "call_x1")


def answered(chunk: Chunk, **body: Any) -> Any:
    return json.loads(anthropic.MessageWriter(parsed(**body)).answer(chunk))


def read(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each is named by its type."""
    found = []
    for event in stream.decode().strip().split("\n\n"):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def events(*chunks: Chunk) -> list[dict[str, Any]]:
    writer = anthropic.MessageWriter(parsed())
    return read(b"".join(writer.events(chunk) + b"\n" for chunk in chunks))


def test_an_answer_that_is_not_streamed() -> None:
    message = answered(Chunk("Yes.", thinking="hm", finish_reason="stop", usage=USAGE))
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "Yes."},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": COUNTS,
    }


def test_an_answer_with_calls() -> None:
    message = answered(Chunk(finish_reason="stop", tool_calls=(CALL,), usage=USAGE))
    call = {"type": "tool_use", "id": "toolu_x1", "name": "f", "input": {"a": 1}}
    assert message["content"] == [call] and message["stop_reason"] == "tool_use"


def test_a_cut_prompt_is_reported() -> None:
    cut = Usage(prompt_tokens=7, truncated_tokens=40, dropped_messages=2, completion_tokens=3)
    message = answered(Chunk("Yes.", finish_reason="stop", usage=cut))
    assert message["usage"] == {
        "input_tokens": 7,
        "output_tokens": 3,
        "prompt_truncated": {"messages": 2, "tokens": 40},
    }


def test_the_token_limit_is_the_reason_where_it_cuts_a_second_call() -> None:
    message = answered(Chunk(finish_reason="length", tool_calls=(CALL,), cut_call=True))
    assert len(message["content"]) == 1 and message["stop_reason"] == "max_tokens"


def test_an_empty_answer_is_an_empty_list() -> None:
    assert answered(Chunk(finish_reason="length"))["content"] == []
    assert answered(Chunk(finish_reason="length"))["stop_reason"] == "max_tokens"


@pytest.mark.parametrize(("stops", "reported"), [(["."], "."), ([], None)])
def test_only_a_stop_sequence_of_the_request_is_reported(
    stops: list[str], reported: str | None
) -> None:
    message = answered(Chunk("Yes", finish_reason="stop", stop_sequence="."), stop_sequences=stops)
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", reported)


def test_a_stream_has_a_block_for_each_kind() -> None:
    start, *found, last, stop = events(
        Chunk(thinking="h"),
        Chunk(thinking="m"),
        Chunk("Ye"),
        Chunk("s", tool_calls=(CALL, CALL)),
        Chunk("!"),
        Chunk(finish_reason="stop", usage=USAGE),
    )
    assert start["message"]["content"] == [] and start["message"]["usage"]["output_tokens"] == 0
    reported = [(each["type"].removeprefix("content_block_"), each["index"]) for each in found]
    assert reported == [
        ("start", 0), ("delta", 0), ("delta", 0), ("stop", 0),
        ("start", 1), ("delta", 1), ("delta", 1), ("stop", 1),
        ("start", 2), ("delta", 2), ("stop", 2), ("start", 3), ("delta", 3), ("stop", 3),
        ("start", 4), ("delta", 4), ("stop", 4),
    ]  # fmt: skip
    blocks = [each["content_block"] for each in found if "content_block" in each]
    assert [block["type"] for block in blocks] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
        "text",
    ]
    assert blocks[2] == {"type": "tool_use", "id": "toolu_x1", "name": "f", "input": {}}
    deltas = [list(each["delta"].values()) for each in found if "delta" in each]
    assert deltas[:2] == [["thinking_delta", "h"], ["thinking_delta", "m"]]
    assert deltas[4] == ["input_json_delta", '{"a":1}'] and deltas[-1] == ["text_delta", "!"]
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert last["usage"] == COUNTS and stop == {"type": "message_stop"}


def test_a_stream_without_text() -> None:
    found = [each["type"] for each in events(Chunk(finish_reason="stop", usage=USAGE))]
    assert found == ["message_start", "message_delta", "message_stop"]


def test_the_first_event_has_the_counts_of_the_prompt_where_it_was_read() -> None:
    read = Usage(prompt_tokens=100, cached_tokens=60)
    start, *_ = events(Chunk("a", prompt_usage=read))
    counts = {"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 0}
    assert start["message"]["usage"] == counts


def test_a_ping_before_the_first_chunk_begins_the_stream() -> None:
    writer = anthropic.MessageWriter(parsed())
    stream = writer.ping() + b"\n" + writer.ping() + b"\n" + writer.events(Chunk("a"))
    kinds = [each["type"] for each in read(stream)]
    assert kinds == ["message_start", "ping", "ping", "content_block_start", "content_block_delta"]


@pytest.mark.parametrize(
    ("status", "sort"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (507, "api_error"),
    ],
)
def test_errors(status: int, sort: str) -> None:
    reported = json.loads(anthropic.encode_error(status, "no"))
    assert reported.pop("request_id").startswith("req_")
    assert reported == {"type": "error", "error": {"type": sort, "message": "no"}}
    [event] = read(anthropic.error_event(status, "no"))
    assert event["error"] == reported["error"]

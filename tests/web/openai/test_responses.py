"""OpenAI's responses: requests as tables of JSON, and encoded responses and events."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.request import Conversation, Request
from ollamapy.serving.responses.responses import status_of
from ollamapy.serving.responses.values import Response, ResponseFailure
from ollamapy.types import Chunk, Constraint, Message, TokenLogprob, ToolCall, Usage
from ollamapy.web import sse
from ollamapy.web.body import Misread
from ollamapy.web.openai import responses
from ollamapy.web.openai.response_events import ResponseWriter, written
from tests.requests_made import conversation

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PIXEL = f"data:image/png;base64,{base64.b64encode(b'PNG').decode()}"


def parsed(**body: Any) -> responses.ParsedResponse:
    return responses.parse(json.dumps({"model": "m", "input": "Hi", **body}).encode())


def parse(**body: Any) -> Request:
    return parsed(**body).request


def item(role: str, *parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def text(given: str, sort: str = "input_text") -> dict[str, Any]:
    return {"type": sort, "text": given}


def called(id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": arguments}


def result(id: str, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": output}


# ---- requests ----------------------------------------------------------------------------------


def test_defaults_are_the_models() -> None:
    request = parse()
    assert conversation(request).messages == (Message("user", "Hi"),) and request.think is None
    assert request.options.temperature == 1.0 and request.options.top_p is None
    assert request.options.num_predict is None and request.truncate and not parsed().stream


def test_fields() -> None:
    request = parse(
        instructions="Be brief.", temperature=0, top_p=0.5, max_output_tokens=3, truncation="disabled",
        reasoning={"effort": "xhigh"}, tools=[TOOL], tool_choice="required",
        parallel_tool_calls=False, options={"top_k": 3}, include=["message.output_text.logprobs"],
    )  # fmt: skip
    assert conversation(request).messages == (Message("system", "Be brief."), Message("user", "Hi"))
    options = request.options
    assert (options.temperature, options.top_p, options.num_predict, options.top_k) == (
        0,
        0.5,
        3,
        3,
    )
    assert not request.truncate and request.think == "max" and request.logprobs == 0
    assert (
        conversation(request).tools == (FUNCTION,)
        and conversation(request).tool_choice == "required"
    )
    assert not conversation(request).parallel_tool_calls


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ([{"role": "user", "content": "a"}], [Message("user", "a")]),
        ([item("user", text("a"), text("b"))], [Message("user", "ab")]),
        ([item("developer", text("d"))], [Message("developer", "d")]),
        (
            [item("user", {"type": "input_image", "image_url": PIXEL})],
            [Message("user", images=(b"PNG",))],
        ),
        (
            [item("assistant", {"type": "refusal", "refusal": "no"})],
            [Message("assistant", "no")],
        ),
        ([{"type": "web_search_call", "id": "w"}, item("user", text("a"))], [Message("user", "a")]),
        (
            [
                {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "hm"},
                called("1", '{"a": 1}'),
                called("2"),
                result("1", "11"),
                result("2", [text("12")]),
            ],
            [
                Message("assistant", "", "hm", (ToolCall("f", {"a": 1}, "1"), ToolCall("f", {}, "2"))),
                Message("tool", "11", tool_name="f", tool_call_id="1"),
                Message("tool", "12", tool_name="f", tool_call_id="2"),
            ],
        ),
        (
            [item("assistant", text("I look.", "output_text")), called("1"), result("9", "x")],
            [
                Message("assistant", "I look.", tool_calls=(ToolCall("f", {}, "1"),)),
                Message("tool", "x", tool_call_id="9"),
            ],
        ),
        (
            [
                {"type": "reasoning", "summary": [text("h", "summary_text"), text("m")]},
                item("assistant", text("a", "output_text")),
            ],
            [Message("assistant", "a", "hm")],
        ),
        ([{"type": "reasoning", "encrypted_content": "hm"}], [Message("assistant", "", "hm")]),
    ],
)  # fmt: skip
def test_items(items: list[Any], found: list[Message]) -> None:
    assert conversation(parse(input=items)).messages == tuple(found)


@pytest.mark.parametrize(
    ("choice", "means"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, "f"),
        ({"type": "allowed_tools", "mode": "required", "tools": [TOOL]}, "required"),
    ],
)
def test_tool_choice(choice: Any, means: str) -> None:
    request = parse(tools=[TOOL], tool_choice=choice)
    assert (conversation(request).tools, conversation(request).tool_choice) == ((FUNCTION,), means)
    assert parsed(tools=[TOOL], tool_choice=choice).head.echo["tool_choice"] == choice
    assert conversation(request).parallel_tool_calls is (means != "f"), (
        "one that is named is called once"
    )


def test_only_allowed_tools_are_given_to_the_model() -> None:
    other = {**TOOL, "name": "g"}
    found = parsed(tools=[TOOL, other], tool_choice={"type": "allowed_tools", "tools": [other]})
    assert [tool["function"]["name"] for tool in conversation(found.request).tools] == ["g"]
    assert [tool["name"] for tool in found.head.echo["tools"]] == ["f", "g"]


def test_a_namespace_is_a_prefix() -> None:
    request = parse(tools=[{"type": "namespace", "name": "ns", "tools": [TOOL]}])
    assert [tool["function"]["name"] for tool in conversation(request).tools] == ["ns.f"]


def test_the_call_of_a_namespaces_tool_names_both() -> None:
    found = parsed(tools=[TOOL, {"type": "namespace", "name": "ns", "tools": [TOOL]}])
    calls = (ToolCall("ns.f", {}, "c1"), ToolCall("f", {}, "c2"))
    last = Chunk(tool_calls=calls, finish_reason="stop")
    inner, outer = answer(last, head=msgspec.json.encode(found.head))["output"]
    assert (inner["namespace"], inner["name"]) == ("ns", "f")
    assert "namespace" not in outer and outer["name"] == "f"
    given_back = {key: inner[key] for key in ("type", "call_id", "name", "namespace", "arguments")}
    [_, message] = conversation(parse(input=[item("user", text("Hi")), given_back])).messages
    assert message.tool_calls == calls[:1]


def test_a_web_search_tool_is_left_out() -> None:
    found = parsed(tools=[{"type": "web_search"}, TOOL])
    assert conversation(found.request).tools == (FUNCTION,)
    assert [tool["type"] for tool in found.head.echo["tools"]] == ["function"]


@pytest.mark.parametrize(
    ("form", "constraint"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint("json")),
        ({"type": "json_schema", "name": "c", "schema": {}}, Constraint("schema", "{}")),
    ],
)
def test_the_form_of_an_answer(form: dict[str, Any], constraint: Constraint | None) -> None:
    found = parsed(text={"format": form, "verbosity": "low"})
    assert found.request.constraint == constraint
    assert found.head.echo["text"] == {"format": form, "verbosity": "low"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"model": None}, "model is required"),
        ({"input": None}, "input is required"),
        ({"input": []}, "input is required"),
        ({"input": {}}, "input is required"),
        ({"input": ["x"]}, "input.0. must be an object with a type"),
        ({"input": [{"type": "item_reference"}]}, "input.0. must have a text as id"),
        ({"input": [{"type": "computer_call"}]}, 'unknown input item type: "computer_call"'),
        ({"background": True, "store": False}, "background needs store"),
        ({"previous_response_id": "a", "conversation": "b"}, "cannot be used together"),
        ({"conversation": 5}, "conversation must be an id"),
        ({"conversation": {"id": 5}}, "conversation must have a text as id"),
        ({"input": [{"type": ["message"]}]}, "unknown input item type"),
        ({"input": [{"role": "user"}]}, "input.0..content must be a text or a list of parts"),
        ({"input": [{"role": "robot", "content": ""}]}, "role 'robot' of input.0. is unknown"),
        ({"input": [{"content": "x"}]}, "must have a text as role"),
        ({"input": [item("user", "x")]}, "unknown content type"),
        ({"input": [item("user", {"type": "input_file"})]}, "must have file_data"),
        ({"input": [item("user", {"type": "input_image", "file_id": "x"})]}, "as a data URI"),
        (
            {"input": [item("user", {"type": "input_file", "file_id": "file-1"})]},
            "no stored files here",
        ),
        ({"input": [item("user", {"type": "input_image", "image_url": 5})]}, "invalid message"),
        ({"input": [called("1", "{")]}, "arguments must be an object"),
        ({"input": [called("1", "[]")]}, "arguments must be an object"),
        ({"input": [{**called("1"), "call_id": None}]}, "must have a text as call_id"),
        ({"input": [result("1", 5)]}, "output must be a text or a list"),
        ({"input": [{"type": "reasoning", "summary": 5}]}, "summary must be a list"),
        ({"temperature": "0"}, 'option "temperature" must be of type float32'),
        ({"max_output_tokens": 0}, "max_output_tokens must be positive"),
        ({"max_output_tokens": "x"}, "max_output_tokens of type int"),
        ({"truncation": "some"}, "truncation must be"),
        ({"reasoning": {"effort": "extreme"}}, "invalid reasoning value"),
        ({"reasoning": "low"}, "ResponsesRequest.reasoning"),
        ({"top_logprobs": 21}, "top_logprobs must be between"),
        ({"text": {"format": {"type": "xml"}}}, "text.format must be of type"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema must be"),
        ({"tools": {}}, "tools must be a list"),
        ({"tools": ["f"]}, "tools.0. is a tool without a type"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools.0. is the tool 'code_interpreter'"),
        ({"tools": [{"type": "function"}]}, "tools.0. must have a name"),
        ({"tools": [{**TOOL, "parameters": []}]}, "an object as parameters"),
        ({"tools": [{"type": "namespace", "name": "n"}]}, "must have a list of functions"),
        ({"tool_choice": "required"}, "no functions are given"),
        ({"tool_choice": {"type": "file_search"}, "tools": [TOOL]}, "tool_choice must be"),
        ({"tool_choice": {"type": "function", "name": "g"}, "tools": [TOOL]}, "tool_choice must"),
        ({"tool_choice": {"type": "allowed_tools"}, "tools": [TOOL]}, "a list of tools that are"),
    ],
)
def test_refused(body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as error:
        parse(**body)
    assert error.value.status == 400


def test_a_stored_prompt_is_not_known() -> None:
    with pytest.raises(responses.PromptNotStored, match="prompt is not supported") as error:
        parse(prompt={"id": "x"})
    assert error.value.status == 404


@pytest.mark.parametrize(
    ("fields", "previous", "conversation"),
    [
        ({}, None, None),
        ({"previous_response_id": "resp_1", "input": []}, "resp_1", None),
        ({"previous_response_id": ""}, None, None),
        ({"conversation": "conv_1", "input": None}, None, "conv_1"),
        ({"conversation": {"id": "conv_1"}}, None, "conv_1"),
    ],
)
def test_what_a_response_continues(
    fields: dict[str, Any], previous: str | None, conversation: str | None
) -> None:
    head = parsed(**fields).head
    assert (head.previous, head.conversation) == (previous, conversation)


def test_what_comes_before_a_request_is_part_of_its_messages() -> None:
    earlier = [item("user", {"type": "input_text", "text": "a"}), called("1")]
    found = parsed(input=[result("1", "r")], previous_response_id="resp_1", instructions="Be kind.")
    request = found.after(earlier, found.items)
    assert isinstance(request.input, Conversation)
    assert [(m.role, m.tool_name) for m in request.input.messages] == [
        ("system", ""), ("user", ""), ("assistant", ""), ("tool", "f"),
    ]  # fmt: skip


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"[" * 100_000])
def test_bodies_that_are_no_request(data: bytes) -> None:
    with pytest.raises(Misread):
        responses.parse(data)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("af", max_size=3)
    | st.sampled_from(["message", "function_call", "reasoning", "input_text", "input_image", "user", "function"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "text", "role", "content", "summary", "output", "call_id", "name", "arguments",
                         "image_url", "format", "schema", "effort", "tools"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)  # fmt: skip
FIELDS = ["input", "instructions", "tools", "tool_choice", "text", "reasoning", "include", "truncation", "metadata"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3))
def test_any_body_is_parsed_or_refused(body: dict[str, Any]) -> None:
    try:
        assert isinstance(parse(**body), Request)
    except InvalidRequest as error:
        assert str(error)


# ---- answers -----------------------------------------------------------------------------------

USAGE = Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=3)
CALL = ToolCall("f", {"a": 1}, "call_1")
LAST = Chunk(finish_reason="stop", usage=USAGE)


def response(**fields: Any) -> Response:
    """A response that is being written."""
    made = {"id": "resp_1", "status": "in_progress", "created_at": 5, **fields}
    return Response(**{"head": msgspec.json.encode(parsed().head), **made})


def answer(chunk: Chunk, **fields: Any) -> dict[str, Any]:
    """A response that is written whole."""
    made = response(status=status_of(chunk), ended_at=7, **fields)
    found: dict[str, Any] = json.loads(msgspec.json.encode(written(made, [chunk])))
    return found


def read(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream; each is named by its type, and they are numbered."""
    found = []
    for number, event in enumerate(stream.decode().strip().split("\n\n")):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}" and found[-1]["sequence_number"] == number
    return found


def events(*chunks: Chunk) -> list[dict[str, Any]]:
    writer, found = ResponseWriter(response()), []
    for chunk in chunks:
        if chunk.finish_reason:
            writer.response = response(status=status_of(chunk), ended_at=7)
        found += writer.events(chunk)
    return read(sse.write(found))


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [each["type"].removeprefix("response.") for each in found]


def test_a_cut_prompt_is_reported() -> None:
    cut = Usage(prompt_tokens=7, truncated_tokens=40, dropped_messages=2, completion_tokens=3)
    found = answer(Chunk("Yes.", finish_reason="stop", usage=cut))
    assert found["usage"]["prompt_truncated"] == {"messages": 2, "tokens": 40}


def test_an_answer_that_the_limit_cut_off_is_incomplete() -> None:
    cut = Chunk("Yes", finish_reason="length", usage=USAGE)
    found = answer(cut)
    assert found["status"] == "incomplete" and found["completed_at"] is None
    assert found["incomplete_details"] == {"reason": "max_output_tokens"}
    assert found["output"][-1]["status"] == "incomplete"
    last = events(cut)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_tokens_from_the_cache_are_counted() -> None:
    found = answer(LAST)
    assert found["usage"]["input_tokens"] == 7
    assert found["usage"]["input_tokens_details"] == {"cached_tokens": 2}


def test_a_response_that_is_not_streamed() -> None:
    head = msgspec.json.encode(parsed(metadata={"a": "b"}, tools=[TOOL]).head)
    whole = Chunk("Yes.", thinking="hm", tool_calls=(CALL,), finish_reason="stop", usage=USAGE)
    found = answer(whole, head=head)
    thoughts, message, call = found["output"]
    assert thoughts["id"].startswith("rs_") and thoughts["type"] == "reasoning"
    assert thoughts["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert thoughts["encrypted_content"] == "hm"
    part = {"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": []}
    assert message["id"].startswith("msg_") and message["content"] == [part]
    assert call["id"].startswith("fc_") and call["call_id"] == "call_1"
    assert (call["name"], call["arguments"], call["status"]) == ("f", '{"a":1}', "completed")
    assert found["status"] == "completed" and found["id"].startswith("resp_")
    assert found["usage"]["total_tokens"] == 10 and found["metadata"] == {"a": "b"}
    assert found["tools"] == [{**TOOL, "description": None, "strict": None}]
    assert found["previous_response_id"] is None and found["store"] is True
    assert found["background"] is False and "conversation" not in found


def test_log_probabilities_come_with_their_text() -> None:
    token = TokenLogprob("Y", -0.5, (89,), (TokenLogprob("Y", -0.5, (89,)),))
    found = events(Chunk(logprobs=(token,)), Chunk("YY", logprobs=(token,)), LAST)
    expected = {"token": "Y", "logprob": -0.5, "bytes": [89], "top_logprobs": []}
    [delta] = [each for each in found if each["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == [{**expected, "top_logprobs": [expected]}] * 2
    assert found[-1]["response"]["output"][0]["content"][0]["logprobs"] == delta["logprobs"]


def test_a_stream_of_a_text() -> None:
    found = events(Chunk("Ye"), Chunk("s"), LAST)
    assert kinds(found) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert found[0]["response"]["status"] == "in_progress" and found[0]["response"]["output"] == []
    assert found[6]["text"] == "Yes" and found[7]["part"]["text"] == "Yes"
    last = found[-1]["response"]
    assert last["output"] == [found[8]["item"]] and last["usage"]["input_tokens"] == 7
    assert last["id"] == found[0]["response"]["id"]
    assert {each["item_id"] for each in found[3:8]} == {last["output"][0]["id"]}


def test_a_stream_of_thinking_text_and_calls() -> None:
    found = events(Chunk(thinking="h"), Chunk("m"), Chunk(tool_calls=(CALL,)), Chunk("!"), LAST)
    assert kinds(found)[2:-1] == [
        "output_item.added", "reasoning_summary_text.delta", "reasoning_summary_text.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done",
    ]  # fmt: skip
    done = [each for each in found if each["type"] == "response.output_item.done"]
    assert [each["output_index"] for each in done] == [0, 1, 2, 3]
    assert found[-1]["response"]["output"] == [each["item"] for each in done]
    assert len({each["item"]["id"] for each in done}) == 4


@pytest.mark.parametrize("thinking", ["", "hm"])
def test_an_answer_without_text_has_an_empty_message(thinking: str) -> None:
    found = events(Chunk(thinking=thinking, finish_reason="length", usage=USAGE))
    output = found[-1]["response"]["output"]
    assert [item["type"] for item in output] == (["reasoning"] if thinking else []) + ["message"]
    assert output[-1]["content"][0]["text"] == ""


def test_a_failed_stream_has_one_error_event() -> None:
    writer = ResponseWriter(response())
    found = writer.events(Chunk("Ye"))
    failure = ResponseFailure(500, "", "the runner crashed")
    writer.response = response(status="failed", error=failure)
    last = read(sse.write([*found, *writer.ending()]))[-1]
    assert last["type"] == "response.failed" and last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "server_error", "message": "the runner crashed"}


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "context_length_exceeded", "context_length_exceeded"),
        (400, "", "invalid_prompt"),
        (503, "", "server_error"),
    ],
)
def test_the_code_of_a_failure(status: int, code: str, expected: str) -> None:
    failed = response(status="failed", error=ResponseFailure(status, code, "no"))
    assert written(failed, ())["error"] == {"code": expected, "message": "no"}


def test_what_a_failed_response_wrote_is_kept() -> None:
    chunks = [Chunk(thinking="h"), Chunk("Ye"), Chunk("s")]
    found = written(response(status="failed", error=ResponseFailure(500, "", "no")), chunks)
    assert [item["type"] for item in found["output"]] == ["reasoning", "message"]
    assert found["output"][1]["status"] == "incomplete"
    assert found["output"][1]["content"][0]["text"] == "Yes"


def test_a_response_in_the_background_waits_first() -> None:
    head = msgspec.json.encode(parsed(background=True).head)
    writer = ResponseWriter(response(head=head, background=True, status="queued"))
    found = writer.opening()
    assert writer.opening() == []
    found += writer.events(Chunk())
    writer.response = response(head=head, status="completed", ended_at=7)
    found += writer.events(LAST)
    found = read(sse.write(found))
    assert kinds(found)[:3] == ["created", "queued", "in_progress"]
    statuses = [each["response"]["status"] for each in found if "response" in each]
    assert statuses == ["queued", "queued", "in_progress", "completed"]

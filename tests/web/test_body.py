"""Go's way of decoding JSON, as tables: values that it accepts, and its errors for others."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.web import body
from ollamapy.web.anthropic import wire as anthropic
from ollamapy.web.ollama import wire as ollama
from ollamapy.web.openai import chat, responses


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b' \r\n\t{"a": 1} \n', {"a": 1}),
        (b'{"a": 1} and more', {"a": 1}),
        (b'{"a": 1}{"a": 2}', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": "\xff\xc3"}', {"a": "\ufffd\ufffd"}),
        (b'{"a": "\\ud83d\\udc4b"}', {"a": "\U0001f44b"}),
        (b'{"a": "\\ud83d"}', {"a": "\ufffd"}),
        (b'{"a": "\\udc4b\\ud83d"}', {"a": "\ufffd\ufffd"}),
        (b'{"a": "\\\\ud83d"} ', {"a": "\\ud83d"}),
        (b'{"a": "\\\\ud83d"} x', {"a": "\\ud83d"}),
        (b"[]", []),
        (b"null", None),
        (b'{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
    ],
)
def test_accepted(data: bytes, value: Any) -> None:
    assert body.decode(data) == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "missing request body"),
        (b" \n", "missing request body"),
        (b'{"model": ', "unexpected EOF"),
        (b'{"model": "x', "unexpected EOF"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b"{'a': 1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"a": 1,}', "invalid character '}' looking for beginning of object key string"),
        (b'{"a": [1, ]}', "invalid character ']' looking for beginning of value"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b"[1,]", "invalid character ']' looking for beginning of value"),
        (b'{"a": NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"a": -Infinity}', "invalid character '-' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a": "\x01"}', "invalid character '\\x01' in string literal"),
        (b'{"a": "\\q"}', "invalid character 'q' in string escape code"),
        (b'{"a": 1 "b"}', "invalid character '\"' after array element or object key:value pair"),
        (b"\xef\xbb\xbf{}", "invalid character '\\ufeff' looking for beginning of value"),
        (b"[" * 100_000, "json: exceeded max depth"),
        (b'{"a":' * 100_000, "json: exceeded max depth"),
        (b"1" * 5000, "json: cannot unmarshal number: it is too long"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        body.decode(data)
    assert str(error.value) == message and error.value.status == 400


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: ('{"a":"' + text).encode()))
def test_any_bytes_are_a_value_or_an_error_that_can_be_sent(data: bytes) -> None:
    try:
        value = body.decode(data)
    except InvalidRequest as error:
        str(error).encode()
    else:
        repr(value)


TYPES = {
    "name": "string",
    "flag": "bool",
    "count": "int",
    "ids": "[]int",
    "words": "[]string",
    "options": "map[string]interface {}",
    "any": "any",
}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"name": "x", "flag": True, "count": 3}, {"name": "x", "flag": True, "count": 3}),
        ({"NAME": "x", "Flag": False}, {"name": "x", "flag": False}),
        ({"name": None, "ids": None}, {}),
        ({"unknown": [1, {"deep": 2}]}, {}),
        ({"ids": [1, None]}, {"ids": [1, 0]}),
        ({"words": ["a", None]}, {"words": ["a", ""]}),
        ({"options": {"A": 1}}, {"options": {"A": 1}}),
        ({"any": [1]}, {"any": [1]}),
        ({"Name": "first", "NAME": "last"}, {"name": "last"}),
        (None, {}),
    ],
)
def test_fields(value: Any, found: dict[str, Any]) -> None:
    assert body.fields(value, TYPES, "Request") == found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "array into Go value of type api.Request"),
        ("x", "string into Go value of type api.Request"),
        ({"name": 5}, "number into Go struct field Request.name of type string"),
        ({"name": {}}, "object into Go struct field Request.name of type string"),
        ({"flag": "yes"}, "string into Go struct field Request.flag of type bool"),
        ({"flag": 1}, "number into Go struct field Request.flag of type bool"),
        ({"count": 1.5}, "number 1.5 into Go struct field Request.count of type int"),
        ({"count": 2**63}, "number 9223372036854775808 into Go struct field Request.count of type int"),
        ({"ids": [-(10**25)]}, "number -10000000000000000000000000 into Go struct field Request.ids of type int"),
        ({"count": True}, "bool into Go struct field Request.count of type int"),
        ({"ids": [1, "2"]}, "string into Go struct field Request.ids of type int"),
        ({"ids": 1}, "number into Go struct field Request.ids of type []int"),
        ({"options": []}, "array into Go struct field Request.options of type map[string]interface {}"),
    ],
)  # fmt: skip
def test_wrong_types(value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        body.fields(value, TYPES, "Request")
    assert str(error.value) == f"json: cannot unmarshal {message}"


@pytest.mark.parametrize(
    "data",
    [
        b'{"context":[' + b"1," * body.MOST_VALUES + b"1,1]}",
        b'{"messages":[' + b"{}," * body.MOST_CONTAINERS + b"{}]}",
        b"{" + b'"k":1,' * body.MOST_CONTAINERS + b'"k":1}',
        b'{"prompt":"' + b'\\\\","a":[' * body.MOST_CONTAINERS,
    ],
    ids=["numbers", "objects", "keys", "arrays after backslashes"],
)
def test_too_many_values_are_refused_before_they_are_decoded(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(msgspec.json, "decode", None)
    with pytest.raises(body.BodyTooLarge, match="more than 2,000,000 JSON values"):
        body.decode(data)


@pytest.mark.parametrize(
    "text", [",:[{" * body.MOST_CONTAINERS, '\\",[' * body.MOST_CONTAINERS, "\\" * 300_001]
)
def test_strings_contain_no_values(text: str) -> None:
    assert body.decode(json.dumps({"prompt": text}).encode()) == {"prompt": text}


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\,[{:\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='"\\,'), inner),
)


@given(JSON, st.integers(1, 5))
def test_the_text_outside_strings(value: Any, piece: int) -> None:
    data = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "_PIECE", piece)
        found = b"".join(body._without_strings(data))
    assert found == re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data)


def test_a_long_body_must_be_strict_json() -> None:
    short, long = b'{"a": "\\ud83d"}', b'{"a": "\\ud83d%s"}' % (b"x" * body.MAX_LENIENT)
    assert body.decode(short) == {"a": "\ufffd"}
    with pytest.raises(InvalidRequest, match="not JSON in UTF-8"):
        body.decode(long)


@given(st.binary(max_size=40), st.integers(1, 3))
def test_base64_in_pieces(data: bytes, pieces: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "_PIECE", 4 * pieces)
        assert body.from_base64(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize("text", ["YQ==YQ==", "YWI=YWJj", "====", "YQ==" * 9])
def test_padding_is_at_the_end_only(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_PIECE", 4)
    with pytest.raises(InvalidRequest, match="illegal base64"):
        body.from_base64(text)


@pytest.mark.parametrize(
    ("parse", "field"),
    [
        (ollama.parse_chat, "messages"),
        (chat.parse, "messages"),
        (responses.parse, "input"),
        (anthropic.parse_messages, "messages"),
    ],
)
def test_too_many_messages(parse: Callable[[bytes], Any], field: str) -> None:
    message = {"role": "user", "content": "a"}

    def given(count: int) -> bytes:
        return json.dumps({"model": "m", "max_tokens": 1, field: [message] * count}).encode()

    parse(given(body.MOST_MESSAGES))
    with pytest.raises(InvalidRequest, match=f"{field} has 10,001 items, at most 10,000"):
        parse(given(body.MOST_MESSAGES + 1))


def test_parts_that_become_messages_are_counted() -> None:
    parts = [{"type": "text", "text": "a"}] * (body.MOST_MESSAGES + 1)
    given = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    with pytest.raises(InvalidRequest, match="parts has 10,001 items, at most 10,000"):
        chat.parse(json.dumps(given).encode())


def test_results_of_tools_that_become_messages_are_counted() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "a"}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    messages = [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result] * body.MOST_MESSAGES},
    ]
    given = {"model": "m", "max_tokens": 1, "messages": messages}
    with pytest.raises(InvalidRequest, match="results has 10,001 items, at most 10,000"):
        anthropic.parse_messages(json.dumps(given).encode())

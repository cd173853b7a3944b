"""The forms of answers that OpenAI's, llama.cpp's and vLLM's clients ask for, in every path that answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.request import Request
from ollamapy.types import Constraint
from ollamapy.web.openai import chat, completions, responses

NULL = {"type": "null"}
ONE = Constraint("schema", '{"type":"null"}')


def asked_in_chat(**body: Any) -> Request:
    (found,) = chat.parse(_data(messages=[{"role": "user", "content": "Hi"}], **body)).requests
    return found


def asked_in_completion(**body: Any) -> Request:
    (found,) = completions.parse(_data(prompt="Hi", **body)).requests
    return found


def asked_in_response(**body: Any) -> Request:
    if "response_format" in body:
        body = {**body, "text": {"format": _flat(body.pop("response_format"))}}
    return responses.parse(_data(input="Hi", **body)).request


def _data(**body: Any) -> bytes:
    return json.dumps({"model": "m", **body}).encode()


def _flat(form: dict[str, Any]) -> dict[str, Any]:
    return {**form, **form.get("json_schema", {})}


PATHS = (asked_in_chat, asked_in_completion, asked_in_response)


@pytest.mark.parametrize("asked", PATHS)
@pytest.mark.parametrize(
    ("body", "constraint"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Constraint("json")),
        ({"response_format": {"type": "json_object", "schema": {}}}, Constraint("json")),
        ({"response_format": {"type": "json_object", "schema": NULL}}, ONE),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": NULL}}}, ONE),
        ({"grammar": 'root ::= "x"'}, Constraint("gbnf", 'root ::= "x"')),
        ({"json_schema": NULL}, ONE),
        ({"structured_outputs": {"json": NULL, "regex": None}}, ONE),
        ({"structured_outputs": {"json": '{"type":"null"}'}}, ONE),
        ({"structured_outputs": {"json_object": True}}, Constraint("json")),
        ({"structured_outputs": {"json_object": False, "regex": "a|b"}}, Constraint("regex", "a|b")),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, Constraint("choice", '["yes","no"]')),
        ({"structured_outputs": {"grammar": 'root ::= "x"'}}, Constraint("gbnf", 'root ::= "x"')),
        ({"guided_json": NULL}, ONE),
        ({"guided_regex": "a|b"}, Constraint("regex", "a|b")),
        ({"guided_choice": ["yes", "no"]}, Constraint("choice", '["yes","no"]')),
        ({"guided_grammar": 'root ::= "x"'}, Constraint("gbnf", 'root ::= "x"')),
    ],
)  # fmt: skip
def test_a_form_is_obeyed(asked: Any, body: dict[str, Any], constraint: Constraint | None) -> None:
    assert asked(**body).constraint == constraint


@pytest.mark.parametrize("asked", PATHS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"response_format": {"type": "xml"}}, "text, json_object or json_schema"),
        ({"response_format": {"type": "json_object", "schema": 5}}, "schema must be a JSON Schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}}, "schema must be a JSON Schema"),
        ({"grammar": 5}, "grammar of type string"),
        ({"json_schema": "x"}, "json_schema must be a JSON Schema"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag is no form"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice is no form"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice is no form"),
        ({"guided_choice": [1]}, "guided_choice of type string"),
        ({"guided_json": [1]}, "guided_json must be a JSON Schema"),
        ({"grammar": "x", "guided_regex": "x"}, "grammar or guided_regex, not both"),
        ({"response_format": {"type": "json_object"}, "json_schema": NULL}, "not both"),
    ],
)  # fmt: skip
def test_another_form_is_refused(asked: Any, body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        asked(**body)

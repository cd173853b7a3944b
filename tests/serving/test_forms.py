"""The form of answers over a real daemon: every feature of schemas, every kind of grammar, and forms that no answer can have."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import jsonschema
import pytest

from tests.engine.constraints import FORMATS, SCHEMAS
from tests.served import Daemon

pytestmark = pytest.mark.llama

OPTIONS = {"num_predict": 200, "seed": 1}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(daemon: Daemon, name: str) -> None:
    answer = daemon.generate("plain", format=SCHEMAS[name], options=OPTIONS).json()
    value = json.loads(answer["response"])
    jsonschema.validate(value, SCHEMAS[name], format_checker=FORMATS)
    assert answer["done_reason"] == "stop"


def test_json_and_gbnf(daemon: Daemon) -> None:
    text = daemon.generate("plain", format="json", options=OPTIONS).json()["response"]
    assert text.startswith("{")
    grammar = 'root ::= "ba" [0-9]{2} ("!" | "?")'
    text = daemon.generate("plain", grammar=grammar, options=OPTIONS).json()["response"]
    assert re.fullmatch(r"ba[0-9]{2}[!?]", text)


HOSTILE: dict[str, Any] = {
    "deep": '{"items":' * 20_000 + "{}" + "}" * 20_000,
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "huge": json.dumps({"type": "object", "description": "x" * 5_000_000}),
    "many properties": json.dumps(
        {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(2000)}}
    ),
    "of itself": '{"$ref":"#"}',
    "of itself, twice": '{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}',
    "impossible": '{"type":"integer","minimum":5,"maximum":4}',
    "impossible inside": '{"type":"object","properties":{"a":false},"required":["a"]}',
    "elsewhere": '{"$ref":"http://127.0.0.1:9/schema.json"}',
    "too much work": json.dumps(
        {"allOf": [{"type": "integer", "multipleOf": p} for p in (99_991, 99_989, 7_919)]}
    ),
    "no schema": '"yaml"',
    "a number": "5",
}


def test_an_impossible_form_is_refused_at_once_and_delays_no_other_request(daemon: Daemon) -> None:
    asked = {"model": "long", "prompt": "Hi", "options": {"num_predict": 8000}}
    beside = daemon.open("POST", "/api/generate", asked)
    assert beside.line()["response"]
    for name, form in HOSTILE.items():
        begun = time.monotonic()
        body = f'{{"model":"long","prompt":"Hi","stream":false,"format":{form}}}'
        answer = daemon.ask("POST", "/api/generate", body.encode())
        assert answer.status == 400 and answer.json()["error"], name
        assert "\n" not in answer.json()["error"] and len(answer.json()["error"]) < 400
        assert time.monotonic() - begun < 60, f"{name} takes 1 second where the machine is free"
    assert not beside.line()["done"], "it goes on"
    beside.leave()

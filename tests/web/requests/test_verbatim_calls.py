"""A model spells a call in its own way: the next turn's prompt has it so, and the cache is found, in every API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.served import Daemon, serve
from tests.small_models import install, scripted_model

pytestmark = pytest.mark.llama

SCRIPT = 'Wait.\n<tool_call>\n{"name":"look",  "arguments":{"on": "é", "at" : 1.50}}\n</tool_call>'

TEMPLATE = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{% if not loop.first or m.content %}\n{% endif %}"
    '<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML with calls as Hermes has them."""

SCHEMA = {"type": "object", "properties": {"on": {"type": "string"}, "at": {"type": "number"}}}
FUNCTION = {"name": "look", "description": "Look at a thing", "parameters": SCHEMA}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("verbatim")
    model = scripted_model(folder / "calls.gguf", SCRIPT, chat_template=TEMPLATE)
    install(folder / "store", "calls", model)
    with serve(folder, folder / "store") as running:
        yield running


Body = dict[str, Any]


def ollama(daemon: Daemon) -> tuple[Body, Body, Body]:
    messages: list[Any] = [{"role": "user", "content": "Look."}]
    body = {"model": "calls", "messages": messages, "stream": False, "explain_cache": True}
    body["tools"] = [{"type": "function", "function": FUNCTION}]
    first = daemon.ask("POST", "/api/chat", body).json()
    messages += [first["message"], {"role": "tool", "content": "A cat.", "tool_name": "look"}]
    second = daemon.ask("POST", "/api/chat", body).json()
    return first["cache_report"], second["cache_report"], second["message"]


def openai(daemon: Daemon) -> tuple[Body, Body, Body]:
    messages: list[Any] = [{"role": "user", "content": "Look!"}]
    body = {"model": "calls", "messages": messages, "explain_cache": True}
    body["tools"] = [{"type": "function", "function": FUNCTION}]
    path = "/v1/chat/completions"
    first = daemon.ask("POST", path, body).json()
    said = first["choices"][0]["message"]
    id = said["tool_calls"][0]["id"]
    messages += [said, {"role": "tool", "content": "A cat.", "tool_call_id": id}]
    second = daemon.ask("POST", path, body).json()
    return first["cache_report"], second["cache_report"], second["choices"][0]["message"]


def responses(daemon: Daemon) -> tuple[Body, Body, Body]:
    items: list[Any] = [{"role": "user", "content": "Look?"}]
    body = {"model": "calls", "input": items, "explain_cache": True, "store": False}
    body["tools"] = [{"type": "function", **FUNCTION}]
    first = daemon.ask("POST", "/v1/responses", body).json()
    call = first["output"][-1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "A cat."}
    items += [*first["output"], output]
    second = daemon.ask("POST", "/v1/responses", body).json()
    return first["cache_report"], second["cache_report"], second["output"][-1]


def anthropic(daemon: Daemon) -> tuple[Body, Body, Body]:
    messages: list[Any] = [{"role": "user", "content": "Look;"}]
    body = {"model": "calls", "messages": messages, "max_tokens": 200, "explain_cache": True}
    body["tools"] = [{"name": "look", "description": "Look at a thing", "input_schema": SCHEMA}]
    first = daemon.ask("POST", "/v1/messages", body).json()
    result = {"type": "tool_result", "tool_use_id": first["content"][-1]["id"], "content": "A cat."}
    messages += [{"role": "assistant", "content": first["content"]}]
    messages += [{"role": "user", "content": [result]}]
    second = daemon.ask("POST", "/v1/messages", body).json()
    return first["cache_report"], second["cache_report"], second["content"][-1]


@pytest.mark.parametrize("api", [ollama, openai, responses, anthropic])
def test_the_next_turn_finds_the_call_in_the_cache(
    daemon: Daemon, api: Callable[[Daemon], tuple[Body, Body, Body]]
) -> None:
    first, second, said = api(daemon)
    assert "look" in json.dumps(said)
    answer = second["reused_tokens"] - first["prompt_tokens"]
    assert second["reason"] == "whole"
    assert answer >= len(SCRIPT.split())  # more than the prompt: the call itself
    assert second["prompt_tokens"] - second["reused_tokens"] < 50  # the result and the marks


def test_the_prompt_has_the_call_as_it_was_written(daemon: Daemon) -> None:
    call = {"function": {"name": "look", "arguments": {"on": "é", "at": 1.5}}}
    messages = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "Wait.", "tool_calls": [call]},
        {"role": "tool", "content": "A cat."},
    ]
    body = {"model": "calls", "messages": messages, "_debug_render_only": True}
    body["tools"] = [{"type": "function", "function": FUNCTION}]

    def prompt() -> str:
        found = daemon.ask("POST", "/api/chat", body).json()
        return str(found["_debug_info"]["rendered_template"])

    ollama(daemon)
    assert SCRIPT in prompt() and prompt().count("<tool_call>") == 1
    call["function"]["arguments"] = {"on": "ü"}  # one that the model did not make
    assert '{"name": "look", "arguments": {"on": "ü"}}' in prompt()

"""Forced tool calls, over a real daemon: models with random weights make them with every family's template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, serve
from tests.small_models import install, random_model, scripted_model

pytestmark = pytest.mark.llama

TEMPLATES = Path(__file__).parents[1] / "data" / "output" / "templates"
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
    "{# tools <|channel|> #}"
)
NAMES = [*(path.stem for path in sorted(TEMPLATES.glob("*.jinja"))), "gpt-oss"]

SCRIPTS = {
    "caller": '<tool_call>\n{"name": "now", "arguments": {"zone": "utc"}}\n</tool_call>',
    "speaker": '{"answer": 42}',
}
"""The output of models with tool calls."""


def tool(name: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {"zone": {"enum": ["utc", "cet"]}},
        "required": ["zone"],
    }
    described = {"name": name, "description": "Says it", "parameters": parameters}
    return {"type": "function", "function": described}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("callers")
    for name in NAMES:
        path = TEMPLATES / f"{name}.jinja"
        template = path.read_text() if path.exists() else HARMONY
        gguf = random_model(root / f"{name}.gguf", chat_template=template, n_ctx=4096)
        install(root, name, gguf)
    hermes = (TEMPLATES.parents[1] / "chat" / "tool.jinja").read_text()
    for name, script in SCRIPTS.items():
        gguf = scripted_model(root / f"{name}.gguf", script, chat_template=hermes)
        install(root, name, gguf)
    with serve(root, root) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("choice", "called"), [("required", {"now", "then"}), ("then", {"then"})])
def test_a_call_is_made(daemon: Daemon, name: str, choice: str, called: set[str]) -> None:
    body = {
        "model": name,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [tool("now"), tool("then")],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "think": False,
        "options": {"seed": 5, "num_predict": 300},
    }
    message = daemon.ask("POST", "/api/chat", {**body, "stream": False}).json()["message"]
    chunks = [chunk["message"] for chunk in daemon.open("POST", "/api/chat", body).lines()]
    streamed = [call for chunk in chunks for call in chunk.get("tool_calls", ())]
    for calls in (message["tool_calls"], streamed):
        [function] = [call["function"] for call in calls]
        assert function["name"] in called and function["arguments"]["zone"] in ("utc", "cet")
    assert message["content"] == "" == "".join(chunk["content"] for chunk in chunks)


FORM = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
}


@pytest.mark.parametrize("form", [FORM, "json"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_optional_call_or_an_answer_in_the_form(daemon: Daemon, name: str, form: Any) -> None:
    body = {
        "model": name,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [tool("now")],
        "format": form,
        "think": False,
        "stream": False,
    }
    message = daemon.ask("POST", "/api/chat", body).json()["message"]
    if name == "caller":
        assert [call["function"]["arguments"] for call in message["tool_calls"]] == [
            {"zone": "utc"}
        ]
    else:
        assert message["content"] == SCRIPTS[name] and "tool_calls" not in message


def test_a_forced_call_is_made_whatever_the_form_of_answers(daemon: Daemon) -> None:
    body = {
        "model": "caller",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [tool("now")],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "format": FORM,
        "stream": False,
    }
    message = daemon.ask("POST", "/api/chat", body).json()["message"]
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["now"]


LONG = {"type": "object", "properties": {"s": {"type": "string", "minLength": 200}}, "required": ["s"]}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_the_token_limit_cuts_is_no_text(daemon: Daemon, name: str) -> None:
    """In every dialect, streamed or not: nothing, or pieces of a call, and the limit as the reason of the end."""
    function = {"name": "now", "description": "Says it", "parameters": LONG}
    question = {"model": name, "messages": [{"role": "user", "content": "Now?"}]}
    tools = [{"type": "function", "function": function}]

    chat = {**question, "tools": tools, "tool_choice": "required", "max_tokens": 24}
    [choice] = daemon.ask("POST", "/v1/chat/completions", chat).json()["choices"]
    assert choice["message"]["content"] == "" and "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "length"
    events = _events(daemon, "/v1/chat/completions", chat)
    parts = [event["choices"][0] for event in events if event["choices"]]
    assert not any(part["delta"].get("content") for part in parts)
    assert [part["finish_reason"] for part in parts if part["finish_reason"]] == ["length"]

    native = {**question, "tools": tools, "tool_choice": "required", "options": {"num_predict": 24}}
    whole = daemon.ask("POST", "/api/chat", {**native, "stream": False}).json()
    lines = daemon.open("POST", "/api/chat", native).lines()
    assert "".join(line["message"]["content"] for line in [whole, *lines]) == ""
    assert whole["done_reason"] == lines[-1]["done_reason"] == "length"

    flat = [{"type": "function", **function}]
    asked = {"model": name, "input": "Now?", "tools": flat, "tool_choice": "required"}
    response = daemon.ask("POST", "/v1/responses", {**asked, "max_output_tokens": 24}).json()
    assert response["status"] == "incomplete"
    texts = [part["text"] for item in response["output"] for part in item.get("content", ())]
    assert "".join(texts) == ""

    described = [{"name": "now", "input_schema": LONG}]
    message = {**question, "tools": described, "tool_choice": {"type": "any"}, "max_tokens": 24}
    whole = daemon.ask("POST", "/v1/messages", message).json()
    assert (whole["content"], whole["stop_reason"]) == ([], "max_tokens")
    events = _events(daemon, "/v1/messages", message)
    assert not any(event["type"] == "content_block_delta" for event in events)


def _events(daemon: Daemon, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    text = daemon.ask("POST", path, {**body, "stream": True}).body.decode()
    found = [line.removeprefix("data: ") for line in text.splitlines()]
    return [json.loads(line) for line in found if line.startswith("{")]

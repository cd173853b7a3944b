"""Coding agents find their prompts in the cache: the requests that three of them really sent, and the turns after them.

``tests/data/agents`` has the first request of Claude Code 2.1.197, Codex 0.171.0 and opencode 1.18.33 with tools, as each sent it
to a daemon with a scripted model; long texts are cut, tools left out, paths and ids replaced. The turns that follow are made as each agent made them in the same recording: the answer as they
send it back, a tool's result, another question, and what changes with every request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, serve
from tests.small_models import install, scripted_model
from tests.web.requests.test_verbatim_calls import TEMPLATE

pytestmark = pytest.mark.llama

DATA = Path(__file__).parents[2] / "data" / "agents"

CALLS = {
    "claude-code": ("Read", "file_path", "/home/me/work/notes.txt"),
    "codex": ("exec_command", "cmd", "cat notes.txt"),
    "opencode": ("read", "filePath", "/home/me/work/notes.txt"),
}
"""Agent -> the tool that the model calls, its argument and the value."""

Body = dict[str, Any]


def script(agent: str) -> str:
    """A call in a spelling that no template has."""
    name, argument, value = CALLS[agent]
    return f'<tool_call>\n{{"name":"{name}",  "arguments":{{ "{argument}" : "{value}"}}}}\n</tool_call>'


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("agents")
    for agent in CALLS:
        path = folder / f"{agent}.gguf"
        model = scripted_model(path, script(agent), chat_template=TEMPLATE, n_ctx=32768)
        install(folder / "store", agent, model)
    with serve(folder, folder / "store", NUM_PARALLEL="1", CONTEXT_LENGTH="32768") as running:
        yield running


def after_claude(body: Body, answer: Body, turn: int) -> None:
    """Blocks as they came, the result in a message of the user, where the mark of what to cache is then; the billing header has
    a new checksum."""
    call = answer["content"][-1]
    mark = {"cache_control": {"type": "ephemeral"}}
    result = {"tool_use_id": call["id"], "type": "tool_result", "content": f"{turn}\tBuy milk."}
    for message in body["messages"]:
        for block in message["content"] if isinstance(message["content"], list) else []:
            block.pop("cache_control", None)
    body["messages"] += [
        {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": [result | mark]},
    ]
    body["system"][0]["text"] = f"x-anthropic-billing-header: cc_version=2.1.197; cch={turn:05x};"


def after_codex(body: Body, answer: Body, turn: int) -> None:
    """Items of calls as they came, and of results."""
    call = answer["output"][-1]
    output = {"type": "function_call_output", "id": f"fco_{turn}", "call_id": call["call_id"]}
    text = f"Chunk ID: {turn}\nProcess exited with code 0\nOutput:\nBuy milk.\n"
    body["input"] += [call, {**output, "output": text}]


def after_opencode(body: Body, answer: Body, turn: int) -> None:
    """The arguments are read and written anew."""
    [call] = answer["choices"][0]["message"]["tool_calls"]
    function = call["function"]
    arguments = json.dumps(json.loads(function["arguments"]), separators=(",", ":"))
    again = {**call, "function": {"name": function["name"], "arguments": arguments}}
    body["messages"] += [
        {"role": "assistant", "content": "", "tool_calls": [again]},
        {"role": "tool", "tool_call_id": call["id"], "content": f"{turn}. Buy milk."},
    ]


AFTER = {"claude-code": after_claude, "codex": after_codex, "opencode": after_opencode}


@pytest.mark.parametrize("agent", CALLS)
def test_most_of_every_turn_is_reused(daemon: Daemon, agent: str) -> None:
    recorded = json.loads((DATA / f"{agent}.json").read_text())
    body = {**recorded["body"], "explain_cache": True}
    reports = []
    for turn in range(4):
        answer = daemon.ask("POST", recorded["path"], body).json()
        reports.append(answer["cache_report"])
        AFTER[agent](body, answer, turn)
        if turn == 2:
            question = {"role": "user", "content": "And whom do I call?"}
            body["input" if agent == "codex" else "messages"].append(question)
    assert reports[0]["reason"] == "first"
    later = reports[1:]
    assert [each["reason"] for each in later] == ["whole"] * 3
    reused = sum(each["reused_tokens"] for each in later)
    assert reused >= 0.95 * sum(each["prompt_tokens"] for each in later)

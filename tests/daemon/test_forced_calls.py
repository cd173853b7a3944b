"""Tool calls that must be made, over a real daemon: models with random weights cannot but make them, whatever their template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import install, random_model
from tests.served import Daemon, serve

pytestmark = pytest.mark.llama

TEMPLATES = Path(__file__).parents[1] / "data" / "output" / "templates"
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
    "{# tools <|channel|> #}"
)
NAMES = [*(path.stem for path in sorted(TEMPLATES.glob("*.jinja"))), "gpt-oss"]


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
    whole = daemon.ask("POST", "/api/chat", {**body, "stream": False}).json()["message"]
    chunks = [chunk["message"] for chunk in daemon.open("POST", "/api/chat", body).lines()]
    streamed = [call for chunk in chunks for call in chunk.get("tool_calls", ())]
    for calls in (whole["tool_calls"], streamed):
        [function] = [call["function"] for call in calls]
        assert function["name"] in called and function["arguments"]["zone"] in ("utc", "cet")
    assert whole["content"] == "" == "".join(chunk["content"] for chunk in chunks)

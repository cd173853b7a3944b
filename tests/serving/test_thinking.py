"""Thinking and the form of answers together, over a real daemon: each style of template, with scripted models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.served import Daemon, serve
from tests.small_models import install, scripted_model

pytestmark = pytest.mark.llama

_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
_CLOSED = "{{ '<think>\n\n</think>\n\n' }}"

MODELS = {
    # name: (template, the model's output)
    "qwen3": (
        f"{_TURNS}{{% if enable_thinking is defined and enable_thinking is false %}}{_CLOSED}{{% endif %}}",
        "well, hm</think>\n\nYes.",
    ),
    "endless": (f"{_TURNS}{{{{ '<think>\n' }}}}{{# </think> #}}", "well, hm"),
    "deepseek-r1": (f"{_TURNS}{{{{ '<think>\n' }}}}{{# </think> #}}", "well, hm</think>\n\nYes."),
    "granite": (
        f"{_TURNS}{{% if not thinking %}}{_CLOSED}{{% endif %}}",
        "well, hm</think>\n\nYes.",
    ),
    "gpt-oss": (
        "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endfor %}<|start|>assistant"
        "{# <|channel|> <think></think> #}",
        [
            "<|channel|>a",
            "nalysis<|message|>",
            "well, ",
            "hm<|end|>",
            "<|start|>assistant<|channel",
            "|>final",
            "<|message|>",
            "Yes.",
        ],
    ),
    "caller": (
        f"{_TURNS}{{# <tool_call> {{{{ tools }}}} #}}{{% if tools and enable_thinking is false %}}{_CLOSED}{{% endif %}}",
        "well",
    ),
    "magistral": (f"{_TURNS}{{# [THINK][/THINK] #}}", "[THINK]well, hm[/THINK]Yes."),
    "ministral": (f"{_TURNS}{{# [THINK][/THINK] #}}", "well, hm[/THINK]Yes."),
    "apertus": (
        f"{{{{ 'on' if enable_thinking else 'off' }}}}{_TURNS}{{# <|inner_prefix|><|inner_suffix|> #}}",
        "well, hm<|inner_suffix|>Yes.",
    ),
    "plain": (_TURNS, "Yes."),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("thinkers")
    for name, (template, said) in MODELS.items():
        gguf = scripted_model(root / f"{name}.gguf", said, chat_template=template)
        install(root, name, gguf)
    with serve(root, root) as running:
        yield running


def ask(daemon: Daemon, model: str, **body: Any) -> tuple[str, str]:
    """The thinking and the content of an answer to a chat; a stream and /api/generate must give the same."""
    asked = {"model": model, "messages": [{"role": "user", "content": "Is it?"}], **body}
    whole = daemon.ask("POST", "/api/chat", {**asked, "stream": False}).json()
    message = whole["message"]
    found = (message.get("thinking", ""), message["content"])
    chunks = daemon.open("POST", "/api/chat", asked).lines()
    parts = [chunk["message"] for chunk in chunks]
    assert found == tuple(
        "".join(part.get(key, "") for part in parts) for key in ("thinking", "content")
    )
    single = daemon.generate(model, "Is it?", **body).json()
    assert found == (single.get("thinking", ""), single["response"])
    return found


ONE = {"const": "oneword"}


@pytest.mark.parametrize(
    ("model", "think", "thought", "content"),
    [
        ("qwen3", None, "well, hm", '"oneword"'),  # the model opens its thinking by itself
        ("qwen3", True, "well, hm", '"oneword"'),
        ("qwen3", False, "", '"oneword"'),  # the template closes it
        ("deepseek-r1", None, "well, hm", '"oneword"'),  # the template opens it
        ("deepseek-r1", False, "", '"oneword"'),  # it thinks in any case: its thinking is left out
        ("granite", None, "well, hm", '"oneword"'),  # its template's variable has another name
        ("granite", False, "", '"oneword"'),
        ("gpt-oss", None, "well, hm", '"oneword"'),
        ("gpt-oss", "low", "well, hm", '"oneword"'),
        ("ministral", None, "well, hm", '"oneword"'),
        ("ministral", True, "well, hm", '"oneword"'),
        ("apertus", True, "well, hm", '"oneword"'),
    ],
)
def test_the_form_holds_from_the_end_of_thinking(
    model: str, think: bool | str | None, thought: str, content: str, daemon: Daemon
) -> None:
    said = ask(daemon, model, format=ONE, **({} if think is None else {"think": think}))
    assert said == (thought, content)


@pytest.mark.parametrize("model", ["qwen3", "deepseek-r1", "granite"])
def test_a_budget_ends_thinking(model: str, daemon: Daemon) -> None:
    thought, content = ask(daemon, model, think_budget=1, format=ONE)
    assert thought.startswith("well") and "hm" not in thought
    assert content == '"oneword"'
    thought, _ = ask(daemon, model, think_budget=1, options={"num_predict": 40})
    assert thought.startswith("well") and "hm" not in thought


def test_a_model_that_ends_while_thinking_still_gives_the_form(daemon: Daemon) -> None:
    thought, content = ask(daemon, "endless", format=ONE)
    assert thought.startswith("well, hm") and content == '"oneword"'
    assert ask(daemon, "endless") == ("well, hm", "")


def test_thinking_alone_is_as_the_model_writes_it(daemon: Daemon) -> None:
    assert ask(daemon, "gpt-oss") == ("well, hm", "Yes.")
    assert ask(daemon, "magistral") == ("well, hm", "Yes.")
    assert ask(daemon, "deepseek-r1") == ("well, hm", "Yes.")
    assert ask(daemon, "granite", think=False)[0] == ""


def test_a_model_that_thinks_on_request_does_so_on_request_only(daemon: Daemon) -> None:
    def prompt(**more: Any) -> str:
        messages = [{"role": "user", "content": "Is it?"}]
        asked = {"model": "apertus", "messages": messages, "_debug_render_only": True, **more}
        answer = daemon.ask("POST", "/api/chat", asked).json()
        return str(answer["_debug_info"]["rendered_template"])

    assert prompt().startswith("off") and prompt(think=False).startswith("off")
    assert prompt(think=True).startswith("on")


def test_a_model_that_cannot_think_does_not(daemon: Daemon) -> None:
    answer = daemon.generate("plain", think=True)
    assert answer.status == 400 and "does not support thinking" in answer.json()["error"]


def test_a_forced_call_has_no_thinking_unless_the_request_wants_it(daemon: Daemon) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    asked: dict[str, Any] = {"model": "caller", "messages": [{"role": "user", "content": "Is it?"}]}
    asked |= {"tools": [tool], "_debug_render_only": True}

    def ends_closed(**more: Any) -> bool:
        found = daemon.ask("POST", "/api/chat", asked | more).json()
        prompt: str = found["_debug_info"]["rendered_template"]
        return prompt.endswith("</think>\n\n")

    assert ends_closed(tool_choice="required") and ends_closed(tool_choice="f")
    assert not ends_closed() and not ends_closed(tool_choice="required", think=True)

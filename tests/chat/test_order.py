"""System messages in the midst of a conversation, and roles that speak twice in a row, for templates that know neither."""

from __future__ import annotations

from typing import Any

import pytest

from ollamapy.chat import jinja
from ollamapy.errors import TemplateError

ALL = "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
STRICT = (  # Qwen3.5's rule
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('first') }}"
    "{% endif %}{{ m.role }}:{{ m.content }}|{% endfor %}"
)
DEAF = (  # gpt-oss's and MiniMax's
    "{% for m in messages %}{% if m.role != 'system' or loop.first %}{{ m.role }}:{{ m.content }}|"
    "{% endif %}{% endfor %}"
)
TURNS = (  # Mistral's and Gemma's
    "{% set at = namespace(user=true) %}{% for m in messages %}"
    "{% if m.role != 'tool' and not (m.role == 'system' and loop.first) and not m.tool_calls %}"
    "{% if (m.role == 'user') != at.user %}{{ raise_exception('alternate') }}{% endif %}"
    "{% set at.user = not at.user %}{% endif %}{{ m.role }}:{{ m.content }}|{% endfor %}"
)

CALL = {"function": {"name": "f", "arguments": {}}, "id": "call_1"}


def said(text: str) -> list[dict[str, Any]]:
    """Messages as the template ALL writes them."""
    turns = [turn.split(":") for turn in text.split("|") if turn]
    return [{"role": role, "content": content} for role, content in turns]


@pytest.mark.parametrize(
    "source, messages, expected",
    [
        # whoever takes them, gets them as they are
        (ALL, "user:U|system:S|", "user:U|system:S|"),
        (ALL, "system:S|system:T|user:U|user:V|", "system:S|system:T|user:U|user:V|"),
        # what the program says after the question
        (STRICT, "user:U|system:S|", "user:U|user:S|"),
        (DEAF, "user:U|system:S|", "user:U|user:S|"),
        (TURNS, "user:U|system:S|", "user:U\n\nS|"),
        (TURNS, "system:S|user:U|assistant:A|system:T|user:V|", "system:S|user:U|assistant:A|user:T\n\nV|"),
        # several at the beginning
        (STRICT, "system:S|system:T|user:U|", "system:S\n\nT|user:U|"),
        (DEAF, "developer:S|system:T|user:U|", "system:S\n\nT|user:U|"),
        (TURNS, "system:S|system:T|user:U|", "system:S\n\nT|user:U|"),
        # one side says two things
        (STRICT, "user:U|user:V|", "user:U|user:V|"),
        (TURNS, "user:U|user:V|assistant:A|assistant:B|", "user:U\n\nV|assistant:A\n\nB|"),
        (TURNS, "user:U|assistant:A|user:|user:V|", "user:U|assistant:A|user:V|"),
    ],
)  # fmt: skip
def test_every_message_reaches_the_prompt(source: str, messages: str, expected: str) -> None:
    assert jinja.render(source, said(messages)) == expected


def test_what_is_said_behind_a_result_stands_with_it() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A", "tool_calls": [CALL]},
        {"role": "tool", "content": "R", "tool_call_id": "call_1"},
    ]
    prompt = jinja.render(TURNS, [*turns, {"role": "system", "content": "S"}])
    assert prompt.endswith("tool:R\n\nS|")


def test_a_template_that_takes_nothing_keeps_its_own_error() -> None:
    with pytest.raises(TemplateError, match="never"):
        jinja.render("{{ raise_exception('never') }}", said("user:U|system:S|"))

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
    "{% set at.user = not at.user %}{% endif %}" + ALL.partition("%}")[2]
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


def test_a_strict_template_gets_the_question_that_a_conversation_lacks() -> None:
    greeted = said("system:S|assistant:A|user:U|")
    assert jinja.render(TURNS, greeted) == "system:S|user:|assistant:A|user:U|"
    assert jinja.render(ALL, greeted) == "system:S|assistant:A|user:U|", "others get it as it is"
    asking = (
        "{% if tools and not messages[1] %}{{ raise_exception('no question') }}{% endif %}" + ALL
    )
    assert jinja.render(asking, said("system:S|"), tools=[{"x": 1}]) == "system:S|user:|"


def test_a_strict_template_gets_the_result_that_a_call_lacks() -> None:
    second = {"function": {"name": "g", "arguments": {}}, "id": "call_2"}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, second]},
        {"role": "tool", "content": "R", "tool_call_id": "call_2"},
        {"role": "user", "content": "V"},
    ]
    strict = ANSWERED + CALLS
    assert jinja.render(strict, turns) == "user:U|assistant:f;g;|tool:R|tool:No result.|user:V|"
    assert jinja.render(CALLS, turns) == "user:U|assistant:f;g;|tool:R|user:V|"
    assert jinja.render(strict, turns[:2]) == "user:U|assistant:f;g;|", "the result may yet come"
    alone = [turns[0], turns[1] | {"tool_calls": [CALL]}, turns[3]]
    strict = TURNS.replace(ALL.partition("%}")[2], CALLS.partition("%}")[2])
    assert jinja.render(strict, alone) == "user:U|assistant:f;|tool:No result.\n\nV|"


CALLS = ALL.replace(
    "|{%",
    "{% for c in m.tool_calls or [] %}{{ c.function.name }};{% if c.function.arguments %}"
    "{{ c.function.arguments | tojson }}{% endif %}{% endfor %}|{%",
)
ANSWERED = (
    "{% set at = namespace(calls=0) %}{% for m in messages %}{% if m.role == 'tool' %}{% set at.calls = at.calls - 1 %}"
    "{% elif at.calls %}{{ raise_exception('a call has no result') }}{% endif %}"
    "{% if m.tool_calls %}{% set at.calls = m.tool_calls | length %}{% endif %}{% endfor %}"
)


def test_what_does_not_help_leaves_the_templates_error() -> None:
    source = "{% if messages | length > 1 %}{{ raise_exception(messages | length) }}{% endif %}"
    with pytest.raises(TemplateError, match=": 2"):
        jinja.render(source, said("assistant:A|user:U|"))

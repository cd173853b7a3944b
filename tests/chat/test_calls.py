"""Tool calls as templates want them: what each kind of template is given, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.chat import jinja
from ollamapy.chat.calls import CallStyle
from ollamapy.errors import TemplateError

Turn = dict[str, Any]

TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def call(city: str, id: str = "") -> Turn:
    function = {"name": "weather", "arguments": {"city": city}}
    return {**({"id": id} if id else {}), "type": "function", "function": function}


def asked(*calls: Turn, content: str = "") -> Turn:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(text: str, id: str = "") -> Turn:
    named = {"role": "tool", "content": text, "name": "weather"}
    return {**named, "tool_call_id": id} if id else named


HI = {"role": "user", "content": "Hi"}
ONE = [HI, asked(call("Rome", "call_1")), result("sunny", "call_1")]
TWO = [
    HI,
    asked(call("Rome", "call_1"), call("Oslo", "call_2"), content="Wait."),
    result("snow", "call_2"),
    result("sunny", "call_1"),
]

PLAIN = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<{{ c.function.arguments | tojson }}>{% endfor %};{% endfor %}"
)
TEXT = PLAIN.replace(
    "<{{ c.function.arguments | tojson }}>", "{{ '<' + c.function.arguments + '>' }}"
)
PRINTED = PLAIN.replace("arguments | tojson", "arguments")
ALONE = (
    "{% for m in messages %}{% if m.role == 'assistant' and m.content is none %}"
    "{% for c in m.tool_calls %}<{{ c.function.arguments | tojson }}>{% endfor %};"
    "{% else %}{{ m.role }}:{{ m.content }};{% endif %}{% endfor %}"
)
NINE = PLAIN.replace(
    "or [] %}",
    "or [] %}{% if c.id | length != 9 %}{{ raise_exception('Nine!') }}{% endif %}{{ c.id }}",
)
FIRST = PLAIN.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
SINGLE = PLAIN.replace(
    "{{ m.role }}",
    "{% if m.tool_calls and m.tool_calls | length > 1 %}{{ raise_exception('One!') }}{% endif %}{{ m.role }}",
)
DEAF = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{# <tool_call> #}"
STRICT = (
    "{% for m in messages %}{% if m.role not in ('user', 'assistant') or (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Alternate!') }}{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}{# <tool_call> #}"
)
GRUMPY = "{% if messages | length > 1 %}{{ raise_exception('No!') }}{% endif %}"

ROME, OSLO = '<{"city": "Rome"}>', '<{"city": "Oslo"}>'


@pytest.mark.parametrize(
    ("template", "style", "one", "two"),
    [
        (
            PLAIN,
            CallStyle(),
            f"user:Hi;assistant:{ROME};tool:sunny;",
            f"user:Hi;assistant:Wait.{ROME}{OSLO};tool:snow;tool:sunny;",
        ),
        (
            TEXT,
            CallStyle(as_text=True),
            f"user:Hi;assistant:{ROME};tool:sunny;",
            f"user:Hi;assistant:Wait.{ROME}{OSLO};tool:snow;tool:sunny;",
        ),
        (
            PRINTED,  # would be Python's way to write it
            CallStyle(as_text=True),
            f"user:Hi;assistant:{ROME};tool:sunny;",
            f"user:Hi;assistant:Wait.{ROME}{OSLO};tool:snow;tool:sunny;",
        ),
        (
            ALONE,
            CallStyle(no_content=True),
            f"user:Hi;{ROME};tool:sunny;",
            f"user:Hi;assistant:Wait.;{ROME}{OSLO};tool:snow;tool:sunny;",
        ),
        (
            FIRST,
            CallStyle(single=True),
            f"user:Hi;assistant:{ROME};tool:sunny;",
            f"user:Hi;assistant:Wait.{ROME};tool:sunny;assistant:{OSLO};tool:snow;",
        ),
        (
            SINGLE,
            CallStyle(single=True),
            f"user:Hi;assistant:{ROME};tool:sunny;",
            f"user:Hi;assistant:Wait.{ROME};tool:sunny;assistant:{OSLO};tool:snow;",
        ),
        (
            DEAF,
            CallStyle(written=True),
            'user:Hi;assistant:<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>;tool:sunny;',
            None,
        ),
    ],
)
def test_calls_arrive(template: str, style: CallStyle, one: str, two: str | None) -> None:
    assert jinja._call_style(template) == style
    assert jinja.render(template, ONE, tools=TOOLS) == one
    if two is not None:
        assert jinja.render(template, TWO, tools=TOOLS) == two
    assert jinja.render(template, [HI]).startswith("user:Hi;")


def test_ids_of_nine_characters() -> None:
    assert jinja._call_style(NINE) == CallStyle(short_ids=True)
    own = [HI, asked(call("Rome", "abcdefgh1")), result("sunny", "abcdefgh1")]
    assert jinja.render(NINE, own) == f"user:Hi;assistant:abcdefgh1{ROME};tool:sunny;"
    paired = NINE.replace("{{ m.role }}", "{{ m.tool_call_id }}")
    prompt = jinja.render(paired, TWO)
    _, calls, *results = prompt.rstrip(";").split(";")
    ids = [calls.partition(mark)[0][-9:] for mark in (ROME, OSLO)]
    assert [each.partition(":")[0] for each in results] == [ids[1], ids[0]]
    nameless = [HI, asked(call("Rome"), call("Oslo")), result("sunny"), result("snow")]
    _, calls, *results = jinja.render(paired, nameless).rstrip(";").split(";")
    ids = [calls.partition(mark)[0][-9:] for mark in (ROME, OSLO)]
    assert results == [f"{ids[0]}:sunny", f"{ids[1]}:snow"], "by their order"


def test_results_are_spoken_where_there_is_no_word_for_them() -> None:
    assert jinja._call_style(STRICT) == CallStyle(written=True, spoken=True)
    one = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    assert jinja.render(STRICT, ONE) == f"user:Hi;assistant:{one};user:sunny;"
    told = jinja.render(STRICT, [*TWO, {"role": "user", "content": "And?"}])
    assert told.endswith("</tool_call>;user:snow\n\nsunny\n\nAnd?;")


def test_what_no_style_helps_is_the_templates_own_refusal() -> None:
    with pytest.raises(TemplateError, match="refuses these messages: No!"):
        jinja.render(GRUMPY, ONE)


def test_results_without_ids_stay_in_order() -> None:
    turns = [HI, asked(call("Rome"), call("Oslo")), result("sunny"), result("snow"), result("more")]
    assert jinja.render(FIRST, turns) == (
        f"user:Hi;assistant:{ROME};tool:sunny;assistant:{OSLO};tool:snow;tool:more;"
    )


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ tools | map(attribute='function.name') | tojson }}", '["weather"]'),
        ("{{ [1, nothing] | tojson }}", "[1, null]"),
        ("{{ xml_tools | length }}", "1"),
        ("{% set l = [] %}{% for m in messages %}{% set _ = l.append(m.role) %}{% endfor %}{{ l | join }}{{ l.pop() }}", "useruser"),
        ("{# functools #}{{ functions }}", json.dumps(TOOLS, indent=2)),
    ],
)  # fmt: skip
def test_what_real_templates_rely_on(template: str, prompt: str) -> None:
    assert jinja.render(template, [HI], tools=TOOLS) == prompt


@pytest.mark.parametrize("change", ["l.insert(0, 1)", "l.clear()", "l.extend([1])", "d.update({})"])
def test_nothing_else_may_be_changed(change: str) -> None:
    with pytest.raises(TemplateError, match="unsafe"):
        jinja.render(f"{{% set l = [1] %}}{{% set d = {{}} %}}{{{{ {change} }}}}", [HI])


def test_functions_of_nobody() -> None:
    assert jinja.render("{# functools #}<{{ functions }}>", [HI]) == "<>"


NESTED = (  # Gemma 4's older template
    "{% for m in messages %}{{ m.role }}:{% for c in m.tool_calls or [] %}<{{ c.function.arguments | tojson }}>{% endfor %}"
    "{% for r in m.tool_responses or [] %}[{{ r.name }}={{ r.response | tojson }}]{% endfor %}{{ m.content }};{% endfor %}"
)
OTHER = {"type": "function", "id": "call_2", "function": {"name": "clock", "arguments": {}}}


@pytest.mark.parametrize(
    ("turns", "prompt"),
    [
        ([HI, asked(call("Rome", "call_1")), result("11", "call_1")], f"user:Hi;assistant:{ROME}[weather=11];"),
        (ONE, f'user:Hi;assistant:{ROME}[weather="sunny"];'),
        ([*ONE, {"role": "assistant", "content": "Fine."}, HI], f'user:Hi;assistant:{ROME}[weather="sunny"]Fine.;user:Hi;'),
        ([*ONE, *ONE[1:]], f'user:Hi;assistant:{ROME}[weather="sunny"];assistant:{ROME}[weather="sunny"];'),
        (
            [HI, asked(call("Rome", "call_1"), OTHER, content="Wait."), {"role": "tool", "content": '{"h": 1}', "tool_call_id": "call_2"}],
            f'user:Hi;assistant:Wait.;assistant:{ROME}<{{}}>[clock={{"h": 1}}];',
        ),
    ],
)  # fmt: skip
def test_results_within_the_message_of_their_calls(turns: list[Turn], prompt: str) -> None:
    assert jinja.render(NESTED, turns, tools=TOOLS) == prompt


def test_a_template_that_knows_both_ways_gets_results_as_messages() -> None:
    both = NESTED.replace("{{ m.role }}:", "{{ 'result' if m.role == 'tool' else m.role }}:")
    assert jinja.render(both, ONE, tools=TOOLS) == f"user:Hi;assistant:{ROME};result:sunny;"

"""Jinja chat templates: what Ollama's answers say of one, what templates rely on, and what they may not do."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.chat import jinja
from ollamapy.errors import RefusedByTemplate, TemplateError

Turn = dict[str, Any]

TOOL_TEMPLATE = (Path(__file__).parents[1] / "data" / "chat" / "tool.jinja").read_text()
MARKS = ("<|im_start|>", "<|im_end|>")

# In the order in which Ollama writes a tool's keys.
PARAMETERS = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string", "description": "its name"}},
}
WEATHER = {"name": "get_weather", "description": "Weather of a city", "parameters": PARAMETERS}
TOOLS = [{"type": "function", "function": WEATHER}]
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}


def user(content: str) -> Turn:
    return {"role": "user", "content": content}


def system(content: str) -> Turn:
    return {"role": "system", "content": content}


def assistant(content: str, **more: Any) -> Turn:
    return {"role": "assistant", "content": content, **more}


def count(prompt: str) -> int:
    """Tokens in the vocabulary of the recorded models: marks are one token, all else its UTF-8 bytes.

    A space is U+2581, one is put before every run of text, and there is a BOS.
    """
    for mark in MARKS:
        prompt = prompt.replace(mark, "\0\1\0")
    runs = [run for run in prompt.split("\0") if run]
    return 1 + sum(1 if run == "\1" else 3 + len(run.replace(" ", "▁").encode()) for run in runs)


HI = user("Hi there")
CALLED = assistant("", tool_calls=[CALL])
RECORDED = [
    ("generate", [user("Hi")], {}, False, 31),
    ("generate, think off", [user("Hi")], {"enable_thinking": False}, False, 50),
    ("chat", [HI], {}, False, 39),
    ("chat, think off", [HI], {"enable_thinking": False}, False, 58),
    ("history", [HI, assistant("42"), user("sure?")], {}, False, 79),
    ("tools", [HI], {}, True, 532),
    ("tool result", [HI, CALLED, {"role": "tool", "content": "11 degrees"}], {}, True, 698),
    ("result without tools", [HI, CALLED, {"role": "tool", "content": "11"}], {}, False, 195),
]


@pytest.mark.parametrize("name, messages, variables, with_tools, tokens", RECORDED)
def test_as_many_tokens_as_ollama_counts(
    name: str, messages: list[Turn], variables: dict[str, Any], with_tools: bool, tokens: int
) -> None:
    tools = TOOLS if with_tools else None
    prompt = jinja.render(TOOL_TEMPLATE, messages, variables=variables, tools=tools)
    assert count(prompt) == tokens


def test_the_text_that_ollama_renders() -> None:
    assert jinja.render(TOOL_TEMPLATE, [HI], tools=TOOLS) == (
        "<|im_start|>system\n# Tools\n\nFunctions you may call, one JSON object a line:\n"
        '<tools>{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", '
        '"parameters": {"type": "object", "required": ["city"], "properties": {"city": '
        '{"type": "string", "description": "its name"}}}}}</tools>\n\nTo call one, answer with:\n<tool_call>\n'
        '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\nHi there<|im_end|>\n<|im_start|>assistant\n"
    )


WORKS = [
    # what transformers sets up
    ("{% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),
    ("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "02"),
    ("{% generation %}a{{ messages[0].content }}{% endgeneration %}b", "aHi thereb"),
    ("{{ {'a': '<é>', 'b': [1, none]} | tojson }}", '{"a": "<é>", "b": [1, null]}'),
    ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
    ("{{ 'é' | tojson(ensure_ascii=true) }}", '"\\u00e9"'),
    ("{{ strftime_now('%Y') }}", datetime.now().strftime("%Y")),
    ("{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
    ("{{ 'a b'.split(' ')[1] }}{{ messages[-1]['content'].strip() }}", "bHi there"),
    # an undefined name is nothing beside a text, and no text is marked as safe for HTML
    ("{{ 'a' + messages[0].nothing }}{{ nothing + 'b' }}{{ 'c' ~ nothing }}", "abc"),
    ("{{ 'a' + none + 'b' }}{{ none + 'c' }}{{ 1 + 2 }}{{ [1] + [2] }}", "abc3[1, 2]"),
    ("{{ 'a'|safe + ({'b': 1}|tojson) }}", 'a{"b": 1}'),
    ("{{ ('<'|e) + '<' }}{{ ('<'|forceescape) + '<' }}{{ ('<'|escape) ~ '<' }}", "&lt;<&lt;<&lt;<"),
    # what llama.cpp puts in
    ("{{ date_string }}", datetime.now().strftime("%d %b %Y")),
    ("{{ bos_token }}{{ eos_token }}", "<s></s>"),
    ("{{ tools is defined }} {{ documents is defined }}", "False False"),
    ("{% for t in tools %}x{% endfor %}", ""),
    ("{{ enable_thinking }} {{ add_generation_prompt }}", "True True"),
    ("x\n", "x"),
]  # fmt: skip


@pytest.mark.parametrize("source, expected", WORKS)
def test_what_templates_rely_on(source: str, expected: str) -> None:
    assert jinja.render(source, [HI], bos_token="<s>", eos_token="</s>") == expected


def test_variables_go_over_the_standard_ones() -> None:
    source = "{{ enable_thinking }}{{ date_string }}{{ add_generation_prompt }}"
    variables = {"enable_thinking": False, "date_string": "!"}
    rendered = jinja.render(source, [HI], variables=variables, add_generation_prompt=False)
    assert rendered == "False!False"


# ---- templates without a system role -------------------------------------------------------------

REFUSES = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
)
DROPS = "{% for m in messages %}{% if m.role != 'system' %}{{ m.role }}:{{ m.content }}|{% endif %}{% endfor %}"


@pytest.mark.parametrize("source", [REFUSES, DROPS])
@pytest.mark.parametrize(
    "messages, expected",
    [
        ([system("S"), user("U")], "user:S\nU|"),
        ([system("S"), user("U"), assistant("A"), user("V")], "user:S\nU|assistant:A|user:V|"),
        ([system("S"), assistant("A")], "user:S|assistant:A|"),
        ([system("S")], "user:S|"),
        ([user("U")], "user:U|"),
        ([{"role": "developer", "content": "S"}, user("U")], "user:S\nU|"),
    ],
)
def test_a_template_without_system_gets_it_with_the_question(
    source: str, messages: list[Turn], expected: str
) -> None:
    assert jinja.render(source, messages) == expected


def test_a_template_with_system_gets_it_as_it_is() -> None:
    source = "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
    assert jinja.render(source, [system("S"), user("U")]) == "system:S|user:U|"
    assert jinja.render(source, [{"role": "developer", "content": "S"}]) == "system:S|"
    assert jinja.render(source + "{# <|channel|> #}", [{"role": "developer", "content": "S"}]) == (
        "developer:S|"
    )


def test_a_template_that_takes_nothing_keeps_its_own_error() -> None:
    source = "{{ raise_exception('only for ' + messages[0].role) }}"
    with pytest.raises(TemplateError, match="only for system"):
        jinja.render(source, [system("S"), user("U")])


def test_the_messages_are_left_alone() -> None:
    messages = [system("S"), user("U")]
    jinja.render(REFUSES, messages)
    assert messages == [system("S"), user("U")]


# ---- bad templates -------------------------------------------------------------------------------

FAILS = [
    ("{{ raise_exception('roles must\nalternate') }}", "refuses these messages: roles must alternate"),
    ("a\nb {{ x", "at line 2: unexpected end of template"),
    ("a\n\n{{ 1 / 0 }}", "at line 3: division by zero"),
    ("{{ messages[0].nothing.more }}", "at line 1: 'dict object' has no attribute 'nothing'"),
    ("{{ missing.x }}", "'missing' is undefined"),
    ("{{ nothing() }}", "'nothing' is undefined"),
    ("{% frobnicate %}", "unknown tag 'frobnicate'"),
    ("{{ 'x' | no_such_filter }}", "No filter named 'no_such_filter'"),
    ("{% include 'x' %}", "no loader"),
    ("{% for i in range(10000000) %}{% endfor %}", "Range too big"),
    ("{{ " + "(" * 100_000, "nests too deeply"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests too deeply"),
    ("{{ raise_exception('x' * 100000) }}", "x{300}...$"),
    ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "more than 16 million characters"),
]  # fmt: skip


@pytest.mark.parametrize("source, why", FAILS, ids=lambda text: ascii(text)[:50])
def test_a_failure_is_one_line_that_says_why(source: str, why: str) -> None:
    with pytest.raises(TemplateError, match=why.replace("(", r"\(")) as caught:
        jinja.render(source, [HI])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert str(caught.value).startswith("the model's chat template ")


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__code__ }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{{ '{0.__class__.__mro__}'.format(1) }}",
    "{{ '%s'|format(''.__class__) }}",
    "{{ (messages|map(attribute='__class__')|list)[0] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ namespace.__init__ }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{% set x = messages.__class__ %}{{ x }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_the_sandbox_gives_nothing_away(source: str) -> None:
    """Nothing of Python's insides is printed: an error, or the empty text of an undefined value."""
    try:
        assert jinja.render(source, [HI]) in ("", "1")
    except TemplateError:
        pass


@given(st.text(), st.sampled_from(["system", "user", "assistant", "tool", "robot"]))
def test_any_content_is_rendered_as_utf8(content: str, role: str) -> None:
    rendered = jinja.render(TOOL_TEMPLATE, [{"role": role, "content": content}, user("é")])
    assert rendered.encode()
    if role in ("system", "user"):
        assert content in rendered


@pytest.mark.parametrize(
    "text, expected", [("\ud800x", "\ufffdx"), ("\ud83d\ude00", "😀"), ("é漢", "é漢")]
)
def test_surrogates_become_text(text: str, expected: str) -> None:
    assert jinja.render("{{ messages[0].content }}", [user(text)]) == expected


@given(st.text(alphabet="{}%#-'\"|.()[] abim012\n_=+*,", max_size=60))
def test_no_text_as_a_template_raises_anything_else(source: str) -> None:
    try:
        assert isinstance(jinja.render(source, [HI]), str)
    except TemplateError as error:
        assert "\n" not in str(error)


def test_a_templates_own_refusal_is_told_apart_from_its_failure() -> None:
    with pytest.raises(RefusedByTemplate) as refused:
        jinja.render("{{ raise_exception('no') }}", [HI])
    with pytest.raises(TemplateError) as failed:
        jinja.render("{{ messages.x.y }}", [HI])
    assert refused.value.status == 400 and failed.value.status == 500


def test_earlier_thoughts_reach_the_template() -> None:
    source = "{% for m in messages %}{{ m.reasoning_content }}|{{ m.content }}/{% endfor %}"
    answer = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    prompt = jinja.render(source, [user("a"), answer, user("c")])
    assert prompt == "|a/hm|b/|c/"


@pytest.mark.parametrize(
    "parameters", [{}, {"parameters": None}, {"parameters": {}}, {"parameters": {"type": "object"}}]
)
def test_a_tool_of_no_parameters_has_a_schema_where_the_template_reads_it(parameters: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", **parameters}}
    source = "{% for t in tools %}{{ t.function.parameters.properties.items() | list }}{% endfor %}"
    assert jinja.render(source, [HI], tools=[tool]) == "[]"
    printed = jinja.render("{{ tools | tojson }}", [HI], tools=[tool])
    assert printed == json.dumps([tool]), "as it is where that serves"


LONE = "{% for m in messages %}{% if m.role == 'user' %}{{ messages[0].content }};{{ m.content }}{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        LONE,
        "{% if messages | length == 1 and messages[0].role == 'system' %}{{ raise_exception('No user') }}{% endif %}"
        + LONE,
    ],
)
def test_a_lone_system_message_reaches_the_prompt(source: str) -> None:
    assert "S" in jinja.render(source, [system("S")])


BLOCKS = (  # Mistral's
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for b in m.content %}"
    "{{ '[THINK]' + b.thinking + '[/THINK]' if b.type == 'thinking' else b.text }}{% endfor %}{% endif %}|{% endfor %}"
)


def test_earlier_thoughts_reach_a_template_that_takes_them_as_blocks() -> None:
    answer = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    assert jinja.render(BLOCKS, [user("a"), answer, user("c")]) == "a|[THINK]hm[/THINK]b|c|"
    both = BLOCKS.replace("{{ m.content }}", "{{ m.reasoning_content }}{{ m.content }}")
    assert jinja.render(both, [user("a"), answer, user("c")]) == "a|hmb|c|"
    dropped = BLOCKS.replace("'[THINK]' + b.thinking + '[/THINK]'", "''")
    assert jinja.render(dropped, [user("a"), answer, user("c")]) == "a|b|c|"


@pytest.mark.parametrize(
    "content",
    [
        "{{ m.content }}",
        "{{ m.content | tojson if m.content is not string else m.content }}",
        "{% if m.content is string %}{{ m.content }}{% else %}{% for b in m.content %}"
        "{{ b.text if b.type == 'text' else b | tojson }}{% endfor %}{% endif %}",
    ],
)
def test_a_template_that_prints_a_list_as_it_is_gets_none(content: str) -> None:
    """Gemma 2's and DeepSeek's, LFM2's, LFM2.5's: they know no thoughts."""
    answer = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    source = f"{{% for m in messages %}}{content}|{{% endfor %}}"
    assert jinja.render(source, [user("a"), answer, user("c")]) == "a|b|c|"


def test_the_texts_for_stepfun_are_stripped() -> None:
    source = "{# You have access to the following functions in JSONSchema format #}{{ messages[0].content }}|"
    assert jinja.render(source, [user(" a\n")]) == "a|"
    assert jinja.render("{{ messages[0].content }}|", [user(" a\n")]) == " a\n|"

"""What an untrusted template may not do, and what no text may lead to."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.chat import golang
from ollamapy.chat.golang import parse
from ollamapy.errors import TemplateError
from tests.chat.golang.turns import TOOLS, assistant, render, user

HOSTILE = [
    "{{ range 1000000000 }}{{ end }}",
    "{{ range 5000 }}{{ range 5000 }}{{ $.System }}{{ end }}{{ end }}",
    '{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}',
    '{{ define "r" }}{{ range 2 }}{{ if true }}{{ template "r" . }}{{ end }}{{ end }}{{ end }}{{ template "r" . }}',
    '{{ $x := "0123456789" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}',
    '{{ $x := "<" }}{{ range 100 }}{{ $x = html $x $x }}{{ end }}',
    '{{ range 5000 }}{{ printf "%999999d" 1 }}{{ end }}',
    '{{ range 5000 }}{{ $x := printf "%999999d" 1 }}{{ end }}',
    '{{ printf "' + "%*d" * 40 + '"' + " 999999 1" * 40 + " }}",
    "{{ .__class__ }}{{ .System.__class__ }}",
    "{{ .Messages.__class__ }}",
    "{{ (index .Messages 0).__class__ }}",
    "{{ (index .Messages 0).target }}",
    "{{ $.entries }}{{ .Messages.backing }}",
    "{{ .System.format }}",
]  # fmt: skip


@pytest.mark.parametrize("template", HOSTILE)
def test_hostile_templates_fail_soon(template: str) -> None:
    parsed = parse("{{ if .Messages }}{{ end }}" + template)
    start = time.process_time()
    with pytest.raises(TemplateError, match="failed in line 1"):
        parsed.execute([user("Hi")], TOOLS)
    assert time.process_time() - start < 60


@pytest.mark.parametrize(
    "template",
    [
        "{{ if 1 }}" * 5000,
        "{{ if 1 }}{{ else if 1 }}" + "{{ else if 1 }}" * 5000 + "{{ end }}",
        "{{ " + "(" * 5000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        '{{ block "a" . }}' * 5000,
        "{{/*" * 50_000,
        "{{ -" * 50_000,
        "{{ 0x" + "1" * 100_000 + " }}",
        "{{ 0x1p" + "1" * 100_000 + " }}",
        "{{ 1" + "_1" * 50_000 + " }}",
        "{{ $x := 1 }}" * 5000,
        '{{ "' + "\\" * 50_000,
        "{{ " + "1 | len" * 10_000,
    ],
)  # fmt: skip
def test_hostile_syntax_fails_soon(template: str) -> None:
    start = time.process_time()
    with pytest.raises(TemplateError, match="wrong in line 1"):
        parse(template)
    assert time.process_time() - start < 30


def test_deep_json_fails() -> None:
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    tool = {"function": {"parameters": {"items": deep}}}
    with pytest.raises(TemplateError, match="too deeply"):
        parse("{{ .Messages }}{{ .Tools }}").execute([], [tool])


PIECES = [
    "{{", "}}", "{{-", "-}}", " ", "\n", "if", "else", "end", "range", "with", "define", "block",
    "template", "break", ".", "$", "$x", ":=", "=", ",", "|", "(", ")", '"', "`", "'", "\\", "/*",
    "*/", "0x1", "1.5e3", "-", ".Messages", ".Response", "print", "printf", "%v", "nil", "é", "a",
]  # fmt: skip


@given(st.text() | st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    for source in (text, "{{ " + text + " }}"):
        try:
            template = parse(source)
            golang.capabilities(template)
            golang.tool_tag(template)
            template.execute([user("Hi"), assistant("Yes")], TOOLS)
        except TemplateError as error:
            assert "\n" not in str(error)


@given(st.text())
def test_text_without_actions_is_itself(text: str) -> None:
    if "{{" not in text and not text.endswith("{"):
        plain = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)
        assert parse(text + "{{ .Messages }}").execute([]) == plain + "[]"


VERBS = st.sampled_from("v s q x X d t f e g b o c U T p z".split())


@given(st.from_regex(r"[-+# 0]{0,3}[0-9]{0,2}(\.[0-9]{0,2})?", fullmatch=True), VERBS)
def test_every_verb_prints_every_value(flags: str, verb: str) -> None:
    """Nothing of Go's printing raises."""
    for name in ("$t", "$p", "$a", "$u", "$p.deep", "$p.deep.Properties", "1", "1.5", "1i", "nil"):
        text = render(f'{{{{ printf "<%{flags}{verb}>" {name} }}}}')
        assert text.startswith("<") and text.endswith(">")


def test_speed() -> None:
    """The render of a usual template over 50 messages: 1 ms on the machine that it was written on."""
    template = parse(
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
        "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}'
        "{{ if not $last }}<|im_end|>\n{{ end }}{{ end }}"
        '{{ if and (ne .Role "assistant") $last }}<|im_start|>assistant\n{{ end }}{{ end }}'
    )
    messages = [user("question " * 50), assistant("answer " * 50)] * 25
    seconds = []
    for _ in range(10):
        start = time.process_time()
        template.execute(messages)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05

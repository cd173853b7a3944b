"""Which template is chosen, what it can do, and which marks are taken off a prompt."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ollamapy.chat.template import Marks, Template, capabilities, choose, go_capabilities

JINJA = "{{ messages }}"
JINJA_TOOLS = "{{ tools }}"
JINJA_BOTH = "{{ tools }}<think></think>"
GO = "{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}"
GO_TOOLS = "{{ .Tools }}{{ .Prompt }}"
GO_THINKING = "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}"


@pytest.mark.parametrize(
    "go, jinja, joins, expected",
    [
        (None, JINJA, False, Template("jinja", JINJA)),
        (GO, None, False, Template("go", GO)),
        (GO, JINJA, False, Template("go", GO)),
        (GO, "chatml", False, Template("go", GO)),
        (GO, JINJA_TOOLS, False, Template("jinja", JINJA_TOOLS)),  # it can do more
        (GO_TOOLS, JINJA_TOOLS, False, Template("go", GO_TOOLS)),
        (GO_TOOLS, JINJA_BOTH, False, Template("jinja", JINJA_BOTH)),
        (GO_THINKING, JINJA_TOOLS, False, Template("go", GO_THINKING)),  # other things, not more
        ("{{ .Suffix }}", JINJA, False, Template("go", "{{ .Suffix }}")),
        ("{{ if", JINJA, False, Template("go", "{{ if")),  # rendering it will say what is wrong
        ("{{ if", JINJA_TOOLS, False, Template("jinja", JINJA_TOOLS)),
        (GO, " \n", False, Template("go", GO)),
        (None, None, False, Template("none")),
        ("", "", False, Template("none")),
        (" {{ .Prompt }}\n", None, False, Template("none")),
        ("{{ .Prompt }}", JINJA, False, Template("jinja", JINJA)),
        (None, "chatml", False, Template("chatml")),
        (GO, JINJA, True, Template("plain")),
        (None, None, True, Template("plain")),
    ],
)
def test_choose(go: str | None, jinja: str | None, joins: bool, expected: Template) -> None:
    assert choose(go, jinja, joins) == expected


def test_only_a_model_without_a_template_is_different_in_generate() -> None:
    assert Template("none").for_generate == Template("bare")
    for kind in ("jinja", "chatml", "plain", "go"):
        assert Template(kind, "x").for_generate == Template(kind, "x")


@pytest.mark.parametrize(
    "go, expected",
    [
        ("", ()),
        ("text", ()),
        (GO, ()),
        (GO_TOOLS, ("tools",)),
        (GO_THINKING, ("thinking",)),
        (GO_TOOLS + GO_THINKING + "{{ .Suffix }}", ("tools", "insert", "thinking")),
        (GO_TOOLS + "{{ end }}", ()),
        (GO_TOOLS + " " * 100_000, ()),
    ],
)
def test_what_a_go_template_can_do(go: str, expected: tuple[str, ...]) -> None:
    assert go_capabilities(go) == expected


def test_a_model_without_a_go_template_does_not_pay_for_its_interpreter() -> None:
    code = (
        "import sys; from ollamapy.chat.template import choose, go_capabilities\n"
        "choose(None, 'x'); choose('{{ .Prompt }}', 'tools'); go_capabilities('')\n"
        "sys.exit('ollamapy.chat.golang' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "jinja, expected",
    [
        ("", ()),
        ("{{ messages }}", ()),
        ("{% if tools %}", ("tools",)),
        ("{{ m.tool_call }}", ("tools",)),
        ("<think> {{ x }} </think>", ("thinking",)),
        ("<think>", ()),
        ("</think>", ()),
        ("{% if tools %}<think></think>", ("tools", "thinking")),
        ("{{ m.content.split('</think>')[-1] }}", ("thinking",)),
        ('{{ m.content.split( "</think>", 1)[1] }}', ("thinking",)),
        ("{{ m.content.split('</think>')[-1] }}{{ m.reasoning_content }}", ()),
        ("{{ m.content.split('<think>') }}", ()),
        ("[THINK]{{ x }}[/THINK]", ("thinking",)),
        ("<seed:think>{{ x }}</seed:think>", ("thinking",)),
        ("{{ '<|channel>thought' }}<channel|>", ("thinking",)),
        ("<|START_THINKING|><|END_THINKING|>", ("thinking",)),
        ("<|open|>", ("thinking",)),
        ("<|start|>assistant<|channel|>final<|message|>", ("thinking",)),
    ],
)
def test_capabilities(jinja: str, expected: tuple[str, ...]) -> None:
    assert capabilities(jinja) == expected


@pytest.mark.parametrize(
    "marks, expected",
    [
        (Marks(), "<s>a</s>"),
        (Marks("<s>", "</s>"), "<s>a</s>"),
        (Marks("<s>", "</s>", adds_bos=True), "a</s>"),
        (Marks("<s>", "</s>", adds_bos=True, adds_eos=True), "a"),
        (Marks("<x>", "", adds_bos=True, adds_eos=True), "<s>a</s>"),
    ],
)
def test_marks_that_tokenizing_adds_are_taken_off(marks: Marks, expected: str) -> None:
    assert marks.without_added("<s>a</s>") == expected

"""Which template is chosen, what it can do, and which marks are taken off a prompt."""

from __future__ import annotations

import pytest

from ollamapy.chat.template import CHATML_GO, Marks, Template, capabilities, choose

JINJA = "{{ messages }}"
GO = "{{ if .System }}{{ .System }}{{ end }}{{ .Prompt }}"


@pytest.mark.parametrize(
    "go, jinja, joins, expected",
    [
        (None, JINJA, False, Template("jinja", JINJA)),
        (GO, JINJA, False, Template("jinja", JINJA)),
        (CHATML_GO, JINJA, False, Template("jinja", JINJA)),
        (CHATML_GO, None, False, Template("chatml")),
        (CHATML_GO.strip(), None, False, Template("go", CHATML_GO.strip())),  # another text
        (GO, None, False, Template("go", GO)),
        (GO, " \n", False, Template("go", GO)),
        (None, None, False, Template("none")),
        ("", "", False, Template("none")),
        ("{{ .Prompt }}", None, False, Template("none")),
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

"""What Ollama's own code made of 650 templates, and the three ways to execute one.

Two of Ollama's oddities are kept, as a template that fails there does not work anywhere: the last turn
of a template without .Messages has neither Ollama's functions nor inner templates; and a .Response in
a branch that has an else (a crash there) is an error here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ollamapy.chat import golang
from ollamapy.chat.golang import GoTemplate, parse
from ollamapy.errors import TemplateError
from tests.chat.golang.turns import assistant, system, user

DATA = Path(__file__).parents[2] / "data" / "templates.jsonl"
RECORDED = [json.loads(line) for line in DATA.read_text().splitlines()]


def execute(template: GoTemplate, given: dict[str, Any]) -> str:
    return template.execute(
        given["messages"],
        given.get("tools"),
        think=given.get("think"),
        think_level=given.get("level", ""),
        prompt=given.get("prompt", ""),
        suffix=given.get("suffix", ""),
    )


@pytest.mark.parametrize("row", RECORDED, ids=range(len(RECORDED)))
def test_record(row: dict[str, Any]) -> None:
    given, expected = row["in"], row["out"]
    if "parse_error" in expected:
        with pytest.raises(TemplateError):
            parse(given["template"])
        return
    template = parse(given["template"])
    assert list(template.variables) == expected["vars"]
    if "error" in expected:
        with pytest.raises(TemplateError):
            execute(template, given)
    else:
        assert execute(template, given) == expected["text"]


def test_bytes_that_are_no_text_come_out_as_replacement_characters() -> None:
    assert parse('{{ "\\xe2\\x82" }}{{ .Messages }}').execute([]) == "\ufffd\ufffd[]"
    assert parse("{{ .Prompt }}").execute([user("a\ud800b")]) == "a\ufffdb"


def test_images_are_bytes_or_base64() -> None:
    template = parse("{{ range .Messages }}{{ .Images }}{{ len .Images }}{{ end }}")
    assert template.execute([{**user(""), "images": [b"\1\2", "AwQ="]}]) == "[[1 2] [3 4]]2"


def test_wrong_types_count_as_absent() -> None:
    template = parse("{{ range .Messages }}{{ .Content }}|{{ .ToolCalls }}{{ end }}{{ .Tools }}")
    messages = [{"role": "user", "content": 5, "tool_calls": [1], "images": {}}]
    tool = '{"type":"","function":{"name":"","description":"","parameters":{"type":"","properties":null}}}'
    assert template.execute(messages, [{"function": 3}]) == f"|[][{tool}]"


def test_no_tools_are_null_and_an_empty_list_is_empty() -> None:
    template = parse("{{ .Messages }}{{ .Tools }}{{ if .Tools }}x{{ end }}")
    assert template.execute([]) == "[]null"
    assert template.execute([], []) == "[][]"


@pytest.mark.parametrize(
    "think, level, shown",
    [(None, "", "false false "), (True, "medium", "true true medium"), (False, "", "true false ")],
)
def test_think(think: bool | None, level: str, shown: str) -> None:
    template = parse("{{ .IsThinkSet }} {{ .Think }} {{ .ThinkLevel }}")
    assert golang.think_level(think) == level
    assert template.execute([], think=think, think_level=level) == shown


def test_a_level_is_itself() -> None:
    assert golang.think_level("high") == "high"


def test_messages_of_one_role_are_joined_but_those_of_tools() -> None:
    template = parse("{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}{{ .System }}")
    tool = {"role": "tool", "content": "t"}
    messages = [system("a"), user("b"), user("c"), tool, tool, system("d"), assistant("e")]
    joined = "system=a;user=b\n\nc;tool=t;tool=t;system=d;assistant=e;a\n\nd"
    assert template.execute(messages) == joined
    assert messages[1] == user("b")  # what was given stays as it was


def test_turn_by_turn() -> None:
    template = parse("[{{ .System }}|{{ .Prompt }}|{{ .Response }}]")
    messages = [system("s"), user("1"), assistant("2"), user("3"), system("t")]
    assert template.execute(messages) == "[s|1|2][|3|][t||"
    assert template.execute([user("1"), assistant("so far")]) == "[|1|so far"
    assert parse("{{ .Prompt }}!").execute([user("1"), assistant("2"), user("3")]) == "1!23!"


def test_the_last_turn_ends_at_the_response() -> None:
    template = parse("{{ .Prompt }}{{ if .Prompt }} {{ print .Response 1 }}x{{ end }}y")
    assert template.execute([user("a")]) == "a "
    assert parse("{{ .Prompt }}{{ (.Response) }}{{ .Prompt }}").execute([user("a")]) == "a"
    assert parse("{{ .Response | print }}x").execute([user("a")]) == ""


def test_the_last_turn_is_a_template_of_its_own() -> None:
    for template in (
        "{{ json .Prompt }}",
        '{{ define "t" }}x{{ end }}{{ template "t" . }}',
        "{{ if .Prompt }}{{ .Response }}{{ else }}x{{ end }}",
    ):
        parsed = parse(template)
        with pytest.raises(TemplateError):
            parsed.execute([user("a")])
    assert parse("{{ .Nope.Foo }}").execute([user("a")]) == "<no value>"


def test_the_middle_is_filled_in() -> None:
    template = parse("<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ .Messages }}{{ .System }}")
    assert (
        template.execute([user("x")], prompt="a", suffix="b") == "<P>a<S>b<M><no value><no value>"
    )
    assert template.variables == ("messages", "prompt", "suffix", "system")


@pytest.mark.parametrize(
    "template, names",
    [
        ("", ("response",)),
        ("{{ $x := .A.B }}{{ $x.C }}", ("$x", "a", "b", "c", "response")),
        ("{{ (.A).B }}{{ with $y := 1 }}{{ end }}", ("response",)),
        ('{{ define "t" }}{{ .Messages }}{{ end }}', ("messages",)),
        (
            '{{ template "t" .A }}{{ if .B }}{{ else }}{{ .ÄC }}{{ end }}',
            ("a", "b", "response", "äc"),
        ),
    ],
)
def test_variables(template: str, names: tuple[str, ...]) -> None:
    assert parse(template).variables == names

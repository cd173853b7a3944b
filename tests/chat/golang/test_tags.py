"""Capabilities and tags that are read off a template."""

from __future__ import annotations

import pytest

from ollamapy.chat import golang
from ollamapy.chat.golang import parse

THINKING = (
    "{{ range .Messages }}{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>{{ end }}"
    "{{ .Content }}{{ end }}"
)


@pytest.mark.parametrize(
    "template, tags",
    [
        (THINKING, ("<think>", "</think>")),
        ("{{ range .Messages }}<a>{{ .Thinking }}</a>{{ end }}", ("<a>", "</a>")),
        ("{{ range $i, $_ := .Messages }}{{ with .Thinking }}[{{ . }}]{{ end }}{{ end }}", ("", "")),
        ("{{ range .Messages }}<a>{{ .Thinking }}</a>{{ range .ToolCalls }}b{{ .Thinking }}c{{ end }}{{ end }}", ("<a>", "")),
        ("{{ if .Thinking }}<a>{{ .Thinking }}</a>{{ end }}", ("", "")),
        ("{{ range .Messages }}{{ .Thinking }}{{ end }}", ("", "")),
        ("{{ .Prompt }}", ("", "")),
    ],
)  # fmt: skip
def test_thinking_tags(template: str, tags: tuple[str, str]) -> None:
    assert golang.thinking_tags(parse(template)) == tags


@pytest.mark.parametrize(
    "template, tag",
    [
        ("{{ if .ToolCalls }}<tool_call>\n{{ . }}{{ end }}", "<tool_call>"),
        ('{{ range .Messages }}{{ if eq 1 2 }}{{ else if .ToolCalls }}[TOOL_CALLS] [{{ range .ToolCalls }}{"name"{{ end }}{{ end }}{{ end }}', "[TOOL_CALLS] ["),
        ('{{ if and .ToolCalls true }}{{ range .ToolCalls }}{"name": {{ end }}{{ end }}', "{"),
        ("{{ if .ToolCalls }}{{ .Content }}x{{ end }}", "{"),
        ("{{ if (.ToolCalls) }}x{{ end }}", "{"),
        ("{{ range .ToolCalls }}x{{ end }}", "{"),
        ("{{ .Prompt }}", "{"),
    ],
)  # fmt: skip
def test_tool_tag(template: str, tag: str) -> None:
    assert golang.tool_tag(parse(template)) == tag


@pytest.mark.parametrize(
    "template, can",
    [
        ("{{ .Prompt }}", ()),
        ("{{ .Tools }}{{ .Suffix }}", ("tools", "insert")),
        (THINKING + "{{ .Tools }}", ("tools", "thinking")),
    ],
)
def test_capabilities(template: str, can: tuple[str, ...]) -> None:
    assert golang.capabilities(parse(template)) == can

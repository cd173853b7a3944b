"""Messages and tools in the shape of Ollama's API, and a template that has them in variables."""

from __future__ import annotations

from typing import Any

from ollamapy.chat.golang import parse

Turn = dict[str, Any]


def user(content: str) -> Turn:
    return {"role": "user", "content": content}


def assistant(content: str, **more: Any) -> Turn:
    return {"role": "assistant", "content": content, **more}


def system(content: str) -> Turn:
    return {"role": "system", "content": content}


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather <now>",
            "parameters": {
                "type": "object",
                "required": ["city"],
                "properties": {
                    "unit": {"type": ["string", "null"], "enum": ["c", 1, None]},
                    "city": {"type": "string", "description": "its name"},
                    "where": {"anyOf": [{"type": "integer"}, {"type": "array"}]},
                    "deep": {"type": "object", "properties": {"b": {"type": "number"}, "a": {}}},
                },
            },
        },
    }
]
MESSAGES: list[Turn] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Grüße €"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "c1",
                "function": {
                    "name": "get_weather",
                    "arguments": {
                        "city": "Paris",
                        "days": 2,
                        "x": None,
                        "y": [1, "a", None],
                        "big": 1e21,
                    },
                },
            }
        ],
    },
    {"role": "tool", "tool_name": "get_weather", "content": "11"},
]
PRELUDE = (
    "{{ if .Messages }}{{ end }}"
    "{{ $t := index .Tools 0 }}"
    "{{ $p := $t.Function.Parameters.Properties }}"
    "{{ $a := (index (index .Messages 2).ToolCalls 0).Function.Arguments }}"
    "{{ $u := index .Messages 1 }}"
)
"""$t a tool, $p its parameters, $a the arguments of a call, $u a message."""


def render(template: str) -> str:
    return parse(PRELUDE + template).execute(MESSAGES, TOOLS)

"""Answers of the models whose chat templates llama.cpp carries, and what llama.cpp reads in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ollamapy.chat.output import Segment, Text, Thought, answer_format, choose, merged
from ollamapy.chat.template import Template
from ollamapy.types import ToolCall

FILE = Path(__file__).parent.parent / "data" / "output" / "llama.jsonl"
LINES = [json.loads(line) for line in FILE.read_text().splitlines()]
TEMPLATES = {line["template"]: line for line in LINES if line["kind"] == "template"}
TOOLS = {line["key"]: line for line in LINES if line["kind"] == "tool"}
ANSWERS = [line for line in LINES if line["kind"] == "answer"]


def heard(line: dict[str, Any], pieces: Sequence[str], *, cut: bool = False) -> list[Segment]:
    """The segments but for the pieces of calls."""
    tools = [
        {"type": "function", "function": {key: TOOLS[tool][key] for key in ("name", "parameters")}}
        for tool in line["tools"]
    ]
    template = Template("jinja", TEMPLATES[line["template"]]["marks"])
    reader = choose(
        answer_format(template), tools=tools, prompt_tail=line["tail"], new_id=lambda: "id"
    )
    segments = [segment for piece in pieces for segment in reader.feed(piece)] + reader.flush(cut)
    return merged(
        [segment for segment in segments if isinstance(segment, (Text, Thought, ToolCall))]
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_family_of_a_template(name: str) -> None:
    template = Template("jinja", TEMPLATES[name]["marks"])
    assert answer_format(template).family.name == TEMPLATES[name]["family"]
    assert list(answer_format(template).thinking) == TEMPLATES[name]["thinking"]


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_is_read_as_llama_cpp_reads_it(name: str) -> None:
    for line in ANSWERS:
        if line["template"] == name:
            segments = heard(line, [line["text"]])
            text = "".join(segment.text for segment in segments if isinstance(segment, Text))
            thought = "".join(segment.text for segment in segments if isinstance(segment, Thought))
            assert text.strip() == line["content"], line["text"]
            assert thought.strip() == line["thinking"], line["text"]
            calls = [[e.name, e.arguments] for e in segments if isinstance(e, ToolCall)]
            assert calls == line["calls"], line["text"]


STRIDE = pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.long)])
"""How far apart the places are at which an answer is cut."""


@STRIDE
@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_is_read_alike_wherever_it_is_cut(name: str, stride: int) -> None:
    for line in ANSWERS:
        if line["template"] == name:
            text = line["text"]
            whole = heard(line, [text])
            assert heard(line, text) == whole, text
            for at in range(1, len(text), stride):
                assert heard(line, [text[:at], text[at:]]) == whole, (at, text)


def test_a_recipient_that_begins_a_thought_has_its_space() -> None:
    """What is put in the model's mouth is the tag as the model writes it, after the prompt's end."""
    template = Template("jinja", TEMPLATES["muse-glimmer"]["marks"])
    assert choose(answer_format(template)).opens == " to=self<|message|>"


@STRIDE
@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_that_the_token_limit_cuts_has_no_markup(name: str, stride: int) -> None:
    """Its text, thinking and calls are the beginning of those of the whole answer, wherever the cut is."""
    for line in ANSWERS:
        if line["template"] == name:
            whole = heard(line, [line["text"]])
            for size in range(0, len(line["text"]), stride):
                cut = heard(line, [line["text"][:size]], cut=True)
                for kind in (Text, Thought):
                    text, all_of_it = ("".join(e.text for e in each if isinstance(e, kind)) for each in (cut, whole))  # fmt: skip
                    text = re.sub(r"\s[a-z]{1,3}$", "", text).rstrip()  # letters may begin a word
                    assert all_of_it.startswith(text), line["text"][:size]
                calls = [e for e in cut if isinstance(e, ToolCall)]
                assert calls == [e for e in whole if isinstance(e, ToolCall)][: len(calls)]

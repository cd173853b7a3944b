"""What the parsers are judged by from outside: Ollama's own results, real chat templates, and
llguidance for the grammar of forced calls."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import llguidance
import pytest

from ollamapy.chat import jinja
from ollamapy.chat.output import Text, Thought, answer_format, call_grammar, choose
from ollamapy.chat.output.families import tagged
from ollamapy.chat.output.sections import SectionParser
from ollamapy.chat.output.thinking import ThinkingParser
from ollamapy.chat.output.tools import Tools
from ollamapy.chat.template import Template
from ollamapy.errors import InvalidRequest
from ollamapy.types import Constraint, ToolCall

DATA = Path(__file__).parent.parent / "data" / "output"
TABLES = [json.loads(line) for line in (DATA / "tables.jsonl").read_text().splitlines()]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}},
]

# ---- Ollama's results ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", [line for line in TABLES if line["kind"] == "thinking"])
def test_thinking_is_told_as_ollama_tells_it(line: dict[str, Any]) -> None:
    reader = ThinkingParser(line["in"]["open"], line["in"]["close"])
    told = []
    for chunk in line["in"]["chunks"]:
        segments = reader.feed(chunk)
        thought = "".join(segment.text for segment in segments if isinstance(segment, Thought))
        told.append(
            [thought, "".join(segment.text for segment in segments if isinstance(segment, Text))]
        )
    assert told == line["out"]


@pytest.mark.parametrize("line", [line for line in TABLES if line["kind"] == "tools"])
def test_calls_are_told_when_ollama_tells_them(line: dict[str, Any]) -> None:
    """The same calls, never later; and the same text, but for what Ollama loses: text after a call,
    text that only began like a tag, sections that are no call. One of Ollama's lines says a piece of
    text twice."""
    tag, chunks = line["in"]["tag"], line["in"]["chunks"]
    finder = SectionParser(tagged(tag).forms, (), Tools(TOOLS, lambda: "id"))
    calls: list[dict[str, Any]] = []
    text = theirs = ""
    expected: list[dict[str, Any]] = []
    steps = line["out"]["steps"]
    for chunk, step in zip([*chunks, ""], [*steps, {"calls": None, "content": ""}], strict=False):
        for segment in finder.feed(chunk):
            if isinstance(segment, ToolCall):
                calls.append({"name": segment.name, "arguments": segment.arguments})
            elif isinstance(segment, Text):
                text += segment.text
        theirs += step["content"]
        functions = [call["function"] for call in step["calls"] or []]
        expected += [{key: f[key] for key in ("name", "arguments")} for f in functions]
        assert len(calls) >= len(expected)
        assert text.startswith(theirs.rstrip()), "white space waits: it is no text beside a call"
    text += "".join(segment.text for segment in finder.flush() if isinstance(segment, Text))
    assert calls == expected
    theirs += line["out"]["rest"]
    said = "".join(chunks)
    text, theirs = text.rstrip(), theirs.rstrip()
    lost = text.removeprefix(theirs)
    assert text == theirs or (text.startswith(theirs) and lost in said) or theirs == text + '{"city'


# ---- real templates ------------------------------------------------------------------------------

REAL = {
    "Qwen-Qwen2.5-7B-Instruct": ("hermes", ("", "")),
    "Qwen3-Coder": ("qwen3-coder", ("", "")),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("deepseek", ("<think>", "</think>")),
    "mistralai-Mistral-Nemo-Instruct-2407": ("mistral", ("", "")),
    "GLM-4.6": ("glm", ("<think>", "</think>")),
    "ibm-granite-granite-3.3-2B-Instruct": ("granite", ("<think>", "</think>")),
}


@pytest.mark.parametrize("name", REAL)
def test_the_family_of_a_real_template(name: str) -> None:
    template = Template("jinja", (DATA / "templates" / f"{name}.jinja").read_text())
    assert (answer_format(template).family.name, answer_format(template).thinking) == REAL[name]


@pytest.mark.parametrize(
    "name",
    ["Qwen-Qwen2.5-7B-Instruct", "Qwen3-Coder", "GLM-4.6", "mistralai-Mistral-Nemo-Instruct-2407"],
)
def test_a_call_is_read_as_the_template_writes_it(name: str) -> None:
    source = (DATA / "templates" / f"{name}.jinja").read_text()
    call = ToolCall("get_weather", {"city": "Paris", "unit": "c"}, "123456789")
    function = {"name": call.name, "arguments": call.arguments}
    asked = {"role": "user", "content": "Hi"}
    answer = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": call.id, "type": "function", "function": function}],
    }
    prompt = jinja.render(source, [asked], tools=TOOLS)
    both = jinja.render(source, [asked, answer], tools=TOOLS, add_generation_prompt=False)
    written = both[len(os.path.commonprefix([prompt, both])) :]
    reader = choose(answer_format(Template("jinja", source)), tools=TOOLS, new_id=lambda: call.id)
    segments = reader.feed(written) + reader.flush()
    assert [segment for segment in segments if isinstance(segment, ToolCall)] == [call]


@pytest.mark.parametrize("name", REAL)
def test_a_result_reaches_every_real_template(name: str) -> None:
    """With an id as we make them and nothing said beside the call, whatever the template would rather have."""
    source = (DATA / "templates" / f"{name}.jinja").read_text()
    function = {"name": "get_weather", "arguments": {"city": "Paris"}}
    called = {"id": "call_ab12cd34", "type": "function", "function": function}
    prompt = jinja.render(
        source,
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [called]},
            {
                "role": "tool",
                "content": "sunny",
                "name": "get_weather",
                "tool_call_id": "call_ab12cd34",
            },
        ],
        tools=TOOLS,
    )
    assert "Paris" in prompt and "sunny" in prompt


def test_deepseek_is_told_of_its_tools() -> None:
    """Whose template writes calls, but not what may be called."""
    source = (DATA / "templates" / "deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja").read_text()
    asked = {"role": "user", "content": "Hi"}
    prompt = jinja.render(source, [asked], tools=TOOLS)
    assert "### get_weather" in prompt and '"enum": ["c", "f"]' in prompt
    assert prompt.index("### now") < prompt.index("<｜User｜>Hi")
    kind = {"role": "system", "content": "Be kind."}
    assert "Be kind.\n\n## Tools" in jinja.render(source, [kind, asked], tools=TOOLS)
    assert "Tools" not in jinja.render(source, [asked])
    told = source.replace("{{bos_token}}", "{{bos_token}}{{ tools | tojson }}")
    assert told != source and "##" not in jinja.render(told, [asked], tools=TOOLS)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "<|role_sep|> function call",
            '<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "now", "arguments": {}}<|message_sep|>',
        ),
        (
            "<|tool_call_start|>",
            '<|tool_call_start|>{"name": "now", "arguments": {}}<|tool_call_end|>',
        ),
        ("<|tool_call_start|>", "<|tool_call_start|>[now()]<|tool_call_end|>"),
    ],
)
def test_calls_of_other_families_at_every_split(template: str, said: str) -> None:
    for at in range(len(said)):
        reader = choose(answer_format(Template("jinja", template)), tools=TOOLS, new_id=lambda: "1")
        segments = reader.feed(said[:at]) + reader.feed(said[at:]) + reader.flush()
        assert [e for e in segments if isinstance(e, ToolCall)] == [ToolCall("now", {}, "1")]
        assert not "".join(e.text for e in segments if isinstance(e, Text)).strip()


GO = (
    "{{ range .Messages }}{{ if .Thinking }}<t>{{ .Thinking }}</t>{{ end }}{{ if .ToolCalls }}"
    "%s{{ range .ToolCalls }}{{ .Function }}{{ end }}{{ end }}{{ .Content }}{{ end }}{{ .Tools }}"
)


@pytest.mark.parametrize(
    ("tag", "family"),
    [
        ("<call>", "generic"),
        ("", "generic"),
        ("[TOOL_CALLS]", "mistral"),
        ("<tool_call>", "hermes"),
    ],
)
def test_a_go_template_tells_its_own_tags(tag: str, family: str) -> None:
    template = Template("go", GO % tag)
    assert answer_format(template).family.name == family
    assert answer_format(template).thinking == ("<t>", "</t>")
    reader = choose(answer_format(template), tools=TOOLS, new_id=lambda: "id")
    said = f'<t>hm</t>{tag}{{"name": "now", "parameters": {{}}}}'
    segments = [
        segment for character in said for segment in reader.feed(character)
    ] + reader.flush()
    assert [segment for segment in segments if isinstance(segment, ToolCall)] == [
        ToolCall("now", {}, "id")
    ]
    assert [segment for segment in segments if isinstance(segment, Text)] == []


@pytest.mark.parametrize("source", ["{{ .Prompt }}", "{{ if }}", "{{ .Prompt }}" + " " * 200_000])
def test_a_go_template_without_tools_has_no_tags(source: str) -> None:
    template = Template("go", source)
    assert (answer_format(template).family.name, answer_format(template).thinking) == (
        "generic",
        ("", ""),
    )


# ---- forced calls --------------------------------------------------------------------------------


def accepts(constraint: Constraint, answer: str) -> bool:
    """Whether llguidance lets the whole answer pass, and end there."""
    if constraint.kind == "lark":
        grammar = llguidance.LLMatcher.grammar_from_lark(constraint.text)
    else:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(constraint.text)
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar)
    assert not matcher.is_error(), matcher.get_error()
    return matcher.consume_tokens(list(answer.encode())) and matcher.is_accepting()


WEATHER = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
NOW = '{"name": "now", "arguments": {}}'
HERMES = Template("jinja", "<tool_call>")
MISTRAL = Template("jinja", "[TOOL_CALLS]")
COHERE = Template("jinja", "<|START_ACTION|>")
PLAIN = Template("jinja", "{{ messages }}")
CODER = Template("jinja", "<function=<parameter=")
COHERE_NOW = '<|START_ACTION|>[{"tool_name": "now", "parameters": {}}]<|END_ACTION|>'


HARMONY = Template("jinja", "<|start|><|channel|><|message|>")
TO, JSON = "<|channel|>commentary to=functions.", " <|constrain|>json<|message|>"


def hermes(*calls: str) -> str:
    return "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)


@pytest.mark.parametrize(
    ("template", "choice", "parallel", "answer", "passes"),
    [
        (HERMES, "required", True, hermes(WEATHER), True),
        (HERMES, "required", True, hermes(WEATHER, NOW), True),
        (HERMES, "required", False, hermes(WEATHER, NOW), False),
        (HERMES, "required", True, "Sure.", False),
        (HERMES, "now", True, hermes(NOW), True),
        (HERMES, "now", True, hermes(WEATHER), False),
        (HERMES, "required", True, hermes('{"name": "now"}'), False),
        (HERMES, "required", True, hermes(WEATHER.replace('"Paris"', "1")), False),
        (MISTRAL, "required", True, f"[TOOL_CALLS][{WEATHER}, {NOW}]", True),
        (MISTRAL, "required", False, f"[TOOL_CALLS][{WEATHER}, {NOW}]", False),
        (MISTRAL, "required", False, f"[TOOL_CALLS][{NOW}]", True),
        (COHERE, "now", True, COHERE_NOW, True),
        (PLAIN, "required", True, WEATHER, True),
        (PLAIN, "required", True, "Paris", False),
        (CODER, "required", True, NOW, True),
        (HARMONY, "required", True, f"{TO}get_weather{JSON}" + '{"city": "Paris"}', True),
        (HARMONY, "now", True, f"{TO}now{JSON}{{}}", True),
        (HARMONY, "now", True, f"{TO}get_weather{JSON}" + '{"city": "Paris"}', False),
        (HARMONY, "required", True, NOW, False),
        (
            MISTRAL,
            "required",
            False,
            "[TOOL_CALLS][" + WEATHER.replace('"}', '", "x": 1}') + "]",
            False,
        ),
        (HERMES, "now", True, hermes(NOW.replace("{}", "{\n\t\n }")), False),
    ],
)
def test_a_forced_call(
    template: Template, choice: str, parallel: bool, answer: str, passes: bool
) -> None:
    constraint = call_grammar(answer_format(template), TOOLS, choice, parallel)
    assert constraint is not None
    assert accepts(constraint, answer) is passes
    if passes:
        for at in range(len(answer)):
            reader = choose(answer_format(template), tools=TOOLS, forced=True)
            segments = reader.feed(answer[:at]) + reader.feed(answer[at:]) + reader.flush()
            assert any(isinstance(segment, ToolCall) for segment in segments)
            assert not any(isinstance(segment, Text) for segment in segments)


@pytest.mark.parametrize("choice", ["auto", "none", "nosuch"])
def test_nothing_is_forced(choice: str) -> None:
    assert call_grammar(answer_format(HERMES), TOOLS, choice) is None


def test_each_tool_has_definitions_of_its_own() -> None:
    def tool(name: str, kind: str) -> dict[str, Any]:
        parameters = {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/it"}},
            "required": ["x"],
            "$defs": {"it": {"type": kind}},
        }
        return {"type": "function", "function": {"name": name, "parameters": parameters}}

    constraint = call_grammar(
        answer_format(HERMES), [tool("a", "string"), tool("b", "integer")], "required"
    )
    assert constraint is not None
    assert accepts(constraint, hermes('{"name": "a", "arguments": {"x": "1"}}'))
    assert accepts(constraint, hermes('{"name": "b", "arguments": {"x": 1}}'))
    assert not accepts(constraint, hermes('{"name": "b", "arguments": {"x": "1"}}'))


@pytest.mark.parametrize("template", [HERMES, HARMONY])
def test_the_tool_whose_schema_is_wrong_is_named(template: Template) -> None:
    schema: dict[str, Any] = {}
    for _ in range(130):
        schema = {"properties": {"x": schema}}
    odd = {"type": "function", "function": {"name": "odd_one", "parameters": schema}}
    with pytest.raises(InvalidRequest, match="tool odd_one .*nests"):
        call_grammar(answer_format(template), [*TOOLS, odd], "required")
    odd["function"] = {"name": "odd_one", "parameters": {"type": "array"}}
    with pytest.raises(InvalidRequest, match="tool odd_one .*arguments are an object"):
        call_grammar(answer_format(template), [*TOOLS, odd], "required")
    constraint = call_grammar(answer_format(template), TOOLS, "required")
    assert constraint is not None
    assert [name for name, _ in constraint.parts] == ["tool get_weather", "tool now"]

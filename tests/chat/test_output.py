from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.chat.output import Parser, Segment, Text, Thought, answer_format, choose, merged
from ollamapy.chat.template import Template
from ollamapy.types import ToolCall, ToolDelta

WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "tags": {"type": "array"},
        },
        "required": ["city"],
    },
}
NOW = {"name": "now", "parameters": {"type": "object", "properties": {}}}
TOOLS = [{"type": "function", "function": function} for function in (WEATHER, NOW)]

PARIS = ("get_weather", {"city": "Paris"})
THREE = ("get_weather", {"city": "Paris", "days": 3})
TIME: tuple[str, dict[str, Any]] = ("now", {})
Calls = Sequence[tuple[str, dict[str, Any]]]

HERMES = "<tool_call>\n</tool_call>"
CODER = "<tool_call><function=x><parameter=y>"
LLAMA = "<|start_header_id|> <|python_tag|> parameters"
MISTRAL = "[TOOL_CALLS]"
GEMMA = "<start_of_turn>user"
DEEPSEEK = "<think></think><｜tool▁calls▁begin｜>"
GLM = "<arg_key><think></think>"
HARMONY = "<|start|><|channel|><|message|>"
GRANITE = "<|start_of_role|><|tool_call|><think></think>"
COHERE = "<|START_ACTION|><|START_THINKING|><|END_THINKING|>"
COMMAND_R = "Action: ```json tool_name"
KIMI = "<|tool_calls_section_begin|>"
LFM = "<|tool_call_start|>"
SOLAR = "<|tool_call:begin|>"
M3 = "]<]minimax[>["

CODER_CALL = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"
)
GLM_CALL = (
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
)
DSML_CALL = (
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>\n</｜DSML｜function_calls>"
)
MINIMAX_CALL = (
    '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n'
    '<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>'
)
K3_CALL = (
    '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
    '<|open|>argument key="days" type="number"<|sep|>3<|close|>argument<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|>"
)
HUNYUAN_CALL = (
    "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n"
    "<arg_key:opensource>city</arg_key:opensource>\n"
    "<arg_value:opensource>Paris</arg_value:opensource>\n</tool_call:opensource>\n"
    "</tool_calls:opensource>"
)
PYTHON_CALL = '[get_weather(city="Paris", days=3), now()]'
OBJECT = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
LLAMA_OBJECT = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
COHERE_LIST = (
    '[\n    {"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}\n]'
)
DEEPSEEK_CALL = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Paris"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n'
    "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
)
HARMONY_CALL = (
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"city": "Paris"}<|call|>'
)
KIMI_CALL = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    '<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
)

# Template, what the model says, the text, the thinking, the calls.
ANSWERS: list[tuple[str, str, str, str, Calls]] = [
    (HERMES, f"<tool_call>\n{OBJECT}\n</tool_call>", "", "", [PARIS]),
    (HERMES, f"Sure.\n<tool_call>{OBJECT}</tool_call>", "Sure.", "", [PARIS]),
    (HERMES, f"<tool_call>{OBJECT}</tool_call>\n<tool_call>{OBJECT}</tool_call>", "", "", [PARIS] * 2),
    (HERMES, f"a<tool_call>{OBJECT}</tool_call>b<tool_call>{OBJECT}</tool_call> c", "ab c", "", [PARIS] * 2),
    (HERMES, f"<tool_call>{OBJECT}", "", "", [PARIS]),
    (HERMES, f"<tool_call>{OBJECT}</tool_", "", "", [PARIS]),
    (HERMES, '<tool_call>{"name": "now"}</tool_call>', "", "", [TIME]),
    (HERMES, '<tool_call>{"name": "now", "arguments": "{}"}</tool_call>', "", "", [TIME]),
    (HERMES, '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>', "", "", [PARIS]),
    (HERMES, '<tool_call>{"type": "function", "function": ' + OBJECT + "}</tool_call>", "", "", [PARIS]),
    (HERMES, '<tool_call>{"get_weather": {"city": "Paris"}}</tool_call>', "", "", [PARIS]),
    (HERMES, '<tool_call>get_weather {"city": "Paris"}</tool_call>', "", "", [PARIS]),
    (HERMES, "<think>hm", "<think>hm", "", []),
    ("<think></think>" + HERMES, f"<think>\nhm</think>\n\n<tool_call>{OBJECT}</tool_call>", "", "hm", [PARIS]),
    ("<think></think>" + HERMES, "<think>x</think>y<think>z</think>", "y<think>z</think>", "x", []),
    ("<think></think>", "<think>never ending", "", "never ending", []),
    (CODER, CODER_CALL, "", "", [THREE]),
    (CODER, CODER_CALL.replace("<tool_call>\n", ""), "", "", [THREE]),
    (CODER, f"Hi {CODER_CALL}\n{CODER_CALL} done", "Hi done", "", [THREE] * 2),
    (CODER, f"<tool_call>{OBJECT}</tool_call>", "", "", [PARIS]),
    (CODER, "<tool_call>\n<function=now>\n</function>\n</tool_call>", "", "", [TIME]),
    (CODER, "<tool_call><function=now></func", "", "", [TIME]),
    ("<seed:tool_call>", CODER_CALL.replace("tool_call", "seed:tool_call"), "", "", [THREE]),
    (GLM, f"\n<think>hm</think>\n{GLM_CALL}", "", "hm", [THREE]),
    (GLM, f"Hi{GLM_CALL}\n{GLM_CALL}", "Hi", "", [THREE] * 2),
    (GLM, "<tool_call>now</tool_call>", "", "", [TIME]),
    ("｜DSML｜", DSML_CALL, "", "", [THREE]),
    ("<invoke name= minimax:tool_call", MINIMAX_CALL, "", "", [THREE]),
    ("<|open|><|close|><|sep|>", f"<|open|>think<|sep|>hm<|close|>think<|sep|><|open|>response<|sep|>Hi<|close|>response<|sep|>{K3_CALL}", "Hi", "hm", [THREE]),
    ("'<think{}>' '<tool_sep{}>' ':opensource'", HUNYUAN_CALL, "", "", [PARIS]),
    ("<function name=", '<function name="get_weather"><param name="city"><![CDATA[Paris]]></param></function>', "", "", [PARIS]),
    ("start_tag <function", '<function=get_weather>{"city": "Paris"}</function>', "", "", [PARIS]),
    (">>> all", '>>>all\nHi>>>get_weather\n{"city": "Paris"}', "Hi", "", [PARIS]),
    (LLAMA, LLAMA_OBJECT, "", "", [PARIS]),
    (LLAMA, f"<|python_tag|>{LLAMA_OBJECT}", "", "", [PARIS]),
    (LLAMA, f"{LLAMA_OBJECT}; {LLAMA_OBJECT}", "", "", [PARIS] * 2),
    (LLAMA, '<|python_tag|>get_weather.call(city="Paris")', "", "", [PARIS]),
    (LLAMA, f"No: {LLAMA_OBJECT}", f"No: {LLAMA_OBJECT}", "", []),
    (LLAMA, '{"answer": [1, 2]}', '{"answer": [1, 2]}', "", []),
    ("<|header_start|>", PYTHON_CALL, "", "", [THREE, TIME]),
    (MISTRAL, f'Hi[TOOL_CALLS][{OBJECT}, {{"name": "now", "arguments": {{}}, "id": "abc"}}]', "Hi", "", [PARIS, TIME]),
    (MISTRAL, '[TOOL_CALLS]get_weather[CALL_ID]123456789[ARGS]{"city": "Paris"}[TOOL_CALLS]now[ARGS]{}', "", "", [PARIS, TIME]),
    (MISTRAL + "[THINK][/THINK]", f"[THINK]hm[/THINK]{MISTRAL}{OBJECT}", "", "hm", [PARIS]),
    (GEMMA, '```tool_code\nprint(get_weather(city="Paris"))\n```', "", "", [PARIS]),
    (GEMMA, "```tool_code\nx = 1\n```", "```tool_code\nx = 1\n```", "", []),
    (GEMMA, f"```json\n{OBJECT}\n```", "", "", [PARIS]),
    ("<|tool_call> <tool_call|> <|channel>thought <channel|>", '<|channel>thought\nhm<channel|><|tool_call>call:get_weather{city:<|"|>Pa}ris<|"|>,tags:[<|"|>a:b<|"|>,{k:1}],exact:true,days:-3}<tool_call|>', "", "hm", [("get_weather", {"city": "Pa}ris", "tags": ["a:b", {"k": 1}], "exact": True, "days": -3})]),
    ("<start_function_call>", "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>", "", "", [PARIS]),
    (DEEPSEEK, f"<think>\nhm\n</think>\n\nHi{DEEPSEEK_CALL}", "Hi", "hm\n", [PARIS, TIME]),
    (DEEPSEEK, '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>', "", "", [PARIS]),
    (GRANITE, f"<think>hm</think><response>Hi</response><|tool_call|>[{OBJECT}]", "Hi", "hm", [PARIS]),
    ("<|tool|><|/tool|>", f"<|tool_call|>[{OBJECT}]<|/tool_call|>", "", "", [PARIS]),
    ("functools", f" functools[{OBJECT}]", "", "", [PARIS]),
    (COHERE, f"<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>{COHERE_LIST}<|END_ACTION|>", "", "hm", [PARIS]),
    (COHERE, "<|START_RESPONSE|>Hi<|END_RESPONSE|>", "Hi", "", []),
    (COMMAND_R, f"Action: ```json\n{COHERE_LIST}\n```", "", "", [PARIS]),
    (COMMAND_R, "Action: none", "Action: none", "", []),
    (KIMI, f"Hi{KIMI_CALL}", "Hi", "", [PARIS]),
    (LFM, f"<|tool_call_start|>{PYTHON_CALL}<|tool_call_end|>ok", "ok", "", [THREE, TIME]),
    (LFM, "[1, 2] is a list", "[1, 2] is a list", "", []),
    (LFM, '<|tool_call_start|>[get_weather(city="Pa\nris", tags=["it\'s\n"])]<|tool_call_end|>', "", "", [("get_weather", {"city": "Pa\nris", "tags": ["it's\n"]})]),
    (SOLAR, '<|tool_calls|><|tool_call:begin|>id-1<|tool_call:name|>now<|tool_call:args|>{}<|tool_call:end|>', "", "", [TIME]),
    (M3, f"{M3}<tool_call>\n{M3}<invoke name=\"get_weather\">{M3}<city>Paris{M3}</city>{M3}<days>3{M3}</days>{M3}</invoke>\n{M3}</tool_call>", "", "", [THREE]),
    (M3, f"Hi{M3}<tool_call>{M3}<invoke name=\"now\">{M3}</invoke>{M3}<invoke name=\"get_weather\">{M3}<city>{M3}</city>{M3}<tags>{M3}</tags>{M3}</invoke>{M3}</tool_call>", "Hi", "", [TIME, ("get_weather", {"city": "", "tags": []})]),
    ("<arg_key></think><think>", f"<think>I say <tool_call> now. {GLM_CALL}", "", "I say <tool_call> now. ", [THREE]),
    (SOLAR, '<|think|>hm<|end|><|begin|>assistant<|tool_calls|><|tool_call:begin|>id-1<|tool_call:name|>get_weather<|tool_call:args|>{"city": "Paris"}<|tool_call:end|><|calls|>', "<|think|>hm", "", [PARIS]),
    ("<|tools_prefix|>", '<|tools_prefix|>[{"get_weather": {"city": "Paris"}}, {"now": {}}]<|tools_suffix|>', "", "", [PARIS, TIME]),
    ("<TOOLCALL>", f"<TOOLCALL>[{OBJECT}]</TOOLCALL>", "", "", [PARIS]),
    ("<tool_calls>", f"<tool_calls>\n{OBJECT}\n</tool_calls>", "", "", [PARIS]),
    ("<|function_call|>", f"<|function_call|>{OBJECT}", "", "", [PARIS]),
    (HARMONY, f"<|channel|>analysis<|message|>hm<|end|>{HARMONY_CALL}", "", "hm", [PARIS]),
    (HARMONY, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi<|return|>", "Hi", "hm", []),
    (HARMONY, ' to=functions.get_weather<|channel|>commentary json<|message|>{"city": "Paris"}', "", "", [PARIS]),
    (HARMONY, "Hi, I forgot all of it", "Hi, I forgot all of it", "", []),
    ("{{ messages }}", LLAMA_OBJECT, "", "", [PARIS]),
    ("{{ messages }}", "[1, 2]", "[1, 2]", "", []),
]  # fmt: skip

# What is no call stays text, every character of it.
NO_CALLS = [
    (HERMES, "<tool_call></tool_call>"),
    (HERMES, "<tool_call>"),
    (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "get_weather"}</tool_call>'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": {"city": }}</tool_call>'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call> x'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": {"city": "Par'),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": {"days": NaN}}</tool_call>'),
    (HERMES, "<tool_call>" + '{"name": "now", "arguments": ' + '{"a":' * 100 + "1" + "}" * 101),
    (HERMES, "<tool_cal <tool_call <tool_call>x"),
    (CODER, "<function=unknown><parameter=a>1</parameter></function>"),
    (CODER, "<tool_call><function=get_weather>\n<parameter=city>Par"),
    (CODER, "<tool_call><function=get_weather>x</function></tool_call>"),
    (CODER, "<tool_call> <function=get_w"),
    (GLM, "<tool_call>unknown\n</tool_call>"),
    (GLM, "<tool_call>get_weather<arg_key>city</arg_key>"),
    (LLAMA, "<|python_tag|>import os; print(1)"),
    (LLAMA, "<|python_tag|>get_weather(x for x in y)"),
    (LLAMA, "{ not json"),
    (MISTRAL, "[TOOL_CALLS]unknown[ARGS]{}"),
    (MISTRAL, "[TOOL_CALLS] [] x"),
    (
        DEEPSEEK,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>unknown\n```json\n{}",
    ),
    (HARMONY, "<|channel|>commentary to=functions.unknown<|message|>{}"),
    (HARMONY, '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Par'),
    (HARMONY, "<|channel|>"),
    (KIMI, "<|tool_calls_section_begin|><|tool_call_begin|>functions.unknown:0"),
    ("<|tool_call> <tool_call|>", "<|tool_call>call:unknown{}<tool_call|>"),
    (M3, f'{M3}<tool_call>{M3}<invoke name="unknown">{M3}</invoke>{M3}</tool_call>'),
    (M3, f'{M3}<tool_call>{M3}<invoke name="now">{M3}<a>1{M3}</invoke>{M3}</tool_call> x'),
    (M3, f'{M3}<tool_call>{M3}<invoke name="now">{M3}<a>1{M3}</a>b{M3}</invoke>{M3}</tool_call>'),
    (M3, f'{M3}<tool_call>{M3}<invoke name="now">{M3}<a>1{M3}<b>2{M3}</b>{M3}</a>{M3}</invoke>'),
    (M3, f'{M3}<tool_call>{M3}<invoke name="now">' + f"{M3}<a>" * 100 + f"{M3}</a>" * 100),
    (">>> all", ">>> not a call"),
    ("<|tool_call> <tool_call|>", "<|tool_call>call:get_weather{city:}<tool_call|>"),
]


def ids() -> Iterator[str]:
    return (f"call_{number}" for number in count())


def parser(template: str, **options: Any) -> Parser:
    numbers = ids()
    kwargs = {"tools": TOOLS, **options}
    return choose(
        answer_format(Template("jinja", template)), new_id=lambda: next(numbers), **kwargs
    )


def heard(template: str, pieces: Sequence[str], **options: Any) -> list[Segment]:
    reader = parser(template, **options)
    segments = [segment for piece in pieces for segment in reader.feed(piece)]
    return merged(segments + reader.flush())


def text_of(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments if isinstance(segment, Text))


def thought_of(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments if isinstance(segment, Thought))


def calls_of(segments: Sequence[Segment]) -> list[tuple[str, dict[str, Any]]]:
    """The calls; each is told twice, and both must say the same."""
    deltas: dict[str, list[str]] = {}
    named: dict[int, str] = {}
    calls = []
    for segment in segments:
        if isinstance(segment, ToolDelta):
            if segment.id:
                named[segment.index] = segment.id
                deltas[segment.id] = [segment.name, ""]
            deltas[named[segment.index]][1] += segment.arguments
        elif isinstance(segment, ToolCall):
            name, arguments = deltas[segment.id]
            assert (name, json.loads(arguments)) == (segment.name, segment.arguments)
            calls.append((segment.name, segment.arguments))
    return calls


@pytest.mark.parametrize(("template", "said", "text", "thought", "calls"), ANSWERS)
def test_an_answer(template: str, said: str, text: str, thought: str, calls: Calls) -> None:
    segments = heard(template, [said])
    assert (text_of(segments), thought_of(segments), calls_of(segments)) == (
        text,
        thought,
        list(calls),
    )


@pytest.mark.parametrize(("template", "said"), NO_CALLS)
def test_what_is_no_call_is_text(template: str, said: str) -> None:
    segments = heard(template, [said])
    assert (text_of(segments), calls_of(segments)) == (said, [])


EVERYTHING = [(answer[0], answer[1]) for answer in ANSWERS] + NO_CALLS


@pytest.mark.parametrize(("template", "said"), EVERYTHING)
def test_it_does_not_matter_how_text_is_cut(template: str, said: str) -> None:
    whole = heard(template, [said])
    assert heard(template, list(said)) == whole
    for place in range(1, len(said)):
        assert heard(template, [said[:place], said[place:]]) == whole, said[:place]


@pytest.mark.parametrize(("template", "said"), EVERYTHING)
def test_without_tools_there_are_no_calls(template: str, said: str) -> None:
    assert calls_of(heard(template, [said], tools=())) == []


MARKS = [
    "<tool_call>", "</tool_call>", "<function=", "get_weather", ">", "</function>", "<parameter=city>",
    "</parameter>", "{", "}", "[", "]", '"', "\\", '"name": ', '"arguments": ', ", ", ":", "now", "\n",
    " ", "x", "<", "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "(", ")", "<think>", "</think>", OBJECT,
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "```", "```json", "tool_code", "Action:",
    "<|channel|>", "<|message|>", "<|start|>", "<|end|>", "to=functions.now", "final", "analysis",
]  # fmt: skip
SCRAMBLED = st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=25)
TEMPLATES = sorted({template for template, *_ in ANSWERS})


@given(st.sampled_from(TEMPLATES), SCRAMBLED)
@settings(max_examples=300, deadline=None)
def test_scrambled_answers_are_read_alike_however_cut(template: str, pieces: list[str]) -> None:
    said = "".join(pieces)
    whole = heard(template, [said])
    assert heard(template, pieces) == whole
    assert heard(template, list(said)) == whole
    calls_of(whole)


@given(SCRAMBLED)
@settings(max_examples=200, deadline=None)
def test_no_text_is_lost(pieces: list[str]) -> None:
    """Without a call, what comes out is what went in."""
    said = "".join(pieces)
    for template in (HERMES, CODER, LLAMA, MISTRAL, DEEPSEEK.removeprefix("<think></think>")):
        segments = heard(template, list(said))
        if not calls_of(segments):
            assert text_of(segments) == said


def test_values_are_what_the_schema_says() -> None:
    call = CODER_CALL.replace("Paris", "12").replace("3", "4.0")
    assert calls_of(heard(CODER, [call])) == [("get_weather", {"city": "12", "days": 4})]
    call = CODER_CALL.replace("\nParis\n", "\n\n a\n<b>\n\n").replace("3", "many")
    assert calls_of(heard(CODER, [call])) == [
        ("get_weather", {"city": "\n a\n<b>\n", "days": "many"})
    ]


@pytest.mark.parametrize(
    "city",
    ["a}b", 'a"b', "a\\", "\\u00e9", "</tool_call>", "é👋", "{[", "<tool_call>{", "\ud83d\ude00"],
)
def test_strings_in_arguments_may_hold_anything(city: str) -> None:
    city = city.encode("utf-16", "surrogatepass").decode("utf-16")
    for ensure_ascii in (True, False):
        arguments = json.dumps({"city": city}, ensure_ascii=ensure_ascii)
        said = f'<tool_call>{{"name": "get_weather", "arguments": {arguments}}}</tool_call>'
        assert calls_of(heard(HERMES, list(said))) == [("get_weather", {"city": city})]


def test_line_breaks_in_strings_are_escaped_in_deltas() -> None:
    said = '<tool_call>{"name": "get_weather", "arguments": {"city": "a\nb\tc"}}</tool_call>'
    assert calls_of(heard(HERMES, list(said))) == [("get_weather", {"city": "a\nb\tc"})]


def test_lone_surrogates_become_replacement_characters() -> None:
    said = '<tool_call>{"name": "get_weather", "arguments": {"city": "\\ud800"}}</tool_call>'
    calls = [segment for segment in heard(HERMES, [said]) if isinstance(segment, ToolCall)]
    assert [call.arguments for call in calls] == [{"city": "\ufffd"}]


@pytest.mark.parametrize(
    ("template", "begun"),
    [
        (HERMES, '<tool_call>{"name": "get_weather", "arguments": {"city": "Pa'),
        (CODER, "<function=get_weather><parameter=city>Pa"),
        (MISTRAL, '[TOOL_CALLS]get_weather[ARGS]{"city": "Pa'),
        (HARMONY, '<|channel|>commentary to=functions.get_weather<|message|>{"city": "Pa'),
    ],
)
def test_arguments_are_told_while_they_are_written(template: str, begun: str) -> None:
    segments = parser(template).feed(begun)
    assert segments == [ToolDelta(0, "call_0", "get_weather", '{"city": "Pa')]


@pytest.mark.parametrize(
    ("template", "said", "told"),
    [
        (HERMES, "a <too", "a"),
        (HERMES, "a <b", "a <b"),
        (LLAMA, '{"x', ""),
        (LLAMA, '{"x"', '{"x"'),
        (HERMES, '<tool_call>{"name": "un', ""),
        (HERMES, '<tool_call>{"name": "un"', '<tool_call>{"name": "un"'),
        (MISTRAL, "[TOOL_CALLS]get_", ""),
        (MISTRAL, "[TOOL_CALLS]get_x", "[TOOL_CALLS]get_x"),
        (CODER, "<function=get_wea", ""),
        (CODER, "<function=get_web", "<function=get_web"),
    ],
)
def test_text_is_held_back_no_longer_than_needed(template: str, said: str, told: str) -> None:
    reader = parser(template)
    assert text_of([segment for character in said for segment in reader.feed(character)]) == told


@pytest.mark.parametrize(
    ("tail", "said", "text", "thought", "opens", "end"),
    [
        ("<|im_start|>assistant\n<think>\n", "hm</think>Hi", "Hi", "hm", "", "</think>"),
        ("<think>\n\n</think>\n\n", "Hi<think>", "Hi<think>", "", "", ""),
        ("<|im_start|>assistant\n", "Hi", "Hi", "", "<think>", ""),
    ],
)
def test_the_prompts_end_tells_whether_the_model_thinks(
    tail: str, said: str, text: str, thought: str, opens: str, end: str
) -> None:
    template = "<think></think>"
    reader = parser(template, prompt_tail=tail)
    assert (reader.opens, reader.think_end, reader.answer_after) == (opens, end, end)
    segments = heard(template, list(said), prompt_tail=tail)
    assert (text_of(segments), thought_of(segments)) == (text, thought)


def test_a_harmony_prompt_may_have_begun_the_message() -> None:
    tail = "<|start|>assistant<|channel|>final<|message|>"
    assert heard(HARMONY, ["Hi<|return|>"], prompt_tail=tail) == [Text("Hi")]
    assert parser(HARMONY).answer_after == "<|channel|>final<|message|>"


def test_the_ids_a_model_gives_are_kept() -> None:
    said = "[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{}"
    calls = [segment for segment in heard(MISTRAL, [said]) if isinstance(segment, ToolCall)]
    calls += [segment for segment in heard(KIMI, [KIMI_CALL]) if isinstance(segment, ToolCall)]
    assert [call.id for call in calls] == ["123456789", "functions.get_weather:0"]


def test_a_forced_call_may_be_bare_json() -> None:
    assert calls_of(heard(CODER, [OBJECT], forced=True)) == [PARIS]
    assert calls_of(heard(CODER, [OBJECT])) == []


@pytest.mark.parametrize(
    "template", [HERMES, CODER, LLAMA, MISTRAL, GLM, DEEPSEEK, GEMMA, LFM, HARMONY]
)
@pytest.mark.parametrize(
    "unit", ["<tool_call>", "{", "[", '<tool_call>{"name": "now", "arguments": {"', "<function=now>",
             "[TOOL_CALLS]", " ", "<", "<think>", "<function=get_weather><parameter=city>", "```tool_code now(",
             "<|channel|>commentary to=functions.now<|message|>{"]
)  # fmt: skip
def test_the_work_grows_as_the_text(template: str, unit: str) -> None:
    """Counted in function calls: twice the junk is at most about twice the work."""
    import sys

    def work(said: str) -> int:
        steps = 0

        def profile(frame: object, segment: str, argument: object) -> None:
            nonlocal steps
            steps += 1

        reader = parser(template)
        pieces = [said[at : at + 7] for at in range(0, len(said), 7)]
        sys.setprofile(profile)
        try:
            for piece in pieces:
                reader.feed(piece)
            reader.flush()
        finally:
            sys.setprofile(None)
        return steps

    small, large = work(unit * 100), work(unit * 200)
    assert large < 2.5 * small + 1000


def test_a_template_that_is_none_has_the_generic_family() -> None:
    assert answer_format(Template("none")).family.name == "generic"


@pytest.mark.parametrize(
    ("source", "marks"),
    [
        ("<|tool_call> <tool_call|>", ("<|tool_call>", "<tool_call|>", "<|channel>")),
        (M3, (M3, "<tool_call>")),
        ("{{ messages }}", ()),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS] {{ tools }}", ("[TOOL_CALLS]",)),
        ("<|start|><|channel|>{{ tools }}<|message|><|call|>", ("<|channel|>", "<|message|>")),
    ],
)
def test_control_tokens_that_a_parser_must_see(source: str, marks: tuple[str, ...]) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    found = choose(answer_format(Template("jinja", source)), tools=tools if marks else ()).marks
    assert set(marks) <= set(found) and bool(marks) == bool(found)


@pytest.mark.parametrize(
    ("template", "answer", "text", "cuts_call"),
    [
        (HERMES, 'Sure.\n<tool_call>{"name": "get_weather", "arguments": {"ci', "Sure.", True),
        (HERMES, "Sure.\n<too", "Sure.", True),
        (HERMES, "Sure. a <", "Sure. a", True),
        (HERMES, f"<tool_call>{OBJECT}</tool_call>", "", False),
        (HERMES, f"<tool_call>{OBJECT}", "", False),
        (HERMES, f"<tool_call>{OBJECT}</tool_call>\n<tool_call>", "", True),
        (LLAMA, '{"name": "get_w', "", True),
        (LLAMA, '{"type": "function", "name": "get_weather", "para', "", True),
        (LLAMA, '{"type": "fun', "", True),
        (LLAMA, '{"type": "article", "body": "an answer in JSON', '{"type": "article", "body": "an answer in JSON', False),
        (LLAMA, '{"name": "Ada", "age": 3', '{"name": "Ada", "age": 3', False),
        (LLAMA, '{"city": "Paris', '{"city": "Paris', False),
        (CODER, "<tool_call>\n<function=get_weather>\n", "", True),
        (CODER, "<tool_call>\n<function=get_weather>\n<", "", True),
        (MISTRAL, "[TOOL_CALLS]get_weather[ARGS]", "", True),
    ],
)  # fmt: skip
def test_what_the_token_limit_cuts_off_is_no_text(
    template: str, answer: str, text: str, cuts_call: bool
) -> None:
    reader = parser(template)
    segments = reader.feed(answer) + reader.flush(cut=True)
    assert (text_of(segments), reader.cut_call) == (text, cuts_call)

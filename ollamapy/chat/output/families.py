"""The families of models as far as their answers differ: how each writes tool calls and thinking,
and how a family is recognized by its chat template. A table; parses nothing.

The formats are those of the models' own chat templates.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..thinking import is_harmony
from .jsoncalls import JsonForm
from .pycalls import WholeForm, gemma_calls, python_calls
from .sections import Form
from .treecalls import MARK, tree_calls
from .xmlcalls import XmlForm


@dataclass(frozen=True, slots=True)
class Writing:
    """How a call that must be made is written, where JSON and marks are all there is to it: each
    call an object, or all in one list, between ``before`` and ``after``."""

    before: str = ""
    after: str = ""
    shape: Literal["object", "list"] = "object"
    name: str = "name"
    arguments: str = "arguments"


@dataclass(frozen=True, slots=True)
class Family:
    """``is_of`` recognizes the family by the text of a template. ``drops``: marks that are no text.
    ``begun``: a tag that the prompt may end with, and which then belongs to the answer. ``cuts``
    begin a call even in a thought without an end. In drops and cuts ``{}`` is a tool's name."""

    name: str
    is_of: Callable[[str], bool]
    forms: tuple[Form, ...] = ()
    drops: tuple[str, ...] = ()
    writing: Writing = Writing()
    begun: str = ""
    cuts: tuple[str, ...] = ()


def _has(*marks: str) -> Callable[[str], bool]:
    return lambda template: all(mark in template for mark in marks)


def _has_one(*marks: str) -> Callable[[str], bool]:
    return lambda template: any(mark in template for mark in marks)


BARE = JsonForm(starts=("{", "["), words=("<|python_tag|>",))
"""Calls that are the whole answer."""

_TOOL_CALL = JsonForm(opens=("<tool_call>",), closes=("</tool_call>",))
_FENCES = ("```json", "```")

_QWEN_CODER = XmlForm(
    name=("<function=", ">\n", ">"),
    key=("<parameter=", ">\n", ">"),
    value_end="</parameter>",
    call_end="</function>",
    opens=("<tool_call>", "<function="),
    closes=("</tool_call>",),
    padded=True,
)
_SEED = XmlForm(
    name=("<function=", ">\n", ">"),
    key=("<parameter=", ">\n", ">"),
    value_end="</parameter>",
    call_end="</function>",
    opens=("<seed:tool_call>", "<function="),
    closes=("</seed:tool_call>",),
    padded=True,
)


def _invoke(prefix: str, *wrappers: str) -> XmlForm:
    """``<invoke name="..">`` and ``<parameter name="..">``; DeepSeek marks which values are text."""
    return XmlForm(
        name=(f'<{prefix}invoke name="', '"', ">"),
        key=(f'<{prefix}parameter name="', '"', ">"),
        value_end=f"</{prefix}parameter>",
        call_end=f"</{prefix}invoke>",
        opens=tuple(f"<{wrapper}>" for wrapper in wrappers),
        closes=tuple(f"</{wrapper}>" for wrapper in wrappers),
        texts=('string="true"', 'string="false"'),
    )


def _arg_key(suffix: str, *wrappers: str) -> XmlForm:
    end = f"</tool_call{suffix}>"
    return XmlForm(
        name=("", "\n<", ""),
        key=(f"<arg_key{suffix}>", "<", f"<arg_value{suffix}>"),
        value_end=f"</arg_value{suffix}>",
        call_end=end,
        opens=(f"<tool_call{suffix}>", *(f"<{wrapper}>" for wrapper in wrappers)),
        closes=tuple(f"</{wrapper}>" for wrapper in wrappers) or (end,),
        skipped=(f"<tool_sep{suffix}>",),
    )


FAMILIES: tuple[Family, ...] = (
    Family("harmony", is_harmony),
    Family(
        "kimi-k2",
        _has("<|tool_calls_section_begin|>"),
        (
            JsonForm(
                opens=("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
                closes=("<|tool_calls_section_end|>",),
                words=("<|tool_call_argument_begin|>", "<|tool_call_end|>", "functions."),
                patterns=r":\d+",
                id=r"(functions\.[^\s<]+:\d+)",
            ),
        ),
        cuts=("<|tool_calls_section_begin|>", "<|tool_call_begin|>"),
    ),
    Family(
        "kimi-k3",
        _has("<|open|>", "<|close|>", "<|sep|>"),
        (
            XmlForm(
                name=('<|open|>call tool="', '"', "<|sep|>"),
                key=('<|open|>argument key="', '"', "<|sep|>"),
                value_end="<|close|>argument<|sep|>",
                call_end="<|close|>call<|sep|>",
                opens=("<|open|>tools<|sep|>",),
                closes=("<|close|>tools<|sep|>",),
                texts=('type="string"', "type="),
            ),
        ),
        drops=(
            "<|open|>response<|sep|>",
            "<|close|>response<|sep|>",
            "<|close|>message<|sep|>",
        ),
        cuts=("<|open|>response<|sep|>", "<|open|>tools<|sep|>"),
    ),
    Family(
        "deepseek-dsml",
        _has("｜DSML｜"),
        (_invoke("｜DSML｜", "｜DSML｜function_calls", "｜DSML｜tool_calls"),),
        cuts=("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
    ),
    Family(
        "deepseek",
        _has_one("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
        (
            JsonForm(
                opens=("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
                closes=("<｜tool▁calls▁end｜>",),
                words=("function<｜tool▁sep｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", *_FENCES),
            ),
        ),
    ),
    Family("minimax", _has("<invoke name=", "minimax:"), (_invoke("", "minimax:tool_call"),)),
    Family(
        "minimax-m3",
        _has(MARK),
        (
            WholeForm(
                tree_calls,
                rf'\s*{re.escape(MARK)}<invoke name="',
                (f'{MARK}<invoke name="',),
                opens=(f"{MARK}<tool_call>",),
                closes=(f"{MARK}</tool_call>",),
            ),
        ),
        drops=("</mm:think>",),
    ),
    Family(
        "glimmer",
        _has("<atem:invoke"),
        (_invoke("atem:", "atem:function_calls"),),
        drops=(
            "<|start|>assistant",
            " to=user<|message|>",
            " to={}<|message|>",
            "<|eom|>",
            "<|eot|>",
        ),
    ),
    Family(
        "minicpm",
        _has("<function name="),
        (
            XmlForm(
                name=('<function name="', '"', ">"),
                key=('<param name="', '"', ">"),
                value_end="</param>",
                call_end="</function>",
                opens=('<function name="',),
                quoted=("<![CDATA[", "]]>"),
            ),
        ),
    ),
    Family(
        "hunyuan",
        _has("<tool_sep{}>", ":opensource"),
        (_arg_key(":opensource", "tool_calls:opensource"),),
    ),
    Family("seed", _has("<seed:tool_call>"), (_SEED,)),
    Family(
        "qwen3-coder",
        _has("<function=", "<parameter="),
        (_QWEN_CODER, _TOOL_CALL),
        cuts=("<tool_call>\n<function={}>",),
    ),
    Family(
        "glm",
        _has("<arg_key>"),
        (_arg_key(""), _TOOL_CALL),
        writing=Writing("<tool_call>", "</tool_call>"),
        cuts=("<tool_call>{}",),
    ),
    Family(
        "functionary-v3.1",
        _has("start_tag", "<function"),
        (JsonForm(opens=("<function=",), closes=("</function>",), words=(">",)),),
    ),
    Family(
        "functionary-v3.2",
        _has(">>>", "all"),
        (JsonForm(opens=(">>>",), closes=("all\n",), mute=True),),
        begun=">>>",
    ),
    Family(
        "gemma4",
        _has("<|tool_call>", "<tool_call|>"),
        (
            WholeForm(
                gemma_calls,
                r"\s*call:\s*",
                ("call:",),
                opens=("<|tool_call>",),
                closes=("<tool_call|>",),
            ),
        ),
        drops=("<|channel>thought\n<channel|>", "<|channel>", "<channel|>", "<|tool_response>"),
    ),
    Family(
        "functiongemma",
        _has("<start_function_call>"),
        (
            WholeForm(
                gemma_calls,
                r"\s*call:\s*",
                ("call:",),
                opens=("<start_function_call>",),
                closes=("<end_function_call>",),
            ),
        ),
    ),
    Family(
        "mistral",
        _has("[TOOL_CALLS]"),
        (
            JsonForm(
                opens=("[TOOL_CALLS]",),
                closes=("[/TOOL_CALLS]",),
                words=("[ARGS]", "[CALL_ID]"),
                patterns=r"\[CALL_ID\]\w*",
                id=r"\[CALL_ID\](\w+)",
            ),
        ),
        writing=Writing("[TOOL_CALLS]", "", "list"),
    ),
    Family(
        "command-r7b",
        _has("<|START_ACTION|>"),
        (JsonForm(opens=("<|START_ACTION|>",), closes=("<|END_ACTION|>",)),),
        drops=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
        writing=Writing("<|START_ACTION|>", "<|END_ACTION|>", "list", "tool_name", "parameters"),
    ),
    Family(
        "command-r",
        lambda template: "Action:" in template and "json" in template and "tool_name" in template,
        (JsonForm(opens=("Action:",), closes=("```",), words=("```json",)),),
        writing=Writing("Action: ```json\n", "\n```", "list", "tool_name", "parameters"),
    ),
    Family(
        "solar",
        _has("<|tool_call:begin|>"),
        (
            JsonForm(
                opens=("<|tool_calls|>", "<|tool_call:begin|>"),
                closes=("<|calls|>",),
                words=("<|tool_call:name|>", "<|tool_call:args|>", "<|tool_call:end|>"),
                patterns=r"<\|tool_call:begin\|>[\w-]*",
                id=r"<\|tool_call:begin\|>([\w-]+)",
            ),
        ),
        drops=("<|begin|>assistant", "<|content|>", "<|end|>"),
    ),
    Family(
        "lfm2",
        _has_one("<|tool_call_start|>", "<|tool_list_start|>", "List of tools: ["),
        (
            WholeForm(
                python_calls,
                r"[\s\[]*",
                opens=("<|tool_call_start|>",),
                starts=("[",),
                closes=("<|tool_call_end|>",),
            ),
            JsonForm(opens=("<|tool_call_start|>",), closes=("<|tool_call_end|>",)),
        ),
        writing=Writing("<|tool_call_start|>", "<|tool_call_end|>"),
    ),
    Family(
        "apertus",
        _has("<|tools_prefix|>"),
        (JsonForm(opens=("<|tools_prefix|>",), closes=("<|tools_suffix|>",)),),
    ),
    Family(
        "nemotron-v2",
        _has("<TOOLCALL>"),
        (JsonForm(opens=("<TOOLCALL>",), closes=("</TOOLCALL>",)),),
        writing=Writing("<TOOLCALL>", "</TOOLCALL>", "list"),
    ),
    Family(
        "tool-calls",
        _has("<tool_calls>"),
        (JsonForm(opens=("<tool_calls>",), closes=("</tool_calls>",)),),
        drops=("[BEGIN FINAL RESPONSE]",),
        writing=Writing("<tool_calls>", "</tool_calls>", "list"),
    ),
    Family(
        "granite",
        _has("<|start_of_role|>", "<|tool_call|>"),
        (
            JsonForm(opens=("<|tool_call|>",), closes=("<|/tool_call|>",)),
            _TOOL_CALL,
        ),
        drops=("<response>", "</response>"),
        writing=Writing("<|tool_call|>", "", "list"),
    ),
    Family(
        "hermes",
        _has("<tool_call>"),
        (_TOOL_CALL,),
        writing=Writing("<tool_call>\n", "\n</tool_call>"),
    ),
    Family(
        "phi-4",
        _has_one("<|/tool|>", "<|tool_call|>"),
        (
            JsonForm(opens=("<|tool_call|>",), closes=("<|/tool_call|>",)),
            JsonForm(opens=("functools",), starts=("[",)),
        ),
        writing=Writing("<|tool_call|>", "<|/tool_call|>", "list"),
    ),
    Family(
        "functools",
        _has("functools"),
        (JsonForm(opens=("functools",)),),
        writing=Writing("functools", "", "list"),
    ),
    Family("gigachat", _has("<|function_call|>"), (JsonForm(opens=("<|function_call|>",)),)),
    Family(
        "gigachat3",
        _has("<|role_sep|>", "function call"),
        (JsonForm(opens=("function call<|role_sep|>",), closes=("<|message_sep|>",)),),
        drops=("<|message_sep|>",),
    ),
    Family(
        "llama3",
        lambda template: (
            "<|python_tag|>" in template
            or ("<|start_header_id|>" in template and "parameters" in template)
        ),
        (
            JsonForm(opens=("<|python_tag|>",), starts=("{",)),
            WholeForm(python_calls, r"\s*", opens=("<|python_tag|>",)),
        ),
        writing=Writing(arguments="parameters"),
    ),
    Family(
        "llama4",
        _has("<|header_start|>"),
        (
            JsonForm(opens=("<|python_start|>", "<|python_tag|>"), starts=("{", "[")),
            WholeForm(
                python_calls,
                r"[\s\[]*",
                opens=("<|python_start|>",),
                starts=("[",),
                closes=("<|python_end|>",),
            ),
        ),
        writing=Writing(arguments="parameters"),
    ),
    Family(
        "gemma",
        _has("<start_of_turn>"),
        (
            WholeForm(
                python_calls,
                r"[\s\[]*(?:print\()?",
                ("print(",),
                opens=("```tool_code",),
                closes=("```",),
            ),
            JsonForm(opens=("```json", "```tool_call"), starts=("{", "["), closes=("```",)),
        ),
    ),
)
"""In the order in which they are tried: what has marks of its own before what shares them."""

GENERIC = Family("generic", _has(), (_TOOL_CALL, BARE))
"""For templates without tools."""

SOFT = frozenset({"llama3", "llama4", "gemma"})
"""Recognized by the marks of their turns, not of their calls."""


def family_of(template: str) -> Family | None:
    """The family whose marks are in the text of a template."""
    return next((family for family in FAMILIES if family.is_of(template)), None)


def tagged(tag: str) -> Family:
    """The calls of a Go template whose first text before a call is ``tag``, as Ollama reads them."""
    if tag in ("{", "["):
        return Family("generic", _has(), (JsonForm(starts=(tag,)),))
    opening = next((mark for mark in ("<|", "<", "[") if tag.startswith(mark)), "")
    close = f"{opening}/{tag[len(opening) :]}" if opening else ""
    form = JsonForm(opens=(tag,), closes=(close,) if close else (), words=_FENCES)
    return Family("generic", _has(), (form,))

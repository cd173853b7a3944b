"""Render a model's own Jinja chat template, as Hugging Face's transformers does and llama.cpp fills
it in.

The sandbox stops templates that reach for Python's insides. It stops neither endless loops nor
gigabytes: that is why this module runs only in the render child (``python -m ollamapy.runner.render_child``),
which has little memory and whose parent has a clock.

What a template finds: messages, bos_token, eos_token, add_generation_prompt, enable_thinking,
date_string, datetime, and tools when there are any (else the name is undefined, as in llama.cpp:
some templates take a ``none`` for a list); for the few that use other names, xml_tools,
and functions as JSON. Functions: raise_exception, strftime_now; the tojson filter of transformers;
break and continue; the generation block, which only matters when training, renders its content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..cache import cached
from ..errors import RefusedByTemplate, TemplateError
from . import calls
from . import order as orders

MAX_CHARACTERS = 16 * 1024 * 1024
"""A longer prompt is a defect of the template: no model's context holds it."""

_CACHED_BYTES = 2**20

_SHOWN = 300  # characters of a template's own error text

TemplateMessage = Mapping[str, Any]
"""A message as templates see it: role, content, and what else the role has."""


def render(
    source: str,
    messages: Sequence[TemplateMessage],
    *,
    bos_token: str = "",
    eos_token: str = "",
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    variables: Mapping[str, Any] | None = None,
) -> str:
    """The prompt that the template ``source`` makes of ``messages``.

    ``variables`` are put over the standard ones. Raises :class:`TemplateError`, one line, for
    whatever goes wrong: bad syntax, an undefined name, a forbidden access, too much output or
    memory; :class:`RefusedByTemplate` for the template's own refusal.
    """
    context = {
        **_standard(),
        "bos_token": bos_token,
        "eos_token": eos_token,
        "add_generation_prompt": add_generation_prompt,
        **_named(tools, source),
        **(variables or {}),
    }
    try:
        return _opened(_filled(source, messages, tools, context), add_generation_prompt)
    except TemplateError:
        raise
    except MemoryError:
        _compile.clear()
        raise TemplateError("the model's chat template needs too much memory") from None
    except _Refused as refusal:
        reason = f"the model's chat template refuses these messages: {_shown(refusal)}"
        raise RefusedByTemplate(reason) from None
    except Exception as error:
        raise TemplateError(_explain(error)) from None


def _filled(
    source: str,
    messages: Sequence[TemplateMessage],
    tools: Sequence[Mapping[str, Any]] | None,
    context: Mapping[str, Any],
) -> str:
    """The template's text for a conversation; where it fails, for one in which what strict templates require is added."""
    template = _compile(source)
    try:
        return _text(template, {**context, "messages": _adapted(messages, tools, source)})
    except (MemoryError, TemplateError):
        raise
    except Exception:
        completed, whole = orders.completed(messages), [_whole(tool) for tool in tools or ()]
        if completed == list(messages) and whole == list(tools or ()):
            raise
        with suppress(Exception):  # an error about messages that the caller has not sent
            turns = _adapted(completed, whole, source)
            return _text(template, {**context, **_named(whole, source), "messages": turns})
        raise


_TURN_ENDS, _TURN_BEGINS = "<turn|>\n", "<|turn>model\n"


def _opened(prompt: str, add_generation_prompt: bool) -> str:
    """The prompt with the beginning of the answer, which Gemma 4's template leaves out after a call with a text (as in
    llama.cpp)."""
    ends = add_generation_prompt and prompt.endswith(_TURN_ENDS)
    return prompt + _TURN_BEGINS if ends else prompt


def _adapted(
    messages: Sequence[TemplateMessage], tools: Sequence[Mapping[str, Any]] | None, source: str
) -> list[TemplateMessage]:
    """The conversation in the form that the template takes."""
    turns: list[TemplateMessage] = [_turn(message, source) for message in messages]
    if tools and calls.DEEPSEEK in source:
        turns = calls.with_tools_described(turns, tools, _attempt(source))
    order = _order(source) if orders.is_unusual(turns) else orders.Order()
    if order.one_system:
        turns = orders.first_system(turns)
    takes_system = _takes_system if len(turns) > 1 else _takes_lone_system
    if turns and turns[0]["role"] == "system" and not takes_system(source):
        turns = _without_system(turns)
    if calls.has_calls(turns):
        turns = calls.adapted(turns, _call_style(source), source)
    turns = orders.alternating(turns) if order.alternates else turns
    thinks = any(turn.get("reasoning_content") for turn in turns)
    return [_in_blocks(turn) for turn in turns] if thinks and _takes_blocks(source) else turns


def _named(tools: Sequence[Mapping[str, Any]] | None, source: str) -> dict[str, Any]:
    """The tools by the names that templates have for them."""
    named: dict[str, Any] = {"tools": tools, "xml_tools": tools} if tools else {}
    if "functools" in source:  # Firefunction, which always reads it
        named["functions"] = json.dumps(tools, ensure_ascii=False, indent=2) if tools else ""
    return named


_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


def _whole(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """A tool with the schema that templates may read: one of no parameters where it has none."""
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    given = function.get("parameters") or {}
    schema = {**given, **{key: value for key, value in _NO_PARAMETERS.items() if key not in given}}
    return {**tool, "function": {**function, "parameters": schema}}


def _standard() -> dict[str, Any]:
    """What llama.cpp gives to every template."""
    now = datetime.now()
    return {
        "bos_token": "",
        "eos_token": "",
        "add_generation_prompt": True,
        "enable_thinking": True,
        "date_string": now.strftime("%d %b %Y"),
        "datetime": now.strftime("%b %d %Y"),
    }


def _text(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    """Render piece by piece, so that what grows without end is noticed before it is joined."""
    pieces = []
    left = MAX_CHARACTERS
    for piece in template.generate(context):
        left -= len(piece)
        if left < 0:
            raise TemplateError("the model's chat template made more than 16 million characters")
        pieces.append(piece)
    return without_surrogates("".join(pieces))


def without_surrogates(text: str) -> str:
    """``text`` as UTF-8 can carry it: pairs of surrogates joined, lone ones U+FFFD."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# ---- what templates expect of messages -----------------------------------------------------------


def _turn(message: TemplateMessage, source: str) -> dict[str, Any]:
    """A message as the model of the template knows it: OpenAI's ``developer`` is ``system``, but
    for gpt-oss (the ``<|channel|>`` format), which has both; StepFun's texts are stripped, as white
    space at their ends drives it into loops (llama.cpp's issue 24181)."""
    turn = dict(message)
    if message["role"] == "developer" and "<|channel|>" not in source:
        turn["role"] = "system"
    if _STEPFUN in source:
        turn |= {key: turn[key].strip() for key in _TEXTS if isinstance(turn.get(key), str)}
    return turn


_STEPFUN = "You have access to the following functions in JSONSchema format"
_TEXTS = ("content", "thinking", "reasoning_content")


_SYSTEM = {"role": "system", "content": "System message"}
_QUESTION = {"role": "user", "content": "User message"}


@cached(_CACHED_BYTES)
def _takes_system(source: str) -> bool:
    """Whether a system message reaches the prompt: Gemma's template refuses it, others drop it.

    The template is tried, as in llama.cpp. One that cannot even render a single question counts as
    taking it: its own error is the better answer.
    """
    return _reaches(_attempt(source), _SYSTEM, _QUESTION)


@cached(_CACHED_BYTES)
def _takes_lone_system(source: str) -> bool:
    """Whether a system message reaches the prompt where there is no other message."""
    return _reaches(_attempt(source), _SYSTEM)


def _reaches(attempt: calls.Attempt, *turns: TemplateMessage) -> bool:
    prompt = attempt(turns, ()) or ""
    return turns[0]["content"] in prompt or attempt([_QUESTION], ()) is None


@cached(_CACHED_BYTES)
def _order(source: str) -> orders.Order:
    """In which order the template takes messages."""
    return orders.order(_attempt(source))


@cached(_CACHED_BYTES)
def _call_style(source: str) -> calls.CallStyle:
    """How the template takes tool calls."""
    return calls.call_style(_attempt(source))


def _attempt(source: str) -> calls.Attempt:
    """A function that tries the template."""
    template = _compile(source)

    def attempt(turns: Sequence[TemplateMessage], tools: Sequence[Mapping[str, Any]]) -> str | None:
        try:
            return _text(template, {**_standard(), **_named(tools, source), "messages": turns})
        except (MemoryError, TemplateError):
            raise
        except Exception:  # whatever it is: the template does not take these messages
            return None

    return attempt


@cached(_CACHED_BYTES)
def _takes_blocks(source: str) -> bool:
    """Whether the template finds thinking only in a block of the content, as Mistral's do; many print a list as it is."""
    thought, text = "needle thought", "needle text"
    answer = {"role": "assistant", "content": text, "reasoning_content": thought}
    attempt = _attempt(source)
    plain = attempt([_QUESTION, answer, _QUESTION], ()) or ""
    blocks = attempt([_QUESTION, _in_blocks(answer), _QUESTION], ()) or ""
    is_read = thought in blocks and text in blocks and not _A_BLOCK.search(blocks)
    return thought not in plain and is_read


_A_BLOCK = re.compile(r"""['"]thinking['"]""")
"""A block that is printed, and not read."""


def _in_blocks(turn: TemplateMessage) -> TemplateMessage:
    """A message with thinking as blocks of thinking and text."""
    thought, text = turn.get("reasoning_content"), turn["content"]
    if not thought:
        return turn
    blocks = [{"type": "thinking", "thinking": thought}]
    return {**turn, "content": [*blocks, *([{"type": "text", "text": text}] if text else [])]}


def _without_system(turns: list[TemplateMessage]) -> list[TemplateMessage]:
    """The system message put before the text of the first question, as llama.cpp does; alone, it
    becomes a question."""
    system, *rest = turns
    if rest and rest[0]["role"] == "user":
        content = f"{system['content']}\n{rest[0]['content']}"
        return [{**rest[0], "content": content}, *rest[1:]]
    return [{**system, "role": "user"}, *rest]


# ---- the environment: transformers' apply_chat_template ------------------------------------------


class _Refused(Exception):
    """The template called raise_exception."""


def _raise_exception(message: object = "") -> NoReturn:
    raise _Refused(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes < > & ' for HTML, which is wrong in a prompt."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _plain(escape: Callable[[Any], object]) -> Callable[[Any], str]:
    """A filter whose text is a text like any other."""
    return lambda value: str(escape(value))


def _listed(value: Any) -> Any:
    """Values without a form in JSON: what the filters map, select and so on make, and names without a value."""
    if isinstance(value, Iterator):
        return list(value)
    if isinstance(value, jinja2.Undefined):
        return None
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


class _Generation(Extension):
    """``{% generation %}...{% endgeneration %}`` marks what a model is trained on; here its content
    is rendered as it is."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    """A value that is missing (undefined or none) is nothing beside a text: "a" + missing is "a", as in llama.cpp.

    Lists may grow and shrink by an item, though nothing else may be changed: Kimi's templates do it. They are this prompt's, and
    the process has little memory."""

    intercepted_binops = frozenset({"+"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The sum of two values."""
        if isinstance(left, str) and _is_missing(right):
            return left
        if isinstance(right, str) and _is_missing(left):
            return right
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Whether a template may have this attribute of that object."""
        if attr in ("append", "pop") and type(obj) is list:
            return True
        return super().is_safe_attribute(obj, attr, value)


def _is_missing(value: Any) -> bool:
    return value is None or isinstance(value, jinja2.Undefined)


_environment = _Environment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols", _Generation],
    cache_size=0,
)
_environment.globals["raise_exception"] = _raise_exception
_environment.globals["strftime_now"] = _strftime_now
_environment.filters["tojson"] = _tojson
for _name in ("safe", "e", "escape", "forceescape"):
    # Without the mark of safe HTML, which would escape what is added to the text.
    _environment.filters[_name] = _plain(_environment.filters[_name])


@cached(32 * _CACHED_BYTES, lambda source: 32 * len(source))
def _compile(source: str) -> jinja2.Template:
    return _environment.from_string(source)


# ---- errors --------------------------------------------------------------------------------------


def _explain(error: Exception) -> str:
    """What went wrong, on one line, with the line of the template where it is known."""
    text = _shown(error)
    line = error.lineno if isinstance(error, jinja2.TemplateSyntaxError) else None
    where = _line(error.__traceback__) if line is None else line
    place = f" at line {where}" if where else ""
    if isinstance(error, RecursionError):
        return f"the model's chat template nests too deeply{place}"
    return f"the model's chat template failed{place}: {text or type(error).__name__}"


def _shown(error: Exception) -> str:
    """The text of an error, on one line and not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _line(traceback: TracebackType | None) -> int | None:
    """The template's line nearest to the error: jinja gives its own frames the file name
    ``<template>``."""
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line

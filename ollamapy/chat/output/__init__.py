"""What a model's answer consists of: text, thinking and tool calls, parsed while it is generated.

:func:`choose` gives the parser for a model's template; its ``feed`` and ``flush`` give segments.
Pure: text in, values out. All that is neither a call of a known tool nor thinking is text, except marks and the white
space around them.

    segments.py   what an answer consists of
    tags.py       text that may become a tag is held back
    tools.py      the tools that may be called, and a call while it is read
    thinking.py   the tags around thinking, at the beginning of an answer
    sections.py   text and sections of tool calls; how a section is read:
    jsoncalls.py      with JSON arguments
    xmlcalls.py       with a tag for each argument
    pycalls.py        in Python's syntax, or Gemma's
    treecalls.py      with tags for all that is in an argument
    harmony.py    gpt-oss: all of it
    families.py   the table of formats
    recognize.py  which of them the answers to a template have
    forced.py     the grammar of a call that must be made
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from . import harmony
from .families import BARE, Family
from .forced import call_grammar, call_marks
from .recognize import PLAIN, AnswerFormat, answer_format
from .sections import Form, SectionParser
from .segments import Segment, Text, Thought, merged
from .thinking import ThinkingParser
from .tools import Tools

__all__ = [
    "PLAIN",
    "AnswerFormat",
    "Segment",
    "Parser",
    "Text",
    "Thought",
    "answer_format",
    "call_grammar",
    "call_marks",
    "choose",
    "merged",
    "new_call_id",
]

_PIECE = 4096
"""Characters that are read at once: stages copy what is left of a piece with each tag in it."""

_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_call_id() -> str:
    """An id for a tool call, as Ollama makes them."""
    return "call_" + "".join(random.choices(_ID_CHARACTERS, k=8))


class _Stage(Protocol):
    def feed(self, text: str) -> list[Segment]: ...
    def flush(self, cut: bool = False) -> list[Segment]: ...
    @property
    def cut_call(self) -> bool: ...


class Parser:
    """Reads one answer.

    ``opens`` is the text that begins thinking, where the model may write it at the beginning of the
    answer; "" where there is none, or the prompt has begun or ended thinking. A prompt that ends
    with it makes the model think. ``think_end`` ends thinking and begins the answer (the text
    that an engine forces), ``answer_after`` is the text after which the answer's own
    form begins; both are "" where no thinking is sure to come. ``marks`` are the texts that may be
    control tokens of the model's, whose text the parser must see.
    """

    def __init__(
        self,
        family: str,
        stages: Sequence[_Stage],
        *,
        opens: str = "",
        think_end: str = "",
        answer_after: str = "",
        marks: tuple[str, ...] = (),
    ) -> None:
        self.family = family
        self.marks = marks
        self.opens = opens
        self.think_end, self.answer_after = think_end, answer_after
        self._stages = stages

    def feed(self, text: str) -> list[Segment]:
        """The segments that are complete after ``text``; empty while it may become a tag."""
        pieces: list[Segment] = [Text(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        return self._through(pieces, 0)

    def flush(self, cut: bool = False) -> list[Segment]:
        """The text held back; to be called once, at the answer's end.

        ``cut``: the token limit ended the answer, so what may be the beginning of a mark or of a call is no text.
        """
        segments: list[Segment] = []
        for place, stage in enumerate(self._stages):
            segments += self._through(stage.flush(cut), place + 1)
        return merged(segments)

    @property
    def cut_call(self) -> bool:
        """Whether the answer, flushed, ended within a call."""
        return any(stage.cut_call for stage in self._stages)

    def _through(self, segments: list[Segment], first: int) -> list[Segment]:
        for stage in self._stages[first:]:
            passed: list[Segment] = []
            for segment in segments:
                passed += stage.feed(segment.text) if isinstance(segment, Text) else [segment]
            segments = passed
        return merged(segments)


def choose(
    format: AnswerFormat,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    prompt_tail: str = "",
    forced: bool = False,
    new_id: Callable[[], str] = new_call_id,
) -> Parser:
    """The parser of an answer in this format, to a prompt that ends with ``prompt_tail`` (a few
    hundred characters are enough).

    ``tools`` are in OpenAI's form; without them no call is looked for. ``forced``: the answer is
    bound to :func:`call_grammar`, so it may be nothing but JSON, and has no thoughts in Harmony.
    """
    family, known = format.family, Tools(tools, new_id)
    if family.name == "harmony":
        return _harmony_parser(known, prompt_tail, forced)
    stages: list[_Stage] = []
    opening, closing = format.thinking
    tail = prompt_tail.rstrip()
    inside = bool(opening) and tail.endswith(opening)
    over = bool(closing) and tail.endswith(closing)
    if opening and closing:
        cuts = _with_names(family.cuts, known)
        stages.append(ThinkingParser(opening, closing, inside, over, cuts))
    forms = family.forms if tools or family.begun else ()
    bare = bool(tools) and forced and BARE not in forms
    if forms or bare or family.drops:
        stages.append(_section_parser(family, (*forms, BARE) if bare else forms, known, tail))
    return Parser(
        family.name,
        stages,
        opens="" if inside or over or not closing else opening,
        think_end=closing if inside else "",
        answer_after=closing if inside else "",
        marks=format.marks(calls=bool(tools or family.begun), bare=bare) if stages else (),
    )


def _harmony_parser(tools: Tools, prompt_tail: str, forced: bool) -> Parser:
    return Parser(
        "harmony",
        [harmony.HarmonyParser(tools, prompt_tail)],
        think_end="" if forced else harmony.THINK_END,
        answer_after="" if forced else harmony.ANSWER_AFTER,
        marks=harmony.MARKS,
    )


def _section_parser(
    family: Family, forms: Sequence[Form], tools: Tools, tail: str
) -> SectionParser:
    """What finds the calls; it has begun a section already where the prompt ends with its tag."""
    parser = SectionParser(forms, _with_names(family.drops, tools), tools)
    if family.begun and tail.endswith(family.begun):
        parser.begin(family.begun)
    return parser


def _with_names(marks: Sequence[str], tools: Tools) -> tuple[str, ...]:
    """``marks``, those with ``{}`` once for each tool's name."""
    found: dict[str, None] = {}
    for mark in marks:
        names = tools.names if "{}" in mark else ("",)
        found.update(dict.fromkeys(mark.replace("{}", name) for name in names))
    return tuple(found)

"""What a model's answer consists of: text, thinking and tool calls, told apart while it is written.

:func:`choose` gives the parser for a model's template; its ``feed`` and ``flush`` give events.
Pure: text in, values out. Whatever is no call of a known tool and no thought comes out as text;
only marks, and white space around marks, are no text.

    events.py     what parsers say; what may become a tag is held back
    thinking.py   the tags around thinking, at the beginning of an answer
    finder.py     text and sections of tool calls; how a section is read:
    jsoncalls.py      with JSON arguments
    xmlcalls.py       with a tag for each argument
    pycalls.py        in Python's syntax, or Gemma's
    treecalls.py      with tags for all that is in an argument
    harmony.py    gpt-oss: all of it
    families.py   the table of formats
    known.py      which of them a template is of
    forced.py     the grammar of a call that must be made
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, Protocol

from ..template import Template
from . import harmony
from .events import Event, Text, Thought, Tools, merged
from .families import BARE
from .finder import Finder
from .forced import call_grammar, call_marks
from .known import family_for, thinking_tags
from .thinking import ThinkingParser

__all__ = [
    "Event",
    "Parser",
    "Text",
    "Thought",
    "call_grammar",
    "call_marks",
    "choose",
    "family_for",
    "merged",
    "new_call_id",
    "thinking_tags",
]

_PIECE = 4096
"""Characters that are read at once: stages copy what is left of a piece with each tag in it."""

_ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_call_id() -> str:
    """An id for a tool call, as Ollama makes them."""
    return "call_" + "".join(random.choices(_ID_CHARACTERS, k=8))


class _Stage(Protocol):
    def feed(self, text: str) -> list[Event]: ...
    def flush(self) -> list[Event]: ...


class Parser:
    """Reads one answer.

    ``opens`` is the text that begins thinking, where the model may write it at the beginning of the
    answer; "" where it knows none, or the prompt has begun or ended thinking. A prompt that ends
    with it makes the model think. ``think_end`` ends thinking and begins the answer (what
    an engine puts in the model's mouth), ``answer_after`` is the text after which the answer's own
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

    def feed(self, text: str) -> list[Event]:
        """What is known after ``text``; empty while it may become a tag."""
        pieces: list[Event] = [Text(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        return self._through(pieces, 0)

    def flush(self) -> list[Event]:
        """What was held back; to be called once, at the answer's end."""
        events: list[Event] = []
        for place, stage in enumerate(self._stages):
            events += self._through(stage.flush(), place + 1)
        return merged(events)

    def _through(self, events: list[Event], first: int) -> list[Event]:
        for stage in self._stages[first:]:
            heard: list[Event] = []
            for event in events:
                heard += stage.feed(event.text) if isinstance(event, Text) else [event]
            events = heard
        return merged(events)


def choose(
    template: Template,
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    prompt_tail: str = "",
    forced: bool = False,
    new_id: Callable[[], str] = new_call_id,
) -> Parser:
    """The parser of an answer to a prompt that ``template`` has made and that ends with
    ``prompt_tail`` (a few hundred characters are enough).

    ``tools`` are in OpenAI's form; without them no call is looked for. ``forced``: the answer is
    bound to :func:`call_grammar`, so it may be nothing but JSON, and has no thoughts in Harmony.
    """
    family = family_for(template)
    known = Tools(tools, new_id)
    if family.name == "harmony":
        return Parser(
            family.name,
            [harmony.HarmonyParser(known, prompt_tail)],
            think_end="" if forced else harmony.THINK_END,
            answer_after="" if forced else harmony.ANSWER_AFTER,
            marks=harmony.MARKS,
        )
    stages: list[_Stage] = []
    opening, closing = thinking_tags(template)
    tail = prompt_tail.rstrip()
    inside = bool(opening) and tail.endswith(opening)
    over = bool(closing) and tail.endswith(closing)
    if opening and closing:
        cuts = _with_names(family.cuts, known)
        stages.append(ThinkingParser(opening, closing, inside, over, cuts))
    forms = family.forms if tools or family.begun else ()
    if tools and forced and BARE not in forms:
        forms = (*forms, BARE)
    if forms or family.drops:
        finder = Finder(forms, _with_names(family.drops, known), known)
        if family.begun and tail.endswith(family.begun):
            finder.begin(family.begun)
        stages.append(finder)
    end = closing if inside else ""
    return Parser(
        family.name,
        stages,
        opens="" if inside or over or not closing else opening,
        think_end=end,
        answer_after=end,
        marks=_marks((opening, closing, forms, family.drops)) if stages else (),
    )


def _with_names(marks: Sequence[str], tools: Tools) -> tuple[str, ...]:
    """``marks``, those with ``{}`` once for each tool's name."""
    found: dict[str, None] = {}
    for mark in marks:
        names = tools.names if "{}" in mark else ("",)
        found.update(dict.fromkeys(mark.replace("{}", name) for name in names))
    return tuple(found)


_CONTROL = re.compile(r"<\|[^|\s]+\|>|<｜[^｜]+｜>|\[/?[A-Z_]+\]|</?\|?[\w:]+\|?>|\]<\]\w+\[>\[")


@lru_cache(maxsize=256)
def _marks(tags: Any) -> tuple[str, ...]:
    """What looks like a control token in the tags of forms, whatever kind these are."""
    found: dict[str, None] = {}

    def look(value: Any) -> None:
        if isinstance(value, str):
            found.update(dict.fromkeys(_CONTROL.findall(value)))
        elif isinstance(value, tuple):
            for item in value:
                look(item)
        elif is_dataclass(value):
            for each in fields(value):
                look(getattr(value, each.name))

    look(tags)
    return tuple(found)

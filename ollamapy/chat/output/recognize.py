"""How the models of a chat template write their answers. Renders nothing."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from ...cache import cached
from ...errors import TemplateError
from ..template import MAX_PARSED, Template
from ..thinking import thinking_tags
from .families import BARE, GENERIC, SOFT, Family, family_of, tagged

if TYPE_CHECKING:
    from ..golang import GoTemplate

_CONTROL = re.compile(r"<\|[^|\s]+\|>|<｜[^｜]+｜>|\[/?[A-Z_]+\]|</?\|?[\w:]+\|?>|\]<\]\w+\[>\[")


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """How answers are written: the family of the tool calls, and the texts before and after thinking ("" for none).

    The ``marks`` are the texts in these that look like control tokens: those of thinking, of the calls, and of what the
    family drops.
    """

    family: Family
    thinking: tuple[str, str] = ("", "")
    thinking_marks: tuple[str, ...] = ()
    call_marks: tuple[str, ...] = ()
    drop_marks: tuple[str, ...] = ()

    def marks(self, *, calls: bool, bare: bool) -> tuple[str, ...]:
        """The marks of an answer, with or without calls; ``bare``: calls may be the whole answer, too."""
        found = (
            *self.thinking_marks,
            *(self.call_marks if calls else ()),
            *(BARE_MARKS if bare else ()),
            *self.drop_marks,
        )
        return tuple(dict.fromkeys(found))


_CACHED_BYTES = 8 * 2**20


@cached(_CACHED_BYTES, lambda template: 2 * sys.getsizeof(template.source))
def answer_format(template: Template) -> AnswerFormat:
    """How the models that a template is for write their answers.

    Up to 0.2 s for a template of :data:`MAX_PARSED` characters, so not for an event loop.
    """
    family, thinking = _family(template), _thinking(template)
    return AnswerFormat(
        family, thinking, _marks(thinking), _marks(family.forms), _marks(family.drops)
    )


def _family(template: Template) -> Family:
    family = family_of(template.source)
    if template.kind != "go":
        return family or GENERIC
    if family is not None and family.name not in SOFT:
        return family
    parsed = _parsed_go(template.source)
    if parsed is None or "tools" not in parsed.variables:
        return family or GENERIC
    from .. import golang

    return tagged(golang.tool_tag(parsed))


def _thinking(template: Template) -> tuple[str, str]:
    """The texts before and after thinking. In a Go template they are those around its .Thinking, by Ollama's rule."""
    if template.kind != "go":
        return thinking_tags(template.source)
    parsed = _parsed_go(template.source)
    if parsed is None:
        return "", ""
    from .. import golang

    opening, closing = golang.thinking_tags(parsed)
    return (opening, closing) if opening and closing else ("", "")


def _parsed_go(source: str) -> GoTemplate | None:
    """The Go template; None if it is wrong, or too long to be parsed in the daemon."""
    if "{{" not in source or len(source) > MAX_PARSED:
        return None
    from .. import golang  # takes 40 ms, and most models have no Go template

    try:
        return golang.parse(source)
    except TemplateError:
        return None


def _marks(tags: Any) -> tuple[str, ...]:
    """What looks like a control token in a tag, or in the tags of a tuple or of a form, whatever kind it is."""
    if isinstance(tags, str):
        return tuple(dict.fromkeys(_CONTROL.findall(tags)))
    if is_dataclass(tags):
        tags = tuple(getattr(tags, each.name) for each in fields(tags))
    if not isinstance(tags, tuple):
        return ()
    return tuple(dict.fromkeys(mark for tag in tags for mark in _marks(tag)))


BARE_MARKS = _marks(BARE)

PLAIN = answer_format(Template("bare"))
"""Answers to a prompt that no template has written."""

"""Which family a chat template is of, and its tags around thinking. Renders nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ...errors import TemplateError
from ..template import MAX_PARSED, Template
from .families import GENERIC, SOFT, Family, family_of, tagged, thinking_of

if TYPE_CHECKING:
    from ..golang import GoTemplate


@lru_cache(maxsize=64)
def family_for(template: Template) -> Family:
    """The family of the models that a template is for."""
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


@lru_cache(maxsize=64)
def thinking_tags(template: Template) -> tuple[str, str]:
    """What stands before and after thinking, "" where the template knows none. In a Go template
    they are where its .Thinking is, by Ollama's rule."""
    if template.kind != "go":
        return thinking_of(template.source)
    parsed = _parsed_go(template.source)
    if parsed is None:
        return "", ""
    from .. import golang

    opening, closing = golang.thinking_tags(parsed)
    return (opening, closing) if opening and closing else ("", "")


def _parsed_go(source: str) -> GoTemplate | None:
    """The Go template, None if it is too long to be parsed in the daemon, or wrong."""
    if "{{" not in source or len(source) > MAX_PARSED:
        return None
    from .. import golang  # takes 40 ms, and most models have no Go template

    try:
        return golang.parse(source)
    except TemplateError:
        return None

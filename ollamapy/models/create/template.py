"""Which known chat format a GGUF's own template writes: rendered for a few conversations, and compared."""

from __future__ import annotations

from collections.abc import Sequence

from ...chat.formats import PROBES, ChatFormat, candidates
from ...chat.template import Marks, Template
from ...errors import TemplateError, TemplateTooSlow
from ...formats.gguf import Header
from ...runner.render import Renderer
from ...types import Message


def marks_of(header: Header) -> Marks:
    """The texts of BOS and EOS; the header must have been read with its arrays. Assumes that tokenizing adds BOS."""
    tokens = header.metadata.get("tokenizer.ggml.tokens")

    def text(key: str) -> str:
        number = header.metadata.get(f"tokenizer.ggml.{key}_token_id")
        usable = isinstance(tokens, tuple) and isinstance(number, int) and number < len(tokens)
        return str(tokens[number]) if usable and tokens else ""

    return Marks(text("bos"), text("eos"), adds_bos=True)


async def recognise(renderer: Renderer, jinja: str, marks: Marks) -> ChatFormat | None:
    """The known format that a Jinja template writes; what it writes where there is no system message may differ.

    Raises TemplateTooSlow where the template is too slow twice: once may be the machine's fault, and a model must not depend on
    that.
    """
    wanted = await _prompts(renderer, Template("jinja", jinja), marks)
    nearest: ChatFormat | None = None
    for each in candidates(jinja):
        got = await _prompts(renderer, Template("go", each.go), marks)
        with_system, *others = [
            mine == theirs != "" for mine, theirs in zip(got, wanted, strict=True)
        ]
        # There are many ways to put a system message into the user's: such templates need only agree without one
        if with_system:
            return each
        if nearest is None and all(others) and (each.folds_system or not wanted[0]):
            nearest = each
    return nearest


async def _prompts(renderer: Renderer, template: Template, marks: Marks) -> list[str]:
    """A template's prompts for the probes; "" for one that it refuses. Raises TemplateTooSlow."""

    async def rendered(probe: Sequence[Message]) -> str:
        try:
            return await renderer.render(template, probe, marks=marks, of_request=True)
        except TemplateTooSlow:
            raise
        except TemplateError:
            return ""

    found = []
    for probe in PROBES:
        try:
            found.append(await rendered(probe))
        except TemplateTooSlow:
            found.append(await rendered(probe))
    return found

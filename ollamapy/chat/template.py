"""Which template writes a model's prompts, and what that template can do. Renders nothing.

A model may bring a Go template (a layer of its manifest), a Jinja template (inside its GGUF), both
or neither. One rule, :func:`choose`, decides which is used:

1. A model that joins its messages has no template: plain text.
2. The Go template, which is what the model's maker or its user wrote for it. Ollama's default
   ``{{ .Prompt }}`` is none.
3. But where the GGUF's Jinja template can do more (tools, thinking: all that the Go template can,
   and something else too), that one.
4. Else the Jinja template, else none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..cache import cached
from ..errors import TemplateError
from .thinking import can_think

Kind = Literal["go", "jinja", "chatml", "none", "bare", "plain"]
"""go, jinja: a program of the model's. chatml: declared as ChatML. none: no template, ChatML is the
best guess in a chat. bare: no template, the text as it is. plain: contents joined into one running
text."""

DEFAULT_GO = "{{ .Prompt }}"
"""Ollama's template of a model that has none."""


@dataclass(frozen=True, slots=True)
class Template:
    """A model's template; ``source`` is its text where it is a program."""

    kind: Kind
    source: str = ""

    @property
    def for_generate(self) -> Template:
        """As /api/generate uses it: without a template the bare prompt, not ChatML."""
        return replace(self, kind="bare") if self.kind == "none" else self

    @property
    def is_foreign(self) -> bool:
        """Whether rendering it runs a foreign program, which needs the render child."""
        return self.kind in ("go", "jinja")


@dataclass(frozen=True, slots=True)
class Marks:
    """The texts of a model's first and last token, and whether its tokenizer adds them."""

    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    adds_eos: bool = False

    def without_added(self, prompt: str) -> str:
        """``prompt`` without the marks that tokenizing will add again (llama.cpp's rule)."""
        if self.adds_bos:
            prompt = prompt.removeprefix(self.bos)
        if self.adds_eos:
            prompt = prompt.removesuffix(self.eos)
        return prompt


def choose(go: str | None, jinja: str | None, joins_messages: bool = False) -> Template:
    """The template to use, from the manifest's Go template, the GGUF's Jinja template and the
    GGUF's join flag. The rule is at the top of this module.

    A Jinja "template" that is only the word chatml names the format, as in llama.cpp. Whether the
    text of either is right shows when it is rendered.
    """
    if joins_messages:
        return Template("plain")
    has_go = go is not None and go.strip() not in ("", DEFAULT_GO)
    if go is not None and has_go and not prefers_jinja(go, jinja):
        return Template("go", go)
    if not jinja or not jinja.strip():
        return Template("none")
    return Template("chatml") if jinja.strip() == "chatml" else Template("jinja", jinja)


def prefers_jinja(go: str, jinja: str | None) -> bool:
    """Whether the Jinja template can do all that the Go template can (of tools and thinking), and
    more."""
    can = set(go_capabilities(go)) & {"tools", "thinking"}
    return set(capabilities(jinja or "")) > can


def capabilities(jinja: str) -> tuple[str, ...]:
    """What a Jinja template can do: ``tools`` (by Ollama's rule), ``thinking``, both or none, in
    this order."""
    found = {"tools": "tools" in jinja or "tool_call" in jinja, "thinking": can_think(jinja)}
    return tuple(name for name, present in found.items() if present)


MAX_TEMPLATE = 256 * 1024
"""Bytes: a longer template in a request is refused. Models' own have at most some 20 kB."""

MAX_PARSED = 100_000
"""Characters: the capabilities of a longer Go template are not read, it can only be rendered. Parsing
it takes up to 0.2 s in the daemon. The longest of Ollama's own has 15,000."""


def check_size(source: str) -> None:
    """Raises TemplateError if a template is longer than :data:`MAX_TEMPLATE`."""
    too_long = len(source) > MAX_TEMPLATE  # a character has at least one byte
    if too_long or len(source.encode("utf-8", "surrogatepass")) > MAX_TEMPLATE:
        raise TemplateError(f"it is longer than {MAX_TEMPLATE} bytes")


@cached(4 * 2**20)
def go_capabilities(go: str) -> tuple[str, ...]:
    """What a Go template can do, by Ollama's rules: ``tools``, ``insert``, ``thinking``, in this
    order. Nothing, if it is no Go template."""
    if "{{" not in go or len(go) > MAX_PARSED:
        return ()
    from . import golang  # takes 40 ms, and most models have no Go template

    try:
        return golang.capabilities(golang.parse(go))
    except TemplateError:
        return ()


def check_go(go: str) -> None:
    """Raises TemplateError, with Go's text, if a text is no Go template, or too long to be one."""
    if len(go) > MAX_PARSED:
        raise TemplateError(f"it has {len(go)} characters, at most {MAX_PARSED}")
    if "{{" in go:
        from . import golang

        golang.parse(go)

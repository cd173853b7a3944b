"""Which template a model is asked with, and what that template can do. Pure; renders nothing.

A model may bring a Jinja template (inside its GGUF), a Go template (a layer of its manifest), both
or neither. Go templates cannot be rendered yet, hence the order here: the Jinja template; a Go
template only where its text is known to be ChatML; any other Go template alone is kept as kind
``go``, whose rendering raises TemplateError. Rendering it as something else would put a model's
questions in a form it was not trained on, without a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["jinja", "chatml", "none", "bare", "plain", "go"]
"""jinja: the model's own program. chatml: known to be ChatML. none: no template, ChatML is the best
guess in a chat. bare: no template, the text as it is. plain: contents joined into one running text.
go: cannot be rendered yet."""

CHATML_GO = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n"
)
"""What Ollama stores when it recognises ChatML in a GGUF."""

DEFAULT_GO = "{{ .Prompt }}"
"""What a model without a template has, in Ollama's words."""


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
        """Whether rendering it runs somebody else's program, which needs the render child."""
        return self.kind == "jinja"


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
    GGUF's join flag.

    A Jinja "template" that is only the word chatml names the format, as in llama.cpp.
    """
    if joins_messages:
        return Template("plain")
    if jinja and jinja.strip():
        return Template("chatml") if jinja.strip() == "chatml" else Template("jinja", jinja)
    if not go or not go.strip() or go.strip() == DEFAULT_GO:
        return Template("none")
    if go == CHATML_GO:
        return Template("chatml")
    return Template("go", go)


_SPLITS_THINKING = re.compile(r"\.split\(\s*(['\"])</think>\1")


def capabilities(jinja: str) -> tuple[str, ...]:
    """What a Jinja template can do, by Ollama's rules: ``tools``, ``thinking``, both or none, in
    this order."""
    thinking = ("<think>" in jinja and "</think>" in jinja) or (
        _SPLITS_THINKING.search(jinja) is not None and "reasoning_content" not in jinja
    )
    found = {"tools": "tools" in jinja or "tool_call" in jinja, "thinking": thinking}
    return tuple(name for name, present in found.items() if present)

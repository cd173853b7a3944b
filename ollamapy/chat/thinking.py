"""How thinking is recognized in a Jinja template: by the tags around it. Renders nothing, reads no answers."""

from __future__ import annotations

import re

THINKING: tuple[tuple[str, str], ...] = (
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
)
"""The tags around thinking, recognized by the closing one, which every template with thinking has."""

_BUILT: tuple[tuple[str, tuple[str, str]], ...] = (
    ("<think{}>", ("<think:opensource>", "</think:opensource>")),
    ("<|open|>", ("<|open|>think<|sep|>", "<|close|>think<|sep|>")),
    ("<|think|><|end|>", ("<|think|>", "<|end|>")),
    ("<atem:invoke", (" to=self<|message|>", "<|eom|>")),
    ("[BEGIN FINAL RESPONSE]", ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]")),
)
"""A mark of templates that put their tags together from pieces, and the tags."""


def thinking_tags(template: str) -> tuple[str, str]:
    """The tags around thinking in a Jinja template, "" where it has none."""
    for mark, tags in _BUILT:
        if mark in template:
            return tags
    return next((tags for tags in THINKING if tags[1] in template), ("", ""))


ON_REQUEST = frozenset({("<|inner_prefix|>", "<|inner_suffix|>")})
"""The tags of models that think only when they are asked to: Apertus answers without, and is made to."""

_SPLITS = re.compile(r"\.split\(\s*(['\"])</think>\1")


def is_harmony(template: str) -> bool:
    """Whether a template writes gpt-oss's format, in which thinking is a channel."""
    return all(mark in template for mark in ("<|start|>", "<|channel|>", "<|message|>"))


def can_think(template: str) -> bool:
    """Whether the model of a Jinja template thinks: its tags are there. Those that are the most common ones are also in
    templates of models that do not think, which drop them: for these the rule is Ollama's."""
    tags = thinking_tags(template)
    if tags != ("<think>", "</think>"):
        return tags != ("", "") or is_harmony(template)
    splits = _SPLITS.search(template) is not None and "reasoning_content" not in template
    return "<think>" in template or splits

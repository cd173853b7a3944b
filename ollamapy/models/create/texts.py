"""The texts of a new model, of its base and its request. Pure. Where both have one:

template, system     the request's; an empty one leaves the base's. ``{{ .Prompt }}`` counts as no template
parameters           the request's, name by name, over the base's
messages             the request's, if it has any
license              the base's, then the request's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...chat import template as templates
from ...formats.configuration import go_json
from .layers import NewLayer, text_layer
from .request import CreateRequest


def with_texts(
    layers: Sequence[NewLayer], request: CreateRequest, parameters: Mapping[str, Any]
) -> list[NewLayer]:
    """The base's layers with the texts of a request; ``parameters`` are the base's. Raises InvalidRequest for a text that is too
    long."""
    merged = list(layers)
    if request.template:
        # The default is the same as no template; `show` prints it where a model has none
        is_default = request.template.strip() == templates.DEFAULT_GO
        merged = with_text(merged, "template", "" if is_default else request.template)
    if request.system:
        merged = with_text(merged, "system", request.system)
    if request.parameters:
        merged = with_json(
            merged, "params", dict(sorted({**parameters, **request.parameters}.items()))
        )
    if request.messages:
        turns = [{"role": each.role, "content": each.content} for each in request.messages]
        merged = with_json(merged, "messages", turns)
    for text in request.licenses:
        added = text_layer("license", text.encode())
        if text and added.digest not in {each.digest for each in merged}:
            merged.append(added)
    return merged


def with_text(layers: Sequence[NewLayer], kind: str, text: str) -> list[NewLayer]:
    """The layers with this text as the only one of its kind; with none of that kind if it is empty."""
    return _with(layers, kind, text.encode())


def with_json(layers: Sequence[NewLayer], kind: str, value: Any) -> list[NewLayer]:
    """The layers with this value as the only one of its kind; with none of that kind if it is empty."""
    return _with(layers, kind, go_json(value) + b"\n" if value else b"")


def _with(layers: Sequence[NewLayer], kind: str, content: bytes) -> list[NewLayer]:
    replaced = {kind, "prompt"} if kind == "template" else {kind}
    kept = [each for each in layers if each.kind not in replaced]
    return [*kept, text_layer(kind, content)] if content else kept

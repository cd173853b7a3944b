"""Models in a store, as tests make and read them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from ollamapy.models.models import Models
from ollamapy.names import Name
from ollamapy.registry.manifest import Layer, print_manifest
from ollamapy.registry.store import Store

JINJA_TOOLS = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}<think></think>"


def models(root: Path) -> Models:
    return Models(Store([root]))


def show(root: Path, name: str, **how: Any) -> dict[str, Any]:
    """The answer of `show` as a client gets it."""
    _, answer = asyncio.run(models(root).show(name, **how))
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(answer))
    return decoded


def replace_layer(root: Path, name: str, kind: str, content: bytes) -> None:
    """Give an installed model another layer of that kind ("config" for its configuration)."""
    store = Store([root])
    old = store.manifest(Name.parse(name))
    media_type = "" if kind == "config" else f"application/vnd.ollama.image.{kind}"
    new = Layer(media_type, store.add_blob(content), len(content))
    layers = [layer for layer in old.layers if layer.kind != kind]
    config = new if kind == "config" else old.config
    store.write_manifest(
        Name.parse(name), print_manifest(config, layers if kind == "config" else [new, *layers])
    )

"""The layers of a model that is being made, and the texts among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...digests import digest_of, file_digest
from ...errors import InvalidRequest
from ...human import format_bytes
from ...registry.manifest import LAYER_PREFIX, Layer
from ...registry.store import MAX_SMALL

_ORDER = ("model", "projector", "adapter", "", "template", "system", "license", "params", "messages")  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewLayer:
    """One layer of the model to be: a blob in the store, or content that will be one: a text, or a work file."""

    layer: Layer
    content: bytes | None = None
    work: Path | None = None

    @property
    def kind(self) -> str:
        return self.layer.kind

    @property
    def digest(self) -> str:
        return self.layer.digest


def in_order(layers: Iterable[NewLayer]) -> list[NewLayer]:
    """Weights, other layers, texts: so that equal models have equal manifests."""

    def place(each: NewLayer) -> tuple[int, str]:
        # Adapters add up, so their order does not matter
        second = each.digest if each.kind == "adapter" else ""
        return _ORDER.index(each.kind if each.kind in _ORDER else ""), second

    return sorted(layers, key=place)


def text_layer(kind: str, content: bytes) -> NewLayer:
    """A layer that is a text. Raises InvalidRequest for one that is longer than what can be read again."""
    if len(content) > MAX_SMALL:
        raise InvalidRequest(
            f"the {kind} is too long: {format_bytes(len(content))}, at most {format_bytes(MAX_SMALL)}"
        )
    return NewLayer(Layer(LAYER_PREFIX + kind, digest_of(content), len(content)), content)


def file_layer(kind: str, path: Path) -> NewLayer:
    """The layer that a work file will be; reads all of it."""
    return NewLayer(Layer(LAYER_PREFIX + kind, file_digest(path), path.stat().st_size), work=path)

"""Manifests: which blobs a model consists of, in the format of registries and Ollama.

A manifest is untrusted: its size is limited, and the type of every field is checked. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

from ..digests import is_digest, parse_digest, sha256_hex
from ..errors import InvalidModel

MAX_MANIFEST = 4 * 2**20
"""Bytes: what registries allow. A model of a thousand separate tensors takes 250 kB."""

LAYER_PREFIX = "application/vnd.ollama.image."
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model. `digest` is "sha256:" and 64 lower-case hex digits; `size` is bytes.

    `from_` is the model that a weights layer was taken from, `name` a tensor's; "" if not given.
    """

    media_type: str
    digest: str
    size: int
    from_: str = ""
    name: str = ""

    @property
    def kind(self) -> str:
        """ "model", "params", "template"...; "" for a layer of another media type."""
        found = self.media_type.startswith(LAYER_PREFIX)
        return self.media_type[len(LAYER_PREFIX) :] if found else ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The blobs of a model. `digest` (bare hex) and `modified_at` (seconds) are of the manifest file."""

    config: Layer
    layers: tuple[Layer, ...]
    digest: str
    modified_at: float

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Every blob that must be in the store: the configuration and the layers."""
        return (self.config, *self.layers)

    @property
    def distinct(self) -> tuple[Layer, ...]:
        """The blobs without repetitions: a manifest may list one twice."""
        return tuple({layer.digest: layer for layer in self.blobs}.values())

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(layer.size for layer in self.blobs)


def parse_manifest(content: bytes, modified_at: float = 0.0) -> Manifest:
    """Parse a manifest file. Raises InvalidModel, whose message explains what is wrong."""
    if len(content) > MAX_MANIFEST:
        raise InvalidModel(f"it is larger than {MAX_MANIFEST} bytes")
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidModel("it is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidModel("it is not a JSON object")
    layers = value.get("layers")
    if not isinstance(layers, list):
        raise InvalidModel("it has no list of layers")
    return Manifest(
        config=_layer(value.get("config"), "config"),
        layers=tuple([_layer(each, "layer") for each in layers]),
        digest=sha256_hex(content),
        modified_at=modified_at,
    )


def _layer(value: Any, what: str) -> Layer:
    if not isinstance(value, dict):
        raise InvalidModel(f"its {what} is not a JSON object")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    from_, name = value.get("from") or "", value.get("name") or ""
    if not isinstance(digest, str) or not is_digest(digest):
        raise InvalidModel(f"its {what} has no valid digest")
    if type(size) is not int or not 0 <= size < 2**63:  # a bool is an int
        raise InvalidModel(f"its {what} has no valid size")
    if not (_is_text(media_type) and _is_text(from_) and _is_text(name)):
        raise InvalidModel(f"its {what} has a field that is not text")
    return Layer(media_type, parse_digest(digest), size, from_, name)


def _is_text(value: Any) -> TypeGuard[str]:
    """Whether it is a string that can be encoded: one without lone surrogates."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def print_manifest(config: Layer, layers: Iterable[Layer]) -> bytes:
    """Format a manifest, byte for byte as Ollama does for a model that it creates."""
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _layer_value(config),
        "layers": [_layer_value(layer) for layer in layers],
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _layer_value(layer: Layer) -> dict[str, Any]:
    value: dict[str, Any] = {
        "mediaType": layer.media_type,
        "digest": layer.digest,
        "size": layer.size,
    }
    if layer.from_:
        value["from"] = layer.from_
    if layer.name:
        value["name"] = layer.name
    return value

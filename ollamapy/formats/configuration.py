"""A model's configuration blob, as Ollama reads it: parsed, and made for the weights of GGUF files. Pure.

The one owner of this format. The values that the maker adds (renderer, parser, requires) and the storing of the blob belong to the
caller.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import human
from ..errors import InvalidModel
from .gguf import Header
from .parameters import parse_json

PLATFORM = {"architecture": "amd64", "os": "linux"}
"""In every configuration: a model runs on every machine."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration blob contains; "", () or 0 for a field that is missing or of the wrong type."""

    model_format: str = ""
    model_family: str = ""
    model_families: tuple[str, ...] = ()
    model_type: str = ""
    file_type: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    remote_host: str = ""
    capabilities: tuple[str, ...] = ()
    context_length: int = 0
    embedding_length: int = 0


def parse_config(content: bytes) -> Config:
    """Read a configuration blob. Fields of a wrong type are ignored.

    Raises InvalidModel if it is not a JSON object.
    """
    value = parse_json(content)
    if not isinstance(value, dict):
        raise InvalidModel("its configuration is not a JSON object, get the model again")

    def text(key: str) -> str:
        return found if isinstance(found := value.get(key), str) else ""

    def texts(key: str) -> tuple[str, ...]:
        found = value.get(key)
        return tuple(e for e in found if isinstance(e, str)) if isinstance(found, list) else ()

    def count(key: str) -> int:
        found = value.get(key)
        return found if type(found) is int and 0 < found < 2**31 else 0

    return Config(
        model_format=text("model_format"),
        model_family=text("model_family"),
        model_families=texts("model_families"),
        model_type=text("model_type"),
        file_type=text("file_type"),
        renderer=text("renderer"),
        parser=text("parser"),
        requires=text("requires"),
        remote_host=text("remote_host"),
        capabilities=texts("capabilities"),
        context_length=count("context_length"),
        embedding_length=count("embedding_length"),
    )


def describe(model: Header, projectors: Sequence[Header] = ()) -> dict[str, Any]:
    """The configuration of a model made of GGUF files; ``model`` is all of its weights (:func:`.gguf.joined`)."""
    families = [header.architecture for header in (model, *projectors)]
    return {
        "model_format": "gguf",
        "model_family": model.architecture,
        "model_families": list(dict.fromkeys(families)),
        "model_type": human.format_number(model.parameter_count),
        "file_type": model.file_type_name,
        **PLATFORM,
    }


def print_config(config: Mapping[str, Any]) -> bytes:
    """The blob of a model that was made of files of the hub or of another program: compact JSON, keys as given."""
    return json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode()


_GO_KEYS = (
    "model_format", "model_family", "model_families", "model_type", "file_type", "renderer", "parser", "requires",
    "capabilities", "context_length", "embedding_length", "base_name", "architecture", "os",
)  # fmt: skip


def print_created_config(config: Mapping[str, Any]) -> bytes:
    """The blob of a model that was created, byte for byte as Ollama's: its keys in its order, empty ones left out."""
    return go_json({key: config[key] for key in _GO_KEYS if config.get(key)}) + b"\n"


def go_json(value: Any) -> bytes:
    """JSON as Go writes it: no spaces, what is special in HTML escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def read_object(content: bytes) -> dict[str, Any]:
    """A configuration blob with all of its fields, also unknown ones; {} if it is not a JSON object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def source_of(content: bytes) -> Mapping[str, Any]:
    """Where a model was pulled from, by its configuration blob; {} if the blob does not contain it."""
    found = read_object(content).get("source")
    return found if isinstance(found, dict) else {}

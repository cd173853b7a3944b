"""What a model's configuration blob says of its weights, as Ollama reads it.

What the maker says beside the weights (parameters, template, renderer) and how the blob is printed is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import human
from .gguf import Header

PLATFORM = {"architecture": "amd64", "os": "linux"}
"""What every configuration says, whatever the machine: a model runs on all of them."""


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

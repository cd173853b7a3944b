"""A model's configuration blob."""

from __future__ import annotations

import json

from ollamapy.formats.configuration import Config, parse_config


def test_a_config_of_odd_types_is_read_as_far_as_it_goes() -> None:
    value = {
        "model_format": "gguf",
        "model_family": 5,
        "model_families": ["a", 1, "b"],
        "capabilities": "completion",
        "context_length": -4,
        "embedding_length": True,
        "unknown": {},
    }
    assert parse_config(json.dumps(value).encode()) == Config(
        model_format="gguf", model_families=("a", "b")
    )

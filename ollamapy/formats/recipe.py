"""What a Modelfile makes, as the fields of a request to create a model. Pure.

The files that FROM and ADAPTER name are the caller's to find. A text that is sent to the daemon names none: the daemon reads no file
that a caller names.
"""

from __future__ import annotations

import re
from typing import Any

from .modelfile import Instruction, Modelfile

LOOKS_LIKE_PATH = re.compile(r"[/\\~]|\.\.?(?:[/\\]|\Z)|.*\.(?:gguf|safetensors|bin)\Z", re.DOTALL)
"""Matches a value of FROM that is a path and not a model's name."""

NO_FILES = "a Modelfile that is sent to the daemon cannot name files: write a model's name, or use the command ollamapy create"


def texts(modelfile: Modelfile) -> dict[str, Any]:
    """The fields that no file is needed for; empty ones are left out. Raises InvalidModelfile."""
    typed, _ = modelfile.parameters()
    draft = next((each for each in modelfile.instructions if each.word == "DRAFT"), None)
    if draft is not None:
        raise draft.error("draft models are not supported, leave DRAFT out")
    fields: dict[str, Any] = {
        "template": modelfile.last("TEMPLATE"),
        "system": modelfile.last("SYSTEM"),
        "license": modelfile.values("LICENSE"),
        "parameters": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in typed.items()
        },
        "messages": [{"role": each.role, "content": each.content} for each in modelfile.messages],
        "renderer": modelfile.last("RENDERER"),
        "parser": modelfile.last("PARSER"),
        "requires": modelfile.requires(),
    }
    return {key: value for key, value in fields.items() if value}


def fields(modelfile: Modelfile) -> dict[str, Any]:
    """All fields, of a Modelfile whose FROM names a model. Raises InvalidModelfile, also for one that names files."""
    for each in modelfile.instructions:
        if names_file(each):
            raise each.error(NO_FILES)
    return {**texts(modelfile), "from": modelfile.last("FROM")}


def names_file(instruction: Instruction) -> bool:
    """Whether it names a file, by how its value is written: ADAPTER always does."""
    is_path = LOOKS_LIKE_PATH.match(instruction.value) is not None
    return instruction.word == "ADAPTER" or (instruction.word == "FROM" and is_path)

"""The format of an answer, as a user writes it: ``json``, a JSON Schema, or a file with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest, reason

LARGEST = 1024 * 1024
"""Characters of a schema's file: more than any server accepts."""


def read_form(written: str) -> Any:
    """The ``format`` of requests. Raises InvalidRequest for anything but JSON and a file with JSON."""
    if written == "json":
        return written
    if written.lstrip().startswith("{"):
        return _parsed(written, "the format")
    path = Path(written).expanduser()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LARGEST + 1)
    except OSError as error:
        raise InvalidRequest(
            f"the format must be json, a JSON Schema or a file with one, not {written!r}: {reason(error)}"
        ) from None
    except ValueError:
        raise InvalidRequest(f"the format's file {written!r} is not UTF-8 text") from None
    if len(text) > LARGEST:
        raise InvalidRequest(f"the format's file {written!r} is too long for a JSON Schema")
    return _parsed(text, f"the format's file {written!r}")


def _parsed(text: str, what: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error}") from None
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{what} is not a JSON Schema: it must be an object")
    return schema

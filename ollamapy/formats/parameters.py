"""A model's parameters (its params layer): read from JSON, and printed as `show` and a Modelfile have them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from .. import human
from ..errors import InvalidModel


def parse_json(text: str | bytes) -> Any:
    """A JSON value, None if it is none. Unlike json's, msgspec's texts can always be sent again:
    half of a surrogate pair is an error."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None


def read_parameters(texts: Iterable[str]) -> dict[str, Any]:
    """The parameters of all params layers together. Raises InvalidModel if one is not a JSON object."""
    found: dict[str, Any] = {}
    for text in texts:
        value = parse_json(text)
        if not isinstance(value, dict):
            raise InvalidModel("its parameters are not a JSON object, get the model again")
        found.update(value)
    return found


def print_parameters(parameters: Mapping[str, Any]) -> str:
    """`parameters` of /api/show: a line for each value, names in 30 columns, values as in Go."""
    return "\n".join(
        f"{key:<30} {human.format_value(value)}" for key, value in each_value(parameters)
    )


def each_value(parameters: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names in order (Ollama's is random), lists one value at a time."""
    for key, value in sorted(parameters.items()):
        for each in value if isinstance(value, (list, tuple)) else [value]:
            huge = isinstance(each, int) and each.bit_length() > 64  # no program writes that
            if each is not None and not huge:
                yield key, each


def print_value(value: Any) -> str:
    """A number or a truth value as a Modelfile can have it: a whole number without an exponent."""
    return str(value) if type(value) is int else human.format_value(value)

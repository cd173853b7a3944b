"""The parameters in a path's query, typed and bounded. Pure; every error is an InvalidRequest that names the parameter."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import InvalidRequest
from ..human import parse_boolean

MOST_CHARACTERS = 1000
"""Characters of a parameter."""


def text(query: Mapping[str, str], name: str, default: str = "") -> str:
    """A text of at most MOST_CHARACTERS. Raises InvalidRequest."""
    value = query.get(name, default)
    if len(value) > MOST_CHARACTERS:
        raise InvalidRequest(f"{name} has more than {MOST_CHARACTERS} characters")
    return value


def required(query: Mapping[str, str], name: str) -> str:
    """A text that is not empty. Raises InvalidRequest."""
    if not (value := text(query, name)):
        raise InvalidRequest(f"{name} is missing: add ?{name}=... to the path")
    return value


def count(query: Mapping[str, str], name: str, default: int, most: int, least: int = 1) -> int:
    """A whole number from ``least`` to ``most``. Raises InvalidRequest."""
    value = query.get(name, "")
    if not value:
        return default
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
    if not least <= number <= most:
        raise InvalidRequest(f"{name} must be a whole number from {least} to {most}")
    return number


def flag(query: Mapping[str, str], name: str) -> bool:
    """True or false, as in a setting; false where it is not given. Raises InvalidRequest."""
    value = query.get(name, "")
    if (found := parse_boolean(value) if value else False) is None:
        raise InvalidRequest(f"{name} must be true or false")
    return found

"""Refusing a file: every reason becomes an InvalidModel with one line of text."""

from __future__ import annotations

from typing import NoReturn

from ...errors import InvalidModel

NEW_OR_DAMAGED = "it is damaged or newer than this program, get it again in another quantisation"
_DAMAGED = "it is damaged or cut off, get it again"


def refuse(why: str, way_out: str = _DAMAGED) -> NoReturn:
    """Raise InvalidModel, with a message of what is wrong and what to do."""
    raise InvalidModel(f"the model file cannot be used: {why}; {way_out}")


def refuse_twice(token: str) -> NoReturn:
    """Refuse a file whose vocabulary has a token twice."""
    refuse(f"its tokenizer has the token {shown(token)} twice")


def shown(name: str) -> str:
    """A name from the file for a message: ASCII, at most 64 characters."""
    return ascii(name if len(name) <= 64 else name[:61] + "...")

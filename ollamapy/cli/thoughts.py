"""How a model's thinking is shown before its answer: between two lines that say so. Prints nothing itself."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import InvalidRequest


class Shown(NamedTuple):
    """A piece of text for the screen; ``dim``: it is thinking."""

    text: str
    dim: bool


class Thoughts:
    """Turns the thinking and the text of an answer's chunks into what is shown; with ``hidden`` only the text."""

    def __init__(self, hidden: bool = False) -> None:
        self._hidden = hidden
        self._last = ""  # thinking that was shown and is not closed yet

    def pieces(self, thinking: str, text: str) -> list[Shown]:
        """The pieces of a chunk that are shown, in order."""
        shown = []
        if thinking and not self._hidden:
            opening = "" if self._last else "Thinking...\n"
            self._last = thinking
            shown.append(Shown(opening + thinking, True))
        if text:
            if self._last:
                newline = "" if self._last.endswith("\n") else "\n"
                shown.append(Shown(f"{newline}...done thinking.\n\n", True))
                self._last = ""
            shown.append(Shown(text, False))
        return shown


def parse_think(value: str) -> bool | str:
    """The value of ``--think``. Raises InvalidRequest, in Ollama's words."""
    if value in ("true", "false"):
        return value == "true"
    from ..types import THINK_LEVELS

    if value in THINK_LEVELS:
        return value
    raise InvalidRequest(
        f'invalid value for --think: "{value}" (must be true, false, high, medium, low, or max)'
    )

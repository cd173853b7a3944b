"""An answer on the screen: its pieces are printed as they come, until it ends, the user stops it, or it only repeats itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import OllamapyError
from ..human import one_line
from . import terminal
from .help import MORE, PROMPT
from .pieces import Piece
from .repeats import Repeats
from .screen import Screen
from .session import SHOWN, Ending, Message
from .thoughts import Thoughts


class Source(Protocol):
    """Where the pieces of an answer come from; closed before its end it cancels the answer."""

    def __iter__(self) -> Iterator[Piece]: ...

    def close(self) -> None:
        """End it."""


@dataclass
class Received:
    """What has come of an answer. ``final`` are its figures, {} before its end; ``failure`` is why it broke off."""

    text: str = ""
    thinking: str = ""
    ending: Ending = ""
    failure: OllamapyError | None = None
    final: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether there is an answer, or a part of one."""
        return bool(self.text or self.final)


class Printer:
    """Prints one answer. ``bounded``: one that only repeats itself is ended; ``strips``: white space at its beginning is left out."""

    def __init__(
        self, screen: Screen, *, hides_thinking: bool, bounded: bool, strips: bool = False
    ) -> None:
        self._screen = screen
        self._thoughts = Thoughts(hides_thinking)
        self._repeats = Repeats() if bounded else None
        self._strips = strips
        self.received = Received()

    def print(self, source: Source, waiting: str) -> Received:
        """Print an answer to its end; ``waiting`` is shown until it begins. Ctrl-C (KeyboardInterrupt) stops it."""
        received = self.received
        try:
            with closing(source), terminal.Spinner(waiting) as spinner:
                for piece in source:
                    if piece.waiting:
                        spinner.say(*piece.waiting)
                    self._print(piece, spinner)
                    if self._repeats and self._repeats.found:
                        received.ending, received.repeats = "cut off", True
                        break
        except KeyboardInterrupt:
            received.ending = "stopped"
        except OllamapyError as error:
            received.ending, received.failure = "broken off", error
        endings: Mapping[Any, Ending] = {"length": "cut off", "cancelled": "stopped"}
        received.ending = endings.get(received.final.get("done_reason"), received.ending)
        return received

    def add(self, pieces: Iterable[Piece]) -> None:
        """Print what had come of an answer that was stopped."""
        for piece in pieces:
            self._print(piece, None)

    def _print(self, piece: Piece, spinner: terminal.Spinner | None) -> None:
        received = self.received
        received.final = piece.final or received.final
        received.thinking += piece.thinking
        if piece.remark:
            if spinner:
                spinner.stop()
            self._screen.remark(piece.remark)
        for text, is_thought in self._thoughts.pieces(piece.thinking, piece.text):
            if spinner:
                spinner.stop()
            if self._repeats:
                self._repeats.feed(text)
            if is_thought:
                self._screen.remark(text)
            else:
                # A base model's text may begin with white space
                self._screen.put(text.lstrip() if self._strips and not received.text else text)
                received.text += text


def end(screen: Screen, ending: Ending, begun: bool) -> None:
    """End a text, with the ending behind it if it is a part, and an empty line."""
    screen.end()
    if ending in SHOWN:
        screen.remark(f"{' ' if begun else ''}[{ending}]")
    sys.stdout.write("\n\n")
    sys.stdout.flush()


def put(message: Message, screen: Screen) -> None:
    """Print a message as it stood on the screen when it came."""
    text = terminal.printable(message.content)
    if message.role == "user":
        names = [one_line(str(part.get("name") or part.get("type"))) for part in message.files]
        files = "".join(f" [{name}]" for name in names)
        print(PROMPT + text.replace("\n", f"\n{MORE}") + files)
    elif message.role == "assistant":
        screen.put(text)
        end(screen, message.ending, bool(text))
    else:
        screen.remark(f"[{message.role}] {text}")
        end(screen, "", True)

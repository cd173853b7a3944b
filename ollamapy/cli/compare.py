"""The answers of two models, or of one model with two settings, to the same question: side by side as they come, where the
terminal is wide enough, else one after the other.

Side by side both are computed at once, so each is slower than alone. One after the other their figures can be compared.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from .. import human
from ..errors import OllamapyError
from . import columns, terminal
from .ask import Look
from .client import Stream
from .drawing import complain
from .pieces import Piece, asked
from .printer import Printer, Received, end
from .repeats import Repeats
from .session import Post, Session
from .thoughts import Thoughts

Open = Callable[[Post], Stream]
"""Sends a request."""

NARROWEST = 100
"""Columns of a terminal in which two answers stand side by side."""

_FRAMES = 15
"""Times a second that both columns are drawn."""


@dataclass
class Compared:
    """What has come of one model's answer; ``first`` are the seconds until its first piece, None before that."""

    model: str
    received: Received = field(default_factory=Received)
    first: float | None = None


def compare(open: Open, sessions: Sequence[Session], look: Look) -> list[Compared]:
    """Ask each session for its next answer and print them, with their figures. An error is part of the result, and printed; Ctrl-C
    stops both."""
    if terminal.has_cursor(sys.stdout) and terminal.columns() >= NARROWEST:
        return _side_by_side(open, sessions, look)
    found: list[Compared] = []
    for session in sessions:
        print(_bold(terminal.printable(f"{session.model}:")))
        found.append(_one(open, session, look))
        if found[-1].received.ending == "stopped":
            break
    return found


def collect(open: Open, sessions: Sequence[Session]) -> list[Compared]:
    """Ask each session for its next answer, one after the other, and print nothing."""
    found = [Compared(session.model) for session in sessions]
    for each, session in zip(found, sessions, strict=True):
        began = time.monotonic()
        try:
            for piece in _pieces(open, session):
                _take(each, piece, began)
        except OllamapyError as error:
            each.received.failure, each.received.ending = error, "broken off"
    return found


def figures(compared: Compared) -> str:
    """The figures of an answer in a line: its tokens, how long it took, how fast, and when it began."""
    final = compared.received.final
    tokens, nanoseconds = int(final.get("eval_count") or 0), int(final.get("eval_duration") or 0)
    parts = [f"{tokens} tokens"] if tokens else []
    if tokens and nanoseconds:
        parts.append(f"{tokens * human.NANOSECONDS / nanoseconds:.1f} tokens/s")
    if compared.first is not None:
        parts.append(f"first after {compared.first:.2f} s")
    if total := final.get("total_duration"):
        parts.append(f"{int(total) / human.NANOSECONDS:.2f} s in all")
    return ", ".join(parts)


def as_json(compared: Compared) -> dict[str, Any]:
    """An answer for programs."""
    received = compared.received
    value: dict[str, Any] = {"model": compared.model, "content": received.text}
    if received.thinking:
        value["thinking"] = received.thinking
    if received.failure:
        value["error"] = str(received.failure)
    return value | {name: received.final[name] for name in _KEPT if name in received.final}


_KEPT = (
    *("done_reason", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"),
    *("load_duration", "total_duration"),
)
"""The figures that programs get, as /api/chat names them."""


def _pieces(open: Open, session: Session) -> Any:
    request = session.request()
    return asked(request, iter(open(request)))  # type: ignore[arg-type]


def _take(compared: Compared, piece: Piece, began: float) -> None:
    """Add a piece to what has come."""
    received = compared.received
    received.text += piece.text
    received.thinking += piece.thinking
    received.final = piece.final or received.final
    if compared.first is None and (piece.text or piece.thinking):
        compared.first = time.monotonic() - began


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if terminal.has_colour(sys.stdout) else text


def _dim(text: str) -> str:
    return terminal.dim(text) if terminal.has_colour(sys.stdout) else text


# One after the other


def _one(open: Open, session: Session, look: Look) -> Compared:
    """Print one answer, and its figures."""
    from .screen import open_screen

    draws = look.draws and not session.is_base and session.format is None
    screen = open_screen(draws=draws, wraps=look.wraps)
    printer = Printer(
        screen,
        hides_thinking=look.hides_thinking,
        bounded="num_predict" not in session.parameters,
        strips=session.is_base,
    )
    compared = Compared(session.model, printer.received)
    began = time.monotonic()

    def timed() -> Any:
        for piece in _pieces(open, session):
            if compared.first is None and (piece.text or piece.thinking):
                compared.first = time.monotonic() - began
            yield piece

    received = printer.print(timed(), f"waiting for {session.model}")
    end(screen, received.ending, bool(received.text))
    if received.failure:
        complain(str(received.failure))
    elif line := figures(compared):
        print(_dim(line) + "\n")
    return compared


# Side by side


class _Asking(threading.Thread):
    """Reads one answer, whose pieces it puts into a queue with the number of its column, None at the end."""

    def __init__(
        self, number: int, stream: Stream, request: Post, pieces: queue.Queue[Any]
    ) -> None:
        super().__init__(daemon=True)
        self._number, self._stream, self._request, self._pieces = number, stream, request, pieces

    def run(self) -> None:
        """Until the answer ends."""
        try:
            for piece in asked(self._request, iter(self._stream)):  # type: ignore[arg-type]
                self._pieces.put((self._number, piece))
        except OllamapyError as error:
            self._pieces.put((self._number, error))
        self._pieces.put((self._number, None))


class _Column:
    """One answer as it comes, as lines of its column."""

    def __init__(self, session: Session, look: Look, began: float) -> None:
        self.compared = Compared(session.model)
        self.ended = False
        self._thoughts = Thoughts(look.hides_thinking)
        self._repeats = None if "num_predict" in session.parameters else Repeats()
        self._began = began
        self._shown = ""

    def take(self, what: Piece | OllamapyError | None) -> bool:
        """Add what has come; returns False if the answer only repeats itself and shall end."""
        received = self.compared.received
        if what is None:
            self.ended = True
            received.ending = (
                "cut off" if received.final.get("done_reason") == "length" else received.ending
            )
        elif isinstance(what, OllamapyError):
            if not self.ended:
                received.failure, received.ending = what, "broken off"
        elif not self.ended:
            _take(self.compared, what, self._began)
            for text, _ in self._thoughts.pieces(what.thinking, what.text):
                self._shown += terminal.printable(text).expandtabs(4)
            if self._repeats:
                self._repeats.feed(what.text)
                if self._repeats.found:
                    self.stop("cut off")
                    return False
        return True

    def stop(self, ending: Any) -> None:
        """End it here."""
        if not self.ended:
            self.ended, self.compared.received.ending = True, ending

    def lines(self, width: int) -> list[str]:
        """The text in lines of at most so many cells, with its ending."""
        received = self.compared.received
        text = self._shown
        if received.ending in ("stopped", "broken off"):
            text += f" [{received.ending}]"
        if received.failure:
            text += f"\n{human.one_line(str(received.failure))}"
        return columns.wrapped(text, width)


def _side_by_side(open: Open, sessions: Sequence[Session], look: Look) -> list[Compared]:
    """Print both answers in columns as they come, and their figures below."""
    board = columns.Board(terminal.columns(), len(sessions))
    board.row([_bold(columns.padded(each.model, board.width)) for each in sessions])
    began = time.monotonic()
    found = [_Column(session, look, began) for session in sessions]
    pieces: queue.Queue[Any] = queue.Queue()
    requests = [session.request() for session in sessions]
    streams = [open(request) for request in requests]
    for number, (stream, request) in enumerate(zip(streams, requests, strict=True)):
        _Asking(number, stream, request, pieces).start()
    try:
        _follow(found, streams, pieces, board)
    except KeyboardInterrupt:
        for each in found:
            each.stop("stopped")
    finally:
        for stream in streams:
            stream.cancel()
    _draw(found, board)
    print()
    lines = [columns.wrapped(figures(each.compared), board.width) for each in found]
    for cells in zip_longest(*lines, fillvalue=""):
        board.row([_dim(columns.padded(cell, board.width)) for cell in cells])
    print()
    return [each.compared for each in found]


def _follow(
    found: Sequence[_Column],
    streams: Sequence[Stream],
    pieces: queue.Queue[Any],
    board: columns.Board,
) -> None:
    """Take in what comes, and draw it some times a second, until both have ended."""
    drawn = 0.0
    while not all(each.ended for each in found):
        try:
            number, what = pieces.get(timeout=1 / _FRAMES)
            if not found[number].take(what):
                streams[number].cancel()
        except queue.Empty:
            pass
        if time.monotonic() - drawn >= 1 / _FRAMES:
            _draw(found, board)
            drawn = time.monotonic()


def _draw(found: Sequence[_Column], board: columns.Board) -> None:
    height = max(os.get_terminal_size(sys.stdout.fileno()).lines, 4)
    lines = [each.lines(board.width) for each in found]
    board.draw(lines, [each.ended for each in found], height)

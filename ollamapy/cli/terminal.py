"""The terminal: tables, word wrap, a spinner, colour, and text that is safe to print. Knows nothing of models.

Escape sequences are written only where `has_cursor` holds: to a terminal that is not TERM=dumb; colour only without NO_COLOR.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from ..config import environment
from ..human import CONTROLS, one_line

GAP = "    "
"""Between two columns of a table."""


# Streams


def prepare_streams() -> None:
    """Make stdin, stdout and stderr exist, and never fail on characters that their encoding lacks."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def silence_stdout() -> None:
    """After a closed pipe: discard what is still buffered, so that the exit is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def has_cursor(stream: TextIO) -> bool:
    """Whether escape sequences may be written there."""
    return stream.isatty() and environment().get("TERM") != "dumb"


def has_colour(stream: TextIO) -> bool:
    """Whether colour is welcome there: see no-color.org."""
    return has_cursor(stream) and not environment().get("NO_COLOR")


def dim(text: str) -> str:
    """The text in the terminal's faint style."""
    return f"\x1b[2m{text}\x1b[0m"


_REMOVED = {code: None for code in CONTROLS if code != ord("\n")}


def printable(text: str) -> str:
    """A text of several lines without control characters: a model's output must not drive the terminal."""
    return text.translate(_REMOVED)


def remark(text: str) -> None:
    """Print one line on stderr, whatever the text holds."""
    print(one_line(text), file=sys.stderr, flush=True)


def columns() -> int:
    """The terminal's width, now."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if columns := os.get_terminal_size(stream.fileno()).columns:
                return columns
        except (OSError, ValueError):
            pass
    return 80


@contextmanager
def quiet_keys() -> Iterator[None]:
    """Keys typed meanwhile are not echoed and stay in the input queue; Ctrl-C and Ctrl-Z work as usual."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    quiet = termios.tcgetattr(terminal)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class Interrupts:
    """Ctrl-C within ``with``: it raises KeyboardInterrupt while `enabled`, and once there; otherwise it is ignored.

    The impatient press it many times: the second must not hit what cleans up after the first.
    """

    def __init__(self) -> None:
        self._enabled = False

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._pressed)
        return self

    def reinstall(self) -> None:
        """Reinstall our SIGINT handler: prompt_toolkit may not restore it when an interrupt hits its cleanup."""
        signal.signal(signal.SIGINT, self._pressed)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def enabled(self) -> Iterator[None]:
        """To be used inside of a ``try`` that catches KeyboardInterrupt."""
        self._enabled = True
        try:
            yield
        finally:
            self._enabled = False

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        if self._enabled:
            self._enabled = False
            raise KeyboardInterrupt


# Text as wide as it is shown


def width(text: str) -> int:
    """Terminal cells: 2 for East Asian wide characters and emoji, 0 for combining marks."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(c) in ("Mn", "Me", "Cf") else 2 if east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, columns: int) -> str:
    """As much of a text as so many cells have room for, at least a cell."""
    while width(text) > max(columns, 1):
        text = text[:-1]
    return text


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns four spaces apart, without borders: what Ollama's tables look like, to the byte.

    A row is padded after its last cell, too; the header's last cell gets one space more than the column is wide. An empty
    ``header`` is not printed. Control characters in cells are escaped: names and errors come from elsewhere.
    """
    rows = [[one_line(cell) for cell in cells] for cells in rows]
    widths = [0] * max(map(len, (header, *rows)), default=0)
    for cells in (header, *rows):
        for column, cell in enumerate(cells):
            widths[column] = max(widths[column], width(cell))

    def pad(cells: Sequence[str]) -> list[str]:
        return [cell + " " * (widths[i] - width(cell)) + GAP for i, cell in enumerate(cells)]

    lines = ["".join(pad(cells)) for cells in rows]
    if header:
        lines.insert(0, "".join(pad(header)).removesuffix(GAP) + " ")
    return "".join(f"{line}\n" for line in lines)


class Wrap:
    """Word wrap for text that arrives in pieces: each is shown at once, and a word that proves too long for its line is
    taken back and set on the next.

    Lines end five cells before the edge (Ollama's rule), so the cursor never hangs in the last column and going back stays
    within the line. ``columns`` is asked at every piece, for windows change. Begins at the left edge.
    """

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._used = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """What to write for the next piece of text."""
        limit = self._columns() - 5
        if limit < 5:
            return text
        return "".join(self._place(character, limit) for character in text)

    def _place(self, character: str, limit: int) -> str:
        if character == "\n":
            return self._break("")
        cells = 8 - self._used % 8 if character == "\t" else width(character)
        if self._used + cells <= limit or cells == 0:
            self._used += cells
            # A combining mark with no word before it belongs to what is before: it must not move to the next line
            is_mark = cells == 0 and not self._word
            begins = character.isspace() or cells == 2 or is_mark
            self._word = "" if begins else self._word + character
            return character
        if character.isspace():
            return self._break("")
        taken = width(self._word)
        if cells == 2 or not taken or taken > limit - 5:
            return self._break(character)
        self._used, self._word = taken + cells, self._word + character
        return f"\x1b[{taken}D\x1b[K\n{self._word}"

    def _break(self, character: str) -> str:
        self._used, self._word = width(character), ""
        return f"\n{character}"


class Spinner:
    """``with Spinner("loading x"):`` shows on stderr that work goes on, if it takes longer than ``delay`` seconds."""

    def __init__(self, text: str, delay: float = 1.0) -> None:
        self.say(text)
        self._delay = delay
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Spinner:
        if has_cursor(sys.stderr):
            self._thread = threading.Thread(target=self._spin, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def say(self, *texts: str) -> None:
        """Show another text from now on: the first of these that fits into the window, or the beginning of the last."""
        self._texts = tuple(map(one_line, texts))

    def stop(self) -> None:
        """Erase it; nothing more is drawn after this returns."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _spin(self) -> None:
        utf8 = (sys.stderr.encoding or "").lower().replace("-", "") == "utf8"
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if utf8 else "|/-\\"
        frame, wait = 0, self._delay
        while not self._ended.wait(wait):
            sys.stderr.write(f"\r{frames[frame % len(frames)]} {self._fitting()}\x1b[K")
            sys.stderr.flush()
            frame, wait = frame + 1, 0.1
        if frame:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _fitting(self) -> str:
        """The text for a line, so short that the cursor stays in it."""
        room = columns() - 3
        return next((text for text in self._texts if width(text) <= room), None) or cut(
            self._texts[-1], room
        )

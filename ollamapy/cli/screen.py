"""The text of an answer on stdout, as it comes: plain, wrapped at words, or as markdown.

`Screen` writes each piece at once and leaves it there. `MarkdownScreen` does so, too, but when a block is complete (a paragraph, an
item of a list, a table, a line of code) it takes that block's raw text back and draws it; so nothing is drawn twice, however
long the answer is. Where it cannot take the text back (the block is taller than the window, or the window has changed) the raw text
stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from . import markdown, terminal

_NARROWEST = 20
"""Columns below which markdown is not drawn."""

_MARGIN = 5
"""Columns left free, as by `terminal.Wrap`."""


def open_screen(*, draws: bool, wraps: bool) -> Screen:
    """The screen for an answer: markdown if it is wanted and this terminal can show it."""
    can = terminal.has_cursor(sys.stdout) and terminal.columns() >= _NARROWEST
    if not (draws and wraps and can):
        return Screen(wraps)
    markdown.load()
    return MarkdownScreen()


def dim(text: str) -> str:
    """Faint, where colour is welcome."""
    return terminal.dim(text) if terminal.has_colour(sys.stdout) else text


class Screen:
    """A text on stdout that comes in pieces, wrapped if it may be."""

    def __init__(self, wraps: bool) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._wrap = _wrapping() if wraps and terminal.has_cursor(sys.stdout) else str

    def put(self, text: str) -> None:
        """Print a piece: to a terminal without control characters."""
        self._write(self._wrapped(text))

    def remark(self, text: str) -> None:
        """Print, faintly, a piece that is not the answer's: thinking, or how it ended."""
        self._write(dim(self._wrapped(text)))

    def end(self) -> None:
        """The text is complete; the cursor stays behind it."""

    def _wrapped(self, text: str) -> str:
        return self._wrap(terminal.printable(text) if self._is_terminal else text)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class MarkdownScreen(Screen):
    """Markdown, drawn block by block over its raw text."""

    def __init__(self) -> None:
        super().__init__(wraps=True)
        self._code: list[str] | None = None  # the lines of a block of code so far
        self._marks = self._language = ""  # of its fence
        self._begin()

    def put(self, text: str) -> None:
        """Print a piece; the blocks that it completes are drawn."""
        for piece in terminal.printable(text).expandtabs(4).splitlines(keepends=True):
            self._raw(piece.removesuffix("\n"))
            if piece.endswith("\n"):
                self._complete()

    def remark(self, text: str) -> None:
        """Print a piece that is not the answer's; it stays as it is."""
        self.end()
        super().remark(text)

    def end(self) -> None:
        """Draw what is left."""
        if self._code is not None:
            self._draw_code()
        else:
            self._draw()
        self._begin()

    # ---- lines

    def _begin(self) -> None:
        """A new block begins here, at the left edge."""
        self._block: list[str] = []  # its complete lines
        self._line = ""
        self._rows = self._rows_before = 0  # on the screen above the cursor, and above its line
        self._size = os.get_terminal_size(sys.stdout.fileno())

    def _raw(self, text: str) -> None:
        """Write a part of a line as it is."""
        self._line += text
        if self._code is not None:  # the terminal breaks it
            self._rows = max(terminal.width(self._line) - 1, 0) // max(self._size.columns, 1)
            return self._write(text)
        shown = self._wrap(text)
        self._rows += shown.count("\n")
        self._write(shown)

    def _complete(self) -> None:
        """Follow a complete line, and write its line break."""
        line = self._line
        if self._code is not None:
            if markdown.closes(line, self._marks):
                self._replace([dim(line)])
                self._code = None
            else:
                self._draw_code()
                self._code.append(line)
            return self._next_block()
        if self._block and markdown.begins_block(line, self._block):
            self._draw_before()
        if opened := markdown.fence(line):
            self._marks, self._language = opened
            self._code = []
            self._replace([dim(line)])
            return self._next_block()
        if markdown.ends_block(line):
            self._draw()
            return self._next_block()
        self._block.append(line)
        self._line = ""
        self._rows += 1
        self._rows_before = self._rows
        self._write(self._wrap("\n"))

    def _next_block(self) -> None:
        self._write(self._wrap("\n"))
        self._begin()

    # ---- blocks

    def _draw(self) -> None:
        """Draw the block with the line that is its last."""
        if lines := self._drawn([*self._block, self._line]):
            self._replace(lines if self._line.strip() else [*lines, ""])

    def _draw_before(self) -> None:
        """Draw the block that the current line is not part of; that line becomes the first of a block."""
        line, rows = self._line, self._rows - self._rows_before
        lines = self._drawn(self._block)
        if lines and self._replace([*lines, ""]):
            self._begin()
            return self._raw(line)
        self._begin()
        self._line, self._rows = line, rows

    def _drawn(self, lines: list[str]) -> list[str] | None:
        columns = max(self._size.columns - _MARGIN, _NARROWEST - _MARGIN)
        return markdown.block(lines, columns) if any(each.strip() for each in lines) else None

    def _draw_code(self) -> None:
        """Draw a line of code."""
        assert self._code is not None
        drawn = markdown.code(self._line, self._code, self._language)
        if drawn is not None:
            self._replace([drawn])

    def _replace(self, lines: list[str]) -> bool:
        """Draw lines over the block's raw text; returns False if the window was resized or is too low for it."""
        now = os.get_terminal_size(sys.stdout.fileno())
        if now != self._size or self._rows >= now.lines - 1:
            return False
        up = f"\x1b[{self._rows}A" if self._rows else ""
        self._write(f"\r{up}\x1b[J" + "\n".join(lines))
        self._wrap = _wrapping()
        return True


def _wrapping() -> Callable[[str], str]:
    return terminal.Wrap(terminal.columns).feed

"""Texts in columns side by side, that grow while they are shown.

A row is final when no column can change it any more: it is printed once and scrolls away as any line. The rows behind it are drawn
over and over, at most as many as the window has. So a long answer is in the scrollback as a whole, and nothing is drawn twice there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import terminal

_BETWEEN = " │ "


class Board:
    """Columns on stdout, in a terminal of ``room`` cells."""

    def __init__(self, room: int, number: int) -> None:
        self.width = max((room - len(_BETWEEN) * (number - 1) - 1) // number, 10)
        self._final = 0  # rows that are printed for good
        self._drawn = 0  # rows below them, which are drawn anew

    def row(self, cells: Sequence[str]) -> None:
        """Print a row of cells that are `padded`."""
        sys.stdout.write(between().join(cells).rstrip() + "\n")
        sys.stdout.flush()

    def draw(self, columns: Sequence[Sequence[str]], ended: Sequence[bool], height: int) -> None:
        """Draw the columns as they are now, in a window of ``height`` lines."""
        final = final_rows(columns, ended)
        last = max(map(len, columns), default=0)
        until = min(last, max(final, self._final) + height - 1)
        back = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        rows = [self._row(columns, index) for index in range(self._final, until)]
        sys.stdout.write(back + "".join(f"{row}\n" for row in rows))
        sys.stdout.flush()
        self._final, self._drawn = max(final, self._final), until - max(final, self._final)

    def _row(self, columns: Sequence[Sequence[str]], index: int) -> str:
        cells = (column[index] if index < len(column) else "" for column in columns)
        return between().join(padded(cell, self.width) for cell in cells).rstrip()


def final_rows(columns: Sequence[Sequence[str]], ended: Sequence[bool]) -> int:
    """How many rows no column changes any more: of one that grows the last line may."""
    growing = [max(len(lines) - 1, 0) for lines, end in zip(columns, ended, strict=True) if not end]
    return min(growing) if growing else max(map(len, columns), default=0)


def between() -> str:
    """What stands between two columns."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return _BETWEEN if utf8 else " | "


def padded(text: str, width: int) -> str:
    """A text, cut or filled to exactly so many cells."""
    kept, used = "", 0
    for character in terminal.printable(text):
        cells = terminal.width(character)
        if used + cells > width:
            break
        kept, used = kept + character, used + cells
    return kept + " " * (width - used)


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most so many cells, broken at words; a longer word is broken where it must. What is appended to the
    text changes no line but the last."""
    lines = []
    for line in text.split("\n"):
        while terminal.width(line) > width:
            end = _end(line, width)
            lines.append(line[:end].rstrip(" "))
            line = line[end:].lstrip(" ")
        lines.append(line)
    return lines


def _end(line: str, width: int) -> int:
    """How many characters of a line that is too long stay in it, at least one."""
    used = 0
    for index, character in enumerate(line):
        used += terminal.width(character)
        if used > width:
            space = line.rfind(" ", 0, index + 1)
            return space if line[:space].strip() and space > 0 else max(index, 1)
    return len(line)

"""docs/first-session.svg: a session with the real program, in a terminal emulator, as a picture.

    a shell in a pseudo-terminal --bytes--> pyte's screen --cells--> SVG

What is typed stands in SESSION; a seed makes the story the same each time on one kind of machine. The picture moves in viewers that
can: a row appears some time after the row above, later after a row that is typed. Other viewers show its end.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import pyte

from tests.cli.conftest import free_ports
from tests.docs.workshop import command
from tests.served import PATIENCE, ROOT, environment

PICTURE = ROOT / "docs" / "first-session.svg"

COLUMNS, ROWS = 92, 60
SHELL, CHAT = "$", ">>>"

SESSION = (
    (SHELL, "ollamapy run tinystories"),
    (CHAT, "/set parameter seed 3"),
    (CHAT, "Once upon a time"),
    (CHAT, "/bye"),
    (SHELL, "ollamapy ps"),
)
"""What is typed, each line after its prompt has come."""


# ---- the session -----------------------------------------------------------------------------------------------------


class _Screen(pyte.Screen):
    """A screen that answers what a program asks of its terminal."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(COLUMNS, ROWS)
        self._descriptor = descriptor

    def write_process_input(self, data: str) -> None:
        os.write(self._descriptor, data.encode())


def recorded(variables: Mapping[str, str], folder: Path) -> pyte.Screen:
    """The screen after SESSION was typed into a shell with this environment. AssertionError if a prompt does not come."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    shell = subprocess.Popen(
        ["bash", "--norc", "--noprofile"],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=folder,
        env={**variables, "PS1": f"{SHELL} ", "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(child)
    screen = _Screen(parent)
    stream = pyte.ByteStream(screen)
    try:
        above = -1
        for prompt, line in SESSION:
            above = _await(parent, stream, screen, prompt, above)
            os.write(parent, f"{line}\r".encode())
        _await(parent, stream, screen, SHELL, above)
    finally:
        shell.kill()
        shell.wait()
        os.close(parent)
    return screen


def _await(
    descriptor: int, stream: pyte.ByteStream, screen: pyte.Screen, prompt: str, above: int
) -> int:
    """Read until the cursor stands behind a prompt below a row; the prompt's row."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        row = screen.cursor.y
        if row > above and screen.display[row].startswith(prompt) and _is_empty(screen, prompt):
            return row
        if select.select([descriptor], [], [], 1.0)[0]:
            stream.feed(os.read(descriptor, 65536))
    raise AssertionError(f"no {prompt!r} came:\n" + "\n".join(screen.display))


def _is_empty(screen: pyte.Screen, prompt: str) -> bool:
    return bool(screen.cursor.x == len(prompt) + 1)


# ---- the picture -----------------------------------------------------------------------------------------------------

Cell = Any
"""A cell of pyte: its character is ``data``, its colour ``fg``, and it may be ``bold``."""


class Row(NamedTuple):
    """A row of the picture: runs of text of one look, and whether it was typed."""

    runs: tuple[tuple[str, str, bool], ...]
    is_typed: bool


_COLOURS = {
    "default": "#d7dae0", "black": "#5c6370", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#ffffff",
    "brightblack": "#7f848e",
}  # fmt: skip
_SPACE = "\N{NO-BREAK SPACE}"  # others are joined
_PROMPTS = tuple(f"{prompt} {line}" for prompt, line in SESSION)
_WIDTH, _HEIGHT, _MARGIN, _SIZE = 8.4, 18, 16, 14
_TYPED_SECONDS, _ROW_SECONDS = 1.2, 0.12


def rows(screen: pyte.Screen) -> list[Row]:
    """The rows of a screen down to the last that is not empty, without the last prompt."""
    found = [_row(screen, number) for number in range(screen.lines)]
    while found and not "".join(text for text, _, _ in found[-1].runs).strip(f"{SHELL} "):
        found.pop()
    return found


def _row(screen: pyte.Screen, number: int) -> Row:
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    while cells and cells[-1].data == " ":
        cells.pop()
    text = "".join(cell.data for cell in cells)
    if text.startswith(_PROMPTS):
        prompt, _, typed = text.partition(" ")
        return Row(
            ((f"{prompt} ", _COLOURS["green"], False), (typed, _COLOURS["white"], True)), True
        )
    runs = tuple(
        ("".join(cell.data for cell in run), colour, bold)
        for (colour, bold), run in groupby(cells, key=_look)
    )
    return Row(runs, False)


def _look(cell: Cell) -> tuple[str, bool]:
    colour = str(cell.fg)
    return _COLOURS.get(
        colour, f"#{colour}" if len(colour) == 6 else _COLOURS["default"]
    ), cell.bold


def svg(picture: list[Row]) -> str:
    """The picture of some rows."""
    width = round(COLUMNS * _WIDTH + 2 * _MARGIN)
    height = len(picture) * _HEIGHT + 2 * _MARGIN + _HEIGHT
    head = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<title>A first session with ollamapy</title>
<style>
text {{ font: {_SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
.b {{ font-weight: bold }}
@keyframes appear {{ from {{ opacity: 0 }} }}
@media (prefers-reduced-motion: no-preference) {{ g {{ animation: appear 1ms both }} }}
</style>
<rect width="100%" height="100%" rx="8" fill="#282c34"/>
<circle cx="20" cy="16" r="5" fill="#e06c75"/><circle cx="38" cy="16" r="5" fill="#e5c07b"/><circle cx="56" cy="16" r="5" fill="#98c379"/>
"""
    return head + "".join(_groups(picture)) + "</svg>\n"


def _groups(picture: list[Row]) -> Iterator[str]:
    """A group for each row that is not empty: where it stands and when it appears."""
    seconds = 0.0
    for number, row in enumerate(picture):
        seconds += _TYPED_SECONDS if row.is_typed else _ROW_SECONDS
        if row.runs:
            y = (number + 1) * _HEIGHT + 2 * _MARGIN
            yield f'<g style="animation-delay:{seconds:.2f}s">{"".join(_texts(row, y))}</g>\n'


def _texts(row: Row, y: float) -> Iterator[str]:
    column = 0
    for text, colour, bold in row.runs:
        if text.strip():
            x, length = _MARGIN + column * _WIDTH, len(text) * _WIDTH
            weight = ' class="b"' if bold else ""
            yield (
                f'<text x="{x:.1f}" y="{y}" fill="{colour}"{weight} textLength="{length:.1f}"'
                f' lengthAdjust="spacingAndGlyphs">{escape(text).replace(" ", _SPACE)}</text>'
            )
        column += len(text)


# ---- both ------------------------------------------------------------------------------------------------------------


def session(folder: Path) -> list[Row]:
    """Record SESSION in an empty folder, with a home and a daemon of its own."""
    [port] = free_ports(1)
    variables = environment(folder / "home", HOST=f"127.0.0.1:{port}")
    variables["PATH"] = f"{command(folder)}:{variables['PATH']}"
    variables.pop("NO_COLOR", None)
    subprocess.run(
        ["ollamapy", "daemon", "start"], env=variables, check=True, stdout=subprocess.DEVNULL
    )
    try:
        return rows(recorded(variables, folder))
    finally:
        subprocess.run(["ollamapy", "daemon", "stop"], env=variables, stdout=subprocess.DEVNULL)


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_text(svg(session(Path(folder))))


if __name__ == "__main__":
    main()

"""What people look at on a terminal, drawn by rich: tables, errors, and any renderable as text that is safe to write.

Only for a standard output that is a terminal: elsewhere nothing here runs, and rich is not imported (80 ms). All text of others
goes through one gate, `drawn`: control characters and links to click on do not pass it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from ..config import environment
from ..human import one_line
from . import terminal

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"markdown.code": "cyan", "markdown.link_url": "blue", "markdown.table.header": "bold"}
"""Where rich's own would put a black box on a bright terminal."""

_SHORT = 12
"""Cells of a text that is not broken into lines: a size, an identifier."""

_ESCAPE = re.compile(r"\x1b\[[\d;]*m")


def console_for(stream: TextIO, columns: int | None) -> Console:
    """A console for a stream that is a terminal, of so many columns (None: as it has)."""
    from rich.console import Console
    from rich.theme import Theme

    return Console(
        theme=Theme(_STYLES),
        file=stream,
        force_terminal=terminal.has_cursor(stream),
        no_color=not terminal.has_colour(stream),
        width=columns and max(columns, 1),
        highlight=False,
        markup=False,
        emoji=False,
        _environ={k: v for k, v in environment().items() if k not in ("COLUMNS", "LINES")},
    )


class _Safe:
    """A renderable without control characters and without links."""

    def __init__(self, renderable: Any) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Any, options: Any) -> Iterable[Any]:
        from rich.segment import Segment

        for segment in console.render(self._renderable, options):
            style = segment.style.update_link(None) if segment.style else None
            yield Segment(terminal.printable(segment.text), style)


def drawn(renderable: Any, columns: int, stream: TextIO | None = None) -> list[str]:
    """The lines of a renderable, without empty ones around it, with the escape sequences for its styles and no others."""
    console = console_for(stream or sys.stdout, columns)
    with console.capture() as capture:
        console.print(_Safe(renderable), end="")
    lines = [line.rstrip() for line in capture.get().split("\n")]
    seen = [index for index, line in enumerate(lines) if _ESCAPE.sub("", line).strip()]
    return lines[seen[0] : seen[-1] + 1] if seen else []


# Tables


class Table(NamedTuple):
    """A table as it is before it is laid out. ``ends_in_prose``: the last column is sentences."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    ends_in_prose: bool = False

    @property
    def plain(self) -> str:
        """For programs: as Ollama prints it, to the byte."""
        return terminal.table(self.header, self.rows)


class Card(NamedTuple):
    """Sections with a title each, whose rows begin with an empty cell."""

    sections: Sequence[tuple[str, Sequence[Sequence[str]]]]

    @property
    def plain(self) -> str:
        """For programs: as Ollama prints it, to the byte."""
        return "".join(f"  {title}\n{terminal.table((), rows)}\n" for title, rows in self.sections)


def shown(what: Table | Card) -> str:
    """A table or a card for stdout: coloured and as wide as the terminal, or plain."""
    if not sys.stdout.isatty():
        return what.plain
    columns = terminal.columns()
    if isinstance(what, Table):
        return "".join(f"{line}\n" for line in _laid_out(what, columns))
    lines = []
    for title, rows in what.sections:
        lines += [*_title(title, columns), *_rows(rows, columns), ""]
    return "".join(f"{line}\n" for line in lines)


def _title(title: str, columns: int) -> list[str]:
    from rich.padding import Padding
    from rich.text import Text

    return drawn(Padding(Text(one_line(title), "bold"), (0, 0, 0, 2)), columns)


def _rows(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """The rows of a section; of several columns the first names the others."""
    from rich.padding import Padding
    from rich.table import Table as Grid
    from rich.text import Text

    most = max(map(len, rows)) - 1
    grid = Grid.grid(padding=(0, 4 if columns >= 80 else 2, 0, 0))
    for index in range(most):
        names = index == 0 and most > 1
        grid.add_column(
            overflow="fold", style="cyan" if names else "", no_wrap=names and columns >= 60
        )
    for row in rows:
        grid.add_row(*(Text(one_line(cell)) for cell in row[1:]))
    return drawn(Padding(grid, (0, 0, 0, 4)), columns)


def _laid_out(table: Table, columns: int) -> list[str]:
    """The lines of a table for so many columns: the gaps shrink first, then the widest columns, in which cells are folded. Prose
    in the last column then stands below its row."""
    rows = [[one_line(cell) for cell in cells] for cells in table.rows]
    natural = _widest([table.header, *rows], terminal.width)
    least = _widest([table.header, *rows], _least)
    gap = 4
    if sum(natural) + gap * (len(natural) - 1) > columns:
        gap = 2
        if table.ends_in_prose and len(natural) > 1:
            natural = natural[:-1]
    widths = fitted(natural, least, columns - gap * (len(natural) - 1))
    below = len(natural) < len(table.header)
    lines = _row(table.header[: len(widths)], widths, gap, "bold", "bold")
    for cells in rows:
        lines += _row(cells[: len(widths)], widths, gap, "cyan", "")
        if below and cells[-1]:
            lines += _row([cells[-1]], [max(columns - 2, 1)], 0, "dim", "", indent=2)
    return lines


def _widest(rows: Sequence[Sequence[str]], width: Callable[[str], int]) -> list[int]:
    return [max(map(width, cells)) for cells in zip(*rows, strict=True)]


def _least(text: str) -> int:
    """The width down to which a cell looks well: a short one in one line, a longer one in two, no word broken."""
    width = terminal.width(text)
    return width if width <= _SHORT else max(width * 2 // 3 + 2, *map(terminal.width, text.split()))


def fitted(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths of columns for so many cells together: the widest gives, down to its ``least`` as long as one is above that."""
    widths = list(natural)
    while sum(widths) > max(room, len(widths)):
        slack = [width if width > low else 0 for width, low in zip(widths, least, strict=False)]
        giving = slack if any(slack) else widths
        widths[giving.index(max(giving))] -= 1
    return widths


def _row(
    cells: Sequence[str], widths: Sequence[int], gap: int, first: str, rest: str, indent: int = 0
) -> list[str]:
    """The lines of one row, whose first cell has a style and the others another."""
    from rich.padding import Padding
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid.grid(padding=(0, gap, 0, 0))
    for index, width in enumerate(widths):
        grid.add_column(width=width, overflow="fold", style=rest if index else first)
    grid.add_row(*map(Text, cells))
    return drawn(Padding(grid, (0, 0, 0, indent)), sum(widths) + gap * len(widths) + indent) or [""]


# Errors

_WAY_OUT = re.compile(
    r"(?:, | \(|: |; )(?=(?:see|try|installed|one of|did you mean|start|restart|choose|set|use|name|write|leave|end it|replace|"
    r"correct|allow|continue with|update|remove|rename|give)\b)"
)
"""Where the house's errors go over from what failed to the way out."""


def parts(message: str) -> tuple[str, str]:
    """What failed, and the way out ("" = the message names none)."""
    found = _WAY_OUT.search(message)
    if not found:
        return message, ""
    way_out = message[found.end() :]
    if found[0] == " (" and ")" in way_out:
        inside, _, rest = way_out.partition(")")
        way_out = inside + rest
    return message[: found.start()], way_out


def error(message: str) -> str:
    """An error's lines for a terminal: what failed, then the way out, which stands apart."""
    from rich.padding import Padding
    from rich.text import Text

    what, way_out = parts(one_line(message))
    columns = terminal.columns()
    lines = drawn(Text.assemble(("Error:", "bold red"), f" {what}"), columns, sys.stderr)
    if way_out:
        lines += drawn(Padding(Text(way_out, "cyan"), (0, 0, 0, 2)), columns, sys.stderr)
    return "".join(f"{line}\n" for line in lines)


def complain(message: str) -> None:
    """Print an error on stderr: on a terminal drawn, else in one line."""
    message = " ".join(message.split())
    if sys.stdout.isatty() and sys.stderr.isatty():
        sys.stderr.write(error(message))
        sys.stderr.flush()
    else:
        terminal.remark(f"Error: {message}")

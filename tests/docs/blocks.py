"""The code blocks of the documentation: where they stand, what kind they are, and which a test does not run.

A block's kind is the first word after its fence:

    sh        run by bash, one block after another of a page in the same folder
    python    run by this Python
    console   a session: its lines after "$ " are run by bash, what they print is compared with the lines that follow
    modelfile, yaml, json, ini, text    data, read by the parser of what they are

A comment before the fence changes that: ``<!-- server -->``, a command that runs until it is ended; ``<!-- not run: REASON -->``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.served import ROOT

KINDS = {"sh", "python", "console", "modelfile", "yaml", "json", "ini", "text"}
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "library" / "README.md",
]
"""What is read by users and contributors; every block of these is of a known kind."""

_MARK = re.compile(r"<!-- (server|not run: (.+)) -->")
_FENCE = re.compile(r" *(```+)(\w*)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: ``line`` is that of its fence, from 1; ``not_run`` the reason why no test runs it."""

    page: Path
    line: int
    kind: str
    code: str
    is_server: bool = False
    not_run: str = ""

    @property
    def place(self) -> str:
        """As an editor opens it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page. ValueError for one that does not end."""
    lines = page.read_text().splitlines(keepends=True)
    number = 0
    mark: re.Match[str] | None = None
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        fence = _FENCE.fullmatch(line)
        if not fence:
            mark = _MARK.fullmatch(line.strip()) or (mark if not line.strip() else None)
            continue
        while number < len(lines) and lines[number].strip() != fence[1]:
            number += 1
        if number == len(lines):
            raise ValueError(f"{page}:{start + 1}: a block that does not end")
        code = "".join(lines[start + 1 : number])
        is_server = bool(mark and mark[1] == "server")
        yield Block(page, start + 1, fence[2], code, is_server, (mark and mark[2]) or "")
        mark = None
        number += 1


def prose(page: Path) -> str:
    """A page without its blocks; empty lines stand in their place."""
    lines = page.read_text().splitlines()
    for block in blocks(page):
        length = block.code.count("\n") + 2
        lines[block.line - 1 : block.line - 1 + length] = [""] * length
    return "\n".join(lines)

"""The HTML of an answer, block by block, while it is written or once it is stored.

A block (a paragraph, a list, a table, a fence of code) is final when the next one has begun in a complete line: Markdown never
opens a block again. Final blocks are rendered once; the last one is rendered each time that it is asked for.

    "# A\n\nSome te"     ->  block 0 final: <h3>A</h3>    block 1: <p>Some te</p>
    "xt\n\n- x"          ->                               block 1 final: <p>Some text</p>    block 2: <ul>...

What a model writes is bounded: a block that is too long or takes too long is shown as the text that it is, in pieces, and so is
all that follows MOST_RENDERED characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import render

MOST_BLOCK = 64_000
"""Characters of a block that is rendered."""
MOST_RENDERED = 300_000
"""Characters of a text that is rendered."""
MOST_FAILED = 4
"""Blocks that take too long, before the rest of a text is shown as it is."""
BLOCK_SECONDS = 0.5
"""The time for a block."""

_PIECE = (
    16_000  # characters of a piece of what is too long: a browser lays out only those that it shows
)
_FENCE = re.compile(r" {0,3}(`{3,20}|~{3,20})[^`\n]{0,100}\n")


@dataclass(frozen=True, slots=True)
class Block:
    """The HTML of the block with this index; ``final``: it will not change."""

    index: int
    html: str
    final: bool


class Markdown:
    """The blocks of a text that grows. Not for several threads at once."""

    def __init__(self) -> None:
        self._fresh: list[str] = []
        self._open = ""  # the text from the first block that is not final
        self._env = render.environment()
        self._n_final = 0
        self._n_rendered = 0  # characters of final blocks
        self._n_failed = 0
        self._coloured: dict[str, tuple[str, str]] = {}  # the code that is being written

    @property
    def is_fresh(self) -> bool:
        """Was text fed since the blocks were last asked for?"""
        return bool(self._fresh)

    def feed(self, text: str) -> None:
        """Append text."""
        if text:
            self._fresh.append(text)

    def blocks(self) -> list[Block]:
        """The blocks that have become final since the last call, and the open one. Takes up to some seconds."""
        self._take()
        found = list(self._finals())
        env = {**self._env, "levels": [*self._env["levels"]], "coloured": self._coloured}
        htmls = self._htmls(self._open, env)
        return found + [
            Block(self._n_final + index, html, False) for index, html in enumerate(htmls)
        ]

    def finish(self) -> list[Block]:
        """The remaining blocks, all of them final: the text has ended."""
        self._take()
        if not self._open.endswith("\n"):
            self._open += "\n"  # its last line is complete
        found = list(self._finals())
        rest, self._open = self._open, ""
        return [*found, *self._final(rest)]

    def _take(self) -> None:
        fresh = "".join(self._fresh)
        self._fresh.clear()
        # half of a surrogate pair cannot be sent
        self._open += fresh.encode("utf-8", "replace").decode().replace("\r\n", "\n")

    def _finals(self) -> Iterator[Block]:
        """Make those blocks final that are, and cut what is too long."""
        while True:
            cuts = self._cuts()
            if len(cuts) > 1:
                for start, end in zip(cuts, cuts[1:], strict=False):
                    yield from self._final(self._open[start:end])
                self._open = self._open[cuts[-1] :]
            elif len(self._open) > (MOST_BLOCK if self._is_rendered else _PIECE):
                piece, self._open = _first_piece(self._open)
                yield from self._final(piece, is_plain=not _FENCE.match(piece))
            else:
                return

    @property
    def _is_rendered(self) -> bool:
        return self._n_rendered <= MOST_RENDERED and self._n_failed < MOST_FAILED

    def _cuts(self) -> list[int]:
        """Where the blocks begin in the complete lines of the open text, as far as it is looked at."""
        complete = self._open[: self._open.rfind("\n", 0, MOST_BLOCK) + 1]
        if not self._is_rendered:
            return []
        try:
            lines = render.starts(complete, self._env, BLOCK_SECONDS)
        except (render.TooSlow, RecursionError):
            self._n_failed += 1
            return []
        offsets = [0, *(match.end() for match in re.finditer("\n", complete))]
        return [offsets[line] for line in lines]

    def _final(self, text: str, *, is_plain: bool = False) -> Iterator[Block]:
        htmls = _plain(text) if is_plain else self._htmls(text, self._env)
        self._n_rendered += len(text)
        for html in htmls:
            yield Block(self._n_final, html, True)
            self._n_final += 1

    def _htmls(self, text: str, env: render.Environment) -> list[str]:
        """The HTML of a block: of one that cannot be rendered, its text in pieces; of nothing, nothing."""
        if not self._is_rendered:
            return _plain(text)
        try:
            html = render.render(text, env, BLOCK_SECONDS).strip()
        except (render.TooSlow, RecursionError):
            self._n_failed += 1
            return _plain(text)
        return [html] if html else []


def rendered(text: str) -> list[str]:
    """The HTML of the blocks of a complete text."""
    markdown = Markdown()
    markdown.feed(text)
    return [block.html for block in markdown.finish()]


def _plain(text: str) -> list[str]:
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    return [render.plain(piece) for piece in pieces if piece.strip()]


def _first_piece(text: str) -> tuple[str, str]:
    """The first piece of a block that is too long, and the rest, which in a fence begins with its first line again."""
    fence = _FENCE.match(text)
    opening = fence[0] if fence else ""
    cut = text.rfind("\n", len(opening), _PIECE) + 1 or _PIECE
    return text[:cut], opening + text[cut:]

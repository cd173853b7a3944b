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
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from . import render

if TYPE_CHECKING:
    from markdown_it.token import Token

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
_LINE_END = re.compile(r"\r\n?")
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
        self._returned = False  # the text so far ends in what may be half of a line's end
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
        env = {name: copy(value) for name, value in self._env.items()}  # its last line may go on
        htmls = self._htmls(self._open, {**env, "coloured": self._coloured})
        return found + [
            Block(self._n_final + index, html, False) for index, html in enumerate(htmls)
        ]

    def finish(self) -> list[Block]:
        """The remaining blocks, all of them final: the text has ended."""
        self._take()
        if not self._open.endswith("\n"):
            self._open += "\n"  # its last line is complete
        found = list(self._finals(ends=True))
        rest, self._open = self._open, ""
        return [*found, *self._final(rest)]

    def _take(self) -> None:
        fresh = "".join(self._fresh)
        self._fresh.clear()
        if fresh and self._returned:
            fresh = fresh.removeprefix("\n")  # the other half of a line's end
        self._returned = fresh.endswith("\r") or (self._returned and not fresh)
        # half of a surrogate pair cannot be sent
        fresh = fresh.encode("utf-8", "replace").decode()
        self._open += _LINE_END.sub("\n", fresh).replace("\0", "\ufffd")

    def _finals(self, *, ends: bool = False) -> Iterator[Block]:
        """Make those blocks final that are, all of them where the text ends, and cut what is too long."""
        while self._open:
            end = self._open.rfind("\n", 0, MOST_BLOCK) + 1
            blocks = self._parsed(self._open[:end])
            lines = [0, *(match.end() for match in re.finditer("\n", self._open[:end]))]
            starts = [lines[block.line] for block in blocks]
            if ends and blocks and end == len(self._open):
                starts.append(end)
            for block, (start, stop) in zip(blocks, pairwise(starts), strict=False):
                yield from self._final(self._open[start:stop], block.tokens)
            is_seen = self._open.find("\n", end) < 0  # all complete lines were looked at
            if len(starts) > 1:
                self._open = self._open[starts[-1] :]
            most = MOST_BLOCK if self._is_rendered else _PIECE
            if len(self._open) > most and (is_seen or len(starts) < 2):
                piece, self._open = _first_piece(self._open)
                yield from self._final(piece, is_plain=not _FENCE.match(piece))
            elif is_seen:
                return

    @property
    def _is_rendered(self) -> bool:
        return self._n_rendered <= MOST_RENDERED and self._n_failed < MOST_FAILED

    def _parsed(self, text: str) -> list[render.Parsed]:
        """The blocks of complete lines; none where they are not to be rendered, or take too long."""
        if not self._is_rendered:
            return []
        try:
            return render.parse(text, self._env, BLOCK_SECONDS)
        except (render.TooSlow, RecursionError):
            self._n_failed += 1
            return []

    def _final(
        self, text: str, tokens: list[Token] | None = None, *, is_plain: bool = False
    ) -> Iterator[Block]:
        htmls = _plain(text) if is_plain else self._htmls(text, self._env, tokens)
        self._n_rendered += len(text)
        for html in htmls:
            yield Block(self._n_final, html, True)
            self._n_final += 1

    def _htmls(
        self, text: str, env: render.Environment, tokens: list[Token] | None = None
    ) -> list[str]:
        """The HTML of a block, which may be parsed already: of one that cannot be rendered, its text in pieces; of nothing,
        nothing."""
        if not self._is_rendered:
            return _plain(text)
        try:
            if tokens is None:
                parsed = render.parse(text, env, BLOCK_SECONDS)
                tokens = [token for block in parsed for token in block.tokens]
            html = render.render(tokens, env, BLOCK_SECONDS).strip()
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

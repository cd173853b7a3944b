"""Saved prefixes: what of earlier prompts is kept beside the slots, as a tree of blocks of tokens.

    root -- [ 256 tokens ] -- [ 256 tokens ] -- [ 90 tokens ]        rows: the cells of the layers that see everything
                          \\-- [ 256 tokens ] -- ...
                                            \\-- (17 tokens)          end: the partial state after exactly these tokens

A block is named by a hash of its tokens and of the name of the block before it; the root is a hash of everything that changes a
state (:func:`root_of`). A prompt takes the longest path whose tokens are its own, compared token by token; the last block in
part. A model that cannot rewind needs an end on that path as well, and one whose whole state is recurrent needs nothing else.

A block is in memory, in a file, or both. Here is the index, and the blocks in memory within a budget: pure, but for a lock, because
the engine's thread looks up what other threads add. Files are read and written elsewhere (``runner/disk.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from ..digests import keyed_sum, sha256_hex
from ..prefix import common_prefix
from .checkpoints import packed

BLOCK = 256
"""Tokens of a block but for the last of a prompt."""

Kind = Literal["rows", "end"]


def root_of(parts: Iterable[str]) -> bytes:
    """The name of the root for everything that changes a state, in order."""
    encoded = [part.encode() for part in parts]
    return bytes.fromhex(sha256_hex(b"".join(len(e).to_bytes(4, "little") + e for e in encoded)))


@dataclass(slots=True, eq=False)
class Block:
    """``tokens`` (packed) after ``before`` tokens of the block named ``parent``; ``body`` is None where it is in a file only.

    ``used`` counts the uses of the tree.
    """

    name: bytes
    parent: bytes
    before: int
    tokens: bytes
    kind: Kind
    size: int
    body: bytes | None = None
    in_file: bool = False
    used: int = 0

    @property
    def n(self) -> int:
        """Its tokens."""
        return len(self.tokens) // 4

    def holding(self, body: bytes) -> Block:
        """The same block in memory."""
        return replace(self, body=body)

    def filed(self) -> Block:
        """The same block in a file."""
        return replace(self, body=None, in_file=True)


class Match(NamedTuple):
    """The first ``n`` tokens of a prompt: rows as (block, tokens taken), and the end that goes with them."""

    n: int
    rows: tuple[tuple[Block, int], ...] = ()
    end: Block | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All of them."""
        found = tuple(block for block, _ in self.rows)
        return (*found, self.end) if self.end is not None else found

    @property
    def missing(self) -> tuple[Block, ...]:
        """Those that are not in memory."""
        return tuple(block for block in self.blocks if block.body is None)


def name_of(parent: bytes, tokens: bytes, kind: Kind) -> bytes:
    """The name of a block."""
    return keyed_sum(parent + kind.encode() + tokens)


@dataclass(slots=True)
class Saved:
    """The tree of one model and its settings. ``needs_end``: the model cannot rewind; ``has_rows``: not all of its state is in ends.

    ``budget``: bytes of the blocks in memory. Safe for threads.
    """

    root: bytes
    budget: int
    needs_end: bool = False
    has_rows: bool = True
    size: int = 0
    _blocks: dict[bytes, Block] = field(default_factory=dict)
    _children: dict[bytes, list[Block]] = field(default_factory=dict)
    _uses: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __len__(self) -> int:
        return len(self._blocks)

    # ---- looking up ------------------------------------------------------------------------------------------------

    def match(self, tokens: Sequence[int], salt: bytes = b"", *, in_memory: bool = False) -> Match:
        """The longest prefix of ``tokens``, but for the last one; ``in_memory``: of blocks that are there.

        ``salt``: prompts of another salt have a tree of their own.
        """
        if not self._blocks:
            return Match(0)
        given = packed(tokens[:-1])
        with self._lock:
            path, ends = self._path(given, salted(self.root, salt), in_memory)
        n = sum(take for _, take in path)
        if not self.needs_end:
            return Match(n, tuple(path))
        most = n if self.has_rows else len(given) // 4
        end = max(
            (e for e in ends if e.before + e.n <= most), key=lambda e: e.before + e.n, default=None
        )
        if end is None:
            return Match(0)
        return Match(end.before + end.n, _first(path, end.before + end.n), end)

    def _path(
        self, given: bytes, node: bytes, in_memory: bool
    ) -> tuple[list[tuple[Block, int]], list[Block]]:
        """The rows along a prompt, each with how many of its tokens are the prompt's, and the ends beside it."""
        path: list[tuple[Block, int]] = []
        ends: list[Block] = []
        before = 0
        while True:
            rest = given[4 * before : 4 * (before + BLOCK)]
            here = [b for b in self._children.get(node, ()) if b.body is not None or not in_memory]
            ends += [b for b in here if b.kind == "end" and rest.startswith(b.tokens)]
            best, shared = None, 0
            for block in here:
                if (
                    block.kind == "rows"
                    and (common := common_prefix(block.tokens, rest) // 4) > shared
                ):
                    best, shared = block, common
            if best is not None:
                path.append((best, shared))
            if (best is None or shared < BLOCK) and (self.has_rows or len(rest) < 4 * BLOCK):
                return path, ends
            before += BLOCK
            node = best.name if best is not None else name_of(node, rest, "rows")

    def use(self, match: Match) -> None:
        """Note that blocks were of use; the first ones last, so that they are given up last."""
        with self._lock:
            for block in reversed(match.blocks):
                self._uses += 1
                block.used = self._uses

    # ---- adding ----------------------------------------------------------------------------------------------------

    def wanted(
        self, tokens: Sequence[int], salt: bytes, kind: Kind
    ) -> list[tuple[bytes, int, int]]:
        """What of these tokens is not held yet, as (parent, first token, end): for rows, blocks and the rest after them.

        For an end, where its tokens begin after the last whole block.
        """
        given = packed(tokens)
        node, found = salted(self.root, salt), []
        n = len(tokens)
        with self._lock:
            for first in range(0, n, BLOCK):
                end = min(first + BLOCK, n)
                part = given[4 * first : 4 * end]
                if kind == "rows" and not self._holds(node, part):
                    found.append((node, first, end))
                if end - first == BLOCK:
                    node = name_of(node, part, "rows")
            if kind == "end":
                first = n - n % BLOCK
                if name_of(node, given[4 * first :], "end") not in self._blocks:
                    found.append((node, first, n))
        return found

    def _holds(self, node: bytes, tokens: bytes) -> bool:
        return any(
            b.kind == "rows" and b.tokens.startswith(tokens) for b in self._children.get(node, ())
        )

    def add(self, block: Block) -> list[Block]:
        """Keep a block, in place of those whose tokens it begins with; returns what is given up: these, and what the budget of
        the memory does not bear. A block that is also in a file stays known."""
        with self._lock:
            gone = self._shorter(block)
            for each in gone:
                self._remove(each)
            known = self._blocks.get(block.name)
            if known is not None:
                known.in_file = known.in_file or block.in_file
                self._hold(known, block.body)
            else:
                body, block.body = block.body, None
                self._blocks[block.name] = block
                self._children.setdefault(block.parent, []).append(block)
                self._hold(block, body)
            return gone + self._shrink()

    def _shorter(self, block: Block) -> list[Block]:
        return [
            each
            for each in self._children.get(block.parent, ())
            if block.kind == each.kind == "rows"
            and each.n < block.n
            and block.tokens.startswith(each.tokens)
        ]

    def _hold(self, block: Block, body: bytes | None) -> None:
        if block.body is None and body is not None:
            block.body = body
            self.size += block.size
            self._uses += 1
            block.used = self._uses

    def hold(self, block: Block, body: bytes) -> None:
        """Take the body of a block that was read from its file."""
        with self._lock:
            if block.name in self._blocks:
                self._hold(block, body)
                self._shrink()

    def drop(self, block: Block) -> None:
        """Forget a block, whose file is gone or wrong."""
        with self._lock:
            self._remove(block)

    def clear(self) -> None:
        """Forget all blocks."""
        with self._lock:
            for block in list(self._blocks.values()):
                self._remove(block)

    def _remove(self, block: Block) -> None:
        if self._blocks.pop(block.name, None) is None:
            return
        if block.body is not None:
            self.size -= block.size
            block.body = None
        siblings = self._children[block.parent]
        siblings.remove(block)
        if not siblings:
            del self._children[block.parent]

    def _shrink(self) -> list[Block]:
        """Let go of bodies until the budget holds, those unused for longest first; returns the blocks that are nowhere then."""
        gone: list[Block] = []
        held = (
            sorted((b for b in self._blocks.values() if b.body is not None), key=lambda b: b.used)
            if self.size > self.budget
            else []
        )
        for block in held:
            if self.size <= self.budget:
                break
            if block.in_file:
                block.body = None
                self.size -= block.size
            else:
                self._remove(block)
                gone.append(block)
        return gone


def salted(root: bytes, salt: bytes) -> bytes:
    """The root of the tree for one salt."""
    return keyed_sum(root + salt) if salt else root


def _first(path: Sequence[tuple[Block, int]], n: int) -> tuple[tuple[Block, int], ...]:
    """The path cut to its first ``n`` tokens."""
    found = []
    for block, take in path:
        if n > 0:
            found.append((block, min(take, n)))
        n -= take
    return tuple(found)

"""The bytes of a slot's state as llama.cpp writes them: cut into rows of tokens, and put together for any slot and slot count.

Read from llama.cpp's ``llama_context::state_seq_get_data`` and ``llama_kv_cache::state_write`` (0c1e570, sequence state version 3):

    state     magic u32, sequence i32, then a cache for the layers that see everything, one for those with a window, and the
              recurrent state: those of them that the model has. A partial state has all but the first.
    cache     n_streams u32, then for each stream (one a slot): n_cells u32 and, if that is not 0:
              n_cells x (position i32, 1 u32, sequence i32)
              transposed u32, n_layers u32
              for each layer's keys, then for each layer's values:  type i32, row u64, n_cells x row bytes

A model without values of its own (MLA) has only keys. Values are transposed where there is no flash attention, and cells have more
than that with M-RoPE: such states are not taken apart (:class:`Unfit`). Pure; no byte of a state is changed here.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Buffer = bytes | bytearray | memoryview

MAGIC = struct.pack("<I", 0xAF143CD8)
HEAD = 8
"""Bytes before the first cache: the magic and a sequence that is ignored."""

_MOST_LAYERS = 4096


class Unfit(ValueError):
    """A state that is not of this form."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of a cache are: for the keys of each layer, then for the values, ggml's type and the bytes of a token."""

    n_layers: int
    rows: tuple[tuple[int, int], ...]

    @property
    def token_size(self) -> int:
        """Bytes of a token in all rows."""
        return sum(size for _, size in self.rows)


@dataclass(frozen=True, slots=True)
class Cells:
    """A cache in a state: its ``layout``, and for each row where its data begins; ``runs`` are (position, cell, count) in order
    of positions; ``start`` and ``end`` are its bytes in the state, those of the stream that has cells in ``body``."""

    layout: Layout
    data: tuple[int, ...]
    runs: tuple[tuple[int, int, int], ...]
    n: int
    start: int
    body: tuple[int, int]
    end: int


def parse(state: Buffer, start: int, n_streams: int) -> Cells:
    """The cache that begins at ``start``. Raises Unfit, also where no stream or more than one has cells."""
    try:
        return _parsed(memoryview(state), start, n_streams)
    except struct.error as error:
        raise Unfit(str(error)) from None


def _parsed(state: memoryview, start: int, n_streams: int) -> Cells:
    at = start
    (found,) = struct.unpack_from("<I", state, at)
    if found != n_streams:
        raise Unfit(f"{found} streams instead of {n_streams}")
    at += 4
    cells: Cells | None = None
    for _ in range(n_streams):
        (n,) = struct.unpack_from("<I", state, at)
        if n == 0:
            at += 4
        elif cells is None:
            cells = _stream(state, start, at, n)
            at = cells.end
        else:
            raise Unfit("cells in more than one stream")
    if cells is None:
        raise Unfit("no cells")
    return Cells(cells.layout, cells.data, cells.runs, cells.n, start, cells.body, at)


def _stream(state: memoryview, start: int, at: int, n: int) -> Cells:
    """The cells of one stream, whose count is at ``at``."""
    first = at
    at += 4
    runs = _runs(state[at : at + 12 * n], n)
    at += 12 * n
    transposed, n_layers = struct.unpack_from("<II", state, at)
    if transposed or not 0 < n_layers <= _MOST_LAYERS:
        raise Unfit("transposed values" if transposed else f"{n_layers} layers")
    at += 8
    rows: list[tuple[int, int]] = []
    data: list[int] = []
    for _ in range(2 * n_layers):
        if len(rows) == n_layers and not _is_row(state, at, rows[0]):
            break  # no values
        kind, size = struct.unpack_from("<iQ", state, at)
        at += 12
        if size == 0 or at + n * size > len(state):
            raise Unfit("a row is longer than the state")
        rows.append((kind, size))
        data.append(at)
        at += n * size
    return Cells(Layout(n_layers, tuple(rows)), tuple(data), runs, n, start, (first, at), at)


def _is_row(state: memoryview, at: int, like: tuple[int, int]) -> bool:
    """May the head of a row be here? Its type is one of ggml's, its size is not far from that of others."""
    if at + 12 > len(state):
        return False
    kind, size = struct.unpack_from("<iQ", state, at)
    return bool(0 <= kind < 256 and 0 < size <= 1024 * like[1])


def _runs(meta: memoryview, n: int) -> tuple[tuple[int, int, int], ...]:
    """Cells that follow each other, by position: (position, cell, count). Every cell has one sequence, no position comes twice."""
    numbers = array("i")
    if len(meta) != 12 * n:
        raise Unfit("the state ends within its cells")
    numbers.frombytes(meta)
    positions = numbers[0::3]
    if numbers[1::3].count(1) != n or min(positions) < 0:
        raise Unfit("cells of another form")
    cuts = [0, *(i for i in range(1, n) if positions[i] != positions[i - 1] + 1), n]
    runs = sorted((positions[a], a, b - a) for a, b in pairwise(cuts))
    if any(a[0] + a[2] > b[0] for a, b in pairwise(runs)):
        raise Unfit("a position comes twice")
    return tuple(runs)


def holds(cells: Cells, n: int) -> bool:
    """Has it the positions 0 to n - 1, all of them?"""
    at = 0
    for position, _, count in cells.runs:
        if position != at:
            break
        at += count
    return at >= n


def cut(state: Buffer, cells: Cells, first: int, end: int) -> bytes:
    """The rows of the tokens ``first`` to ``end``, layer after layer, from a cache that holds them."""
    view, parts = memoryview(state), []
    for (_, size), data in zip(cells.layout.rows, cells.data, strict=True):
        for position, cell, count in cells.runs:
            a, b = max(first, position), min(end, position + count)
            if a < b:
                parts.append(
                    view[data + (cell + a - position) * size : data + (cell + b - position) * size]
                )
    return b"".join(parts)


def size_of(layout: Layout, n: int, n_streams: int) -> int:
    """Bytes of a cache with ``n`` tokens in one of its streams."""
    return 4 + 4 * n_streams + 12 * n + 8 + 12 * len(layout.rows) + n * layout.token_size


def compose(
    layout: Layout, blocks: Sequence[tuple[Buffer, int, int]], n_streams: int, *, after: int = 0
) -> bytearray:
    """A state with the rows of several blocks, each (its bytes, its tokens, how many of them are taken), and a cache of
    ``n_streams``; ``after`` more bytes are left at its end."""
    n = sum(take for _, _, take in blocks)
    state = bytearray(HEAD + size_of(layout, n, n_streams) + after)
    state[:4] = MAGIC
    struct.pack_into("<II", state, HEAD, n_streams, n)
    at = HEAD + 8
    meta = array("i", [0, 1, 0]) * n
    meta[0::3] = array("i", range(n))
    state[at : at + 12 * n] = meta.tobytes()
    at += 12 * n
    struct.pack_into("<II", state, at, 0, layout.n_layers)
    at += 8
    views = [(memoryview(body), count, take) for body, count, take in blocks]
    begun = 0  # bytes of a token before this row
    for kind, size in layout.rows:
        struct.pack_into("<iQ", state, at, kind, size)
        at += 12
        for body, count, take in views:
            state[at : at + take * size] = body[begun * count : begun * count + take * size]
            at += take * size
        begun += size
    return state


def portable(partial: Buffer, n_streams: int, n_caches: int) -> bytes:
    """A partial state whose caches (0 or 1) have one stream instead of ``n_streams``. Raises Unfit."""
    view = memoryview(partial)
    if not n_caches:
        return bytes(view)
    cells = parse(view, HEAD, n_streams)
    first, end = cells.body
    return b"".join([MAGIC, bytes(4), struct.pack("<I", 1), view[first:end], view[cells.end :]])


def with_streams(partial: Buffer, n_streams: int, n_caches: int) -> bytes:
    """What :func:`portable` made, for a context of ``n_streams``. Raises Unfit."""
    view = memoryview(partial)
    if not n_caches:
        return bytes(view)
    cells = parse(view, HEAD, 1)
    first, end = cells.body
    others = bytes(4 * (n_streams - 1))
    head = struct.pack("<I", n_streams)
    return b"".join([MAGIC, bytes(4), head, view[first:end], others, view[cells.end :]])

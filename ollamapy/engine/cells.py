"""The bytes of a slot's state as llama.cpp writes them: cut into rows of tokens, and put together for any slot and slot count.

Read from llama.cpp's ``llama_context::state_seq_get_data`` and ``llama_kv_cache::state_write`` (0c1e570, sequence state version 3):

    state     magic u32, sequence i32, then a cache for the layers that see everything, one for those with a window, and the
              recurrent state: those of them that the model has. A partial state has all but the first.
    cache     n_streams u32, then for each stream (one a slot): n_cells u32 and, if that is not 0:
              n_cells x (position i32, 1 u32, sequence i32); or, where positions have two dimensions more (M-RoPE) or layers
              read the tokens,  n_cells x (position i32, 1 u32, x i32, y i32, token i32, sequence i32)
              transposed u32, n_layers u32
              for each layer's keys, then for each layer's values:  type i32, row u64, n_cells x row bytes
              without flash attention values are transposed:  type i32, element u32, n u32, n x n_cells x element bytes

A model without values of its own (MLA) has only keys. A state of another form is not taken apart (:class:`Unfit`). Pure; no byte of
a state is changed here.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

Buffer = bytes | bytearray | memoryview

MAGIC = struct.pack("<I", 0xAF143CD8)
HEAD = 8
"""Bytes before the first cache: the magic and a sequence that is ignored."""

_MOST_LAYERS = 4096
_PLACE = 12
"""Bytes of a cell's x, y and token."""


class Unfit(ValueError):
    """A state that is not of this form."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the rows of a cache are: for the keys of each layer, then for the values, ggml's type, the bytes of a token, and how many
    such rows there are: one, or one for each element of ``transposed`` values. ``placed``: the bytes of cells come before, as a row."""

    n_layers: int
    rows: tuple[tuple[int, int, int], ...]
    transposed: bool = False
    placed: bool = False

    @property
    def token_size(self) -> int:
        """Bytes of a token in all rows."""
        return sum(size * times for _, size, times in self.rows) + _PLACE * self.placed

    @property
    def cell(self) -> int:
        """Numbers of a cell in a state."""
        return 6 if self.placed else 3


@dataclass(frozen=True, slots=True)
class Cells:
    """A cache in a state: its ``layout``, and for each entry of its rows where the data begins; ``places`` are the x, y and tokens
    of cells, if they have them; ``runs`` are (position, cell, count) in order of positions; ``start`` and ``end`` are its bytes in
    the state, those of the stream that has cells in ``body``."""

    layout: Layout
    data: tuple[int, ...]
    places: bytes
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
    return replace(cells, end=at)


def _stream(state: memoryview, start: int, at: int, n: int) -> Cells:
    """The cells of one stream, whose count is at ``at``: those of either form that its bytes are."""
    try:
        return _cells(state, start, at, n, placed=False)
    except Unfit:
        return _cells(state, start, at, n, placed=True)


def _cells(state: memoryview, start: int, at: int, n: int, *, placed: bool) -> Cells:
    first = at
    width = Layout(0, (), placed=placed).cell
    at += 4
    numbers = _numbers(state[at : at + 4 * width * n], width * n)
    runs = _runs(numbers[0::width], numbers[1::width])
    at += 4 * width * n
    transposed, n_layers = struct.unpack_from("<II", state, at)
    if transposed > 1 or not 0 < n_layers <= _MOST_LAYERS:
        raise Unfit(f"{n_layers} layers, {transposed} for transposed")
    rows, data, at = _rows(state, at + 8, n, n_layers, is_transposed=bool(transposed))
    layout = Layout(n_layers, rows, bool(transposed), placed)
    return Cells(layout, data, _places(numbers) if placed else b"", runs, n, start, (first, at), at)


def _numbers(meta: memoryview, n: int) -> array[int]:
    if len(meta) != 4 * n:
        raise Unfit("the state ends within its cells")
    numbers = array("i")
    numbers.frombytes(meta)
    return numbers


def _places(numbers: array[int]) -> bytes:
    """x, y and token of each cell."""
    found = array("i", bytes(_PLACE * (len(numbers) // 6)))
    for number in range(3):
        found[number::3] = numbers[2 + number :: 6]
    return found.tobytes()


def _rows(
    state: memoryview, at: int, n: int, n_layers: int, *, is_transposed: bool
) -> tuple[tuple[tuple[int, int, int], ...], tuple[int, ...], int]:
    """The rows from ``at`` on as a layout has them, where the data of each begins, and where all end."""
    rows: list[tuple[int, int, int]] = []
    data: list[int] = []
    for _ in range(2 * n_layers):
        values = len(rows) >= n_layers
        kind, size, times = _row(state, at, is_transposed and values)
        if len(rows) == n_layers and not _may_be_row(kind, size * times, rows[0][1]):
            break  # no values
        at += 12
        if size * times == 0 or at + n * size * times > len(state):
            raise Unfit("a row is longer than the state")
        rows.append((kind, size, times))
        data.append(at)
        at += n * size * times
    return tuple(rows), tuple(data), at


def _row(state: memoryview, at: int, transposed: bool) -> tuple[int, int, int]:
    """The head of a row: ggml's type, the bytes of a token, how many such rows; zeros after the end of the state."""
    if at + 12 > len(state):
        return 0, 0, 0
    if transposed:
        kind, size, times = struct.unpack_from("<iII", state, at)
        return kind, size, times
    return (*struct.unpack_from("<iQ", state, at), 1)


def _may_be_row(kind: int, size: int, like: int) -> bool:
    """Is this the head of a row of values? Its type is one of ggml's, its size is not far from that of the keys."""
    return 0 <= kind < 256 and 0 < size <= 1024 * like


def _runs(positions: array[int], n_sequences: array[int]) -> tuple[tuple[int, int, int], ...]:
    """Cells that follow each other, by position: (position, cell, count). Every cell has one sequence.

    Positions that several cells have, as those of an image with M-RoPE, are left out, with all that come after them.
    """
    n = len(positions)
    if n_sequences.count(1) != n or min(positions) < 0:
        raise Unfit("cells of another form")
    cuts = [0, *(i for i in range(1, n) if positions[i] != positions[i - 1] + 1), n]
    runs = sorted((positions[a], a, b - a) for a, b in pairwise(cuts))
    for at, (before, after) in enumerate(pairwise(runs)):
        if before[0] + before[2] > after[0]:
            whole = (before[0], before[1], after[0] - before[0])
            return tuple(run for run in (*runs[:at], whole) if run[2])
    return tuple(runs)


def n_held(cells: Cells) -> int:
    """How many positions it has from 0 on, without a gap."""
    at = 0
    for position, _, count in cells.runs:
        if position != at:
            break
        at += count
    return at


def cut(state: Buffer, cells: Cells, first: int, end: int) -> bytes:
    """The rows of the tokens ``first`` to ``end``, layer after layer, from a cache that holds them."""
    spans = [
        (cell + max(first, position) - position, cell + min(end, position + count) - position)
        for position, cell, count in cells.runs
        if max(first, position) < min(end, position + count)
    ]
    rows = _rows_of(memoryview(state), cells)
    return b"".join(row[a * size : b * size] for row, size in rows for a, b in spans)


def _rows_of(state: memoryview, cells: Cells) -> Iterator[tuple[memoryview, int]]:
    """All rows of a cache, each with the bytes of a token."""
    if cells.layout.placed:
        yield memoryview(cells.places), _PLACE
    for (_, size, times), start in zip(cells.layout.rows, cells.data, strict=True):
        length = cells.n * size
        for at in range(start, start + times * length, length):
            yield state[at : at + length], size


def size_of(layout: Layout, n: int, n_streams: int) -> int:
    """Bytes of a cache with ``n`` tokens in one of its streams."""
    rows = 12 * len(layout.rows) + n * (layout.token_size - _PLACE * layout.placed)
    return 4 + 4 * n_streams + 4 * layout.cell * n + 8 + rows


def compose(
    layout: Layout, blocks: Sequence[tuple[Buffer, int, int]], n_streams: int, *, after: int = 0
) -> bytearray:
    """A state with the rows of several blocks, each (its bytes, its tokens, how many of them are taken), and a cache of
    ``n_streams``; ``after`` more bytes are left at its end."""
    n = sum(take for _, _, take in blocks)
    views = [(memoryview(body), count, take) for body, count, take in blocks]
    state = bytearray(HEAD + size_of(layout, n, n_streams) + after)
    state[:4] = MAGIC
    struct.pack_into("<II", state, HEAD, n_streams, n)
    at = HEAD + 8
    meta = _meta(layout, views, n)
    state[at : at + len(meta)] = meta
    at += len(meta)
    struct.pack_into("<II", state, at, layout.transposed, layout.n_layers)
    at += 8
    begun = _PLACE * layout.placed  # bytes of a token before this row
    for number, (kind, size, times) in enumerate(layout.rows):
        if layout.transposed and number >= layout.n_layers:
            struct.pack_into("<iII", state, at, kind, size, times)
        else:
            struct.pack_into("<iQ", state, at, kind, size)
        at += 12
        for _ in range(times):
            for body, count, take in views:
                state[at : at + take * size] = body[begun * count : begun * count + take * size]
                at += take * size
            begun += size
    return state


def _meta(layout: Layout, views: Sequence[tuple[memoryview, int, int]], n: int) -> bytes:
    """The cells of ``n`` tokens from position 0 on."""
    width = layout.cell
    meta = array("i", [0, 1, *[0] * (width - 2)]) * n
    meta[0::width] = array("i", range(n))
    if layout.placed:
        places = array("i")
        for body, _, take in views:
            places.frombytes(body[: _PLACE * take])
        for number in range(3):
            meta[2 + number :: width] = places[number::3]
    return meta.tobytes()


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


def fitted(
    state: Buffer,
    n_full: int,
    n_before: int,
    n_after: int,
    *,
    has_window: bool,
    recurrent: bool,
) -> bytearray:
    """A state for a context of ``n_after`` streams that was saved in one of ``n_before``, whatever the form of its cells. Raises Unfit.

    ``n_full``: bytes of the cache of the layers that see everything; 0 where the state has none. ``has_window`` and ``recurrent``: what
    else it may have.
    """
    view = memoryview(state)
    at = HEAD + n_full
    ends = [at] if n_full else []
    if has_window and at < len(view):
        ends.append(parse(view, at, n_before).end if recurrent else len(view))
    parts: list[Buffer] = [view[:HEAD]]
    start = HEAD
    for end in ends:
        parts += _in_streams(view[start:end], n_before, n_after)
        start = end
    return bytearray().join([*parts, view[start:]])


def _in_streams(cache: memoryview, n_before: int, n_after: int) -> list[Buffer]:
    """A cache with cells in at most one of ``n_before`` streams, of ``n_after``: the cells as they are, in the first."""
    if len(cache) < 4 + 4 * n_before:
        raise Unfit("the state ends within a cache")
    found, *counts = struct.unpack_from(f"<{1 + n_before}I", cache)
    if found != n_before:
        raise Unfit(f"{found} streams instead of {n_before}")
    n_empty = next((i for i, n_cells in enumerate(counts) if n_cells), n_before - 1)
    end = len(cache) - 4 * (n_before - 1 - n_empty)
    if any(cache[end:]):
        raise Unfit("cells in more than one stream")
    return [struct.pack("<I", n_after), cache[4 + 4 * n_empty : end], bytes(4 * (n_after - 1))]

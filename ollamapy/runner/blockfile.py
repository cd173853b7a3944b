"""The file of a saved block: a head with its place in the tree, then its bytes, each with a checksum. Pure.

    magic 8, kind u8, transposed u8, placed u8, 0 u8, n_tokens u32, before u32, n_layers u32, n_rows u32, size u64, parent 32
    tokens n_tokens x i32, rows n_rows x (type i32, bytes of a token u32, how many u32), checksum of the head 32, of the body 32
    body size bytes

Checksums are BLAKE2b, keyed with the root of the tree: a file of another model, setting or build, and one in another place, do
not pass. A reader takes nothing from a file that does not pass.
"""

from __future__ import annotations

import struct
from hmac import compare_digest

from ..digests import keyed_sum
from ..engine.cells import Layout
from ..engine.saved import BLOCK, Block, Kind, name_of

_HEAD = struct.Struct("<8sB??xIIIIQ32s")
_ROW = struct.Struct("<iII")
_MAGIC = b"OLPYKV02"
_SUM = 32
_KINDS: tuple[Kind, ...] = ("rows", "end")

MOST_HEAD = _HEAD.size + 4 * BLOCK + 8192 * _ROW.size + 2 * _SUM
"""Bytes of the longest head."""

MOST_BODY = 8 * 1024**3


class Wrong(ValueError):
    """A file that is not what it should be."""


def encode(block: Block, body: bytes, layout: Layout, root: bytes) -> bytes:
    """The head of a block's file; the body follows it."""
    head = _HEAD.pack(
        _MAGIC,
        _KINDS.index(block.kind),
        layout.transposed,
        layout.placed,
        block.n,
        block.before,
        layout.n_layers,
        len(layout.rows),
        len(body),
        block.parent,
    )
    head += block.tokens + b"".join(_ROW.pack(*row) for row in layout.rows)
    return head + keyed_sum(head, root) + keyed_sum(body, root)


def decode(head: bytes, root: bytes) -> tuple[Block, Layout, int]:
    """The block of a file, without its body, the layout of its rows, and where the body begins. ``head`` is at least the file's
    head, at most MOST_HEAD bytes of the file. Raises Wrong."""
    if len(head) < _HEAD.size:
        raise Wrong("it ends within its head")
    fields = _HEAD.unpack_from(head)
    magic, kind, transposed, placed, n, before, n_layers, n_rows, size, parent = fields
    if magic != _MAGIC or kind >= len(_KINDS) or n > BLOCK or n_rows > 8192 or size > MOST_BODY:
        raise Wrong("it is no saved block")
    tokens_end = _HEAD.size + 4 * n
    end = tokens_end + n_rows * _ROW.size
    if len(head) < end + 2 * _SUM:
        raise Wrong("it ends within its head")
    if not compare_digest(head[end : end + _SUM], keyed_sum(head[:end], root)):
        raise Wrong("its head is spoiled, or of another cache")
    tokens = head[_HEAD.size : tokens_end]
    rows = tuple(_ROW.iter_unpack(head[tokens_end:end]))
    block = Block(
        name_of(parent, tokens, _KINDS[kind]),
        parent,
        before,
        tokens,
        _KINDS[kind],
        size,
        in_file=True,
    )
    return block, Layout(n_layers, rows, transposed, placed), end + 2 * _SUM


def body_of(content: bytes, root: bytes) -> tuple[Block, Layout, bytes]:
    """The block of a whole file, and its body. Raises Wrong."""
    block, layout, at = decode(content[:MOST_HEAD], root)
    body = content[at:]
    if len(body) != block.size:
        raise Wrong("it is not as long as its head has it")
    if not compare_digest(content[at - _SUM : at], keyed_sum(body, root)):
        raise Wrong("its body is spoiled")
    return block, layout, body

"""A llama_batch of the rows of an inset: numbers instead of tokens, of one sequence, with M-RoPE four positions a row."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from .media import Inset


class MediaRows:
    """Room for ``n`` rows, each of ``width`` numbers."""

    def __init__(self, lib: Any, n: int, width: int) -> None:
        self._width = width
        self._positions = (ctypes.c_int32 * (4 * n))()
        self._id = ctypes.c_int32()
        self._outputs = (ctypes.c_int8 * n)()
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._one_each = (ctypes.c_int32 * n)(*([1] * n))
        # one more than rows: llama.cpp takes a null pointer for the array's end
        self._id_pointers = (pointer * (n + 1))(*([ctypes.pointer(self._id)] * n))
        batch = self._batch = lib.llama_batch()
        batch.pos = ctypes.cast(self._positions, pointer)
        batch.n_seq_id = ctypes.cast(self._one_each, pointer)
        batch.seq_id = ctypes.cast(self._id_pointers, ctypes.POINTER(pointer))
        batch.logits = ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_int8))

    def fill(
        self, slot: int, position: int, inset: Inset, rows: Any, first: int, n: int, last: bool
    ) -> Any:
        """The batch with ``n`` rows of an inset that begins at ``position``, from its row ``first`` on; ``last``: the output of the
        last one is needed."""
        batch = self._batch
        batch.n_tokens = n
        batch.embd = ctypes.cast(
            ctypes.byref(rows, 4 * first * self._width), ctypes.POINTER(ctypes.c_float)
        )
        positions = positions_of(inset, position, first, n)
        self._positions[: len(positions)] = [*positions]
        self._id.value = slot
        self._outputs[:n] = [0] * n
        self._outputs[n - 1] = int(last)
        return batch


def positions_of(inset: Inset, position: int, first: int, n: int) -> Sequence[int]:
    """The positions of ``n`` rows from ``first`` on, of an inset at ``position``: one each, with M-RoPE four, section by section."""
    if inset.places is None or inset.steps is None:
        return range(position + first, position + first + n)
    return [
        inset.places[at] + position * inset.steps[at]
        for section in range(0, 4 * inset.n, inset.n)
        for at in range(section + first, section + first + n)
    ]

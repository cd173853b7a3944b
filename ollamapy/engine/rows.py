"""A llama_batch over arrays of our own, so that whole slices of it are filled by C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

Row = tuple[int, int, list[int], int]
"""Tokens of one sequence in a batch: (sequence id, first position, tokens, how many of the last ones need an output)."""

NO_SLOT, ABORTED = 1, 2
"""What computing a batch returns besides 0: no room in the KV cache; stopped by the abort callback."""


class Rows:
    """Room for ``n`` tokens. ``wanted`` are the places in the batch whose output is needed, in order."""

    def __init__(self, lib: Any, n: int) -> None:
        self.wanted: list[int] = []
        self._tokens = (ctypes.c_int32 * n)()
        self._positions = (ctypes.c_int32 * n)()
        self._ids = (ctypes.c_int32 * n)()
        self._outputs = (ctypes.c_int8 * n)()
        self._one_each = (ctypes.c_int32 * n)(*([1] * n))
        pointer = ctypes.POINTER(ctypes.c_int32)
        start, size = ctypes.addressof(self._ids), ctypes.sizeof(ctypes.c_int32)
        # one more than tokens: llama.cpp takes a null pointer for the array's end
        self._id_pointers = (pointer * (n + 1))(
            *(ctypes.cast(start + i * size, pointer) for i in range(n))
        )
        batch = self._batch = lib.llama_batch()
        batch.n_tokens = 0
        batch.token = ctypes.cast(self._tokens, pointer)
        batch.pos = ctypes.cast(self._positions, pointer)
        batch.n_seq_id = ctypes.cast(self._one_each, pointer)
        batch.seq_id = ctypes.cast(self._id_pointers, ctypes.POINTER(pointer))
        batch.logits = ctypes.cast(self._outputs, ctypes.POINTER(ctypes.c_int8))

    def fill(self, rows: Sequence[Row], *, all_outputs: bool = False) -> Any:
        """The batch with these tokens, at most ``n`` of them; ``all_outputs``: every token's output is needed."""
        at = 0
        self.wanted = []
        for id, position, tokens, wanted in rows:
            n = len(tokens)
            end = at + n
            if n == 1:
                self._tokens[at] = tokens[0]
                self._positions[at] = position
                self._ids[at] = id
                self._outputs[at] = wanted > 0 or all_outputs
            else:
                self._tokens[at:end] = tokens  # type: ignore[assignment]
                self._positions[at:end] = list(range(position, position + n))
                self._ids[at:end] = [id] * n
                self._outputs[at:end] = [int(all_outputs)] * n
                self._outputs[end - wanted : end] = [1] * wanted
            self.wanted.extend(range(end - wanted, end))
            at = end
        self._batch.n_tokens = at
        return self._batch

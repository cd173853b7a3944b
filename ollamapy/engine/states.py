"""The state of a slot as bytes: copied out of llama.cpp's context and back into it, whole or the part that cannot be cut.

llama.cpp moves the data of copies between slots and of shifts when it next decodes, and the state functions do not wait for
that: a slot with such an order is left alone until then. Sizes are compared before the library is called.
"""

from __future__ import annotations

import ctypes
from typing import Any


class States:
    """The states of one context's slots; for the engine's thread alone. ``partial``: only the cells of a sliding window, or the
    recurrent state."""

    def __init__(self, lib: Any, context: Any) -> None:
        self._lib, self._context = lib, context
        self._unsettled: set[int] = set()

    def unsettle(self, slot: int) -> None:
        """Note that the data of a slot changes with the next decode."""
        self._unsettled.add(slot)

    def settle(self) -> None:
        """Note that there was a decode."""
        self._unsettled.clear()

    def size(self, slot: int, *, partial: bool) -> int:
        """Bytes of a slot's state as it is now; 0 where it cannot be copied."""
        if slot in self._unsettled:
            return 0
        return int(self._lib.llama_state_seq_get_size_ext(self._context, slot, int(partial)))

    def save(self, slot: int, *, partial: bool) -> bytearray | None:
        """A copy of a slot's state; None where there is none."""
        size = self.size(slot, partial=partial)
        if not size:
            return None
        state = bytearray(size)
        buffer = (ctypes.c_uint8 * size).from_buffer(state)
        written = self._lib.llama_state_seq_get_data_ext(
            self._context, buffer, size, slot, int(partial)
        )
        return state if written == size else None

    def restore(self, slot: int, state: bytearray, *, partial: bool) -> bool:
        """Make a slot's state what it was; False where llama.cpp refuses it: the slot must be cleared then."""
        if slot in self._unsettled or not state:
            return False
        buffer = (ctypes.c_uint8 * len(state)).from_buffer(state)
        read = self._lib.llama_state_seq_set_data_ext(
            self._context, buffer, len(state), slot, int(partial)
        )
        return bool(read == len(state))

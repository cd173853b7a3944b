"""The state of a slot as bytes: copied out of llama.cpp's context and back into it, whole or the part that cannot be cut.

llama.cpp moves the data of copies between slots and of shifts when it next decodes, and the state functions do not wait for
that: a slot with such an order is left alone until then. Sizes are compared before the library is called.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, NamedTuple

from ..digests import Sha256
from .cells import HEAD, Unfit, fitted


class Shape(NamedTuple):
    """What the states of a model have: a cache of the layers that see everything, one of those with a window, a recurrent state."""

    has_cells: bool
    has_window: bool
    recurrent: bool


class States:
    """The states of one context's ``n_slots``; for the engine's thread alone. ``partial``: only the cells of a sliding window, or
    the recurrent state."""

    def __init__(self, lib: Any, context: Any, n_slots: int, shape: Shape) -> None:
        self._lib, self._context = lib, context
        self._n_slots, self._shape = n_slots, shape
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

    def move(self, slot: int, target: States, to: int) -> bool:
        """Copy a slot into one of another context of the model; False where that cannot be: that slot must be cleared then."""
        state = self.save(slot, partial=False)
        if state is None:
            return False
        rest = self.size(slot, partial=True)
        if rest == len(state):  # nothing but one cache
            rest = HEAD
        n_full = len(state) - rest if self._shape.has_cells else 0
        fit = target.fitted(state, self._n_slots, n_full)
        return fit is not None and target.restore(to, fit, partial=False)

    def fitted(self, state: bytearray, n_slots: int, n_full: int = 0) -> bytearray | None:
        """A state that was saved in a context of ``n_slots``, for this one; None where that cannot be. ``n_full``: bytes of the cache
        of the layers that see everything, 0 in a partial state."""
        _, has_window, recurrent = self._shape
        try:
            return fitted(
                state, n_full, n_slots, self._n_slots, has_window=has_window, recurrent=recurrent
            )
        except Unfit:
            return None


def identity(lib: Any, model: Any, n_ctx: int) -> tuple[str, ...]:
    """What changes states beside a plan's files and settings: llama.cpp's build and the version of its states, and the length of the
    context where the model's positions depend on it."""
    folder = Path(lib._lib._name).parent
    build = Sha256()
    for path in sorted(folder.glob("*llama*")) + sorted(folder.glob("*ggml*")):
        if path.suffix in (
            ".so",
            ".dylib",
            ".dll",
        ):  # each lies there under three names: one is enough
            build.update(path.read_bytes())
    return (str(lib.LLAMA_STATE_SEQ_VERSION), build.hex, _scaling(lib, model, n_ctx))


def _scaling(lib: Any, model: Any, n_ctx: int) -> str:
    """How positions are scaled, with the context's length where there is any scaling."""
    text = ctypes.create_string_buffer(64)
    if lib.llama_model_meta_val_str(model, b"general.architecture", text, len(text)) < 0:
        return ""
    key = text.value + b".rope.scaling.type"
    if lib.llama_model_meta_val_str(model, key, text, len(text)) < 0 or text.value == b"none":
        return ""
    return f"{text.value.decode(errors='replace')} {n_ctx}"

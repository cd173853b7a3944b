"""Whether a token gets the same numbers whatever tokens of other sequences are computed with it, tried with the model itself.

It depends on the types of the weights and of the cache, on the processor and on the build: some kernels sum in another order when
there are more rows. Where none does, the tokens of all answers are computed in one call, and each is the same as alone.
"""

from __future__ import annotations

from .model import Model

_LENGTH = 16
"""Tokens in the first slot; each other one has one more."""


def rows_are_alike(model: Model, n_vocab: int) -> bool:
    """Are the logits of a token equal to the last bit, alone and beside one other, two, and so on, up to all slots? Slots are empty
    before and after."""
    if model.n_slots < 2 or model.recurrent or model.n_ctx <= _LENGTH + model.n_slots:
        return False
    lengths = [_LENGTH + slot for slot in range(model.n_slots)]
    for slot, n in enumerate(lengths):
        model.decode([(slot, 0, [_token(slot, at, n_vocab) for at in range(n)], 0)])
    alone = _logits(model, lengths[:1], n_vocab)
    alike = bool(alone) and all(
        _logits(model, lengths[:n], n_vocab) == alone for n in range(2, model.n_slots + 1)
    )
    for slot in range(model.n_slots):
        model.trim(slot, 0)
    return alike


def _logits(model: Model, lengths: list[int], n_vocab: int) -> bytes:
    """The logits of the first slot's next token, computed beside those of others; nothing where they cannot be computed."""
    rows = [(slot, n, [_token(slot, n, n_vocab)], 1) for slot, n in enumerate(lengths)]
    if model.decode(rows):
        return b""
    found = bytes(model.logits(0).tobytes())
    for slot, n in enumerate(lengths):
        model.trim(slot, n)
    return found


def _token(slot: int, at: int, n_vocab: int) -> int:
    """Any token of the vocabulary, another one at each place."""
    return (7919 * (slot + 1) + 104_729 * at) % n_vocab

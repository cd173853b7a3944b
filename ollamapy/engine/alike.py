"""How many tokens of different sequences can be computed together, and each get the same numbers as alone: tried with the model itself.

It depends on the types of the weights, on the processor and on the build: some kernels sum in another order from 2, 4 or 8 rows on.
"""

from __future__ import annotations

from .model import Model


def most_alike(model: Model, n_vocab: int) -> int:
    """The most tokens, each of another slot, whose logits are equal to the last bit to those that they have alone, as they are for any
    smaller number; at least 1. All slots must be empty, and are again."""
    if model.recurrent or model.n_ctx < 4:
        return 1
    slots = range(model.n_slots)
    if model.decode([(slot, 0, [_token(slot, 0, n_vocab)], 0) for slot in slots]):
        return 1
    alone = [_logits(model, [slot], n_vocab)[0] for slot in slots]
    most = 1
    while most < model.n_slots:
        if _logits(model, slots[: most + 1], n_vocab) != alone[: most + 1]:
            break
        most += 1
    for slot in slots:
        model.trim(slot, 0)
    return most


def _logits(model: Model, slots: range | list[int], n_vocab: int) -> list[bytes]:
    """The logits of each slot's next token, computed together; no bytes where they cannot be."""
    status = model.decode([(slot, 1, [_token(slot, 1, n_vocab)], 1) for slot in slots])
    found = [b"" if status else bytes(model.logits(row).tobytes()) for row in range(len(slots))]
    for slot in slots:
        model.trim(slot, 1)
    return found


def _token(slot: int, at: int, n_vocab: int) -> int:
    """Any token of the vocabulary, another one at each place."""
    return (7919 * (slot + 1) + 104_729 * at) % n_vocab

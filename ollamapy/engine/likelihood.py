"""Log probabilities from logits. ``piece`` gives the bytes of a token. numpy is imported when they are first requested."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..types import PromptToken, TokenLogprob

Written = Callable[[int], bytes]


def logprobs(logits: Any, token: int, top: int, piece: Written) -> TokenLogprob:
    """The log probability of ``token`` and of the ``top`` likeliest, from raw logits."""
    import numpy

    logits = logits.astype(numpy.float64)
    highest = logits.max()
    total = float(highest) + math.log(float(numpy.exp(logits - highest).sum()))
    best = _likeliest(logits, top)
    return _token_logprob(
        piece(token),
        float(logits[token]) - total,
        tuple(_token_logprob(piece(t), float(logits[t]) - total) for t in best),
    )


def prompt_token(logits: Any, token: int, top: int, piece: Written) -> PromptToken:
    """A token of a prompt, from the raw logits of the one before it; None for the first."""

    def text(token: int) -> str:
        return piece(token).decode(errors="replace")

    if logits is None:
        return PromptToken(token, text(token), None)
    found = logprobs(logits, token, 0, piece).logprob
    rank = 1 + int((logits > logits[token]).sum())
    best = (
        PromptToken(other, text(other), found + float(logits[other] - logits[token]), n)
        for n, other in enumerate(_likeliest(logits, top), 1)
    )
    return PromptToken(token, text(token), found, rank, tuple(best))


def _likeliest(logits: Any, n: int) -> Sequence[int]:
    """The ``n`` tokens with the highest logits, the highest first."""
    import numpy

    if n <= 0:
        return ()
    n = min(n, len(logits))
    found = numpy.argpartition(-logits, n - 1)[:n]
    likeliest: Sequence[int] = found[numpy.argsort(-logits[found], kind="stable")].tolist()
    return likeliest


def _token_logprob(
    piece: bytes, logprob: float, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    return TokenLogprob(piece.decode(errors="replace"), logprob, tuple(piece), top)

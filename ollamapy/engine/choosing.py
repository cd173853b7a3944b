"""What is read from logits: a sequence's next token, sampled or as a form, a thinking budget or a text that was promised demands it,
and the scores of its prompt."""

from __future__ import annotations

from typing import Any

from ..types import PromptToken
from .batch import Span
from .model import Model
from .sequence import Sequence


def choose(model: Model, sequence: Sequence, row: int) -> tuple[int, Any]:
    """The next token from the logits of ``row``, and where log probabilities are requested the logits as the model made them.

    They are those before any mask, as llama-server reports them. Raises InvalidRequest where a grammar gives up.
    """
    chain, matcher = sequence.sampler, sequence.matcher
    budget = sequence.generation.think_budget
    if sequence.thinking is not None and budget is not None and sequence.n_predicted >= budget:
        sequence.end_thinking()
    wanted = sequence.generation.logprobs is not None
    logits: Any = model.logits(row) if wanted or matcher is not None else None
    if sequence.forced:
        token = sequence.forced.popleft()
        model.accept(chain, token)
    elif matcher is None:
        token = model.sample(chain, row)
        if model.ends(token) and sequence.awaited is not None and sequence.think_end:
            # still thinking, and the required form has not begun
            sequence.end_thinking()
            token = sequence.forced.popleft()
            model.accept(chain, token)
    else:
        masked, logits = logits, logits.copy() if wanted else None
        matcher.mask(masked)
        token = model.sample(chain, row)
        if not model.ends(token):
            matcher.take(token)
    return token, logits


def scored(model: Model, span: Span, row: int) -> tuple[PromptToken, ...]:
    """The log probabilities of the prompt's tokens whose logits begin at ``row``; the first token has none.

    A preempted sequence computes its tokens again, but each is reported once.
    """
    sequence = span.sequence
    top = sequence.generation.prompt_logprobs or 0
    found = []
    if sequence.n_scored == 0:
        found.append(model.prompt_token(None, sequence.tokens[0], top))
    first, end = max(sequence.n_scored, 1), min(span.start + span.n + 1, sequence.n_prompt)
    for at in range(max(first, span.start + 1), end):
        logits = model.logits(row + at - 1 - span.start)
        found.append(model.prompt_token(logits, sequence.tokens[at], top))
    sequence.n_scored += len(found)
    return tuple(found)


def watch(sequence: Sequence, written: bytes) -> None:
    """Look in a token's text for the end of thinking and for the text that starts the grammar. Control tokens count as text."""
    if sequence.thinking is not None and sequence.thinking.feed(written) is not None:
        sequence.thinking = None
    if sequence.awaited is None:
        return
    rest = sequence.awaited.feed(written)
    if rest is not None:
        sequence.awaited, sequence.matcher = None, sequence.grammar
        if sequence.matcher is not None and (rest := rest.lstrip()):
            sequence.matcher.begin_with(rest)

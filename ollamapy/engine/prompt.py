"""From a prompt's parts to tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..errors import InvalidRequest
from ..types import Prompt


class Tokenizer(Protocol):
    """What this needs of a model; ``engine/llama.py`` documents each member. ``bos`` and ``eos`` are -1 where there is none."""

    n_vocab: int
    bos: int
    eos: int
    adds_bos: bool
    adds_eos: bool

    def tokenize(self, text: str, add_special: bool = True, *, check: Check = ...) -> list[int]: ...
    def is_far_too_long(self, text: str, check: Check = ...) -> bool: ...


Check = Callable[[], None]
"""Called now and then while a long text is tokenized; what it raises ends the work."""


def is_far_too_long(tokenizer: Tokenizer, prompt: Prompt, check: Check) -> bool:
    """Is a text so long that it need not be tokenized to see that it does not fit?"""
    return any(
        isinstance(part, str) and tokenizer.is_far_too_long(part, check) for part in prompt.parts
    )


AT_ONCE = 4 * 1024 * 1024
"""Characters whose tokens are held at once: as Python's integers, those of 64 MB would take 2 GB."""

PART = 1024 * 1024
"""Characters of a longer text that are counted at a time."""


def tokens_within(
    tokenizer: Tokenizer, text: str, most: int, add_special: bool, check: Check
) -> tuple[list[int], int]:
    """The tokens of a text, none if they are more than ``most``, and their number.

    A text longer than AT_ONCE is only counted, in parts, and only until they are more than ``most``: the number is about right
    then, the rest taken to be like what was read, and there are no tokens.
    """
    if len(text) <= AT_ONCE:
        tokens = tokenizer.tokenize(text, add_special, check=check)
        return tokens if len(tokens) <= most else [], len(tokens)
    count = 0
    for at in range(0, len(text), PART):
        part = text[at : at + PART]
        count += len(tokenizer.tokenize(part, add_special and at == 0, check=check))
        if count > most:
            return [], max(most + 1, count * len(text) // (at + len(part)))
    return [], count


def prompt_tokens(tokenizer: Tokenizer, prompt: Prompt, check: Check) -> list[int]:
    """The tokens of a prompt, at least one. Raises InvalidRequest for one that is not in the vocabulary, and for none."""
    if len(prompt.parts) == 1 and isinstance(text := prompt.parts[0], str):
        tokens = tokenizer.tokenize(text, check=check)
    else:
        tokens = [token for part in _with_ends(tokenizer, prompt, check) for token in part]
    if not tokens and tokenizer.bos >= 0:
        tokens = [tokenizer.bos]
    if not tokens:
        raise InvalidRequest("the prompt has no tokens")
    return tokens


def _with_ends(tokenizer: Tokenizer, prompt: Prompt, check: Check) -> list[list[int]]:
    """The tokens of each part, with BOS before a text at the beginning and EOS after one at the end."""
    found = [_part_tokens(tokenizer, part, check) for part in prompt.parts]
    if prompt.parts and isinstance(prompt.parts[0], str) and tokenizer.adds_bos:
        found.insert(0, [tokenizer.bos])
    if prompt.parts and isinstance(prompt.parts[-1], str) and tokenizer.adds_eos:
        found.append([tokenizer.eos])
    return found


def _part_tokens(tokenizer: Tokenizer, part: str | tuple[int, ...], check: Check) -> list[int]:
    if isinstance(part, str):
        return tokenizer.tokenize(part, add_special=False, check=check)
    if any(not 0 <= token < tokenizer.n_vocab for token in part):
        raise InvalidRequest("the prompt has a token that is not in the model's vocabulary")
    return list(part)

"""From a prompt's parts to tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from ..errors import InvalidRequest
from ..types import Media, Prompt
from .media import FileParts, Inset


class Tokenizer(Protocol):
    """What this needs of a model; ``engine/llama.py`` documents each member. ``bos`` and ``eos`` are -1 where there is none."""

    n_vocab: int
    bos: int
    eos: int
    adds_bos: bool
    adds_eos: bool

    def tokenize(self, text: str, add_special: bool = True, *, check: Check = ...) -> list[int]: ...
    def is_far_too_long(self, text: str, check: Check = ...) -> bool: ...
    def read_media(self, file: bytes) -> FileParts: ...
    def count_media(self, file: bytes) -> int: ...


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


class Placed(NamedTuple):
    """An inset of a prompt, whose rows are the tokens from ``start`` to ``end``."""

    start: int
    inset: Inset

    @property
    def end(self) -> int:
        """The token after it."""
        return self.start + self.inset.n


class Tokens(NamedTuple):
    """The tokens of a prompt, and its insets in order. ``files``: where the tokens of each file begin and end, with its marks."""

    ids: list[int]
    insets: tuple[Placed, ...] = ()
    files: tuple[tuple[int, int], ...] = ()

    def lengths(self, length: Callable[[int], int]) -> Iterator[int]:
        """The ``length`` of each token, 0 for those of files."""
        at = 0
        for start, end in self.files:
            yield from map(length, self.ids[at:start])
            yield from [0] * (end - start)
            at = end
        yield from map(length, self.ids[at:])


def prompt_tokens(tokenizer: Tokenizer, prompt: Prompt, check: Check) -> Tokens:
    """The tokens of a prompt, at least one. Raises InvalidRequest for one that is not in the vocabulary, for none, and for files that
    cannot be read."""
    if len(prompt.parts) == 1 and isinstance(text := prompt.parts[0], str):
        found = Tokens(tokenizer.tokenize(text, check=check))
    else:
        found = _joined(_with_ends(tokenizer, prompt, check))
    if not found.ids and tokenizer.bos >= 0:
        found = Tokens([tokenizer.bos])
    if not found.ids:
        raise InvalidRequest("the prompt has no tokens")
    return found


def count_tokens(tokenizer: Tokenizer, prompt: Prompt, check: Check) -> int:
    """The tokens of a prompt with files, which are not decoded for it. Raises InvalidRequest."""
    files = [part for part in prompt.parts if isinstance(part, Media)]
    texts = Prompt(tuple(part for part in prompt.parts if not isinstance(part, Media)))
    total = sum(map(len, _with_ends(tokenizer, texts, check)))
    for file in files:
        check()
        total += tokenizer.count_media(file.data)
    return total


def _joined(parts: Sequence[list[int] | FileParts]) -> Tokens:
    """The parts one after the other."""
    ids: list[int] = []
    insets: list[Placed] = []
    files: list[tuple[int, int]] = []
    for part in parts:
        if isinstance(part, list):
            ids += part
            continue
        start = len(ids)
        for each in part:
            if isinstance(each, Inset):
                insets.append(Placed(len(ids), each))
                ids += each.tokens
            else:
                ids += each
        files.append((start, len(ids)))
    return Tokens(ids, tuple(insets), tuple(files))


def _with_ends(tokenizer: Tokenizer, prompt: Prompt, check: Check) -> list[list[int] | FileParts]:
    """The tokens of each part, with BOS at the beginning and EOS at the end, but for a part that is token ids itself."""
    found = [_part_tokens(tokenizer, part, check) for part in prompt.parts]
    if prompt.parts and not isinstance(prompt.parts[0], tuple) and tokenizer.adds_bos:
        found.insert(0, [tokenizer.bos])
    if prompt.parts and not isinstance(prompt.parts[-1], tuple) and tokenizer.adds_eos:
        found.append([tokenizer.eos])
    return found


def _part_tokens(
    tokenizer: Tokenizer, part: str | tuple[int, ...] | Media, check: Check
) -> list[int] | FileParts:
    if isinstance(part, str):
        return tokenizer.tokenize(part, add_special=False, check=check)
    if isinstance(part, Media):
        check()
        return tokenizer.read_media(part.data)
    if any(not 0 <= token < tokenizer.n_vocab for token in part):
        raise InvalidRequest("the prompt has a token that is not in the model's vocabulary")
    return list(part)

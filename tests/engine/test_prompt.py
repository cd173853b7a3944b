"""A prompt's parts become tokens: in order, with BOS and EOS only at the ends, and only beside a text."""

from __future__ import annotations

import pytest

from ollamapy.engine import prompt
from ollamapy.engine.media import FileParts, Inset
from ollamapy.engine.prompt import (
    Check,
    count_tokens,
    is_far_too_long,
    prompt_tokens,
    tokens_within,
)
from ollamapy.errors import InvalidRequest
from ollamapy.types import Media, Prompt

BOS, EOS = 300, 301


def no_check() -> None:
    """Go on."""


class Bytes:
    """A tokenizer whose tokens are bytes."""

    n_vocab = 302

    def __init__(self, adds_bos: bool = True, adds_eos: bool = False, bos: int = BOS) -> None:
        self.adds_bos, self.adds_eos = adds_bos, adds_eos
        self.bos, self.eos = bos, EOS

    def tokenize(
        self, text: str, add_special: bool = True, *, check: Check = lambda: None
    ) -> list[int]:
        before = [self.bos] if add_special and self.adds_bos else []
        after = [self.eos] if add_special and self.adds_eos else []
        return [*before, *text.encode(), *after]

    def is_far_too_long(self, text: str, check: Check = lambda: None) -> bool:
        return len(text) > 10

    def read_media(self, file: bytes) -> FileParts:
        """Two insets of as many rows as the file has bytes, with tokens around them."""
        tile = Inset(file, len(file), len(file))
        return ([1], tile, [2, 3], tile, [4])

    def count_media(self, file: bytes) -> int:
        return 4 + 2 * len(file)


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        (("ab",), [BOS, 97, 98, EOS]),
        (("a", "b"), [BOS, 97, 98, EOS]),
        (((1, 2),), [1, 2]),
        (((1, 2), "a"), [1, 2, 97, EOS]),
        (("a", (1, 2)), [BOS, 97, 1, 2]),
        (("a", (1,), "b"), [BOS, 97, 1, 98, EOS]),
        ((), [BOS]),
        (((),), [BOS]),
    ],
)
def test_parts_become_tokens(parts: tuple[str | tuple[int, ...], ...], tokens: list[int]) -> None:
    assert prompt_tokens(Bytes(adds_eos=True), Prompt(parts), no_check).ids == tokens


def test_a_model_that_adds_nothing_gets_the_text_alone() -> None:
    assert prompt_tokens(Bytes(adds_bos=False), Prompt(("a", "b")), no_check).ids == [97, 98]


def test_a_prompt_without_tokens_is_refused_where_there_is_no_bos() -> None:
    with pytest.raises(InvalidRequest, match="no tokens"):
        prompt_tokens(Bytes(adds_bos=False, bos=-1), Prompt(("",)), no_check)


def test_a_long_text_is_counted_until_it_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is taken to be like what was read."""
    monkeypatch.setattr(prompt, "AT_ONCE", 1000)
    monkeypatch.setattr(prompt, "PART", 100)
    read: list[int] = []

    class Counted(Bytes):
        def tokenize(
            self, text: str, add_special: bool = True, *, check: Check = lambda: None
        ) -> list[int]:
            read.append(len(text))
            return super().tokenize(text, add_special, check=check)

    def within(length: int, most: int) -> tuple[list[int], int]:
        read.clear()
        return tokens_within(Counted(adds_bos=False), "a" * length, most, True, no_check)

    assert within(1000, 1000) == ([97] * 1000, 1000) and read == [1000]
    assert within(1000, 999) == ([], 1000)
    assert within(100_000, 250) == ([], 100_000) and sum(read) == 300
    assert within(1001, 2000) == ([], 1001) and sum(read) == 1001, (
        "it may fit: all of it is counted"
    )


@pytest.mark.parametrize("token", [-1, 302])
def test_a_token_outside_of_the_vocabulary_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequest, match="not in the model's vocabulary"):
        prompt_tokens(Bytes(), Prompt(("a", (token,))), no_check)


def test_texts_far_too_long_are_seen_in_any_part() -> None:
    assert is_far_too_long(Bytes(), Prompt(((1,), "a" * 11)), no_check)
    assert not is_far_too_long(Bytes(), Prompt(((1,) * 20, "a" * 10)), no_check)


def test_the_length_counts_characters_and_tokens() -> None:
    assert len(Prompt(("abc", (1, 2)))) == 5


def test_files_become_insets_in_their_places() -> None:
    given = Prompt(("ab", Media(b"cat"), "c", Media(b"ox")))
    found = prompt_tokens(Bytes(), given, no_check)
    (first, second, third, _), ids = found.insets, found.ids

    assert (first.start, first.end, second.start, third.start) == (4, 7, 9, 15)
    assert ids[4:7] == ids[9:12] == first.inset.tokens != third.inset.tokens
    assert [token for token in ids if token >= 0] == [BOS, 97, 98, 1, 2, 3, 4, 99, 1, 2, 3, 4]
    assert found.files == ((3, 13), (14, 22))
    assert count_tokens(Bytes(), given, no_check) == len(ids)
    assert list(found.lengths(lambda token: 1)) == [1] * 3 + [0] * 10 + [1] + [0] * 8


def test_a_file_at_an_end_has_bos_before_it_and_eos_after_it() -> None:
    found = prompt_tokens(Bytes(adds_eos=True), Prompt((Media(b"ox"),)), no_check)

    assert (found.ids[0], found.ids[-1]) == (BOS, EOS)

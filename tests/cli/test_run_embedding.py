"""`run` with a model that makes vectors: one line of JSON, and what is wrong in words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

from tests.served import Daemon, serve
from tests.small_models import bert_model, install

from .conftest import Command

pytestmark = pytest.mark.llama


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("vectors")
    install(root, "vectors", bert_model(root / "vectors.gguf"))
    with serve(root, root) as running:
        yield running


def vector(text: str) -> list[float]:
    assert text.endswith("]\n") and text.count("\n") == 1
    return [float(number) for number in json.loads(text)]


def test_the_vector_of_a_text(embedder: Daemon, ollamapy: Command) -> None:
    host = f"127.0.0.1:{embedder.port}"
    result = ollamapy("run", "vectors", "hello", "there", host=host)
    assert (result.returncode, result.stderr) == (0, "")
    whole = vector(result.stdout)
    assert len(whole) == 64 and math.isclose(sum(x * x for x in whole), 1, rel_tol=1e-4)
    asked = {"model": "vectors", "input": "hello there"}
    assert [whole] == embedder.ask("POST", "/api/embed", asked).json()["embeddings"]
    piped = ollamapy("run", "vectors", "--dimensions", "8", host=host, stdin="hello there")
    short = vector(piped.stdout)
    assert len(short) == 8 and math.isclose(short[0] / short[1], whole[0] / whole[1], rel_tol=1e-3)


def test_embed_prints_a_vector_a_line(embedder: Daemon, ollamapy: Command) -> None:
    host = f"127.0.0.1:{embedder.port}"
    given = ollamapy("embed", "vectors", "a cat", "a dog", host=host)
    assert (given.returncode, given.stderr) == (0, "")
    vectors = [json.loads(line) for line in given.stdout.splitlines()]
    asked = {"model": "vectors", "input": ["a cat", "a dog"]}
    assert vectors == embedder.ask("POST", "/api/embed", asked).json()["embeddings"]
    piped = ollamapy("embed", "vectors", host=host, stdin="a cat\n\na dog\n")
    assert piped.stdout == given.stdout
    whole = json.loads(ollamapy("embed", "vectors", "a cat", "--json", host=host).stdout)
    assert whole["embeddings"] == vectors[:1]
    nothing = ollamapy("embed", "vectors", host=host)
    assert nothing.returncode == 1 and "there is no text to embed" in nothing.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], 'embedding models require input text. Usage: ollamapy run NAME "your text here"'),
        (["hi " * 500, "--truncate=false"], "the input length exceeds the context length"),
        (["hi", "--truncate=perhaps"], "invalid value for --truncate: 'perhaps'"),
    ],
)
def test_what_is_wrong(
    arguments: list[str], complaint: str, embedder: Daemon, ollamapy: Command
) -> None:
    result = ollamapy("run", "vectors", *arguments, host=f"127.0.0.1:{embedder.port}")
    assert (result.returncode, result.stdout) == (1, "")
    assert complaint in result.stderr and result.stderr.count("\n") == 1


def test_a_text_that_is_too_long_is_cut(embedder: Daemon, ollamapy: Command) -> None:
    result = ollamapy("run", "vectors", "hi " * 500, host=f"127.0.0.1:{embedder.port}")
    assert len(vector(result.stdout)) == 64

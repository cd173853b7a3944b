"""Vectors of real models through the engine, against what numpy makes of the same weights and of llama.cpp's own pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from ollamapy.engine.embed import EmbedTask, Vectors, input_tokens, pair_tokens
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.sequence import Sequence
from ollamapy.errors import InvalidRequest
from ollamapy.types import Generation, Prompt, Sampling
from tests.plans import plan
from tests.small_models import bert_model, random_model

pytestmark = pytest.mark.llama

Floats = npt.NDArray[np.float64]
TEXTS = ["ba", "ke li, mo", "hello world 42", "a", "ba ke " * 12, "zu zu zu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def load(
    path: Path, n_ctx: int = 128, log: Callable[[str], None] | None = None, **more: Any
) -> Model:
    return Model(plan(path, n_ctx=n_ctx, n_slots=2, n_batch=32, threads=1, **more), log=log)


@pytest.fixture(scope="module")
def bert(folder: Path) -> Iterator[Model]:
    model = load(bert_model(folder / "bert.gguf"), generates=False)
    yield model
    model.close()


@pytest.fixture(scope="module")
def llama(folder: Path) -> Iterator[Model]:
    model = load(random_model(folder / "llama.gguf"))
    yield model
    model.close()


def answers(model: Model, *requests: EmbedTask | Sequence) -> dict[int, Event]:
    """The endings of requests that run together."""
    events: list[Event] = []
    engine = Engine(model, events.extend)
    for request in requests:
        engine.submit(request)
    while engine.step(wait=False):
        pass
    return {event.id: event for event in events if not isinstance(event, TextOut)}


def vectors(model: Model, inputs: list[list[int]], **more: Any) -> Floats:
    ending = answers(model, EmbedTask(1, inputs, **more))[1]
    assert isinstance(ending, Vectors), ending
    assert ending.n_tokens == tuple(map(len, inputs))
    return np.frombuffer(ending.vectors, np.float32).reshape(len(inputs), -1).astype(np.float64)


@pytest.mark.parametrize("which", ["bert", "llama"])
def test_batched_as_one_by_one(which: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(which)
    inputs = [model.tokenize(text) for text in TEXTS * 3]
    together = vectors(model, inputs)
    for tokens, vector in zip(inputs, together, strict=True):
        # the cache is f16, and its cells are summed in another order
        assert np.abs(vectors(model, [tokens])[0] - vector).max() < 5e-4
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_requests_share_batches(bert: Model) -> None:
    requests = [EmbedTask(n, [bert.tokenize(text)]) for n, text in enumerate(TEXTS)]
    together = answers(bert, *requests)
    for n, text in enumerate(TEXTS):
        ending = together[n]
        assert isinstance(ending, Vectors)
        alone = vectors(bert, [bert.tokenize(text)])[0]
        assert np.abs(np.frombuffer(ending.vectors, np.float32) - alone).max() < 1e-5


def test_the_mean_of_a_models_last_states(folder: Path, llama: Model) -> None:
    """Attention and all, in numpy; a text longer than a batch, so that its parts are added up."""
    tokens = llama.tokenize("ba ke li mo zu " * 20)
    assert len(tokens) > 2 * llama.n_batch
    mean = _llama_states(folder / "llama.gguf", tokens).mean(axis=0)
    found = vectors(llama, [tokens])[0]
    assert np.dot(found, mean / np.linalg.norm(mean)) > 0.9999
    raw = vectors(llama, [tokens], normalize=False)[0]
    assert np.abs(raw - mean).max() < 0.02


def _llama_states(path: Path, tokens: list[int]) -> Floats:
    """What a Llama of two KV heads for four has after its last normalisation, a row for each token."""
    w = {t.name: t.data.astype(np.float64) for t in gguf.GGUFReader(path).tensors}
    n, heads, kv, size = len(tokens), 4, 2, 16

    def norm(x: Floats, name: str) -> Floats:
        scaled: Floats = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
        scaled *= w[f"{name}.weight"]
        return scaled

    angles = np.outer(np.arange(n), 10000.0 ** (-np.arange(0, size, 2) / size))[:, None, :]

    def rotated(x: Floats) -> Floats:
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * np.cos(angles) - odd * np.sin(angles)
        turned[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return turned

    x = w["token_embd.weight"][tokens]
    for block in ("blk.0", "blk.1"):
        h = norm(x, f"{block}.attn_norm")
        q = rotated((h @ w[f"{block}.attn_q.weight"].T).reshape(n, heads, size))
        k = rotated((h @ w[f"{block}.attn_k.weight"].T).reshape(n, kv, size))
        v = (h @ w[f"{block}.attn_v.weight"].T).reshape(n, kv, size)
        k, v = (np.repeat(each, heads // kv, axis=1) for each in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / size**0.5
        scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1)
        x = x + mixed @ w[f"{block}.attn_output.weight"].T
        h = norm(x, f"{block}.ffn_norm")
        gate = h @ w[f"{block}.ffn_gate.weight"].T
        up = h @ w[f"{block}.ffn_up.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{block}.ffn_down.weight"].T
    states: Floats = norm(x, "output_norm")
    return states


def test_dimensions_are_the_first_numbers_of_length_1_again(bert: Model) -> None:
    tokens = [bert.tokenize("ba ke")]
    whole, cut = vectors(bert, tokens)[0], vectors(bert, tokens, dimensions=8)[0]
    assert cut.shape == (8,)
    assert np.allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)
    assert vectors(bert, tokens, dimensions=10_000).shape == (1, 64)


@pytest.mark.parametrize("pooling", ["CLS", "LAST", None])
def test_other_poolings(folder: Path, bert: Model, pooling: str | None) -> None:
    model = load(bert_model(folder / f"{pooling}.gguf", pooling=pooling), generates=True)
    assert not model.generates
    tokens = [bert.tokenize(text) for text in TEXTS]
    same = np.allclose(vectors(model, tokens), vectors(bert, tokens), atol=1e-5)
    assert same == (pooling is None), "an encoder that does not say how is pooled by its mean"
    model.close()


def test_a_pooling_that_we_choose_is_no_warning(folder: Path) -> None:
    lines: list[str] = []
    model = load(random_model(folder / "quiet.gguf"), log=lines.append)
    model.pooled("")
    model.close()
    assert [line for line in lines if "pooling" in line] == []


def test_a_text_that_fills_the_context(bert: Model) -> None:
    full = bert.tokenize("")[:1] * 128
    assert vectors(bert, [full, [2, 3], full]).shape == (3, 64)


def test_generating_goes_on_while_texts_are_embedded(llama: Model) -> None:
    generation = Generation(Prompt(((1, 300, 301),)), Sampling(temperature=0), num_predict=40)
    alone = answers(llama, Sequence(1, [1, 300, 301], generation))[1]
    inputs = [llama.tokenize(text) for text in TEXTS * 4]
    both = answers(llama, Sequence(1, [1, 300, 301], generation), EmbedTask(2, inputs))
    assert isinstance(alone, Finished) and isinstance(both[1], Finished)
    assert both[1].n_predicted == alone.n_predicted
    assert isinstance(both[2], Vectors)


# ---- texts as token ids ----------------------------------------------------------------------------------------------


def test_truncation_keeps_what_closes_a_text(bert: Model, llama: Model) -> None:
    text = "ba ke " * 200
    for model, closing in ((bert, 1), (llama, 0)):
        assert model.n_closing() == closing
        whole, cut = model.tokenize(text), input_tokens(model, text, 0, 16, True)
        assert cut == whole[: 16 - closing] + whole[len(whole) - closing :]
        with pytest.raises(InvalidRequest, match=r"the input length exceeds the context length"):
            input_tokens(model, text, 3, 16, False)
    assert input_tokens(bert, tuple(range(5, 50)), 0, 16, True) == list(range(5, 21))


@pytest.mark.parametrize("longest", [0, 1, 2])
def test_no_room_for_any_text(bert: Model, longest: int) -> None:
    with pytest.raises(InvalidRequest, match="after truncation exceeds maximum context length"):
        input_tokens(bert, "ba ke", 0, longest, True)


def test_of_a_very_long_text_only_the_beginning_is_read(llama: Model) -> None:
    text = "ba ke li mo " * 900_000  # 10 MB
    cut = input_tokens(llama, text, 0, 100, True)
    assert cut == llama.tokenize(text[:2000])[:100]


@pytest.mark.parametrize("given", [(), (10**6,), (-1,)])
def test_token_ids_that_are_none(llama: Model, given: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest, match=r"input\[7\]"):
        input_tokens(llama, given, 7, 100, True)


# ---- rerank ----------------------------------------------------------------------------------------------------------


def test_scores(folder: Path, bert: Model) -> None:
    """A head over the first token's state: the same as numpy makes of what the model gives without its head."""
    path = bert_model(folder / "rank.gguf", pooling="RANK")
    model = load(path, generates=False)
    states = load(bert_model(folder / "cls.gguf", pooling="CLS"), generates=False)
    pairs = [pair_tokens(model, "ba ke", document, 0) for document in ("li mo", "zu", "ba ke ba")]
    assert pairs[1] == bert.tokenize("ba ke") + bert.tokenize("zu")[1:-1], "as llama-server does"
    scores = vectors(model, pairs, pooling="rank", normalize=False)[:, 0]
    w = {t.name: t.data.astype(np.float64) for t in gguf.GGUFReader(path).tensors}
    first = vectors(states, pairs, normalize=False)
    head = np.tanh(first @ w["cls.weight"].T + w["cls.bias"])
    expected = (head @ w["cls.output.weight"].T + w["cls.output.bias"])[:, 0]
    assert np.abs(scores - expected).max() < 1e-3
    assert vectors(model, pairs).shape == (3, 64), "it embeds as well"
    states.close()
    model.close()


def test_a_long_document_loses_its_end_a_long_query_is_refused(folder: Path) -> None:
    model = load(bert_model(folder / "rank2.gguf", pooling="RANK"), generates=False)
    pair = pair_tokens(model, "ba ke", "li " * 500, 0)
    assert len(pair) == 128 and pair[:7] == pair_tokens(model, "ba ke", "li", 0)[:7]
    with pytest.raises(InvalidRequest, match=r"no room for documents\[4\]"):
        pair_tokens(model, "ba " * 500, "li", 4)
    model.close()


def test_no_head_no_scores(bert: Model) -> None:
    ending = answers(bert, EmbedTask(1, [[2, 5, 3]], "rank"))[1]
    assert "does not support rerank" in str(ending)

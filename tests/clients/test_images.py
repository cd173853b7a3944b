"""Images by the official clients of Ollama, OpenAI and Anthropic: one question about one image, and the same answer from each."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import anthropic
import ollama
import openai
import pytest

from tests.served import Daemon, serve
from tests.small_models import install
from tests.small_projectors import bitmap, seeing_model

CAT, QUESTION, N = bitmap(64, 48, seed=1), "ba ke?", 12
CODE = base64.b64encode(CAT).decode()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a model that sees."""
    home = tmp_path_factory.mktemp("seeing")
    weights, sight = seeing_model(home, "mlp")
    install(home / "models", "sees", weights, projector=sight)
    with serve(home, home / "models") as running:
        yield running


@pytest.fixture(scope="module")
def expected(seeing: Daemon) -> str:
    """The answer to the question, by the image's bytes in Ollama's client."""
    with ollama.Client(seeing.url) as client:
        message = {"role": "user", "content": QUESTION, "images": [CAT]}
        options = {"temperature": 0, "num_predict": N}
        answer = client.chat("sees", messages=[message], options=options)
        assert answer.message.content
        return str(answer.message.content)


def test_ollama_takes_bytes_and_paths(seeing: Daemon, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "cat.bmp"
    path.write_bytes(CAT)
    with ollama.Client(seeing.url) as client:
        options = {"temperature": 0, "num_predict": N}
        answer = client.generate("sees", QUESTION, images=[path], options=options)
        assert answer.response == expected
        without = client.generate("sees", QUESTION, options=options)
        assert without.response != expected
        assert (answer.prompt_eval_count or 0) > (without.prompt_eval_count or 0)
        with pytest.raises(ollama.ResponseError, match="no image") as refused:
            client.generate("sees", QUESTION, images=[b"hello there"])
        assert refused.value.status_code == 400


def test_openai_takes_data_urls(seeing: Daemon, expected: str) -> None:
    url = f"data:image/png;base64,{CODE}"
    with openai.OpenAI(base_url=f"{seeing.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="sees",
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": url}},
                        {"type": "text", "text": QUESTION},
                    ],
                }
            ],
            temperature=0,
            max_tokens=N,
        )
        response = client.responses.create(
            model="sees",
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_image", "image_url": url, "detail": "auto"},
                        {"type": "input_text", "text": QUESTION},
                    ],
                }
            ],
            temperature=0,
            max_output_tokens=N,
        )
    with ollama.Client(seeing.url) as other:
        apart = [{"role": "user", "images": [CAT]}, {"role": "user", "content": QUESTION}]
        options = {"temperature": 0, "num_predict": N}
        in_parts = other.chat("sees", messages=apart, options=options)
    assert answer.choices[0].message.content == in_parts.message.content
    assert answer.usage and answer.usage.prompt_tokens == in_parts.prompt_eval_count
    assert response.output_text in (expected, in_parts.message.content)
    assert response.usage and response.usage.input_tokens > 16


def test_anthropic_takes_blocks_and_counts_them(seeing: Daemon, expected: str) -> None:
    source: anthropic.types.Base64ImageSourceParam = {
        "type": "base64",
        "media_type": "image/png",
        "data": CODE,
    }
    message: anthropic.types.MessageParam = {
        "role": "user",
        "content": [
            {"type": "image", "source": source},
            {"type": "text", "text": QUESTION},
        ],
    }
    with anthropic.Anthropic(base_url=seeing.url, api_key="none", max_retries=0) as client:
        answer = client.messages.create(
            model="sees", messages=[message], max_tokens=N, extra_body={"temperature": 0}
        )
        counted = client.messages.count_tokens(model="sees", messages=[message])
    (block,) = answer.content
    assert block.type == "text" and block.text == expected
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)

"""Sounds by OpenAI's client: in a chat, written down, and translated; and what a model that does not hear says."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest

from ollamapy.formats import wav
from tests.served import Daemon, serve
from tests.small_models import install, scripted_model
from tests.small_projectors import seeing_model, wave

HELLO = "Hello! I am a scripted model."


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with "ears", a model that hears and answers nonsense, and "deaf"."""
    home = tmp_path_factory.mktemp("hearing")
    weights, ears = seeing_model(home, "qwen2a", n_ctx=4096)
    install(home / "models", "ears", weights, projector=ears, params={"num_predict": 8})
    install(home / "models", "deaf", scripted_model(home / "deaf.gguf", HELLO))
    with serve(home, home / "models") as running:
        yield running


@pytest.fixture
def client(hearing: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{hearing.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def long_sound() -> bytes:
    """A WAV of 40 seconds with a pause after 20."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 40 * 4000).astype("<i2")
    samples[20 * 4000 : 20 * 4000 + 1600] = 0
    return wav.write(samples, 4000)


def ask(client: openai.OpenAI, sound: bytes) -> openai.types.chat.ChatCompletion:
    data = base64.b64encode(sound).decode()
    return client.chat.completions.create(
        model="ears",
        temperature=0,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
                    {"type": "text", "text": "ba ke?"},
                ],
            }
        ],
    )


@pytest.mark.llama
def test_a_chat_hears(client: openai.OpenAI) -> None:
    tone, noise, again = (ask(client, sound) for sound in (wave(), long_sound(), wave()))
    texts = [each.choices[0].message.content for each in (tone, noise, again)]
    assert texts[0] == texts[2] != texts[1]
    assert tone.usage is not None and tone.usage.prompt_tokens > 700


@pytest.mark.llama
def test_a_transcription(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(
        model="ears", file=("a.wav", long_sound()), response_format="verbose_json", language="en"
    )
    assert heard.duration == 40.0 and heard.language == "en"
    assert heard.segments is not None
    first, second = heard.segments
    assert (first.start, second.end) == (0.0, 40.0) and first.end == second.start
    assert first.end == pytest.approx(20.2, abs=0.3)
    assert heard.text == f"{first.text} {second.text}"
    lines = client.audio.transcriptions.create(
        model="ears", file=("a.wav", long_sound()), response_format="srt"
    )
    assert lines.startswith("1\n00:00:00,000 --> 00:00:20,") and "\n2\n" in lines


@pytest.mark.llama
@pytest.mark.filterwarnings("ignore:deprecated")
def test_a_translation(client: openai.OpenAI) -> None:
    sound = ("a.wav", wave())
    said = client.audio.transcriptions.create(model="ears", file=sound)
    translated = client.audio.translations.create(model="ears", file=sound)
    assert said.text and translated.text != said.text


def test_a_model_that_does_not_hear(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wave())
    with pytest.raises(openai.BadRequestError, match='"deaf" does not hear'):
        client.audio.transcriptions.create(model="deaf", file=path)
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="nobody", file=path)


@pytest.mark.llama
def test_no_sound(client: openai.OpenAI) -> None:
    for content in (b"hello there", b"RIFF\0\0\0\0WAVE", b""):
        with pytest.raises(openai.BadRequestError):
            client.audio.transcriptions.create(model="ears", file=("a.wav", content))

"""Sounds by OpenAI's client: what a model that does not hear says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.served import Daemon, serve
from tests.small_models import install, scripted_model
from tests.small_projectors import wave

HELLO = "Hello! I am a scripted model."


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with "deaf", a model that does not hear."""
    home = tmp_path_factory.mktemp("hearing")
    install(home / "models", "deaf", scripted_model(home / "deaf.gguf", HELLO))
    with serve(home, home / "models") as running:
        yield running


@pytest.fixture
def client(hearing: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{hearing.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_model_that_does_not_hear(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wave())
    with pytest.raises(openai.BadRequestError, match='"deaf" does not hear'):
        client.audio.transcriptions.create(model="deaf", file=path)
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="nobody", file=path)

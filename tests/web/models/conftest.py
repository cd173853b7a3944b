"""What the tests of our own paths about models share: a daemon whose store may be changed, and a hub of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.fake_hub import FakeHub
from tests.served import Daemon, serve
from tests.small_models import CHATML, install, random_model, scripted_model


@pytest.fixture
def own(hub: FakeHub, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon over a store of its own with the model hello, which knows only the fake hub."""
    models, home = tmp_path / "models", tmp_path / "home"
    for folder in (models, home):
        folder.mkdir()
    install(
        models,
        "hello",
        scripted_model(tmp_path / "hello.gguf", "Hello!"),
        params={"temperature": 0.5, "stop": ["END"]},
        system="Be kind.",
    )
    with serve(home, models, hub=hub.url) as running:
        yield running


@pytest.fixture
def gguf(tmp_path: Path) -> bytes:
    """A small model's file."""
    return random_model(tmp_path / "small.gguf", chat_template=CHATML).read_bytes()

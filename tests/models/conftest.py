"""What tests of the daemon's parts share: files of small models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_models import random_model, scripted_model


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(tmp_path_factory.mktemp("gguf") / "scripted.gguf", "Hello! I am here.")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("gguf") / "plain.gguf", vocab=400)

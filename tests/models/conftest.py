"""What tests of jobs on models share: files of small models, and a daemon without any."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.registry.fake_hub import content
from tests.served import Daemon, serve
from tests.small_models import random_model, scripted_model

from .pulls import LARGE, names


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(tmp_path_factory.mktemp("gguf") / "scripted.gguf", "Hello! I am here.")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("gguf") / "plain.gguf", vocab=400)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return random_model(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@pytest.fixture(scope="module")
def large(gguf: bytes) -> bytes:
    """A model with so much behind its tensors that getting it takes a while."""
    return gguf + content(LARGE)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    with serve(home, home / "models") as running:
        yield running


@pytest.fixture
def served(empty: Daemon) -> Iterator[Daemon]:
    """A daemon without models, the same for many tests."""
    yield empty
    for name in names(empty):
        empty.ask("DELETE", "/api/delete", {"model": name})
    for folder in ("models", "library"):
        shutil.rmtree(empty.home / folder, ignore_errors=True)

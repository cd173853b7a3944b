"""Images in the terminal: named in a prompt, dropped on it, attached with /file; for a model that sees."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Daemon, serve
from tests.small_models import install
from tests.small_projectors import bitmap, seeing_model

from .chats import Start, llama
from .conftest import Command

pytestmark = llama


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a model that sees."""
    home = tmp_path_factory.mktemp("seeing")
    weights, sight = seeing_model(home, "mlp")
    install(home / "models", "sees", weights, projector=sight)
    with serve(home, home / "models") as running:
        yield running


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    """An image whose name has a space."""
    path = tmp_path / "my cat.bmp"
    path.write_bytes(bitmap(64, 48, seed=1))
    return path


def test_an_image_in_a_prompt_is_seen(seeing: Daemon, ollamapy: Command, cat: Path) -> None:
    settings = ("-o", "temperature=0", "--num-predict", "12")
    with_image = ollamapy("run", "sees", f"ba ke? '{cat}'", *settings, host=seeing.url)
    assert with_image.returncode == 0 and with_image.stderr == f"Added image '{cat}'\n"
    without = ollamapy("run", "sees", "ba ke?", *settings, host=seeing.url)
    assert with_image.stdout.strip() and with_image.stdout != without.stdout


def test_an_image_is_seen_in_the_chat(seeing: Daemon, start: Start, cat: Path) -> None:
    command = (sys.executable, "-m", "ollamapy", "run", "sees", "--num-predict", "5")
    it = start(*command, columns=160, OLLAMAPY_HOST=seeing.url).prompted(1)
    it.enter(f"{str(cat).replace(' ', chr(92) + ' ')} ba ke?")
    it.until(f"Added image '{cat}'").prompted(2)
    it.enter(f"/file {cat}")
    it.until("Attached 'my cat.bmp'").prompted(3)
    it.enter("be?")
    it.prompted(4)
    [chat] = seeing.ask("GET", "/api/chats").json()["chats"]
    messages = seeing.ask("GET", f"/api/chats/{chat['id']}").json()["messages"]
    kinds = [[part["type"] for part in each.get("parts", ())] for each in messages]
    assert kinds == [["text", "image"], [], ["text", "image"], []]
    assert messages[3]["usage"]["prompt_tokens"] > messages[1]["usage"]["prompt_tokens"] + 16
    assert it.leave() == 0

"""One model by its name, read once; on real stores with real GGUF files."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidName, ModelNotFound, StoreError
from ollamapy.models.models import Models
from ollamapy.names import Name
from ollamapy.registry.store import Store
from tests.models.stored import models
from tests.small_models import install


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("nosuch", ModelNotFound, "^model 'nosuch' not found$"),
        ("NoSuch:Tag", ModelNotFound, "^model 'NoSuch:Tag' not found$"),
        ("", ModelNotFound, "^model '' not found$"),
        ("a b/c", InvalidName, "^invalid model name"),
        ("../../etc/passwd", InvalidName, "^invalid model name"),
    ],
)
def test_names_that_lead_nowhere(
    tmp_path: Path, name: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        asyncio.run(models(tmp_path).load(name))


def test_a_model_is_read_once_until_its_manifest_changes(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    found = models(tmp_path)
    first = asyncio.run(found.load("m"))
    assert asyncio.run(found.load("M")) is first
    install(tmp_path, "m", plain, system="New.")
    assert asyncio.run(found.load("m")).system == "New."
    first.files.weights.path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        asyncio.run(found.load("m"))


def test_the_event_loop_never_waits_for_the_disk(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    threads = set()

    class Watched(Store):
        def manifest(self, name: Name) -> Any:
            threads.add(threading.current_thread())
            return super().manifest(name)

        def models(self) -> Any:
            threads.add(threading.current_thread())
            return super().models()

    async def use() -> None:
        found = Models(Watched([tmp_path]))
        await asyncio.gather(found.load("m"), found.list(), found.show("m", verbose=True))

    asyncio.run(use())
    assert threads and threading.current_thread() not in threads

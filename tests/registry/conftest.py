"""A fake hub for every test that wants one, and a clock that does not wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamapy.registry.patience import Patience
from ollamapy.registry.store import Store
from tests.registry.fake_hub import FakeHub


class Haste:
    """Time that passes at once when it is waited for; `waits` are the seconds of every wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.notes: list[str] = []
        self.cancelled = threading.Event()
        self._skipped = 0.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return time.monotonic() + self._skipped

    def wait(self, event: threading.Event, seconds: float) -> bool:
        with self._lock:
            self.waits.append(seconds)
            self._skipped += seconds
        return event.is_set()

    @property
    def patience(self) -> Patience:
        return Patience(self.cancelled, self.wait, self.now, self.notes.append)


@pytest.fixture
def haste() -> Haste:
    return Haste()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    running = FakeHub()
    try:
        yield running
    finally:
        running.close()
    assert running.leaks == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store([tmp_path / "store"])

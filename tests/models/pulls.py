"""Pulls of a real daemon from a hub of our own: how the tests ask for them, and what they look at."""

from __future__ import annotations

import subprocess
from typing import Any

from ollamapy.registry import journal
from tests.registry.fake_hub import FakeHub, sha256
from tests.served import Answer, Daemon, command, environment, until

LARGE = 24 * 2**20


def start(daemon: Daemon, hub: FakeHub, model: str, **more: Any) -> Answer:
    known = {"endpoint": hub.url, "token": more.pop("token", ""), "offline": more.pop("off", False)}
    body = {"model": model, "hub": known, **more}
    return daemon.open("POST", "/api/pull", body)


def pull(daemon: Daemon, hub: FakeHub, model: str, **more: Any) -> list[Any]:
    """The steps of a pull."""
    answer = start(daemon, hub, model, **more)
    assert answer.status == 200, answer.read()
    assert answer.header("content-type") == "application/x-ndjson"
    return answer.lines()


def fails(steps: list[Any]) -> str:
    """The error that ends a pull."""
    assert [step for step in steps if "error" in step] == steps[-1:]
    return str(steps[-1]["error"])


def statuses(steps: list[Any]) -> list[str]:
    """Without repetitions."""
    return list(dict.fromkeys(step["status"] for step in steps))


def cli(daemon: Daemon, hub: FakeHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, by a user who reaches that hub."""
    known = environment(daemon.home, daemon.home / "models", HOST=f"127.0.0.1:{daemon.port}")
    known |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "COLUMNS": "100"}
    return subprocess.run(
        command(*arguments), env=known, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, cwd=daemon.home,
    )  # fmt: skip


def names(daemon: Daemon) -> list[str]:
    return [model["name"] for model in daemon.ask("GET", "/api/tags").json()["models"]]


def blobs(daemon: Daemon) -> list[str]:
    return sorted(path.name for path in (daemon.home / "models" / "blobs").glob("*"))


def pulling(data: bytes) -> str:
    return f"pulling {sha256(data)[:12]}"


def slow(hub: FakeHub, data: bytes) -> None:
    hub.fault(path=sha256(data), cap=4 * 2**20, times=float("inf"))


def partial(daemon: Daemon, data: bytes) -> int:
    """Bytes that the journal says are there."""
    path = daemon.home / "models" / "partial" / f"sha256-{sha256(data)}.json"
    return journal.kept(path, len(data))


def until_begun(daemon: Daemon, data: bytes) -> None:
    until(lambda: partial(daemon, data) > 2**20, "a part is there and noted")

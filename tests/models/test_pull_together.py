"""Pulls that are shared, interrupted and gone on with, and what other commands may delete meanwhile."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from ollamapy.registry.prune import prune
from ollamapy.registry.store import Store
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.served import Daemon, serve, until
from tests.shards import split
from tests.small_projectors import projector

from .pulls import (
    LARGE,
    blobs,
    cli,
    fails,
    names,
    partial,
    pull,
    slow,
    start,
    statuses,
    until_begun,
)


def test_a_model_is_removed_while_a_pull_needs_a_blob_of_it(
    tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    clip = projector(tmp_path / "clip.gguf", "mlp").read_bytes()
    clip += content(LARGE)
    hub.add_repo("me/a", {"m.gguf": gguf})
    hub.add_repo("me/b", {"m.gguf": gguf, "mmproj-F16.gguf": clip})
    slow(hub, clip)
    pull(served, hub, "hf.co/me/a")
    pulling_b = start(served, hub, "hf.co/me/b")
    until_begun(served, clip)
    assert served.ask("DELETE", "/api/delete", {"model": "hf.co/me/a"}).status == 200
    assert names(served) == []
    assert cli(served, hub, "prune", "--yes").returncode == 0
    hub.hurry()
    assert statuses(pulling_b.lines())[-1] == "success"
    assert names(served) == ["hf.co/me/b:latest"] and cli(served, hub, "verify").returncode == 0


@pytest.mark.long
def test_what_a_removal_takes_from_an_interrupted_pull_is_fetched_again(
    tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    """An interrupted pull reserves nothing: `rm` frees the space of the removed model, as in Ollama."""
    clip = projector(tmp_path / "clip.gguf", "mlp").read_bytes()
    clip += content(LARGE)
    hub.add_repo("me/a", {"m.gguf": gguf})
    hub.add_repo("me/b", {"m.gguf": gguf, "mmproj-F16.gguf": clip})
    slow(hub, clip)
    pulling_b = start(served, hub, "hf.co/me/b")
    until_begun(served, clip)
    pulling_b.leave()
    held = served.home / "models" / "partial"
    until(lambda: not list(held.glob("reservation-*")), "the reservation has ended")
    assert blobs(served) == [f"sha256-{sha256(gguf)}"], "it is kept while nothing else removes it"
    pull(served, hub, "hf.co/me/a")
    assert served.ask("DELETE", "/api/delete", {"model": "hf.co/me/a"}).status == 200
    assert not blobs(served) and partial(served, clip)
    hub.faults.clear()
    before = hub.sent("cdn")
    assert statuses(pull(served, hub, "hf.co/me/b"))[-1] == "success"
    assert hub.sent("cdn") - before < len(gguf) + len(clip)
    assert names(served) == ["hf.co/me/b:latest"] and cli(served, hub, "verify").returncode == 0


def test_a_pull_of_an_hour_keeps_its_finished_shards(
    tmp_path: Path, served: Daemon, hub: FakeHub, gguf: bytes
) -> None:
    """The second shard is on its way for so long that the first one is old."""
    (tmp_path / "whole.gguf").write_bytes(gguf)
    first, second = (path.read_bytes() for path in split(tmp_path / "whole.gguf", tmp_path))
    second += content(LARGE)
    names_of = "m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"
    hub.add_repo("me/repo", dict(zip(names_of, (first, second), strict=True)))
    slow(hub, second)
    answer = start(served, hub, "hf.co/me/repo")
    until_begun(served, second)
    assert blobs(served) == [f"sha256-{sha256(first)}"]
    root = served.home / "models"
    assert prune(Store([root], now=lambda: time.time() + 2 * 3600)) == []
    hub.hurry()
    assert statuses(answer.lines())[-1] == "success"
    assert f"sha256-{sha256(first)}" in blobs(served)


def test_a_daemon_removes_at_its_start_what_a_killed_one_worked_on(home: Path) -> None:
    partial = home / "models" / "partial"
    partial.mkdir(parents=True)
    (partial / "reservation-1-dead").write_text("")
    (partial / "reservation-1-dead.work-1").mkdir()
    (partial / f"sha256-{'a' * 64}").write_bytes(b"to be resumed")
    with serve(home, home / "models"):
        until(lambda: not (partial / "reservation-1-dead.work-1").exists(), "it is swept")
    assert {path.name for path in partial.iterdir()} == {"lock", f"sha256-{'a' * 64}"}


def test_two_who_want_the_same_share_one_download(
    served: Daemon, hub: FakeHub, large: bytes
) -> None:
    hub.add_repo("me/repo", {"m.gguf": large})
    slow(hub, large)
    first = start(served, hub, "hf.co/me/repo")
    assert first.line() == {"status": "pulling manifest"}
    until_begun(served, large)
    assert served.busy() == 1
    joined = start(served, hub, "hf.co/me/repo")
    assert joined.status == 200
    hub.hurry()
    second = joined.lines()
    assert statuses(second) == statuses([{"status": "pulling manifest"}, *first.lines()])
    assert statuses(second)[-1] == "success"
    assert hub.sent("cdn") < len(large) + 2**20
    assert len(hub.asked("hub", "/api/models/")) == 1


def test_the_last_who_leaves_ends_it_and_the_next_goes_on(
    served: Daemon, hub: FakeHub, large: bytes
) -> None:
    hub.add_repo("me/repo", {"m.gguf": large})
    slow(hub, large)
    first, second = start(served, hub, "hf.co/me/repo"), start(served, hub, "hf.co/me/repo")
    first.line(), second.line()
    until_begun(served, large)
    first.leave()
    there = partial(served, large)
    until(lambda: partial(served, large) > there, "it goes on for the other")
    second.leave()
    until(lambda: served.busy() == 0, "no request waits")
    assert names(served) == [] and not blobs(served)
    hub.faults.clear()
    assert statuses(pull(served, hub, "hf.co/me/repo"))[-1] == "success"
    assert hub.sent("cdn") < len(large) + 8 * 2**20
    assert blobs(served)[0] and names(served) == ["hf.co/me/repo:latest"]


def test_a_daemon_that_was_killed_goes_on(home: Path, hub: FakeHub, large: bytes) -> None:
    hub.add_repo("me/repo", {"m.gguf": large})
    slow(hub, large)
    with serve(home, home / "models") as daemon:
        answer = start(daemon, hub, "hf.co/me/repo")
        answer.line()
        until_begun(daemon, large)
        daemon.end(signal.SIGKILL)
        answer.leave()
    sent = hub.sent("cdn")
    hub.faults.clear()
    with serve(home, home / "models") as daemon:
        assert names(daemon) == []
        there = partial(daemon, large)
        assert statuses(pull(daemon, hub, "hf.co/me/repo"))[-1] == "success"
        assert hub.sent("cdn") - sent <= len(large) - there + 2**20
        assert names(daemon) == ["hf.co/me/repo:latest"]


def test_a_daemon_that_stops_says_so(home: Path, hub: FakeHub, large: bytes) -> None:
    hub.add_repo("me/repo", {"m.gguf": large})
    slow(hub, large)
    with serve(home, home / "models") as daemon:
        answer = start(daemon, hub, "hf.co/me/repo")
        answer.line()
        until_begun(daemon, large)
        assert daemon.end() == 0
        assert "the daemon is stopping" in fails(answer.lines())


def test_a_hub_that_is_silent_does_not_hold_up_the_end(home: Path, hub: FakeHub) -> None:
    hub.fault(server="hub", hang=True)
    with serve(home, home / "models") as daemon:
        answer = start(daemon, hub, "hf.co/me/repo")
        answer.line()
        until(lambda: hub.requests, "the hub is asked")
        began = time.monotonic()
        assert daemon.end() == 0 and time.monotonic() - began < 60
        assert "the daemon is stopping" in fails(answer.lines())

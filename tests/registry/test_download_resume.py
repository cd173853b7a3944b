"""Downloads that are broken off and resumed, and several of the same file at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from typing import Any

import pytest

from ollamapy.errors import (
    Offline,
    RequestCancelled,
)
from ollamapy.registry import download, journal
from ollamapy.registry.attempt import Downloaded
from ollamapy.registry.download import Fetched, fetch
from ollamapy.registry.patience import Patience
from ollamapy.registry.pieces import MIB
from ollamapy.registry.remote import RemoteFile
from ollamapy.registry.store import Store
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content
from tests.registry.test_download import DATA, INF, QUICK, ROOT, begin, get, is_whole, offer

# Going on


def killed(served: FakeHub, store: Store, file: RemoteFile, at: float) -> None:
    """A downloading process of its own, killed when that part of the file is there."""
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from ollamapy.registry.download import *\n"
        "from ollamapy.registry.http import Access\n"
        "from ollamapy.registry.route import RemoteFile\n"
        "from ollamapy.registry.store import Store\n"
        "file = RemoteFile(**json.loads(sys.argv[3]))\n"
        "fetch(file, Access(sys.argv[4]), Store([Path(sys.argv[2])]),"
        f" limits={QUICK!r})\n"
    )
    fields = {name: getattr(file, name) for name in ("path", "url", "size", "sha256")}
    child = subprocess.Popen(
        [sys.executable, "-c", program, ROOT, store.roots[0], json.dumps(fields), served.url]
    )
    state = store.roots[0] / "partial" / f"{file.key}.json"
    try:
        while journal.kept(state, file.size) < at * file.size:
            assert child.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


@pytest.mark.parametrize("at", [0.3, 0.6, 0.95])
def test_a_download_goes_on_after_kill_9(hub: FakeHub, store: Store, at: float) -> None:
    file = offer(hub, data := content(6 * MIB, 5))
    slow = hub.fault(times=INF, cap=8 * MIB)
    last = hub.fault(times=INF, starts=len(data) - MIB // 4, stall=0)
    killed(hub, store, file, at)
    slow.times = last.times = 0
    before = hub.sent("cdn")
    found = get(hub, store, file)
    assert is_whole(store, data)
    assert found.received <= (1 - at) * len(data)
    # each of eight connections may have had a chunk in hand, and what came since the last journal
    assert before + found.received <= len(data) + 8 * 256 * 1024 + MIB


def test_a_damaged_piece_is_fetched_again_and_only_that(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    slow = hub.fault(times=INF, cap=4 * MIB)
    killed(hub, store, file, 0.5)
    slow.times = 0
    partial = store.roots[0] / "partial"
    segments = journal.read(partial / f"{file.key}.json", file.size)
    victim = segments[1]
    with (partial / file.key).open("r+b") as data:
        data.seek(victim.start + 10)
        data.write(b"\xff" * 8)
    missing = file.size - sum(each.end - each.start for each in segments)
    assert get(hub, store, file).received == missing + victim.end - victim.start
    assert is_whole(store, DATA)


HALF = len(DATA) // 2
CRC = zlib.crc32(DATA[:HALF])


@pytest.mark.parametrize(
    ("data", "segments", "received"),
    [
        (DATA, [[0, HALF, CRC]], len(DATA) - HALF),
        (DATA, [[0, len(DATA), zlib.crc32(DATA)]], 0),
        (DATA, [[0, HALF, CRC + 1]], len(DATA)),
        (DATA[: HALF - 1], [[0, HALF, CRC]], len(DATA)),  # shorter than it should be
        (DATA + b"more", [[0, HALF, CRC]], len(DATA) - HALF),
        (b"", [[0, HALF, CRC]], len(DATA)),
        (DATA, [[0, HALF, CRC], [5, 9, 0]], len(DATA) - HALF),
        (DATA, [[-5, HALF, CRC]], len(DATA)),
        (DATA, [[0, 10**30, CRC]], len(DATA)),
        (DATA, [[0, HALF]], len(DATA)),
        (DATA, [[0, "x", None]], len(DATA)),
        (DATA, b"", len(DATA)),
        (DATA, b"[" * 10_000, len(DATA)),
        (DATA, b'{"v":2}', len(DATA)),
        (DATA, b'{"v":1,"size":7,"done":[]}', len(DATA)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_journal_is_believed_only_as_far_as_it_is_true(
    hub: FakeHub, store: Store, data: bytes, segments: Any, received: int
) -> None:
    file = offer(hub)
    begin(store, file, data, segments)
    assert get(hub, store, file).received == received
    assert is_whole(store, DATA)


def test_a_download_that_is_cancelled_goes_on_later(
    hub: FakeHub, store: Store, haste: Haste
) -> None:
    file = offer(hub)
    slow = hub.fault(times=INF, cap=3 * MIB)

    def cancel(report: Downloaded) -> None:
        if report.completed > MIB:
            haste.cancelled.set()

    with pytest.raises(RequestCancelled, match=r"the same command goes on from [3-9]\d %"):
        fetch(file, hub.access(), store, progress=cancel, patience=haste.patience, limits=QUICK)
    threads = [each for each in threading.enumerate() if each.name == "download"]
    assert threads == []
    slow.times = 0
    assert get(hub, store, file).received < len(DATA) - MIB
    assert is_whole(store, DATA)


def test_a_network_that_comes_back(hub: FakeHub, store: Store, haste: Haste) -> None:
    file = offer(hub)
    hub.fault(times=INF, cap=4 * MIB)
    notes: set[str] = set()
    port = 0

    def unplug(report: Downloaded) -> None:
        nonlocal port
        notes.add(report.note)
        if report.completed > MIB and not port:
            for each in hub.faults:
                each.times = 0
            hub.fault(reset=1000, times=8)
            port = hub.stop("cdn")
        elif port > 0 and report.note:
            hub.start("cdn", port)
            port = -1

    def wait(event: threading.Event, seconds: float) -> bool:
        return event.wait(min(seconds, 0.15))

    patience = Patience(haste.cancelled, wait)
    fetch(file, hub.access(), store, progress=unplug, patience=patience, limits=QUICK)
    assert is_whole(store, DATA)
    assert any(each.startswith("waiting for the network") for each in notes)


def test_a_network_that_stays_away(hub: FakeHub, store: Store, haste: Haste) -> None:
    file = offer(hub)
    hub.stop("cdn")
    with pytest.raises(Offline, match=r"cannot reach .*no connection.*goes on from 0 %"):
        get(hub, store, file, haste)
    assert 600 < sum(haste.waits) < 700
    hub.start("cdn", 0)


def test_no_journal_is_written_after_the_file_was_published(
    hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may hold up the thread that writes it for longer than the end of the download waits for it."""
    flushed, flush = threading.Event(), getattr(os, "fdatasync", os.fsync)
    keepers: list[threading.Thread] = []

    def hang(file: int) -> None:
        keepers.append(threading.current_thread())
        flushed.wait(60)
        flush(file)

    monkeypatch.setattr(os, "fdatasync", hang, raising=False)
    hub.fault(slow=4 * MIB, times=INF)
    get(hub, store, offer(hub))
    flushed.set()
    assert keepers
    for each in keepers:
        each.join()
    assert is_whole(store, DATA) and list((store.roots[0] / "partial").glob("sha256-*")) == []


# Several at once


def test_of_two_that_want_the_same_one_waits(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    hub.fault(times=INF, cap=6 * MIB)
    results: list[Fetched] = []
    notes: set[str] = set()

    def work() -> None:
        results.append(
            fetch(
                file,
                hub.access(),
                store,
                progress=lambda each: notes.add(each.note),
                limits=QUICK,
            )
        )

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.received for each in results) == [0, len(DATA)]
    assert "another process is downloading it" in notes
    assert is_whole(store, DATA)


def test_a_lock_that_does_not_hold_costs_only_bandwidth(
    hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_claim", lambda *_: None)
    file = offer(hub)
    hub.fault(times=INF, cap=12 * MIB)
    threads = [threading.Thread(target=get, args=(hub, store, file)) for _ in range(2)]
    errors: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda each: errors.append(each.exc_value))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert is_whole(store, DATA)


def test_the_dead_hold_no_lock(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    slow = hub.fault(times=INF, cap=4 * MIB)
    waiter: list[Fetched] = []
    thread = threading.Thread(target=lambda: waiter.append(get(hub, store, file)))
    start_when_locked = store.roots[0] / "partial" / f"{file.key}.lock"

    def wait_for_lock() -> None:
        while not start_when_locked.exists():
            time.sleep(0.005)
        thread.start()

    starter = threading.Thread(target=wait_for_lock)
    starter.start()
    killed(hub, store, file, 0.4)
    slow.times = 0
    starter.join()
    thread.join()
    assert is_whole(store, DATA) and waiter[0].received <= 0.6 * len(DATA)

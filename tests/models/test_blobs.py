"""Blobs that clients send: checked, kept whole or not at all, written off the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest, RequestCancelled
from ollamapy.models import blobs as sent
from ollamapy.registry.store import Store
from tests.registry.fake_hub import sha256
from tests.served import Daemon, until

from .pulls import blobs

CONTENT = b"x" * 3_000_000
DIGEST = f"sha256:{sha256(CONTENT)}"


async def parts_of(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100_000):
        yield content[start : start + 100_000]


def test_the_event_loop_writes_no_blob(tmp_path: Path) -> None:
    threads = set()

    class Watched(Store):
        def __getattribute__(self, name: str) -> Any:
            threads.add(threading.current_thread())
            return super().__getattribute__(name)

    store = Watched([tmp_path])
    threads.clear()
    for _ in range(2):  # a new one, and one that is there
        asyncio.run(sent.receive(store, DIGEST, parts_of(CONTENT), len(CONTENT)))
    assert threads and threading.current_thread() not in threads


def test_a_blob_whose_client_leaves_is_not_kept(tmp_path: Path) -> None:
    async def leaving() -> AsyncIterator[bytes]:
        yield CONTENT
        raise RequestCancelled("the client left")

    with pytest.raises(RequestCancelled, match="left"):
        asyncio.run(sent.receive(Store([tmp_path]), DIGEST, leaving(), None))
    with pytest.raises(InvalidRequest, match="digest mismatch"):
        asyncio.run(sent.receive(Store([tmp_path]), DIGEST, parts_of(b"other"), None))
    assert files_below(tmp_path) == set()


def test_a_request_that_is_broken_off_ends_the_writing(tmp_path: Path) -> None:
    ended = threading.Event()

    class Watched(Store):
        def add_blob(self, content: bytes | Iterable[bytes], digest: str | None = None) -> str:
            try:
                return super().add_blob(content, digest)
            finally:
                ended.set()

    async def silent(silence: asyncio.Event) -> AsyncIterator[bytes]:
        yield CONTENT * (
            2**20 // len(CONTENT) + 1
        )  # a whole batch: it is written when the next part is asked for
        silence.set()
        await asyncio.Event().wait()

    async def run() -> None:
        silence = asyncio.Event()
        parts = silent(silence)
        task = asyncio.ensure_future(sent.receive(Watched([tmp_path]), DIGEST, parts, None))
        async with asyncio.timeout(30):
            await silence.wait()
            assert list((tmp_path / "partial").glob("work-*"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, 30)

    asyncio.run(run())
    assert files_below(tmp_path) == set()


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"lock"}


# From a real client


def test_a_blob_larger_than_other_requests(served: Daemon) -> None:
    data = bytes(65 * 2**20)
    path = f"/api/blobs/sha256:{hashlib.sha256(data).hexdigest()}"
    assert served.ask("HEAD", path).status == 404
    assert served.ask("POST", path, data).status == 201
    assert served.ask("HEAD", path).status == 200
    assert served.ask("POST", path, data).status == 200


def test_a_blob_that_is_another_is_not_kept(served: Daemon) -> None:
    path = f"/api/blobs/sha256:{sha256(b'a')}"
    answer = served.ask("POST", path, b"b")
    assert answer.status == 400 and "digest mismatch" in answer.json()["error"]
    assert served.ask("POST", "/api/blobs/sha256:..%2Fx", b"b").status in (400, 404)
    assert not blobs(served)
    work = list((served.home / "models" / "partial").glob("work-*"))
    assert not work


def test_blobs_that_have_no_room_together_are_refused_with_the_first(served: Daemon) -> None:
    path = f"/api/blobs/sha256:{sha256(b'a')}"
    for number, status in ((10**17, 507), (1, 201)):
        answer = served.ask("POST", path, b"a", **{"Ollamapy-Bytes-To-Come": str(number)})
        assert answer.status == status, answer.body
        assert bool(blobs(served)) == (status == 201)
    for odd in ("", "x", "-1", "²", "9" * 5000):
        assert served.ask("POST", path, b"a", **{"Ollamapy-Bytes-To-Come": odd}).status == 200


def test_a_client_that_leaves_amid_a_blob(served: Daemon) -> None:
    length = {"Content-Length": str(10**6)}
    answer = served.open("POST", f"/api/blobs/sha256:{'0' * 64}", b"x" * 1000, **length)
    partials = served.home / "models" / "partial"
    until(lambda: list(partials.glob("work-*")), "it is being written")
    answer.leave()
    until(lambda: not list(partials.glob("work-*")), "it is gone")

"""A slow disk holds up neither other requests nor the end of the daemon: long work has threads of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest, RequestCancelled
from ollamapy.models import blobs
from ollamapy.models.create.making import create
from ollamapy.models.create.request import CreateRequest
from ollamapy.models.job import Job
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from tests.models.test_create import no_pull
from tests.served import serve, until
from tests.small_models import install

CONTENT = b"x" * 3_000_000
DIGEST = f"sha256:{sha256(CONTENT).hexdigest()}"


@pytest.fixture
def models(tmp_path: Path, plain: Path) -> Path:
    install(tmp_path / "models", "m", plain)
    return tmp_path / "models"


def test_requests_that_wait_for_the_store_hold_up_no_others(tmp_path: Path, models: Path) -> None:
    """While another process holds the lock of the store."""
    with serve(tmp_path, models) as daemon, Store([models]).locked():
        waiting = []
        for _ in range(15):
            waiting += [
                daemon.open("DELETE", "/api/delete", {"model": "nosuch"}),
                daemon.open("POST", "/api/copy", {"source": "m", "destination": "n"}),
                daemon.open("POST", "/api/create", {"model": "n", "from": "m"}),
            ]
        for _ in range(10):
            assert daemon.ask("POST", "/api/show", {"model": "m"}).status == 200


def test_jobs_that_wait_for_the_disk_do_not_hold_up_the_end(tmp_path: Path, models: Path) -> None:
    with serve(tmp_path, models) as daemon, Store([models]).locked():
        waiting = [
            daemon.open("POST", "/api/create", {"model": "n", "from": "m"}) for _ in range(15)
        ]
        until(lambda: daemon.busy() == len(waiting), "all of them wait")
        assert daemon.end() == 0
        for answer in waiting:
            assert b"the daemon is stopping" in answer.read() and answer.status == 503


async def without_the_pool(work: Callable[[], Any]) -> Any:
    """The result of ``await work()`` while asyncio's own threads are all at work."""
    released = threading.Event()
    pool = ThreadPoolExecutor(1)
    pool.submit(released.wait)
    asyncio.get_running_loop().set_default_executor(pool)
    try:
        async with asyncio.timeout(30):
            return await work()
    finally:
        released.set()


async def parts_of(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100_000):
        yield content[start : start + 100_000]


def test_a_creation_needs_none_of_asyncios_threads(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "base", plain)

    async def made() -> list[str]:
        renderer = Renderer()
        job = Job("create", "new")
        request = CreateRequest("new", from_="base", quantize="f16")
        job.start(partial(create, Store([tmp_path]), renderer, no_pull, request))
        return [step.status async for step in job.watch()]

    assert asyncio.run(without_the_pool(made))[-1] == "success"


def test_a_blob_needs_none_of_asyncios_threads(tmp_path: Path) -> None:
    store = Store([tmp_path])

    async def received() -> bool:
        return await blobs.receive(store, DIGEST, parts_of(CONTENT), len(CONTENT))

    assert asyncio.run(without_the_pool(received))
    assert store.blob_path(DIGEST).read_bytes() == CONTENT
    assert not asyncio.run(without_the_pool(received)), "it was there"


def test_the_event_loop_writes_no_blob(tmp_path: Path) -> None:
    threads = set()

    class Watched(Store):
        def __getattribute__(self, name: str) -> Any:
            threads.add(threading.current_thread())
            return super().__getattribute__(name)

    store = Watched([tmp_path])
    threads.clear()
    for _ in range(2):  # a new one, and one that is there
        asyncio.run(blobs.receive(store, DIGEST, parts_of(CONTENT), len(CONTENT)))
    assert threads and threading.current_thread() not in threads


def test_a_blob_whose_client_leaves_is_not_kept(tmp_path: Path) -> None:
    async def leaving() -> AsyncIterator[bytes]:
        yield CONTENT
        raise RequestCancelled("the client left")

    with pytest.raises(RequestCancelled, match="left"):
        asyncio.run(blobs.receive(Store([tmp_path]), DIGEST, leaving(), None))
    with pytest.raises(InvalidRequest, match="digest mismatch"):
        asyncio.run(blobs.receive(Store([tmp_path]), DIGEST, parts_of(b"other"), None))
    assert files_below(tmp_path) == set()


def test_a_request_that_is_broken_off_ends_the_writing(tmp_path: Path) -> None:
    ended = threading.Event()

    class Watched(Store):
        def add_blob(self, content: bytes | Iterable[bytes], digest: str | None = None) -> str:
            try:
                return super().add_blob(content, digest)
            finally:
                ended.set()

    async def silent() -> AsyncIterator[bytes]:
        yield CONTENT
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.ensure_future(blobs.receive(Watched([tmp_path]), DIGEST, silent(), None))
        async with asyncio.timeout(30):
            while not list((tmp_path / "partial").glob("work-*")):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not ended.is_set():  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0.001)

    asyncio.run(run())
    assert files_below(tmp_path) == set()


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"lock"}

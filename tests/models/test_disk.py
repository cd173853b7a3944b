"""A slow disk holds up neither other requests nor the end of the daemon: long work has threads of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ollamapy.models import blobs
from ollamapy.models.create.making import create
from ollamapy.models.create.request import CreateRequest
from ollamapy.models.job import Job
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from tests.models.test_blobs import CONTENT, DIGEST, parts_of
from tests.models.test_create import no_pull
from tests.served import serve, until
from tests.small_models import install


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

"""Giving stored models away: the steps, what a registry and the hub get, and what is refused."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from functools import partial
from pathlib import Path

import pytest

from ollamapy.config import HubSettings
from ollamapy.errors import (
    InvalidName,
    InvalidRequest,
    ModelNotFound,
    OllamapyError,
    RequestCancelled,
)
from ollamapy.models.job import Job
from ollamapy.models.jobs import Jobs
from ollamapy.models.push import PushRequest, push
from ollamapy.names import Name
from ollamapy.registry.catalog import Catalog
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from ollamapy.types import Progress
from tests.registry.test_upload import TOKEN, Elsewhere, there
from tests.small_models import install, random_model

__all__ = ["there"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store([tmp_path / "store"])


def give(store: Store, tmp_path: Path, name: str) -> Name:
    path = tmp_path / "m.gguf"
    if not path.exists():
        random_model(path, vocab=400)
    return install(
        store.roots[0], name, path, template="{{ .Prompt }}!", system="S", params={"seed": 1}
    )


def jobs(store: Store) -> Jobs:
    return Jobs(store, Catalog(()), Renderer(), HubSettings())


def pushed(store: Store, model: str, **how: object) -> list[Progress]:
    async def run() -> list[Progress]:
        return [step async for step in jobs(store).push(PushRequest(model, **how))]  # type: ignore[arg-type]

    return asyncio.run(run())


def test_a_registry_gets_the_model_as_it_is(store: Store, tmp_path: Path, there: Elsewhere) -> None:
    host = there.url.removeprefix("http://")
    name = give(store, tmp_path, f"{host}/me/model:1")
    steps = pushed(store, name.full, insecure=True)
    assert [step.status for step in (steps[0], *steps[-2:])] == [
        "retrieving manifest", "pushing manifest", "success",
    ]  # fmt: skip
    content, manifest = store.manifest_file(name)
    assert there.manifests == {"/v2/me/model/manifests/1": content}
    for layer in (manifest.config, *manifest.layers):
        assert there.blobs[layer.digest] == store.blob_path(layer.digest).read_bytes()
        last = [step for step in steps if step.digest == layer.digest][-1]
        assert last.status == f"pushing {layer.digest[7:19]}"
        assert last.completed == last.total == layer.size


def test_the_hub_gets_files_that_others_can_use(
    store: Store, tmp_path: Path, there: Elsewhere
) -> None:
    name = give(store, tmp_path, "hf.co/me/model")
    hub = HubSettings(endpoint=there.url, token=TOKEN.removeprefix("Bearer "))
    steps = pushed(store, "hf.co/me/model", hub=hub)
    assert steps[-1].status == "success"
    _, *entries = there.commits[0]
    texts = {e["value"]["path"]: e["value"] for e in entries if e["key"] == "file"}
    assert b64decode(texts["template"]["content"]) == b"{{ .Prompt }}!"
    assert set(texts) == {"template", "system", "params"}
    [large] = [e["value"] for e in entries if e["key"] == "lfsFile"]
    assert large["path"] == "model-F32.gguf"
    assert f"sha256:{large['oid']}" == store.manifest(name).layers[0].digest
    assert there.blobs[large["oid"]] == (tmp_path / "m.gguf").read_bytes()


@pytest.mark.parametrize(
    ("model", "error", "why"),
    [
        ("nosuch/model", ModelNotFound, "not found"),
        ("a b", InvalidName, "invalid model name"),
        ("plain", InvalidRequest, "no namespace of yours: ollamapy cp"),
        ("hf.co/me/model", OllamapyError, "set HF_TOKEN"),
    ],
)
def test_what_cannot_be_given(
    store: Store, tmp_path: Path, model: str, error: type[Exception], why: str
) -> None:
    give(store, tmp_path, "plain")
    give(store, tmp_path, "hf.co/me/model")
    with pytest.raises(error, match=why):
        pushed(store, model, hub=HubSettings(endpoint="http://127.0.0.1:9"))


class Left(Job):
    """A job whose watchers leave at its first blob."""

    def report(self, step: Progress) -> None:
        if step.digest:
            self.cancelled.set()
        super().report(step)


def test_a_push_ends_when_its_watchers_leave(
    store: Store, tmp_path: Path, there: Elsewhere
) -> None:
    host = there.url.removeprefix("http://")
    name = give(store, tmp_path, f"{host}/me/model:1")

    async def run() -> None:
        job = Left("push", name.full)
        job.start(partial(push, store, HubSettings(), PushRequest(name.full, insecure=True)))
        with pytest.raises(RequestCancelled):
            [step async for step in job.watch()]

    asyncio.run(run())
    assert not there.manifests

"""Reading a header from elsewhere, and telling whether a stored model is the same as there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamapy.errors import InvalidModel, TransferError
from ollamapy.formats.gguf import read_header
from ollamapy.names import Name
from ollamapy.registry import oci, preview
from ollamapy.registry.manifest import parse_manifest
from ollamapy.registry.remote import RemoteFile
from ollamapy.registry.source import Source, SourcePart
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.small_models import random_model

NAME = Name.parse("me/m")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model") / "m.gguf")


def source_of(hub: FakeHub, *files: bytes) -> Source:
    names = [f"{n}.gguf" for n in range(len(files))]
    commit = hub.add_repo("me/m", dict(zip(names, files, strict=True)))
    url = f"{hub.url}/me/m/resolve/{commit}"
    parts = [
        SourcePart("model", RemoteFile(n, f"{url}/{n}", len(data), sha256(data)), hub.access())
        for n, data in zip(names, files, strict=True)
    ]
    return Source(NAME, tuple(parts), repo="me/m", revision=commit)


def test_the_header_is_that_of_the_file(hub: FakeHub, model: Path) -> None:
    data = model.read_bytes()
    found = preview.header(source_of(hub, data))
    assert found == read_header(model)
    assert hub.asked("cdn")[0].range.startswith("bytes=0-")


def test_only_the_beginning_is_read(hub: FakeHub, model: Path) -> None:
    found = preview.header(source_of(hub, model.read_bytes() + content(20_000_000)))
    assert found.parameter_count == read_header(model).parameter_count
    assert hub.sent("cdn") < 2_500_000


def test_shards_are_one_model(hub: FakeHub, model: Path) -> None:
    data = model.read_bytes()
    found = preview.header(source_of(hub, data, data))
    assert found.weights_size == 2 * read_header(model).weights_size
    assert found.size == 2 * len(data)


def test_a_model_of_a_registry(hub: FakeHub, model: Path) -> None:
    manifest = hub.add_ollama("me/m", "latest", [("model", model.read_bytes())])
    published = oci.list_files(NAME, hub.access())
    found = Source(NAME, published=published)
    assert preview.header(found).architecture == "llama"
    assert preview.is_current(parse_manifest(manifest), {}, found)
    assert not preview.is_current(parse_manifest(manifest + b"\n"), {}, found)


@pytest.mark.parametrize(
    "action",
    [
        {"status": 429, "headers": {"Retry-After": "3"}},
        {"status": 502},
        {"truncate": 100},
        {"reset": 100},
        {"html": True},
        {"shift": 1},
        {"ignore_range": True, "times": 99},
    ],
    ids=str,
)
def test_faults_are_borne(
    hub: FakeHub, haste: Haste, model: Path, action: dict[str, object]
) -> None:
    found = source_of(hub, model.read_bytes())
    fault = hub.fault("cdn", method="GET", **action)
    assert preview.header(found, haste.patience) == read_header(model)
    assert fault.used
    if action.get("status") == 429:
        assert haste.waits == [3.0]


def test_what_does_not_end_well_is_told(hub: FakeHub, haste: Haste, model: Path) -> None:
    hub.fault("cdn", status=503, times=99)
    with pytest.raises(TransferError, match="cannot read the beginning of 0.gguf on .*503"):
        preview.header(source_of(hub, model.read_bytes()), haste.patience)
    assert len(hub.asked("cdn", method="GET")) <= 4


@pytest.mark.parametrize("data", [content(100_000), b"GGUF", b"<!DOCTYPE html>" * 100])
def test_what_is_no_gguf_is_refused(hub: FakeHub, data: bytes) -> None:
    with pytest.raises(InvalidModel, match="0.gguf on 127.0.0.1"):
        preview.header(source_of(hub, data))


def test_what_has_no_header_is_refused() -> None:
    with pytest.raises(InvalidModel, match="is not a remote GGUF"):
        preview.header(Source(NAME))


def test_the_same_files_of_another_commit_are_the_same(hub: FakeHub, model: Path) -> None:
    found = source_of(hub, model.read_bytes())
    here = parse_manifest(hub.add_ollama("me/m", "x", [("model", b"x")]))
    recorded = {**found.record, "revision": "0" * 40}
    assert preview.is_current(here, recorded, found)
    assert not preview.is_current(here, {**recorded, "files": []}, found)
    assert not preview.is_current(here, {}, found)

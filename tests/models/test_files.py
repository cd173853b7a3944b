"""A manifest's files, resolved against a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamapy.errors import InvalidModel, StoreError
from ollamapy.loading import File
from ollamapy.models.files import resolve
from ollamapy.registry.manifest import LAYER_PREFIX, Layer, Manifest
from ollamapy.registry.store import Store
from tests.small_projectors import projector


@pytest.fixture(scope="module")
def mmproj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projector(tmp_path_factory.mktemp("gguf") / "mmproj.gguf", "mlp")


CONFIG = Layer("", "sha256:" + "0" * 64, 0)


def manifest(*layers: Layer) -> Manifest:
    return Manifest(CONFIG, layers, "", 0)


def add(store: Store, kind: str, content: bytes) -> Layer:
    return Layer(LAYER_PREFIX + kind, store.add_blob(content), len(content))


def file(store: Store, layer: Layer) -> File:
    return File(store.blob_path(layer.digest), layer.digest, layer.size)


def test_each_layer_becomes_a_file(tmp_path: Path, plain: Path, mmproj: Path) -> None:
    store = Store([tmp_path])
    one, two = add(store, "model", b"1"), add(store, "model", b"22")
    adapter = add(store, "adapter", plain.read_bytes())
    eyes = add(store, "projector", mmproj.read_bytes())
    text = add(store, "system", b"Be brief.")
    files = resolve(manifest(eyes, one, text, adapter, two), store)
    assert files.weights == file(store, one) and files.weights.path.read_bytes() == b"1"
    assert files.shards == (file(store, two),)
    assert files.weight_files == (files.weights, *files.shards)
    assert files.adapters == (file(store, adapter),)
    assert files.projector == file(store, eyes)
    assert 0 < files.adapter_size < adapter.size, "its tensors alone"
    assert files.projector_size > eyes.size, "its tensors and what it computes in"


def test_the_key_names_all_files(tmp_path: Path, plain: Path, mmproj: Path) -> None:
    store = Store([tmp_path])
    one, two = add(store, "model", b"1"), add(store, "model", b"22")
    adapter = add(store, "adapter", plain.read_bytes())
    eyes = add(store, "projector", mmproj.read_bytes())
    other = add(store, "projector", mmproj.read_bytes() + b"0")
    alone = resolve(manifest(one), store).key
    assert alone == one.digest
    sets = [(one, two), (one, adapter), (two,), (eyes, one), (one, other)]
    keys = [resolve(manifest(*layers), store).key for layers in sets]
    assert len({alone, *keys}) == 1 + len(sets)


def test_what_cannot_be_resolved(tmp_path: Path) -> None:
    store = Store([tmp_path])
    weights = add(store, "model", b"1")
    with pytest.raises(InvalidModel, match="no weights"):
        resolve(manifest(add(store, "system", b"x")), store)
    with pytest.raises(InvalidModel):
        resolve(manifest(weights, add(store, "adapter", b"no GGUF")), store)
    with pytest.raises(InvalidModel):
        resolve(manifest(weights, add(store, "projector", b"no GGUF")), store)
    with pytest.raises(StoreError, match="is missing"):
        resolve(
            manifest(weights, Layer(LAYER_PREFIX + "projector", "sha256:" + "a" * 64, 1)), store
        )

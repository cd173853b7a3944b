"""The model that comes with the package, as it is shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ollamapy.config import builtin_models
from ollamapy.formats.gguf import read_header
from ollamapy.models.spec import JOIN_MESSAGES
from ollamapy.names import Name
from ollamapy.registry.store import Store

STORE = Store([builtin_models()])
TINYSTORIES = Name.parse("tinystories")


def model_file() -> Path:
    [layer] = [each for each in STORE.manifest(TINYSTORIES).layers if each.kind == "model"]
    return STORE.blob_path(layer.digest)


def test_it_is_a_whole_store() -> None:
    assert STORE.names() == [TINYSTORIES]
    manifest = STORE.manifest(TINYSTORIES)
    for layer in (manifest.config, *manifest.layers):
        data = STORE.blob_path(layer.digest).read_bytes()
        assert len(data) == layer.size
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.digest
    assert {"model", "license"} <= {layer.kind for layer in manifest.layers}


def test_it_is_what_it_promises() -> None:
    header = read_header(model_file())
    assert header.architecture == "llama" and header.file_type_name == "Q8_0"
    assert 2_000_000 <= header.parameter_count <= 4_000_000
    assert (header.context_length or 0) >= 512
    assert header.chat_template is None, "it goes on from a text, it does not chat"
    assert header.metadata[JOIN_MESSAGES] is True


def test_it_takes_little_room() -> None:
    files = [path for path in builtin_models().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_000_000

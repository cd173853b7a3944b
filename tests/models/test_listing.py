"""The list of the stored models, on real stores with real GGUF files."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from pathlib import Path

import msgspec
import pytest

from ollamapy.errors import StoreError
from ollamapy.models.listing import Listing
from ollamapy.models.models import Models
from ollamapy.names import Name
from ollamapy.registry.manifest import parse_manifest
from ollamapy.registry.store import Store
from tests.models.stored import models
from tests.small_models import GO_CHATML, install, random_model

OLLAMAS = Path(__file__).parent.parent / "data" / "store"


def test_a_new_daemon_lists_without_reading_files_again(tmp_path: Path, plain: Path) -> None:
    root, remembered = tmp_path / "models", tmp_path / "facts.json"
    install(root, "m", plain)
    (before,) = asyncio.run(Models(Store([root]), remembered).list())
    for path in (root / "blobs").iterdir():
        if path.stat().st_size == plain.stat().st_size:
            path.write_bytes(b"not read")
    (after,) = asyncio.run(Models(Store([root]), remembered).list())
    assert after == before and after.details.context_length
    (anew,) = asyncio.run(Models(Store([root])).list())
    assert not anew.details.context_length


def test_the_list_is_as_ollamas(tmp_path: Path, scripted: Path) -> None:
    install(tmp_path, "hello", scripted, template=GO_CHATML)
    (listed,) = asyncio.run(models(tmp_path).list())
    value = json.loads(msgspec.json.encode(listed))
    manifest = parse_manifest((tmp_path / "manifests" / Name.parse("hello").path).read_bytes())
    assert value.pop("modified_at")
    assert manifest.size < value.pop("memory") < 10**8
    assert value == {
        "name": "hello:latest",
        "model": "hello:latest",
        "size": manifest.size,
        "digest": manifest.digest,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "448K",
            "quantization_level": "F32",
            "context_length": 2048,
            "embedding_length": 256,
        },
        "capabilities": ["completion"],
        "full_capabilities": ["completion"],
    }


def test_damage_is_listed_as_far_as_it_is_known_and_logged_once(
    tmp_path: Path, plain: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(OLLAMAS, tmp_path, dirs_exist_ok=True)  # its weights are not there
    install(tmp_path, "good", plain)
    found = models(tmp_path)
    with caplog.at_level(logging.WARNING):
        asyncio.run(found.list())
        listed = {each.name: each for each in asyncio.run(found.list())}
    assert listed.keys() == {"hello:latest", "tool:latest", "good:latest"}
    assert listed["hello:latest"].details.parameter_size == "452K"
    assert listed["hello:latest"].details.context_length == 0
    assert listed["good:latest"].details.context_length == 512
    assert len(caplog.records) == 2
    with pytest.raises(StoreError, match="is missing"):
        asyncio.run(found.load("hello"))


def test_what_arrives_later_is_listed(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "m", plain)
    found = models(tmp_path)
    path = asyncio.run(found.load("m")).files.weights.path
    hidden = path.rename(tmp_path / "hidden")
    assert asyncio.run(found.list())[0].details.context_length == 0
    hidden.rename(path)
    assert asyncio.run(found.list())[0].details.context_length == 512


def test_what_only_the_jinja_template_can_do_is_in_a_field_of_its_own(tmp_path: Path) -> None:
    template = "{% if tools %}{{ tools }}{% endif %}<think>{% for m in messages %}{{ m.content }}{% endfor %}</think>"
    install(tmp_path, "thinker", random_model(tmp_path / "m.gguf", chat_template=template))
    [listed] = Listing(Store([tmp_path])).read()
    assert listed.capabilities == ("completion",)
    assert set(listed.full_capabilities) == {"completion", "tools", "thinking"}

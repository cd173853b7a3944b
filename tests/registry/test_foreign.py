"""Models of other tools: where they lie, what they are called here, and that no byte is copied unasked."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidModel, StoreError
from ollamapy.names import Name
from ollamapy.registry import foreign
from ollamapy.registry.foreign import Found, Linked
from ollamapy.registry.store import Store
from tests.registry.fake_hub import sha256
from tests.registry.stores import faults, put
from tests.small_models import random_model
from tests.small_projectors import projector

REPO = "models--user--Tiny-GGUF"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small real model."""
    return random_model(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


def refuse(_: int) -> bool:
    return False


def take(store: Store, found: Found, may_copy: Callable[[int], bool] = refuse) -> Linked:
    linked = foreign.take(store, found, may_copy)
    return linked


def write(path: Path, data: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(tool: str, folder: Path) -> list[str]:
    return [each.name.display for each in foreign.find(tool, [folder])]


# Where they lie


@pytest.mark.parametrize(
    ("tool", "environ", "platform", "there"),
    [
        ("ollama", {}, "linux", ".ollama/models"),
        ("ollama", {"OLLAMA_MODELS": "{home}/else"}, "darwin", "else"),
        ("ollama", {"OLLAMA_MODELS": "~/else"}, "darwin", "else"),
        ("lmstudio", {}, "linux", ".lmstudio/models"),
        ("lmstudio", {}, "linux", ".cache/lm-studio/models"),
        ("hf", {}, "linux", ".cache/huggingface/hub"),
        ("hf", {"XDG_CACHE_HOME": "{home}/c"}, "linux", "c/huggingface/hub"),
        ("hf", {"HF_HOME": "{home}/h"}, "linux", "h/hub"),
        ("hf", {"HF_HUB_CACHE": "{home}/hub"}, "linux", "hub"),
        ("hf", {"HUGGINGFACE_HUB_CACHE": "{home}/hub"}, "linux", "hub"),
        ("llama.cpp", {}, "linux", ".cache/llama.cpp"),
        ("llama.cpp", {}, "darwin", "Library/Caches/llama.cpp"),
        ("llama.cpp", {}, "win32", "AppData/Local/llama.cpp"),
        ("llama.cpp", {"LLAMA_CACHE": "{home}/l"}, "linux", "l"),
        ("llama.cpp", {}, "linux", ".cache/huggingface/hub"),
    ],
)  # fmt: skip
def test_where_a_tool_keeps_its_models(
    tmp_path: Path, tool: str, environ: dict[str, str], platform: str, there: str
) -> None:
    environ = {key: value.format(home=tmp_path) for key, value in environ.items()}
    found = foreign.places(tool, environ, tmp_path, platform)
    assert tmp_path / there not in found
    (tmp_path / there).mkdir(parents=True)
    assert tmp_path / there in foreign.places(tool, environ, tmp_path, platform)


def test_lm_studio_may_have_moved(tmp_path: Path) -> None:
    write(tmp_path / ".lmstudio-home-pointer", str(tmp_path / "moved").encode())
    settings = {"downloadsFolder": str(tmp_path / "big disk")}
    write(tmp_path / "moved" / "settings.json", json.dumps(settings).encode())
    (tmp_path / "big disk").mkdir()
    assert foreign.places("lmstudio", {}, tmp_path, "linux") == [tmp_path / "big disk"]
    for broken in (b"{", b"[]", b'{"downloadsFolder":7}', b"\xff"):
        write(tmp_path / "moved" / "settings.json", broken)
        assert foreign.places("lmstudio", {}, tmp_path, "linux") == []


# What they are called


def test_files_of_the_hub_are_named_as_a_pull_names_them(tmp_path: Path) -> None:
    for path in (
        "user/Tiny-GGUF/tiny-Q4_K_M.gguf",
        "user/Tiny-GGUF/tiny-Q8_0.gguf",
        "user/Tiny-GGUF/mmproj-tiny-F16.gguf",
        "user/Tiny-GGUF/README.md",
        "user/Big/Q4_0/big-Q4_0-00001-of-00002.gguf",
        "user/Big/Q4_0/big-Q4_0-00002-of-00002.gguf",
        "user/Torn/torn-00001-of-00002.gguf",
        "some.one/plain/model.gguf",
    ):
        write(tmp_path / path)
    found = {each.name.display: each for each in foreign.find("lmstudio", [tmp_path])}
    assert list(found) == [
        "hf.co/some-one/plain:model",
        "hf.co/user/Big:Q4_0",
        "hf.co/user/Tiny-GGUF:Q4_K_M",
        "hf.co/user/Tiny-GGUF:Q8_0",
    ]
    kinds = {name: [file.kind for file in each.files] for name, each in found.items()}
    assert kinds["hf.co/user/Big:Q4_0"] == ["model", "model"]
    assert kinds["hf.co/user/Tiny-GGUF:Q8_0"] == ["model", "projector"]


def test_of_a_cache_of_the_hub_the_current_commit_counts(tmp_path: Path) -> None:
    blob = write(tmp_path / REPO / "blobs" / sha256(b"GGUF"))
    for commit, name in (("a" * 40, "old-Q4_0.gguf"), ("b" * 40, "new-Q8_0.gguf")):
        link = tmp_path / REPO / "snapshots" / commit / name
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
    assert names("hf", tmp_path) == ["hf.co/user/Tiny-GGUF:Q8_0"]
    write(tmp_path / REPO / "refs" / "main", b"a" * 40)
    [found] = foreign.find("hf", [tmp_path])
    assert found.name.tag == "Q4_0"
    assert found.files[0].path == blob and found.files[0].sha256 == sha256(b"GGUF")
    (tmp_path / REPO / "blobs" / sha256(b"GGUF")).unlink()  # links that lead nowhere
    assert names("hf", tmp_path) == []


def test_the_flat_cache_of_llama_cpp(tmp_path: Path) -> None:
    write(tmp_path / "user_Tiny-GGUF_tiny-Q4_0.gguf")
    write(tmp_path / "manifest=user=Tiny-GGUF=latest.json", b"{}")
    write(tmp_path / "ggml-org_mine q8.gguf")
    write(tmp_path / "x.gguf.downloadInProgress")
    assert names("llama.cpp", tmp_path) == [
        "hf.co/user/Tiny-GGUF:Q4_0",
        "ggml-org_mine-q8:latest",
    ]


def test_ollamas_names_are_kept(tmp_path: Path) -> None:
    theirs = Store([tmp_path])
    put(theirs, "m")
    put(theirs, "user/torn", b"torn", b'{"n":1}')
    theirs.blob_path(f"sha256:{sha256(b'torn')}").unlink()
    assert names("ollama", tmp_path) == ["m:latest"]


# Into the store


def lmstudio(tmp_path: Path, gguf: bytes) -> tuple[Path, Found]:
    path = write(tmp_path / "lm" / "user" / "Tiny" / "tiny-Q4_0.gguf", gguf)
    [found] = foreign.find("lmstudio", [tmp_path / "lm"])
    return path, found


def test_a_file_is_shared_and_not_copied(store: Store, tmp_path: Path, gguf: bytes) -> None:
    path, found = lmstudio(tmp_path, gguf)
    path.chmod(0o444)
    linked = take(store, found)
    assert linked.name == found.name and linked.how in ("cloned", "linked")
    blob = store.blob_path(f"sha256:{sha256(gguf)}")
    assert linked.how == "cloned" or os.path.samefile(path, blob)
    assert oct(path.stat().st_mode)[-3:] == "444"
    assert faults(store) == []
    assert [each.name for each in (store.roots[0] / "partial").iterdir()] == ["lock"]
    config = json.loads(store.read_small(store.manifest(found.name).config))
    assert (config["model_family"], config["model_format"]) == ("llama", "gguf")


@pytest.mark.parametrize(("width", "kinds"), [(64, ["model", "projector"]), (128, ["model"])])
def test_a_projector_of_another_model_is_left_out(
    store: Store, tmp_path: Path, gguf: bytes, width: int, kinds: list[str]
) -> None:
    path, _ = lmstudio(tmp_path, gguf)
    projector(path.with_name("mmproj-tiny-F16.gguf"), "mlp", width=width)
    [found] = foreign.find("lmstudio", [tmp_path / "lm"])
    linked = take(store, found)
    assert [layer.kind for layer in store.manifest(linked.name).layers] == kinds
    assert faults(store) == []


def test_a_model_of_ollamas_is_the_same_here(store: Store, tmp_path: Path) -> None:
    theirs = Store([tmp_path / "theirs"])
    put(theirs, "m", b"weights")
    [found] = foreign.find("ollama", theirs.roots)
    take(store, found)
    name = Name.parse("m")
    assert store.manifest(name).digest == theirs.manifest(name).digest and faults(store) == []
    assert take(store, found).how == "kept"


def another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(foreign, "_clone", lambda *_: False)


def test_what_cannot_be_shared_is_copied_only_if_that_is_allowed(
    store: Store, tmp_path: Path, gguf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, found = lmstudio(tmp_path, gguf)
    another_disk(monkeypatch)
    with pytest.raises(StoreError, match="can only be copied, .* allow it with --copy"):
        take(store, found)
    assert store.names() == []
    assert [each.name for each in (store.roots[0] / "partial").iterdir()] == ["lock"]
    asked: list[int] = []

    def agree(size: int) -> bool:
        asked.append(size)
        return True

    assert take(store, found, agree).how == "copied"
    assert asked == [len(gguf)] and faults(store) == []
    assert not os.path.samefile(path, store.blob_path(f"sha256:{sha256(gguf)}"))


def test_what_is_no_model_stays_out(store: Store, tmp_path: Path, gguf: bytes) -> None:
    path, found = lmstudio(tmp_path, b"GGUF but not really")
    with pytest.raises(InvalidModel):
        take(store, found)
    theirs = Store([tmp_path / "theirs"])
    put(theirs, "m", b"weights")
    theirs.blob_path(f"sha256:{sha256(b'weights')}").write_bytes(b"WEIGHTS")
    [found] = foreign.find("ollama", theirs.roots)
    with pytest.raises(InvalidModel, match="is damaged: its content does not match"):
        take(store, found)
    assert store.names() == [] and not store.has(f"sha256:{sha256(b'WEIGHTS')}")

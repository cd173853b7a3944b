"""The store on real folders: what it finds, what it refuses, and what is left when it is stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  (imported before a child gives up its rights to read files)
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.digests import parse_digest
from ollamapy.errors import (
    InvalidModel,
    InvalidRequest,
    ModelNotFound,
    ReadOnlyModel,
    StoreError,
)
from ollamapy.names import Name
from ollamapy.registry.manifest import (
    CONFIG_TYPE,
    LAYER_PREFIX,
    MAX_MANIFEST,
    parse_manifest,
    print_manifest,
)
from ollamapy.registry.store import Store
from tests.registry.stores import in_child, put

OLLAMAS = Path(__file__).parent.parent / "data" / "store"
HELLO = Name.parse("hello")


def write_manifest_file(root: Path, name: str, content: bytes, modified_at: float = 1e9) -> Path:
    """Put a manifest's file there as another program would."""
    path = root / "manifests" / Name.parse(name).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (modified_at, modified_at))
    return path


LAYER = {"mediaType": LAYER_PREFIX + "model", "digest": f"sha256:{'a' * 64}", "size": 7}


def manifest_value(**changes: Any) -> dict[str, Any]:
    config = {"mediaType": CONFIG_TYPE, "digest": f"sha256:{'b' * 64}", "size": 2}
    return {"schemaVersion": 2, "config": config, "layers": [LAYER], **changes}


def manifest(**changes: Any) -> bytes:
    return json.dumps(manifest_value(**changes)).encode()


def files(root: Path) -> set[str]:
    """Everything below a folder that is not a folder, as relative paths."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


# A store that Ollama made


def test_a_real_ollama_store_is_read() -> None:
    store = Store([OLLAMAS])
    assert {name.display for name in store.names()} == {"hello:latest", "tool:latest"}
    found = store.manifest(HELLO)
    assert found.digest == "07ec5185ab5d02f638aedf446f2e6439c75a2f7e1356b9f21558e062c842e87b"
    assert found.size == 1817593
    assert [layer.kind for layer in found.layers] == ["model", "template", "params"]
    assert json.loads(store.read_small(found.config))["model_type"] == "452K"
    assert b"{{ .Content }}" in store.read_small(found.layers[1])
    with pytest.raises(StoreError, match="blob sha256:7d08814fb423 is missing"):
        store.blob_path(found.layers[0].digest)


def test_what_is_printed_is_what_ollama_wrote() -> None:
    path = OLLAMAS / "manifests" / HELLO.path
    parsed = parse_manifest(path.read_bytes())
    assert print_manifest(parsed.config, parsed.layers).strip() == path.read_bytes().strip()


# Reading


def test_reading_a_store_that_is_not_there_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "no" / "such" / "folder"
    store = Store([root])
    assert store.names() == []
    assert store.find(HELLO) is None
    assert not store.has("sha256:" + "a" * 64)
    with pytest.raises(ModelNotFound, match=r"^model 'hello:latest' not found$"):
        store.manifest(HELLO)
    assert list(tmp_path.iterdir()) == []


def test_newest_first(tmp_path: Path) -> None:
    for name, at in (("old", 1e9), ("new", 3e9), ("middle", 2e9)):
        write_manifest_file(tmp_path, name, manifest(), at)
    names = Store([tmp_path]).names()
    assert [name.model for name in names] == ["new", "middle", "old"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("hello", "Hello:latest"),
        ("HELLO:LATEST", "Hello:latest"),
        ("Registry.Ollama.AI/Library/hello", "Hello:latest"),
        ("hello:other", None),
        ("x/hello", None),
        ("user/model:q4_k_m", "User/Model:Q4_K_M"),
    ],
)
def test_lookup_folds_case(tmp_path: Path, asked: str, found: str | None) -> None:
    for installed in ("Hello", "User/Model:Q4_K_M"):
        write_manifest_file(tmp_path, installed, manifest())
    name = Store([tmp_path]).find(Name.parse(asked))
    assert (name.display if name else None) == found


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_name_in_its_very_spelling_is_found_without_reading_folders(tmp_path: Path) -> None:
    """Which takes milliseconds where there are a thousand models, for each request."""
    store = Store([tmp_path])
    name = put(store, "hello")

    def work() -> str:
        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            if event in ("os.scandir", "os.listdir"):
                raise AssertionError(f"{event} of {arguments[0]}")

        sys.addaudithook(watch)
        assert store.find(name) == name and store.manifest(name).size > 0
        return "found"

    assert in_child(work) == (0, "found")


def test_a_link_to_a_manifest_is_followed_only_inside(tmp_path: Path) -> None:
    store = Store([tmp_path / "store"])
    hello = put(store, "hello")
    path = tmp_path / "store" / "manifests" / hello.path
    outside = tmp_path / "outside"
    outside.write_bytes(path.read_bytes())
    (path.parent / "inside").symlink_to(path)
    (path.parent / "outside").symlink_to(outside)
    assert store.find(Name.parse("hello:inside")) == Name.parse("hello:inside")
    assert store.find(Name.parse("hello:outside")) is None


def test_of_two_spellings_the_one_as_asked_is_found(tmp_path: Path) -> None:
    for name in ("twin:latest", "Twin:latest", "Twin:big"):
        write_manifest_file(tmp_path, name, manifest())
    if not (tmp_path / "manifests/registry.ollama.ai/library/twin").samefile(
        tmp_path / "manifests/registry.ollama.ai/library/Twin"
    ):
        store = Store([tmp_path])
        for asked in ("twin:latest", "Twin:latest"):
            assert store.find(Name.parse(asked)) == Name.parse(asked)
        assert store.find(Name.parse("twin:big")) == Name.parse("Twin:big")


def test_the_first_root_hides_the_second(tmp_path: Path) -> None:
    own, builtin = tmp_path / "own", tmp_path / "builtin"
    put(Store([builtin]), "both", b"builtin")
    put(Store([builtin]), "only-builtin", b"builtin")
    put(Store([own]), "Both", b"own")
    store = Store([own, builtin])
    assert {name.display for name in store.names()} == {"Both:latest", "only-builtin:latest"}
    layer = store.manifest(Name.parse("both")).layers[0]
    assert store.read_small(layer) == b"own"
    # a second name for a model of the second root works without copying its blobs
    store.copy(Name.parse("only-builtin"), Name.parse("mine"))
    assert store.blob_path(store.manifest(Name.parse("mine")).layers[0].digest).is_relative_to(
        builtin
    )
    with pytest.raises(ReadOnlyModel, match="'only-builtin:latest' cannot be deleted"):
        store.delete(Name.parse("only-builtin"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"config":', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no list of layers"),
        (manifest(layers=None), "no list of layers"),
        (manifest(layers=[1]), "layer is not a JSON object"),
        (manifest(config=None), "config is not a JSON object"),
        (manifest(config={"digest": "sha256:" + "a" * 64}), "config has no valid size"),
        (manifest(config={"digest": "sha256:" + "a" * 64, "size": -1}), "config has no valid size"),
        (manifest(config={"digest": "sha256:" + "a" * 64, "size": True}), "no valid size"),
        (manifest(config={"digest": "sha256:" + "a" * 64, "size": 2**63}), "no valid size"),
        (manifest(config={"digest": "sha256:../../../etc/passwd", "size": 1}), "no valid digest"),
        (manifest(config={"digest": "sha256:" + "a" * 64 + "\n", "size": 1}), "no valid digest"),
        (manifest(config={"digest": 5, "size": 1}), "no valid digest"),
        (manifest(config={"digest": "sha256:" + "a" * 64, "size": 1, "mediaType": {}}), "not text"),
        (manifest(layers=[{**LAYER, "from": 5}]), "layer has a field that is not text"),
        (manifest(layers=[{**LAYER, "from": "\ud800"}]), "not text"),
        (b" " * (MAX_MANIFEST + 1), "larger than"),
    ],
)
def test_a_damaged_manifest_is_skipped_and_explained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    write_manifest_file(tmp_path, "good", manifest())
    path = write_manifest_file(tmp_path, "bad", content)
    store = Store([tmp_path])
    with caplog.at_level(logging.WARNING):
        assert [name.model for name in store.names()] == ["good"]
        assert [name.model for name in store.names()] == ["good"]
    assert len(caplog.records) == 1  # not at every list
    assert str(path) in caplog.text and reason in caplog.text
    with pytest.raises(InvalidModel, match=f"is damaged: .*{reason}.*, get the model again$"):
        store.manifest(Name.parse("bad"))


def test_a_manifest_that_changes_is_read_again(tmp_path: Path) -> None:
    path = write_manifest_file(tmp_path, "m", b"{", 1e9)
    store = Store([tmp_path])
    assert store.names() == []
    write_manifest_file(tmp_path, "m", manifest(), 2e9)
    assert store.manifest(Name.parse("m")).modified_at == 2e9
    path.unlink()
    assert store.names() == []
    with pytest.raises(ModelNotFound):
        store.manifest(Name.parse("m"))


def test_what_is_no_name_is_left_out(tmp_path: Path) -> None:
    write_manifest_file(tmp_path, "good", manifest())
    library = tmp_path / "manifests" / "registry.ollama.ai" / "library"
    (library / ".DS_Store").write_bytes(b"x")
    (library / "a b").mkdir()
    (library / "a b" / "latest").write_bytes(manifest())
    kelvin = "\N{KELVIN SIGN}"  # its lower case is an ASCII k
    (library / kelvin).mkdir()
    (library / kelvin / "latest").write_bytes(manifest())
    (library / "deep" / "latest" / "more").mkdir(parents=True)
    (tmp_path / "manifests" / "file").write_bytes(b"x")
    store = Store([tmp_path])
    assert [name.model for name in store.names()] == ["good"]
    assert store.find(Name.parse("k")) is None
    assert store.find(Name.parse("deep")) is None


def test_links_leave_manifests_for_nothing_but_may_lead_blobs_elsewhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    elsewhere = tmp_path / "big disk"
    elsewhere.mkdir()
    root.mkdir()
    (root / "blobs").symlink_to(elsewhere)
    store = Store([root])
    put(store, "real", b"much")
    assert len(list(elsewhere.iterdir())) == 2

    write_manifest_file(outside, "stranger", manifest())
    library = root / "manifests" / "registry.ollama.ai" / "library"
    (library / "linked").symlink_to(outside / "manifests/registry.ollama.ai/library/stranger")
    (library / "alias").mkdir()
    (library / "alias" / "latest").symlink_to("../real/latest")
    assert {name.model for name in store.names()} == {"real", "alias"}
    assert store.find(Name.parse("linked")) is None
    assert store.read_small(store.manifest(Name.parse("alias")).layers[0]) == b"much"


def test_a_pipe_instead_of_a_file_does_not_hang(tmp_path: Path) -> None:
    path = write_manifest_file(tmp_path, "pipe", b"")
    path.unlink()
    os.mkfifo(path)
    assert Store([tmp_path]).names() == []
    assert Store([tmp_path]).find(Name.parse("pipe")) is None


def test_small_layers_have_a_limit(tmp_path: Path) -> None:
    store = Store([tmp_path])
    put(store, "m", b"x" * 1000)
    layer = store.manifest(Name.parse("m")).layers[0]
    assert len(store.read_small(layer)) == 1000
    with pytest.raises(InvalidModel, match="larger than 999 bytes"):
        store.read_small(layer, limit=999)


# Digests


@given(st.text() | st.from_regex(r"sha256[:-][0-9a-fA-F]{60,68}.?", fullmatch=True))
def test_no_digest_becomes_a_path_outside_of_blobs(text: str) -> None:
    root = Path("/nonexistent")
    try:
        digest = parse_digest(text)
    except InvalidRequest:
        for use in (Store([root]).has, Store([root]).blob_path):
            with pytest.raises(InvalidRequest):
                use(text)
        return
    assert len(digest) == 71 and digest == digest.lower()
    assert set(digest[7:]) <= set("0123456789abcdef")


@pytest.mark.parametrize("spelling", ["sha256-{}", "sha256:{}", "sha256-{upper}"])
def test_a_blob_is_found_however_its_digest_is_spelled(tmp_path: Path, spelling: str) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / spelling.format(digest, upper=digest.upper())).write_bytes(b"x")
    store = Store([tmp_path])
    for asked in (f"sha256:{digest}", f"sha256-{digest}", f"sha256:{digest.upper()}"):
        assert store.blob_path(asked).read_bytes() == b"x"
    store.add_blob(b"x")
    assert len(list((tmp_path / "blobs").iterdir())) == 1


# Writing


def test_a_blob_is_stored_once_under_its_digest(tmp_path: Path) -> None:
    store = Store([tmp_path])
    digest = store.add_blob(iter([b"ab", b"", b"c"]))
    assert digest == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"
    path = store.blob_path(digest)
    assert path.read_bytes() == b"abc"
    os.utime(path, (0, 0))
    before = path.stat()
    assert store.add_blob(b"abc", digest) == digest
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime > 0  # young again: it is about to be named
    assert files(tmp_path) == {f"blobs/{path.name}"}


def test_a_blob_that_was_cut_short_is_replaced(tmp_path: Path) -> None:
    store = Store([tmp_path])
    path = store.blob_path(store.add_blob(b"whole"))
    path.write_bytes(b"who")
    store.add_blob(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    expected = "sha256:" + "a" * 64
    with pytest.raises(InvalidRequest, match=f'digest mismatch, expected "{expected}", got "sha'):
        Store([tmp_path]).add_blob(b"x", expected)
    assert files(tmp_path) == set()


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def source() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionResetError("the client is gone")

    with pytest.raises(ConnectionResetError):
        Store([tmp_path]).add_blob(source())
    assert files(tmp_path) == set()


def test_a_manifest_needs_its_blobs(tmp_path: Path) -> None:
    store = Store([tmp_path])
    with pytest.raises(StoreError, match="blob sha256:bbbbbbbbbbbb is missing"):
        store.write_manifest(HELLO, manifest())
    with pytest.raises(InvalidModel):
        store.write_manifest(HELLO, b"{}")
    assert store.names() == []


def test_a_manifest_is_kept_byte_for_byte_and_replaced_whatever_its_case(tmp_path: Path) -> None:
    store = Store([tmp_path])
    put(store, "Hello", b"one")
    odd = json.dumps(
        {
            "x": 1,
            **manifest_value(
                config={"digest": store.add_blob(b"{}"), "size": 2, "mediaType": ""}, layers=[]
            ),
        },
        indent=2,
    ).encode()
    assert store.write_manifest(Name.parse("hELLO"), odd).display == "Hello:latest"
    assert [name.display for name in store.names()] == ["Hello:latest"]
    assert store.manifest(HELLO).digest == hashlib.sha256(odd).hexdigest()
    # a new tag of an installed model goes where the model is
    assert store.copy(HELLO, Name.parse("HELLO:v2")).display == "Hello:v2"


def test_delete_removes_what_nobody_else_uses(tmp_path: Path) -> None:
    store = Store([tmp_path])
    put(store, "user/one:a", b"shared", b'{"a":1}')
    put(store, "two", b"shared", b'{"b":1}')
    store.delete(Name.parse("USER/one:a"))
    assert [name.display for name in store.names()] == ["two:latest"]
    assert {path.read_bytes() for path in (tmp_path / "blobs").iterdir()} == {b"shared", b'{"b":1}'}
    assert not (tmp_path / "manifests" / "registry.ollama.ai" / "user").exists()
    store.delete(Name.parse("two"))
    assert list((tmp_path / "blobs").iterdir()) == []
    with pytest.raises(ModelNotFound, match="model 'two:latest' not found"):
        store.delete(Name.parse("two"))


def test_a_damaged_model_can_be_deleted_and_keeps_blobs_from_being(tmp_path: Path) -> None:
    store = Store([tmp_path])
    put(store, "good")
    write_manifest_file(tmp_path, "bad", b"{")
    store.delete(Name.parse("good"))
    assert len(list((tmp_path / "blobs").iterdir())) == 2  # bad may name them
    store.delete(Name.parse("bad"))
    assert store.names() == []


def test_many_writers_and_readers_at_once(tmp_path: Path) -> None:
    store = Store([tmp_path])
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                put(store, f"m{number}", b"shared", f'{{"turn":{turn}}}'.encode())
                store.names()
                store.delete(Name.parse(f"m{number}"))
        except StoreError as error:  # another one's delete took the blob: said, and nothing broken
            if "is missing" not in str(error):
                failures.append(error)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for name in store.names():  # whatever is installed is whole
        found = store.manifest(name)
        assert all(store.has(layer.digest) for layer in (found.config, *found.layers))

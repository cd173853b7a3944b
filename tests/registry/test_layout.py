"""How a name is found among folders: in its own spelling, in another case, and never through a link that leads out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollamapy.names import Name
from ollamapy.registry import layout


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def add(root: Path, path: str) -> Path:
    file = root / "manifests" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}")
    return file


def name(text: str) -> Name:
    return Name.parse(text)


LIBRARY = "registry.ollama.ai/library"


def test_the_path_of_a_name(root: Path) -> None:
    assert layout.manifest_path(root, name("llama3.2")) == (
        Path(os.path.realpath(root)) / "manifests" / LIBRARY / "llama3.2" / "latest"
    )
    assert layout.blob_name(f"sha256:{'0' * 64}") == f"sha256-{'0' * 64}"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("llama3.2", "llama3.2:latest"),
        ("LLAMA3.2:Latest", "llama3.2:latest"),
        ("User/Model:Q4_K_M", "User/Model:Q4_K_M"),
        ("user/model:q4_k_m", "User/Model:Q4_K_M"),
        ("hf.co/a/b", "hf.co/a/b:latest"),
        ("llama3.2:other", None),
        ("other", None),
    ],
)
def test_a_name_is_found_in_any_case(root: Path, asked: str, found: str | None) -> None:
    for path in ("library/llama3.2/latest", "User/Model/Q4_K_M"):
        add(root, f"registry.ollama.ai/{path}")
    add(root, "hf.co/a/b/latest")
    there = layout.find(root, name(asked))
    assert (there and there.display) == found


def test_of_two_spellings_the_exact_one_wins(root: Path) -> None:
    add(root, f"{LIBRARY}/model/latest")
    add(root, f"{LIBRARY}/Model/latest")
    for text in ("model", "Model"):
        found = layout.find(root, name(text))
        assert found is not None and found.model == text
    found = layout.find(root, name("MODEL"))
    assert found is not None and found.model == "Model", "else the first by name"


def test_a_spelling_whose_folder_has_no_such_tag_is_passed_over(root: Path) -> None:
    add(root, f"{LIBRARY}/Model/other")
    add(root, f"{LIBRARY}/model/latest")
    found = layout.find(root, name("Model"))
    assert found is not None and found.path.parts[-2:] == ("model", "latest")


def test_a_new_name_is_spelled_as_its_folders_are(root: Path) -> None:
    add(root, "registry.ollama.ai/User/Model/Q4_K_M")
    assert layout.spelling(root, name("user/MODEL:new")).display == "User/Model:new"
    assert layout.spelling(root, name("user/other:Q8_0")).display == "User/other:Q8_0"
    assert layout.spelling(root / "nowhere", name("a/b:c")).display == "a/b:c"


def test_what_is_installed(root: Path) -> None:
    add(root, f"{LIBRARY}/a/latest")
    add(root, "hf.co/user/b/Q4_K_M")
    add(root, f"{LIBRARY}/.hidden/latest")
    add(root, f"{LIBRARY}/a/not a tag")
    add(root, "stray")
    names = {found.display: Path(path).name for found, path in layout.installed(root)}
    assert names == {"a:latest": "latest", "hf.co/user/b:Q4_K_M": "Q4_K_M"}
    assert layout.installed(root / "nowhere") == []


def test_a_link_that_leads_out_is_no_name(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "latest"
    outside.parent.mkdir()
    outside.write_text("{}")
    add(root, f"{LIBRARY}/inside/latest")
    library = root / "manifests" / LIBRARY
    (library / "out").symlink_to(outside.parent)
    (library / "in").symlink_to(library / "inside")
    assert layout.find(root, name("out")) is None
    assert layout.find(root, name("in")) is not None
    assert {found.model for found, _ in layout.installed(root)} == {"inside", "in"}


def test_a_folder_of_that_name_is_no_manifest(root: Path) -> None:
    (root / "manifests" / LIBRARY / "model" / "latest").mkdir(parents=True)
    assert layout.find(root, name("model")) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_an_error_for_who_asks_and_is_skipped_in_lists(
    root: Path,
) -> None:
    add(root, "registry.ollama.ai/user/model/latest")
    add(root, f"{LIBRARY}/a/latest")
    folder = root / "manifests/registry.ollama.ai/user"
    folder.chmod(0)
    try:
        with pytest.raises(OSError):
            layout.find(root, name("user/MODEL"))
        assert [found.model for found, _ in layout.installed(root)] == ["a"]
    finally:
        folder.chmod(0o755)

"""What is remembered of a build, and what makes it worthless."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamapy.runner.proven import Proven, build_and_processor, is_fault


def test_outcomes_belong_to_the_machine_and_the_types(tmp_path: Path) -> None:
    path = tmp_path / "proven.json"
    here, there = Proven(path, lambda: "here"), Proven(path, lambda: "there")
    here.remember(["Q4_0", "F32"], works=True)
    there.remember(["Q4_0", "F32"], works=False)
    assert here.works(["F32", "Q4_0", "Q4_0"]) is True
    assert there.works(["F32", "Q4_0"]) is False
    assert here.works(["F32"]) is None
    here.forget(["Q4_0", "F32"])
    assert here.works(["Q4_0", "F32"]) is None and there.works(["Q4_0", "F32"]) is False


def test_what_was_seen_to_fault_is_not_forgotten_by_a_fault(tmp_path: Path) -> None:
    proven = Proven(tmp_path / "proven.json", lambda: "here")
    proven.remember(["F32"], works=False)
    proven.forget(["F32"])
    assert proven.works(["F32"]) is False


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\xff"])
def test_a_damaged_file_means_nothing_is_known(tmp_path: Path, content: str) -> None:
    path = tmp_path / "proven.json"
    path.write_text(content, encoding="latin-1")
    proven = Proven(path, lambda: "here")
    assert proven.works(["F32"]) is None
    proven.remember(["F32"], works=True)
    assert proven.works(["F32"]) is True
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    proven = Proven(tmp_path / "file" / "proven.json", lambda: "here")
    proven.remember(["F32"], works=True)
    assert proven.works(["F32"]) is None


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    proven = Proven(tmp_path / "proven.json", lambda: "here")
    for i in range(130):
        proven.remember([str(i)], works=True)
    assert proven.works(["29"]) is None and proven.works(["30"]) is True


@pytest.mark.llama
def test_the_build_is_part_of_the_machine() -> None:
    assert "ggml" in build_and_processor()


@pytest.mark.parametrize(
    ("code", "fault"),
    [(-11, True), (-4, True), (-6, False), (-9, False), (-15, False), (1, False), (None, False)],
)
def test_faults(code: int | None, fault: bool) -> None:
    assert is_fault(code) is fault

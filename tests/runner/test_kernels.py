"""Which kernels are remembered as working or not, for which machine, and what is a fault."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ollamapy.runner.kernels import Kernels, build_and_processor, is_fault


def test_outcomes_belong_to_the_machine_and_the_types(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    here, there = Kernels(path, lambda: "here"), Kernels(path, lambda: "there")
    here.remember(["Q4_0", "F32"], works=True)
    there.remember(["Q4_0", "F32"], works=False)
    assert here.work(["F32", "Q4_0", "Q4_0"]) is True
    assert there.work(["F32", "Q4_0"]) is False
    assert here.work(["F32"]) is None
    here.forget(["Q4_0", "F32"])
    assert here.work(["Q4_0", "F32"]) is None and there.work(["Q4_0", "F32"]) is False


def test_what_was_seen_to_fault_is_not_forgotten_by_a_fault(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path / "kernels.json", lambda: "here")
    kernels.remember(["F32"], works=False)
    kernels.forget(["F32"])
    assert kernels.work(["F32"]) is False


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "\xff"])
def test_a_damaged_file_means_nothing_is_known(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kernels.json"
    path.write_text(content, encoding="latin-1")
    kernels = Kernels(path, lambda: "here")
    assert kernels.work(["F32"]) is None
    kernels.remember(["F32"], works=True)
    assert kernels.work(["F32"]) is True
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kernels = Kernels(tmp_path / "file" / "kernels.json", lambda: "here")
    kernels.remember(["F32"], works=True)
    assert kernels.work(["F32"]) is None


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path / "kernels.json", lambda: "here")
    for i in range(130):
        kernels.remember([str(i)], works=True)
    assert kernels.work(["29"]) is None and kernels.work(["30"]) is True


@pytest.mark.llama
def test_the_build_is_part_of_the_machine() -> None:
    assert "ggml" in build_and_processor()


@pytest.mark.parametrize(
    ("code", "fault"),
    [(-11, True), (-4, True), (-6, False), (-9, False), (-15, False), (1, False), (None, False)],
)
def test_faults(code: int | None, fault: bool) -> None:
    assert is_fault(code) is fault


def test_a_fault_is_a_signal_or_a_status_of_windows() -> None:
    assert all(map(is_fault, (-signal.SIGSEGV, -signal.SIGILL, 0xC0000005, 0xC000001D)))
    assert not any(map(is_fault, (None, 0, 1, 11, -signal.SIGKILL, -signal.SIGABRT)))

"""What the daemon checks before it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamapy.daemon.serve import check_folder
from ollamapy.errors import InvalidSetting


def test_a_models_folder_that_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to("/nowhere/at/all")
    for folder in (tmp_path / "models", tmp_path / "models" / "below"):
        with pytest.raises(InvalidSetting, match="a link to /nowhere/at/all, which is missing"):
            check_folder(folder)


def test_a_models_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(InvalidSetting, match="models is a file"):
        check_folder(tmp_path / "models")


def test_a_models_folder_that_is_there_or_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for folder in (tmp_path, tmp_path / "link", tmp_path / "link" / "new" / "models"):
        check_folder(folder)

"""The wheel: what is in it, and that it works in a clean environment outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.served import ROOT, environment, until

pytestmark = [pytest.mark.llama, pytest.mark.timeout(900)]

MOST_BUILTIN = 5_000_000
"""Bytes of the built-in model in the wheel."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    [found] = folder.glob("*.whl")
    return found


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    builtin = [name for name in names if name.startswith("ollamapy/builtin/")]
    assert any("/manifests/registry.ollama.ai/library/tinystories/latest" in n for n in builtin)
    assert 1_000_000 < sum(sizes[name] for name in builtin) <= MOST_BUILTIN
    assert any(name.startswith("ollamapy/library/") for name in names)
    assert "ollamapy/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ollamapy"}


@pytest.mark.long
def test_it_tells_a_story_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """With what scripts/setup installs, no more: the locked releases, or with LATEST the newest ones."""
    venv = tmp_path / "venv"
    setup = {**os.environ, "VENV": str(venv), "PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts" / "setup"], check=True, env=setup)
    python = venv / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--force-reinstall", str(wheel)], check=True, cwd=tmp_path)
    ollamapy = python.with_name("ollamapy")
    env = environment(tmp_path / "home", HOST="127.0.0.1:0")
    del env["PYTHONPATH"]
    (log := tmp_path / "serve.log").touch()
    with log.open("wb") as stderr:
        daemon = subprocess.Popen([ollamapy, "serve"], env=env, stderr=stderr, cwd=tmp_path)
    try:
        until(lambda: daemon.poll() is None and "listening at" in log.read_text(), "it listens")
        env["OLLAMAPY_HOST"] = log.read_text().partition("listening at http://")[2].split()[0]
        story = subprocess.run(
            [ollamapy, "run", "tinystories", "Once upon a time"],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert len(story.stdout.split()) > 20, story
        where = subprocess.run(
            [python, "-c", "import ollamapy; print(ollamapy.__file__)"],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert str(venv) in where.stdout
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0

"""A request is answered again and compared, over a real daemon with a real runner."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, command, environment, serve
from tests.small_models import CHATML, install, random_model

pytestmark = pytest.mark.llama


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    for name, seed in (("again", 0), ("other", 1)):
        model = random_model(folder / f"{name}.gguf", seed=seed, n_ctx=4096, chat_template=CHATML)
        install(folder / "store", name, model)
    return folder / "store"


@pytest.fixture(scope="module")
def daemon(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serve(tmp_path_factory.mktemp("home"), store) as running:
        yield running


def asked(daemon: Daemon, id: str, model: str = "again", **options: Any) -> Any:
    options = {"num_predict": 30, "num_ctx": 2048, **options}
    messages = [{"role": "user", "content": "ba ke li"}]
    body = {"model": model, "messages": messages, "stream": False, "options": options}
    return daemon.ask("POST", "/api/chat", body, **{"X-Request-Id": id}).json()


def test_a_deterministic_answer_names_what_it_depends_on(daemon: Daemon) -> None:
    found = asked(daemon, "1", deterministic=True, seed=5)["provenance"]
    assert found["model"] == "again:latest" and found["digest"].startswith("sha256:")
    assert found["build"].startswith("llama-cpp-python 0.") and "CPU" in found["build"]
    settings = found["settings"]
    assert found["seed"] == 5 and settings["deterministic"] and settings["num_ctx"] == 2048
    assert settings["num_thread"] >= 1 and settings["temperature"] == 0.8
    assert "provenance" not in asked(daemon, "2")


def test_it_is_the_same_again(daemon: Daemon) -> None:
    """Also without a seed: the daemon has chosen one."""
    asked(daemon, "same", deterministic=True)
    found = daemon.ask("POST", "/api/replay/same").json()
    assert found == {"id": "same", "model": "again:latest", "equal": True, "tokens": 30}


def test_the_command_says_so(daemon: Daemon) -> None:
    asked(daemon, "told", deterministic=True)
    env = environment(daemon.home, HOST=f"127.0.0.1:{daemon.port}")
    for words, printed in (
        (["replay", "told"], "equal: 30 tokens\n"),
        (["why-cold", "told"], "prompt tokens were reused"),
    ):
        done = subprocess.run(command(*words), env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and printed in done.stdout, done


def test_another_model_under_the_name_is_named(daemon: Daemon, store: Path) -> None:
    daemon.ask("POST", "/api/copy", {"source": "again", "destination": "moved"})
    asked(daemon, "moved", "moved", deterministic=True, temperature=2.0)
    daemon.ask("POST", "/api/copy", {"source": "other", "destination": "moved"})
    found = daemon.ask("POST", "/api/replay/moved").json()
    assert not found["equal"] and found["first_difference"] < 30 and found["then"] != found["now"]
    assert [each["name"] for each in found["changes"]] == ["digest"]
    assert found["note"] == "changed since: digest"
    daemon.ask("DELETE", "/api/delete", {"model": "moved"})
    assert daemon.ask("POST", "/api/replay/moved").status == 404
    assert daemon.ask("POST", "/api/replay/none").status == 404

"""A request is answered again and compared, over a real daemon with a real runner."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, command, environment, serve, until
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


MESSAGES = [{"role": "user", "content": "ba ke li"}]


def asked(daemon: Daemon, id: str, model: str = "again", **options: Any) -> Any:
    options = {"num_predict": 30, "num_ctx": 2048, **options}
    body = {"model": model, "messages": MESSAGES, "stream": False, "options": options}
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
    asked(daemon, "moved", "moved", deterministic=True, temperature=2.0, seed=1)
    daemon.ask("POST", "/api/copy", {"source": "other", "destination": "moved"})
    found = daemon.ask("POST", "/api/replay/moved").json()
    assert not found["equal"] and found["first_difference"] < 30 and found["then"] != found["now"]
    assert [each["name"] for each in found["changes"]] == ["digest"]
    assert found["note"] == "changed since: digest"
    daemon.ask("DELETE", "/api/delete", {"model": "moved"})
    assert daemon.ask("POST", "/api/replay/moved").status == 404
    assert daemon.ask("POST", "/api/replay/none").status == 404


def ids(daemon: Daemon) -> list[str]:
    return [each["id"] for each in daemon.ask("GET", "/api/requests").json()["requests"]]


def test_it_is_the_same_again_after_a_restart(store: Path, tmp_path: Path) -> None:
    """Of deterministic requests; the others are in memory only."""
    with serve(tmp_path, store) as daemon:
        asked(daemon, "first", deterministic=True, stop=["never"])
        asked(daemon, "second", deterministic=True, num_predict=20)
        asked(daemon, "other")
        assert ids(daemon) == ["other", "second", "first"]
    with serve(tmp_path, store) as daemon:
        assert ids(daemon) == ["second", "first"]
        for id, n in (("first", 30), ("second", 20)):
            found = daemon.ask("POST", f"/api/replay/{id}").json()
            assert found == {"id": id, "model": "again:latest", "equal": True, "tokens": n}
        again = asked(daemon, "third", deterministic=True)
        report = daemon.ask("GET", "/api/requests/third").json()["cache_report"]
        assert again["done"] and report["earlier_id"] == "second"


def test_what_can_be_deleted_elsewhere_is_in_no_file(store: Path, tmp_path: Path) -> None:
    """A kept chat and a stored response; one that is not stored is a request like others."""
    options = {"deterministic": True, "num_predict": 5}
    asks = {"options": options, "model": "again"}
    with serve(tmp_path, store) as daemon:
        chat = daemon.ask("POST", "/api/chats", asks).json()
        daemon.ask("POST", f"/api/chats/{chat['id']}/messages", {"content": "Hi"}).lines()
        daemon.ask("POST", "/v1/responses", {**asks, "input": "Hi"})
        assert len(ids(daemon)) == 2 and not (tmp_path / "requests").exists()
        daemon.ask("POST", "/v1/responses", {**asks, "input": "Hi", "store": False})
        until(lambda: list((tmp_path / "requests").glob("*.value")), "it is in a file")
    with serve(tmp_path, store, NOHISTORY="1") as daemon:
        asked(daemon, "1", deterministic=True)
        assert ids(daemon) == []
    assert not list((tmp_path / "requests").iterdir())

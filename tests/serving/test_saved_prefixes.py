"""Computed prompts outlive the daemon: with a real daemon, stopped and started again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon, serve, until
from tests.small_models import CHATML, install, random_model

pytestmark = pytest.mark.llama
LONG = "ba ke li mo ra zu ti vo se nu " * 40


@pytest.fixture
def home(tmp_path: Path) -> Path:
    model = random_model(tmp_path / "m.gguf", n_ctx=2048, chat_template=CHATML)
    install(tmp_path / "models", "m", model)
    return tmp_path


def ask(daemon: Daemon, content: str = LONG) -> tuple[str, dict[str, Any]]:
    """An answer of eight tokens, and the usage."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 8,
        "temperature": 0,
    }
    answer = daemon.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 200, answer.body
    found = answer.json()
    return found["choices"][0]["message"]["content"], found["usage"]


@pytest.mark.parametrize("setting", [{}, {"FLASH_ATTENTION": "0"}])
def test_a_prompt_goes_on_after_a_restart(home: Path, setting: dict[str, str]) -> None:
    with serve(home, home / "models", **setting) as daemon:
        first, usage = ask(daemon)
        assert "prompt_tokens_details" not in usage
        assert daemon.end() == 0
    files = list((home / "cache").rglob("*.rows"))
    assert files and all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    with serve(home, home / "models", **setting) as daemon:
        again, usage = ask(daemon)
    details = usage["prompt_tokens_details"]
    assert again == first
    assert details["cached_tokens"] == usage["prompt_tokens"] - 1
    assert details["cached_from"] == {"slot": 0, "memory": 0, "disk": details["cached_tokens"]}


OLLAMA = {"model": "m", "messages": [{"role": "user", "content": LONG}], "stream": False}
OTHERS = {
    "/api/chat": {**OLLAMA, "options": {"num_predict": 2}},
    "/api/generate": {"model": "m", "prompt": LONG, "stream": False, "options": {"num_predict": 2}},
    "/v1/messages": {**OLLAMA, "max_tokens": 2},
    "/v1/responses": {"model": "m", "input": LONG, "max_output_tokens": 2},
}


def test_every_dialect_says_where_tokens_came_from(home: Path) -> None:
    def asked(daemon: Daemon, path: str) -> dict[str, Any]:
        answer = daemon.ask("POST", path, OTHERS[path])
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()
        return found

    with serve(home, home / "models") as daemon:
        assert "cached_from" not in asked(daemon, "/api/chat")
        assert daemon.end() == 0
    for path in OTHERS:  # a daemon each: the second would have them from a slot
        with serve(home, home / "models") as daemon:
            found = asked(daemon, path)
        usage = found.get("usage", found)
        usage = usage.get("input_tokens_details", usage)
        disk = usage["cached_from"].pop("disk")
        assert disk >= 256 and usage["cached_from"] == {"slot": 0, "memory": 0}


@pytest.mark.parametrize("setting", [{"CACHE": "0"}, {"NOHISTORY": "1"}])
def test_nothing_is_kept_where_a_setting_turns_it_off(home: Path, setting: dict[str, str]) -> None:
    with serve(home, home / "models", **setting) as daemon:
        ask(daemon)
        daemon.end()
    assert not (home / "cache").exists()


def test_what_the_cache_takes_and_clearing_it(home: Path) -> None:
    with serve(home, home / "models") as daemon:
        ask(daemon)
        # Its runner writes what its slots hold
        ended = daemon.generate("m", keep_alive=0, options={"num_predict": 2})
        assert ended.status == 200

        def listed() -> dict[str, Any]:
            found: dict[str, Any] = daemon.ask("GET", "/api/cache").json()
            return found

        until(lambda: listed()["models"], "the files are written")
        found = listed()
        (model,) = found["models"]
        assert model["names"] == ["m:latest"] and model["size"] == found["size"] <= found["budget"]
        assert daemon.ask("DELETE", "/api/cache?model=other").status == 404
        gone = daemon.ask("DELETE", "/api/cache?model=m").json()
        assert gone == {"files": model["files"], "size": model["size"]}
        assert listed() == {"size": 0, "budget": found["budget"], "models": []}
        daemon.end()


@pytest.mark.parametrize(
    "path", [pytest.param("/api/cache", marks=pytest.mark.long), "/api/cache?model=m"]
)
def test_clearing_reaches_what_a_loaded_model_has_in_memory(home: Path, path: str) -> None:
    with serve(home, home / "models") as daemon:
        ask(daemon)
        assert ask(daemon)[1]["prompt_tokens_details"]["cached_tokens"] > 256
        assert daemon.ask("DELETE", path).status == 200
        assert "prompt_tokens_details" not in ask(daemon, LONG + "again")[1]
        assert daemon.ask("DELETE", path).status == 200
        assert daemon.end() == 0
    assert not list((home / "cache").rglob("*.rows")), "it was not written when the model ended"

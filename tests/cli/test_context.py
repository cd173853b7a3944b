"""The context as its user meets it, with the real daemon: how long it is, that it has grown, and what did not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ollamapy.fleet.fit import CONTEXTS
from tests.served import Daemon, serve
from tests.small_models import install, scripted_model

from .chats import Chat
from .conftest import Command

pytestmark = pytest.mark.llama

SAYS = "Hello! I am here."
TALK = [
    *[{"role": "user", "content": "x" * 400}, {"role": "assistant", "content": "y" * 400}] * 6,
    {"role": "user", "content": "last"},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One file under four names: as it is, with little context, with more, and one that refuses what does not fit."""
    store = tmp_path_factory.mktemp("store")
    file = scripted_model(tmp_path_factory.mktemp("gguf") / "m.gguf", SAYS, n_ctx=CONTEXTS[1])
    install(store, "plain", file)
    install(store, "small", file, params={"num_ctx": 1024})
    install(store, "mid", file, params={"num_ctx": 2048})
    install(store, "strict", file, params={"num_ctx": 1024, "context_policy": "error"})
    with serve(tmp_path_factory.mktemp("home"), store) as running:
        yield running


@pytest.fixture
def fresh(server: Daemon) -> Daemon:
    """The server with nothing loaded."""
    for model in server.ask("GET", "/api/ps").json()["models"]:
        server.ask("POST", "/api/generate", {"model": model["name"], "keep_alive": 0})
    assert server.ask("GET", "/api/ps").json()["models"] == []
    return server


def loaded(server: Daemon) -> int:
    [model] = server.ask("GET", "/api/ps").json()["models"]
    return int(model["context_length"])


def host(server: Daemon) -> str:
    return f"127.0.0.1:{server.port}"


def chat(server: Daemon, model: str, **options: Any) -> Any:
    body = {"model": model, "messages": TALK, "stream": False, "options": options}
    return server.ask("POST", "/api/chat", body)


def test_the_effective_context_is_shown(fresh: Daemon, ollamapy: Command) -> None:
    def row(model: str) -> list[str]:
        lines = ollamapy("show", model, host=host(fresh)).stdout.splitlines()
        return [line.split()[-1] for line in lines if "effective context" in line]

    assert row("plain") == [], "it is what the model was trained for"
    assert row("small") == ["1024"]
    assert ollamapy("run", "plain", "Hi", host=host(fresh)).stdout == f"{SAYS}\n\n"
    assert loaded(fresh) == CONTEXTS[1]
    table = ollamapy("ps", host=host(fresh)).stdout.splitlines()
    assert str(CONTEXTS[1]) in table[1].split()
    assert row("small") == ["1024"], "though more is loaded"


def test_a_context_is_a_minimum_and_its_growth_is_told_once(
    fresh: Daemon, ollamapy: Command
) -> None:
    def run(model: str) -> str:
        done = ollamapy("run", model, "Hi", host=host(fresh))
        assert done.stdout == f"{SAYS}\n\n"
        return done.stderr

    assert run("small") == "" and loaded(fresh) == 1024
    [runner] = fresh.runners()
    grown = "Note: the model's context has grown from 1024 to 2048 tokens\n"
    assert run("mid") == grown and loaded(fresh) == 2048
    assert run("mid") == run("small") == run("plain") == "", "less is there already"
    assert fresh.runners() == [runner] and loaded(fresh) == 2048
    assert "of 2048 tokens instead of" in fresh.log.read_text(), "no other runner"
    # a load without a prompt is told, too
    answer = fresh.ask(
        "POST", "/api/generate", {"model": "mid", "options": {"num_ctx": 4096}, "stream": False}
    )
    assert answer.json()["context_grown"] == {"from": 2048, "to": 4096}


POLICIES = [
    # model, options                      messages left out   refused
    ("small", {}, True, False),
    ("small", {"context_policy": "drop-oldest"}, True, False),
    ("small", {"context_policy": "shift"}, False, False),
    ("small", {"context_policy": "error"}, False, True),
    ("strict", {}, False, True),
    ("strict", {"context_policy": "drop-oldest"}, True, False),
]


@pytest.mark.parametrize(("model", "options", "drops", "refused"), POLICIES)
def test_a_conversation_that_does_not_fit(
    server: Daemon, model: str, options: dict[str, Any], drops: bool, refused: bool
) -> None:
    answer = chat(server, model, **options)
    if refused:
        assert answer.status == 400 and "5031 tokens > 1024" in answer.json()["error"]
        return
    final = answer.json()
    cut = final["prompt_truncated"]
    assert ("messages" in cut) == drops
    if drops:
        assert cut["messages"] == 10 and cut["tokens"] + final["prompt_eval_count"] == 5031
    else:
        assert cut["tokens"] + final["prompt_eval_count"] == 5031
    assert final["message"]["content"] == SAYS


def test_the_command_warns(server: Daemon, ollamapy: Command) -> None:
    done = ollamapy("run", "small", "word " * 1000, host=host(server))
    assert done.stdout == f"{SAYS}\n\n" and done.returncode == 0
    assert "Warning: the prompt is longer than the context, " in done.stderr
    refused = ollamapy("run", "strict", "word " * 1000, host=host(server))
    assert refused.returncode == 1 and "longer than the context" in refused.stderr


def test_the_chat_tells_of_its_context(fresh: Daemon, variables: dict[str, str]) -> None:
    command = (sys.executable, "-m", "ollamapy", "run", "small")
    with closing(Chat(command, {**variables, "OLLAMAPY_HOST": host(fresh)}, 200)) as it:
        it.until("small 0/1024").enter("x" * 970)
        it.prompted(2).enter("y")
        it.until("its 2 oldest messages").until("/1024")
        it.prompted(3).enter("/set parameter num_ctx 2048")
        it.prompted(4).enter("Hi")
        it.until("context has grown from 1024 to 2048 tokens").until("/2048")
        it.prompted(5).enter("/show info")
        it.until("context         2048")
        assert it.leave() == 0
    assert loaded(fresh) == 2048

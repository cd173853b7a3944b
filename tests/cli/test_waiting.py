"""The line that says what a request waits for, and that disappears: its words, and on a terminal with a server that stands in."""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.client import AnsweredError, Client
from ollamapy.cli.waiting import described
from ollamapy.config import Address
from tests.cli.chats import Start, llama
from tests.cli.conftest import Command, Standin
from tests.served import Answer, Daemon, serve

HELLO = "Hello! I am a scripted model, here to help you test."


@pytest.mark.parametrize(
    ("progress", "texts"),
    [
        ({"type": "queued", "position": 1}, ["next in the queue"]),
        ({"type": "queued", "position": 12}, ["in the queue, place 12"]),
        (
            {"type": "loading", "stage": "weights", "fraction": 0.404},
            ["loading m: 40%", "loading: 40%"],
        ),
        (
            {"type": "loading", "stage": "warm-up", "fraction": 1.0},
            ["loading m: warm-up", "loading: warm-up"],
        ),
        (
            {"type": "prefill", "fraction": 0, "tokens": 12345, "cached": 0},
            ["reading the prompt of 12,345 tokens: 0%", "prompt: 0%"],
        ),
        ({"type": "prefill", "fraction": "half", "tokens": 9}, []),
        ({"type": "of tomorrow", "position": 1}, []),
        ({"position": 1}, []),
        (["queued"], []),
        ("queued", []),
        (None, []),
    ],
)
def test_a_report_in_words(progress: Any, texts: list[str]) -> None:
    assert list(described(progress, "m")) == texts


def go(server: Standin) -> None:
    """Let the stand-in send its next report."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/go")
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize(
    ("columns", "model", "texts"),
    [
        (60, "waits", ["in the queue, place 2", "loading waits: 40%", "reading the prompt of 12,345 tokens: 50%"]),
        pytest.param(30, "waits", ["in the queue, place 2", "loading waits: 40%", "prompt: 50%"], marks=pytest.mark.long),
        (16, "waits", ["in the queue,", "loading: 40%", "prompt: 50%"]),
    ],
)  # fmt: skip
def test_the_line_on_a_terminal(
    standin: Callable[..., Standin], start: Start, columns: int, model: str, texts: list[str]
) -> None:
    server = standin()
    command = (sys.executable, "-m", "ollamapy", "run", model, "Hi")
    chat = start(*command, columns=columns, OLLAMAPY_HOST=server.host)
    for text in texts:
        chat.until(lambda text=text: chat.screen.endswith(f" {text}"))  # type: ignore[misc]
        assert len(chat.lines) == 1, "it is drawn in its place"
        go(server)
    go(server)
    assert chat.status() == 0
    assert chat.words == f"Hi{HELLO}", "nothing is left of the line"


def test_the_line_in_the_repl(standin: Callable[..., Standin], start: Start) -> None:
    """While the model is loaded, and before an answer."""
    server = standin()
    command = (sys.executable, "-m", "ollamapy", "run", "waits")
    chat = start(*command, columns=60, OLLAMAPY_HOST=server.host)
    for times in (1, 2):
        for text in ("in the queue, place 2", "loading waits: 40%", "12,345 tokens: 50%"):
            chat.until(lambda text=text: chat.lines[-1].endswith(text))  # type: ignore[misc]
            go(server)
        go(server)
        chat.prompted(times)
        assert not re.search("queue|loading|tokens", chat.screen), "nothing is left of the line"
        chat.enter("Hi")
    chat.until("in the queue")
    chat.send("\x03")
    assert chat.prompted(3).leave() == 0


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Daemon]:
    """A real daemon that answers one request at a time."""
    with serve(tmp_path_factory.mktemp("home"), model_store, NUM_PARALLEL="1") as running:
        yield running


@contextmanager
def endless(daemon: Daemon) -> Iterator[Answer]:
    """An answer of "long" that goes on until the block ends, or it is left."""
    answer = daemon.open("POST", "/api/generate", {"model": "long", "prompt": "Hi", "raw": True})
    answer.line()
    try:
        yield answer
    finally:
        answer.leave()


@llama
@pytest.mark.parametrize("more", [(), pytest.param(("--temporary",), marks=pytest.mark.long)])
def test_the_queue_of_a_real_daemon(busy: Daemon, start: Start, more: tuple[str, ...]) -> None:
    """Of an answer that is printed once, and of those in chats that are kept and that are not."""
    command = (sys.executable, "-m", "ollamapy", "run", "long", "--num-predict", "3")
    host = f"127.0.0.1:{busy.port}"
    if not more:
        with endless(busy):
            once = start(*command, "Hi", columns=60, OLLAMAPY_HOST=host)
            once.until("next in the queue")
        assert once.status() == 0 and "queue" not in once.screen
    chat = start(*command, *more, columns=60, OLLAMAPY_HOST=host).prompted(1)
    with endless(busy):
        chat.enter("Hi")
        chat.until("next in the queue")
    assert "queue" not in chat.prompted(2).screen
    assert chat.leave() == 0


def test_reports_are_requested_where_a_terminal_shows_them_only(
    standin: Callable[..., Standin], start: Start, ollamapy: Command
) -> None:
    server = standin()
    result = ollamapy("run", "hello", "Hi", host=server.host)
    assert result.stdout.strip() == HELLO and result.stderr == ""
    assert "progress" not in server.body("/api/generate")
    for terminal, asked in (("xterm", True), ("dumb", False)):
        command = (sys.executable, "-m", "ollamapy", "run", "hello", "Hi")
        start(*command, OLLAMAPY_HOST=server.host, TERM=terminal).status()
        assert server.body("/api/generate").get("progress", False) == asked


def test_an_error_after_a_report_has_its_own_status(standin: Callable[..., Standin]) -> None:
    client = Client(Address("127.0.0.1", standin().port))
    with pytest.raises(AnsweredError, match="server busy") as error:
        list(client.generate({"model": "full", "prompt": "Hi", "progress": True}))
    assert error.value.status == 503

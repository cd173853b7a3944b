"""The line that says what a request waits for, and that disappears: its words, and on a terminal with a server that stands in."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ollamapy.cli.client import AnsweredError, Client
from ollamapy.cli.waiting import described
from ollamapy.config import Address
from tests.cli.chats import Start
from tests.cli.conftest import Command, Standin

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
        (30, "waits", ["in the queue, place 2", "loading waits: 40%", "prompt: 50%"]),
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

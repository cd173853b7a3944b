"""The chat as people use it: in a pseudo-terminal, with the real daemon, read from the screen."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import HELLO
from tests.served import Daemon, serve, until
from tests.small_models import install, scripted_model

from .chats import Start, llama
from .conftest import Place

HINT = "Use Ctrl + d or /bye to exit."


# ---- talking -----------------------------------------------------------------------------------


@llama
def test_it_answers_and_leaves(chat: Start) -> None:
    it = chat("hello").until("Send a message (/? for help)")
    it.enter("Hi")
    it.prompted(2)
    assert it.lines[:3] == [">>> Hi", HELLO, ""], "the placeholder does not stay"
    assert it.leave() == 0
    assert it.lines[-1] == ">>>"


@llama
@pytest.mark.parametrize("line", ["/bye", "/exit"])
def test_commands_that_leave(chat: Start, line: str) -> None:
    it = chat("hello").prompted(1)
    it.enter(line)
    assert it.status() == 0


@llama
def test_the_conversation_grows_and_is_cleared(chat: Start) -> None:
    it = chat("hello", "--verbose")
    counts = []
    for number, line in enumerate(["Hi", "Hi", "/clear", "Hi"], 1):
        it.prompted(number).enter(line)
    it.prompted(5)
    for line in it.lines:
        if line.startswith("prompt eval count:"):
            counts.append(int(line.split()[3]))
    assert counts[1] > counts[0] == counts[2]
    assert "Cleared session context" in it.screen


@llama
def test_what_is_typed_meanwhile_is_the_next_line(chat: Start) -> None:
    it = chat("long").prompted(1)
    it.enter("/set parameter num_predict 200")
    it.prompted(2).enter("go")
    it.until(lambda: len(it.lines) > 5)
    it.enter("/list hello")
    it.until(">>> /list hello").until("hello:latest").prompted(4)
    assert it.screen.count("/list") == 1, "it is not shown amid the answer"


@llama
def test_an_empty_line_asks_a_chat_model_nothing(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("")
    it.prompted(2).enter("  ")
    it.prompted(3)
    assert HELLO not in it.screen


# ---- base models -------------------------------------------------------------------------------


@llama
def test_a_base_model_continues(chat: Start) -> None:
    it = chat("plain").until("Enter for a story")
    assert it.words.count("plain has no chat template: it continues text.") == 1
    it.enter("/set parameter num_predict 8")
    it.prompted(2).enter("")
    it.until("Enter goes on").prompted(3)
    told = it.lines[it.lines.index(">>>") + 1]
    assert told and "<|im_start|>" not in it.screen
    it.enter("")
    it.prompted(4).enter("ba ke")
    it.prompted(5)
    assert it.words.count("continues text") == 1


@llama
def test_a_story_from_nothing(start: Start, place: Place) -> None:
    """With the built-in model, and a daemon that the chat starts, and starts again when it is gone."""
    place.daemon = (sys.executable, "-m", "ollamapy", "serve")
    it = start(*place.command("run", "tinystories"))
    try:
        it.until("Enter for a story").enter("")
        it.prompted(2)
        assert len(it.words.split()) > 50, it.screen
        [pid] = _daemons(place)
        _kill(pid)
        it.enter("Once upon a time")
        it.prompted(3)
        assert it.lines.index(">>> Once upon a time") < len(it.lines) - 3, it.screen
        assert "Error" not in it.screen and _daemons(place) != [pid]
        assert it.leave() == 0
    finally:
        for pid in _daemons(place):
            _kill(pid)


def _daemons(place: Place) -> list[int]:
    status = json.loads(place.run("daemon", "status", "--json").stdout)
    return [status["pid"]] if status["running"] else []


def _kill(pid: int) -> None:
    """And wait until it is gone, or waits to be buried by the chat that started it."""
    process = psutil.Process(pid)
    process.kill()
    until(
        lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
        "the daemon ends",
    )


# ---- what goes wrong ---------------------------------------------------------------------------


@llama
def test_an_unknown_model_is_an_error(chat: Start) -> None:
    it = chat("nosuch")
    assert it.status() == 1
    assert "Error: model 'nosuch:latest' not found, and could not be pulled: " in it.words
    assert "installed: " in it.words


@llama
def test_a_dead_runner_breaks_one_answer_off(
    start: Start, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve(tmp_path_factory.mktemp("home"), model_store) as daemon:
        command = (sys.executable, "-m", "ollamapy", "run", "long")
        it = start(*command, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}").prompted(1)
        it.enter("one")
        it.until(lambda: len(it.lines) > 5)
        daemon.runners()[0].kill()
        it.until("[broken off]").until("Error: ").until(lambda: it.lines[-1].startswith(">>>"))
        it.until("long ?/")
        it.enter("/load hello")
        it.until("hello 0/2048").enter("Hi")
        it.until(HELLO).until(lambda: it.lines[-1].startswith(">>>"))
        daemon.end(signal.SIGKILL)
        it.enter("Hi again")
        it.until("Error: no server at").until(lambda: it.lines[-1].startswith(">>>"))
        it.enter("/bye")
        assert it.status() == 0


# ---- terminals ---------------------------------------------------------------------------------


@llama
def test_forty_columns(chat: Start) -> None:
    it = chat("plain", columns=40).until("Enter for a story")
    for number, line in enumerate(
        ["/?", "/show parameters", "a 日本語 line that is longer than the window"], 2
    ):
        it.enter(line)
        it.prompted(number) if number < 4 else it.send("\x03")
    it.until(lambda: it.lines[-1].startswith(">>> "))
    answer = chat("hello", columns=32).prompted(1)
    answer.enter("Hi")
    answer.prompted(2)
    assert answer.lines[1:4] == ["Hello! I am a scripted", "model.", ""]


@llama
def test_wide_characters_are_wrapped_where_they_end(start: Start, tmp_path: Path) -> None:
    script = [
        "日本語",
        "の文章は",
        "空白なしで",
        "どこでも",
        "折り返される。",
        " Words",
        " do",
        " not: ☃",
        " 🎈🎈",
    ]
    install(tmp_path, "wide", scripted_model(tmp_path / "wide.gguf", script))
    with serve(tmp_path, tmp_path) as daemon:
        command = (sys.executable, "-m", "ollamapy", "run", "wide")
        it = start(*command, columns=40, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}").prompted(1)
        it.enter("Hi")
        it.prompted(2)
        # 35 of 40 columns: 17 wide characters
        assert it.lines[1:4] == [
            "日本語の文章は空白なしでどこでも折",
            "り返される。 Words do not: ☃ 🎈🎈",
            "",
        ]


@llama
def test_stdout_that_is_no_terminal_is_no_chat(start: Start, daemon: Daemon) -> None:
    command = f"'{sys.executable}' -m ollamapy run hello | wc -c; echo status ${{PIPESTATUS[0]}}"
    it = start("/bin/bash", "-c", command, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}")
    it.until("status 0")
    assert it.lines == ["0", "status 0"]


@llama
def test_a_dumb_terminal(chat: Start) -> None:
    it = chat("hello", TERM="dumb").until(">>>")
    it.enter('"""one')
    it.until("...").enter('two"""')
    it.until(HELLO).until(lambda: it.lines[-1] == ">>>").send("\x03")
    it.until(HINT).enter("/bye")
    assert it.status() == 0
    assert b"\x1b" not in it.written


@llama
@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_bytes_that_are_no_text_do_not_end_the_chat(chat: Start, terminal: str) -> None:
    it = chat("hello", TERM=terminal, PYTHONIOENCODING="utf-8:strict").until(">>>")
    os.write(it.fd, b"caf\xe9 is Latin-1\r")
    it.until(HELLO).until(lambda: it.lines[-1].startswith(">>>"))
    it.enter("/bye")
    assert it.status() == 0


@llama
def test_no_colour(chat: Start) -> None:
    it = chat("plain", NO_COLOR="1").until("Enter for a story")
    it.enter("/bye")
    it.status()
    assert b"\x1b[2m" not in it.written and b"\x1b[0;90m" not in it.written

"""`compare` and `/compare`, with the real daemon."""

from __future__ import annotations

import json
import sys

from tests.conftest import HELLO
from tests.served import Daemon

from .chats import Start, llama
from .conftest import Command

COMPARE = (sys.executable, "-m", "ollamapy", "compare")


@llama
def test_two_answers_side_by_side(start: Start, daemon: Daemon) -> None:
    it = start(*COMPARE, "hello", "rules", "Hi", columns=120, OLLAMAPY_HOST=daemon.url)
    assert it.status() == 0
    assert it.lines[0].split() == ["hello", "│", "rules"]
    assert it.lines[1].split(" │ ")[0].strip() == HELLO
    assert it.lines[1].split(" │ ")[1].strip() == "Hello! I am a"
    assert "tokens/s" in it.lines[3] and it.lines[3].count("first after") == 2


@llama
def test_two_answers_one_after_the_other(start: Start, daemon: Daemon) -> None:
    it = start(*COMPARE, "hello", "rules", "Hi", columns=80, OLLAMAPY_HOST=daemon.url)
    assert it.status() == 0
    assert it.lines[:3] == ["hello:", HELLO, ""] and "first after" in it.lines[3]
    assert it.lines[5:7] == ["rules:", "Hello! I am a"]


@llama
def test_two_settings_of_one_model_for_programs(daemon: Daemon, ollamapy: Command) -> None:
    found = ollamapy(
        *("compare", "hello", "hello", "--json", "-a", "num_predict=2", "-b", "stop=model"),
        host=daemon.url,
        stdin="Hi",
    )
    assert found.returncode == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["prompt"] == "Hi"
    first, second = answer["answers"]
    assert (first["done_reason"], first["eval_count"]) == ("length", 2)
    assert second["content"] == HELLO.partition("model")[0] and second["total_duration"] > 0


@llama
def test_one_that_fails_leaves_the_other(start: Start, daemon: Daemon, ollamapy: Command) -> None:
    flags = ("hello", "hello", "-b", 'stop=""', "--format", '{"type": "nosuch"}', "Hi")
    it = start(*COMPARE, *flags, columns=120, OLLAMAPY_HOST=daemon.url)
    assert it.status() == 1
    assert it.words.count("[broken off]") == 2
    answer = json.loads(ollamapy("compare", "--json", *flags, host=daemon.url).stdout)
    assert all(each["error"] for each in answer["answers"])


@llama
def test_ctrl_c_stops_both(start: Start, daemon: Daemon) -> None:
    it = start(*COMPARE, "long", "long", "Hi", columns=120, OLLAMAPY_HOST=daemon.url)
    it.until(lambda: len(it.lines) > 8).send("\x03")
    assert it.status() == 130
    assert it.words.count("[stopped]") == 2


@llama
def test_in_a_chat(start: Start, daemon: Daemon) -> None:
    command = (sys.executable, "-m", "ollamapy", "run", "hello", "--temporary")
    it = start(*command, columns=120, OLLAMAPY_HOST=daemon.url).prompted(1)
    it.enter("/compare rules")
    it.until("There is no message to answer yet.").prompted(2)
    it.enter("/compare rules Which is better?")
    it.until("tokens/s").prompted(3)
    assert any(line.split() == ["hello", "│", "rules"] for line in it.lines)
    it.enter("/show info")
    it.until("messages        0").prompted(4)
    it.enter("Hi")
    it.prompted(5).enter("/compare nosuch")
    it.until("model 'nosuch:latest' not found")


def test_what_is_missing(ollamapy: Command) -> None:
    for arguments, message in (
        (["hello"], "requires at least 2 arg(s)"),
        (["a", "b"], "there is no prompt"),
        (["a", "b", "Hi", "-a", "x"], "-o takes KEY=VALUE"),
    ):
        failed = ollamapy("compare", *arguments, host="127.0.0.1:1")
        assert failed.returncode == 1 and message in failed.stderr

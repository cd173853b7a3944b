"""pull, rm, cp and a run of what is absent, as processes against a real daemon and a hub of our own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.transfer import is_address, parse_rate
from ollamapy.errors import OllamapyError
from tests.cli.conftest import Command
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.served import Daemon, command, serve, until
from tests.small_models import random_model


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("gguf") / "m.gguf")


@pytest.fixture
def hub(gguf: Path) -> Iterator[FakeHub]:
    running = FakeHub()
    running.add_repo("me/repo", {"m.gguf": gguf.read_bytes()})
    yield running
    running.close()
    assert running.leaks == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon of this module's tests."""
    home = tmp_path_factory.mktemp("daemon")
    with serve(home, home / "models") as daemon:
        yield daemon


@pytest.fixture
def empty(running: Daemon) -> Iterator[Daemon]:
    """The same without models, which are deleted after each test."""
    yield running
    for model in running.ask("GET", "/api/tags").json()["models"]:
        assert running.ask("DELETE", "/api/delete", {"model": model["name"]}).status == 200


@pytest.fixture
def variables(variables: dict[str, str], hub: FakeHub, empty: Daemon) -> dict[str, str]:
    known = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "", "HF_HUB_OFFLINE": ""}
    place = {"OLLAMAPY_HOST": empty.url, "OLLAMAPY_HOME": str(empty.home)}
    return {**variables, **known, **place, "NO_PROXY": "*"}


Ask = Callable[..., Any]


def listed(ollamapy: Command) -> list[str]:
    return [line.split()[0] for line in ollamapy("list").stdout.splitlines()[1:]]


def test_pull_then_run(ollamapy: Command) -> None:
    run = ollamapy("pull", "hf.co/me/repo")
    assert (run.returncode, run.stdout) == (0, "")
    lines = run.stderr.splitlines()
    assert lines[0] == "pulling manifest" and lines[-1] == "success"
    assert lines[1].strip() == "m.gguf: the only one" and "\x1b" not in run.stderr
    assert listed(ollamapy) == ["hf.co/me/repo:latest"]
    assert ollamapy("run", "hf.co/me/repo", "--num-predict", "5", "Hi").returncode == 0


def test_several(ollamapy: Command, hub: FakeHub, gguf: Path) -> None:
    hub.add_repo("me/other", {"m.gguf": gguf.read_bytes() + bytes(32)})
    run = ollamapy("pull", "hf.co/me/repo", "hf.co/me/none", "a b", "hf.co/me/other")
    assert run.returncode == 1 and run.stderr.endswith("success\n")
    assert "\nError: hf.co/me/none: me/none does not exist" in run.stderr
    assert run.stderr.count("\nError: ") == 2
    assert sorted(listed(ollamapy)) == ["hf.co/me/other:latest", "hf.co/me/repo:latest"]


def test_run_gets_what_is_absent(ollamapy: Command) -> None:
    run = ollamapy("run", "hf.co/me/repo", "")
    assert run.returncode == 0 and run.stderr.endswith("success\n") and run.stdout == ""
    assert ollamapy("run", "hf.co/me/repo", "").stderr == ""


def test_an_address_is_told_its_name(ollamapy: Command, hub: FakeHub, gguf: Path) -> None:
    hub.plain["/files/m.gguf"] = gguf.read_bytes()
    url = f"{hub.url}/files/m.gguf"
    run = ollamapy("pull", "--insecure", url)
    [name] = listed(ollamapy)
    assert run.stdout == f"{url} is installed as {name}\n"


def test_run_allows_http_where_it_is_told_to(ollamapy: Command, hub: FakeHub, gguf: Path) -> None:
    hub.plain["/files/m.gguf"] = gguf.read_bytes()
    url = f"{hub.url}/files/m.gguf"
    assert f"Error: {url} is not encrypted" in ollamapy("run", url, "").stderr
    assert ollamapy("run", "--insecure", url, "").returncode == 0
    assert len(listed(ollamapy)) == 1


def test_a_file_of_this_machine(ollamapy: Command, gguf: Path) -> None:
    assert ollamapy("pull", f"file:{gguf}").returncode == 0
    assert listed(ollamapy) == ["m:latest"]
    assert (
        ollamapy("pull", "file:/nowhere.gguf").stderr == "Error: there is no file /nowhere.gguf\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pull",), "requires at least 1 arg(s), only received 0"),
        (("pull", "hf.co/me/none"), "me/none does not exist"),
        (("pull", "hf.co/me/repo:Q2_K"), "there is no Q2_K, choose one of: m"),
        (("pull", "a b"), "invalid model name"),
        (("pull", "--limit-rate", "fast", "x"), "'fast' is not a rate"),
        (("pull", "http://127.0.0.1:1/library/x"), "allow it with --insecure"),
        (
            ("pull", "http://127.0.0.1:1/x.gguf"),
            "Error: http://127.0.0.1:1/x.gguf is not encrypted",
        ),
        (("rm",), "requires at least 1 arg(s), only received 0"),
        (("rm", "nosuch"), "model 'nosuch' not found"),
        (("cp", "nosuch", "x"), 'model "nosuch" not found'),
        (("cp", "nosuch"), "accepts 2 arg(s), received 1"),
    ],
)
def test_what_goes_wrong_is_one_line(
    ollamapy: Command, arguments: tuple[str, ...], complaint: str
) -> None:
    run = ollamapy(*arguments)
    *_, last = run.stderr.splitlines()
    assert run.returncode == 1 and last.startswith("Error: ") and complaint in last
    assert run.stderr.count("Error") == 1 and run.stdout == ""


def test_copies_and_deletions(ollamapy: Command) -> None:
    ollamapy("pull", "hf.co/me/repo")
    assert ollamapy("cp", "hf.co/me/repo", "b").stdout == "copied 'hf.co/me/repo' to 'b'\n"
    run = ollamapy("rm", "b", "nosuch", "hf.co/me/repo")
    assert (run.returncode, run.stdout) == (1, "deleted 'b'\ndeleted 'hf.co/me/repo'\n")
    assert run.stderr == "Error: model 'nosuch' not found\n"
    assert not listed(ollamapy)
    ollamapy("pull", "hf.co/me/repo")
    made = ollamapy("cp", "hf.co/me/repo", "c", "--json")
    assert json.loads(made.stdout) == {"source": "hf.co/me/repo", "destination": "c"}
    gone = ollamapy("rm", "c", "hf.co/me/rep", "--json")
    found = json.loads(gone.stdout)
    assert gone.returncode == 1 and found["deleted"] == ["c"]
    assert found["failed"][0]["model"] == "hf.co/me/rep"
    assert "did you mean 'hf.co/me/repo'?" in gone.stderr


def test_interrupted_it_says_how_to_go_on(
    variables: dict[str, str], hub: FakeHub, empty: Daemon
) -> None:
    data = content(8 * 2**20)
    hub.add_repo("me/large", {"m.gguf": data})
    hub.fault(path=sha256(data), cap=2**20, times=float("inf"))
    pulling = subprocess.Popen(
        command("pull", "hf.co/me/large"),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )
    until(lambda: hub.sent("cdn") > 2**19, "bytes come")
    os.kill(pulling.pid, signal.SIGINT)
    _, said = pulling.communicate(timeout=30)
    assert pulling.returncode == 130
    assert said.endswith("continue with: ollamapy pull hf.co/me/large\n")
    until(lambda: empty.busy() == 0, "the daemon has ended it, too")
    assert (empty.home / "models/partial" / f"sha256-{sha256(data)}").exists()


def test_rates_and_addresses() -> None:
    given = {"500k": 500_000, "5MB": 5_000_000, "1.5 MiB/s": 1_572_864, "100": 100, "2g": 2 * 10**9}
    assert {text: parse_rate(text) for text in given} == given
    for text in ("", "0", "fast", "-5k", "5 x"):
        with pytest.raises(OllamapyError, match="is not a rate"):
            parse_rate(text)
    assert is_address("https://a/b.GGUF") and is_address("file:x") and not is_address("hf.co/a/b")

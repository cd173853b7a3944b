"""Completion: what is offered, and that each shell can load and use its script."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ollamapy.cli.commands.table import group
from ollamapy.cli.completion import SCRIPTS, candidates

from .conftest import Command, Place, Standin

NAMES = ["hello:latest", "json:latest", "think:latest", "tool:latest"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["da"], ["daemon"]),
        (["li"], ["list", "library", "lint"]),
        (["daemon", ""], ["start", "stop", "restart", "status", "logs"]),
        (["run", ""], ["big:7b", "big:13b"]),
        (["run", "big:1"], ["big:13b"]),
        (["run", "--verbose", "b"], ["big:7b", "big:13b"]),
        (["run", "--keepalive", "5m", "b"], ["big:7b", "big:13b"]),
        (["run", "--keepalive=5m", "b"], ["big:7b", "big:13b"]),
        (["run", "--keepalive", ""], []),
        (["run", "big:7b", ""], []),
        (["run", "--ver"], ["--verbose"]),
        (["show", "-"], [
            "--license", "--modelfile", "--parameters", "--system", "--template", "--verbose", "-v", "--remote", "--json",
        ]),
        (["ls", "big:7"], ["big:7b"]),
        (["stop", ""], ["big:7b"]),
        (["rm", ""], ["big:7b", "big:13b"]),
        (["pull", "b"], []),
        (["daemon", "stop", ""], []),
        (["serve", "--preload", "big:7"], ["big:7b"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "ser"], ["serve"]),
        (["help", "run", ""], []),
        (["nosuch", ""], []),
        (["--version", "da"], ["daemon"]),
    ],
)  # fmt: skip
def test_what_is_offered(words: list[str], expected: list[str]) -> None:
    found = candidates(group(), words, lambda: ["big:7b", "big:13b"], lambda: ["big:7b"])
    assert [name for name, _ in found] == expected


def test_all_commands_are_offered_with_their_meaning() -> None:
    found = dict(candidates(group(), [], list, list))
    assert {"serve", "run", "pull", "list", "rm", "daemon"} <= set(found) and "ls" not in found
    assert all(found.values())


def test_names_come_from_the_daemon_that_runs(
    place: Place, standin: Callable[..., Standin]
) -> None:
    standin(port=place.ports[0])
    assert place.run("__complete", "run", "").stdout.split() == NAMES


def test_names_come_from_the_store_else_and_nothing_is_started(place: Place) -> None:
    manifest = place.home / "models/manifests/registry.ollama.ai/library/mine/7b"
    manifest.parent.mkdir(parents=True)
    kinds = ("docker.container.image.v1+json", "ollama.image.model")
    config, weights = (
        {"mediaType": f"application/vnd.{kind}", "digest": "sha256:" + "0" * 64, "size": 1}
        for kind in kinds
    )
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": [weights]}))
    result = place.run("__complete", "run", "")
    assert "mine:7b" in result.stdout.split() and result.stderr == ""
    assert place.daemons() == []
    assert place.run("__complete", "stop", "").stdout == ""


def test_a_silent_port_does_not_hold_the_shell_up(place: Place) -> None:
    import socket

    with socket.create_server(("127.0.0.1", place.ports[0])):
        result = place.run("__complete", "run", "nosuch")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# The scripts


@pytest.fixture
def path(tmp_path: Path, variables: dict[str, str]) -> dict[str, str]:
    """An environment in which `ollamapy` is a command."""
    command = tmp_path / "bin/ollamapy"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m ollamapy \"$@\"\n")
    command.chmod(0o755)
    return {**variables, "PATH": f"{command.parent}:{variables['PATH']}"}


def shell(name: str, code: str, environment: dict[str, str]) -> list[str]:
    """The lines that a shell prints for some code; the script is $SCRIPT. Skips if it is not installed."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[name]
    result = subprocess.run(
        [name, *quiet, "-c", code],
        capture_output=True,
        text=True,
        env={**environment, "SCRIPT": SCRIPTS[name]},
        timeout=60,
    )
    assert result.returncode == 0 and result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_shell_accepts_its_script(name: str, ollamapy: Command, tmp_path: Path) -> None:
    printed = ollamapy("completion", name).stdout
    assert printed == SCRIPTS[name]
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    script = tmp_path / "script"
    script.write_text(printed)
    subprocess.run([name, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ollamapy run h", ["hello:latest"]),
        ("ollamapy run hello:", ["latest"]),
        ("ollamapy run hello:l", ["latest"]),
        ("ollamapy da", ["daemon"]),
        ("ollamapy daemon ", ["start", "stop", "restart", "status", "logs"]),
        ("ollamapy show --te", ["--template"]),
    ],
)
def test_bash_completes(
    typed: str, expected: list[str], path: dict[str, str], standin: Callable[..., Standin]
) -> None:
    """As readline would ask; ":" breaks words, so only what follows it is replaced."""
    code = f'eval "$SCRIPT"; COMP_LINE="{typed}" COMP_POINT={len(typed)}; _ollamapy; printf "%s\\n" "${{COMPREPLY[@]}}"'
    assert shell("bash", code, {**path, "OLLAMAPY_HOST": standin().host}) == expected


def test_zsh_completes(path: dict[str, str], standin: Callable[..., Standin]) -> None:
    code = (
        'compdef() { }; eval "$SCRIPT"; _describe() { print -rl -- "${(P@)2}" }; '
        "words=(ollamapy run h) CURRENT=3; _ollamapy; words=(ollamapy daemon st) CURRENT=3; _ollamapy"
    )
    assert shell("zsh", code, {**path, "OLLAMAPY_HOST": standin().host}) == [
        r"hello\:latest",
        "start:Start the daemon, unless it runs already.",
        "stop:End the daemon, after the requests in flight.",
        "status:Say whether the daemon runs, and where.",
    ]


def test_fish_completes(path: dict[str, str], standin: Callable[..., Standin]) -> None:
    code = 'eval "$SCRIPT"; complete -C "ollamapy run h"; complete -C "ollamapy completion "'
    code = code.replace('eval "$SCRIPT"', "echo $SCRIPT | source")
    lines = shell("fish", code, {**path, "OLLAMAPY_HOST": standin().host})
    assert lines == ["hello:latest", "bash", "fish", "zsh"]

"""From nothing to a story: the commands with the real daemon and the built-in model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from .conftest import Place

pytestmark = pytest.mark.llama

DAEMON = (sys.executable, "-m", "ollamapy", "serve")
STORY = ("run", "tinystories", "Once upon a time")


@pytest.fixture
def real(place: Place) -> Iterator[Place]:
    """Like `place`, with the real daemon, which ends with the test."""
    place.daemon = DAEMON
    yield place
    for pid in processes(place):
        psutil.Process(pid).kill()


def processes(place: Place) -> list[int]:
    """The daemon, if it runs."""
    status = json.loads(place.run("daemon", "status", "--json").stdout)
    return [status["pid"]] if status["running"] else []


def test_a_story_from_nothing(real: Place) -> None:
    result = real.run(*STORY)
    assert (result.returncode, result.stderr) == (0, ""), real.log
    assert len(result.stdout.split()) > 20 and result.stdout.endswith("\n\n")
    [pid] = processes(real)
    assert len(psutil.Process(pid).children()) == 1, "one runner, loaded before it was asked for"
    assert "tinystories:latest" in real.run("list").stdout
    assert real.run("ps").stdout.splitlines()[1].startswith("tinystories:latest")
    assert real.run("stop", "tinystories").returncode == 0
    assert len(real.run("ps").stdout.splitlines()) == 1
    assert real.run("daemon", "stop").stdout == "stopped\n"
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_reader_that_leaves(real: Place) -> None:
    command = subprocess.Popen(
        real.command(*STORY), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=real.variables
    )
    assert command.stdout is not None and command.stderr is not None
    assert command.stdout.read(1)
    command.stdout.close()
    assert (command.wait(timeout=60), command.stderr.read()) == (0, b"")
    command.stderr.close()


@pytest.mark.long
def test_two_at_once_make_one_daemon(real: Place) -> None:
    commands = [
        subprocess.Popen(
            real.command(*STORY),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=real.variables,
        )
        for _ in range(2)
    ]
    for command in commands:
        assert command.communicate(timeout=60)[0] and command.returncode == 0
    assert real.log.count("listening at") == 1


@pytest.mark.long
def test_a_daemon_that_is_killed_is_an_error_and_leaves_nobody(real: Place) -> None:
    endless = real.command("run", "tinystories", "Once upon a time", "there was")
    assert real.run("run", "tinystories", "").returncode == 0
    [pid] = processes(real)
    runners = psutil.Process(pid).children()
    psutil.Process(runners[0].pid).suspend()
    command = subprocess.Popen(
        endless,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=real.variables,
    )
    wait_until_busy(real)
    psutil.Process(pid).send_signal(signal.SIGKILL)
    psutil.Process(runners[0].pid).resume()
    _, complaint = command.communicate(timeout=60)
    assert command.returncode == 1
    assert complaint.startswith(b"Error: ") and complaint.count(b"\n") == 1
    gone, alive = psutil.wait_procs(runners, timeout=30)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE], "no orphan"
    assert real.run(*STORY).returncode == 0, "and the next command starts anew"


def wait_until_busy(place: Place) -> None:
    """Until a request is in flight."""
    while not json.loads(place.run("daemon", "status", "--json").stdout)["requests"]:
        pass


@pytest.mark.long
def test_unknown_models_are_named(real: Place) -> None:
    result = real.run("run", "nosuch", "Hi")
    *_, complaint = result.stderr.splitlines()
    assert complaint.startswith(
        "Error: model 'nosuch' not found, and could not be pulled: cannot ask"
    )
    assert complaint.endswith("installed: tinystories:latest") and result.returncode == 1
    assert processes(real), "a name that cannot be loaded ahead is no reason to not start"

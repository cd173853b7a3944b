"""Finding, starting, replacing and stopping the daemon: real processes and sockets, at ports of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollamapy import __version__
from ollamapy.cli.launch import is_newer
from tests.served import until

from .conftest import STANDIN, Command, Place, Standin, free_ports

OLD = (*STANDIN, "--version", "0.0.9")


def started(place: Place) -> list[Any]:
    """What each stand-in that was started wrote first: ["started", preload, directory, parent]."""
    lines = [json.loads(line) for line in place.log.splitlines() if line.startswith("[")]
    return [line for line in lines if line[0] == "started"]


# Starting


def test_run_starts_the_daemon_and_returns(place: Place) -> None:
    result = place.run("run", "hello", "Hi")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Hello!")
    [[_, preload, directory, _]] = started(place)
    assert (preload, directory) == ("hello", "/")
    [pid] = place.daemons()
    assert psutil.Process(pid).terminal() is None and os.getsid(pid) == pid


def test_command_substitution_returns(place: Place) -> None:
    result = subprocess.run(
        ["bash", "-c", 'x=$("$@"); echo "<$x>"', "bash", *place.command("run", "hello", "Hi")],
        capture_output=True,
        text=True,
        env=place.variables,
        timeout=60,
    )
    assert result.stdout == "<Hello! I am a scripted model, here to help you test.>\n"
    assert len(place.daemons()) == 1


def test_a_daemon_that_runs_is_used(place: Place, standin: Callable[..., Standin]) -> None:
    standin(port=place.ports[0])
    assert place.run("run", "hello", "Hi").returncode == 0
    assert not place.home.exists()


@pytest.mark.parametrize(
    ("command", "variable"),
    [
        (["run", "hello", "Hi"], "OLLAMAPY_MODELS"),
        (["list"], "OLLAMAPY_MODELS"),
        (["ps"], "OLLAMAPY_HOME"),
        (["stop", "hello"], "OLLAMA_MODELS"),
        (["daemon", "start"], "OLLAMAPY_HOME"),
    ],
)
def test_a_daemon_with_other_models_than_the_environment_names(
    command: list[str], variable: str, place: Place, standin: Callable[..., Standin]
) -> None:
    del place.variables["OLLAMAPY_HOME"]
    place.variables["HOME"] = str(place.home)
    standin("--models", "/elsewhere/models", port=place.ports[0])
    named = {variable: "/here"}
    mine = "/here/models" if variable == "OLLAMAPY_HOME" else "/here"
    result = place.run(*command, **named)
    assert (result.returncode, result.stderr) == (
        0,
        f"the daemon at http://127.0.0.1:{place.ports[0]} has the models in /elsewhere/models, "
        f"not those in {mine}: 'ollamapy daemon restart' changes that\n",
    )


def test_a_daemon_with_the_same_models_or_who_names_none(
    place: Place, standin: Callable[..., Standin]
) -> None:
    models = place.home / "models"
    models.mkdir(parents=True)
    (place.home / "link").symlink_to(models)
    standin("--models", str(models), port=place.ports[0])
    assert place.run("ps").stderr == ""
    assert place.run("ps", OLLAMAPY_MODELS=str(place.home / "link")).stderr == ""
    del place.variables["OLLAMAPY_HOME"]
    assert place.run("ps", HOME=str(place.home / "other")).stderr == ""


def test_two_at_once_start_one(place: Place) -> None:
    slow = (*STANDIN, "--delay", "0.5")
    commands = [
        subprocess.Popen(
            place.command("run", "hello", "Hi", daemon=slow),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=place.variables,
        )
        for _ in range(3)
    ]
    for command in commands:
        out, complaint = command.communicate(timeout=60)
        assert out.startswith("Hello!") and complaint == ""
    assert len(started(place)) == 1 == len(place.daemons())


@pytest.mark.parametrize(
    "command", [["ps"], ["stop", "hello"], ["--version"], ["daemon", "status"]]
)
def test_these_never_start_it(command: list[str], place: Place) -> None:
    result = place.run(*command)
    assert result.returncode == (1 if "status" in command else 0)
    assert not place.home.exists() and not place.daemons()


@pytest.mark.parametrize("command", [["list"], ["show", "hello"]])
def test_these_start_it(command: list[str], place: Place) -> None:
    assert place.run(*command).returncode == 0
    assert len(place.daemons()) == 1


def test_a_daemon_that_cannot_start_says_why(place: Place) -> None:
    result = place.run("run", "hello", "Hi", daemon=(*STANDIN, "--fail", "no room"))
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr
        == f"Error: the daemon did not start: no room (log: {place.home}/daemon.log)\n"
    )


def test_a_home_that_cannot_be_written(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = place.run("run", "hello", "Hi", OLLAMAPY_HOME=str(tmp_path / "file"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error: cannot write to {tmp_path / 'file'}: ")
    assert result.stderr.endswith("set OLLAMAPY_HOME to a directory of yours\n")


# Strangers


@contextmanager
def stranger(port: int, greeting: bytes | None) -> Iterator[None]:
    """A program that says something to who connects, or nothing at all."""
    with socket.create_server(("127.0.0.1", port)) as server:
        held = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                held.append(connection)
                if greeting is not None:
                    connection.recv(1000)
                    connection.sendall(greeting)
                    connection.close()

        threading.Thread(target=accept, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        (None, "a program that does not answer"),
        (b"", "another program"),
        (b"220 mail.example ESMTP\r\n", "another program"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "another web server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "another program"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "another web server"),
    ],
    ids=["silent", "hangs-up", "mail", "404", "no-object", "empty-object"],
)
def test_a_stranger_at_the_port_makes_the_other_one_ours(
    greeting: bytes | None, name: str, place: Place
) -> None:
    first, second = place.ports
    with stranger(first, greeting):
        result = place.run("run", "hello", "Hi")
        assert result.returncode == 0 and result.stdout.startswith("Hello!")
        assert result.stderr == f"port {first} is held by {name}, using http://127.0.0.1:{second}\n"
        assert len(place.daemons()) == 1


def test_an_ollama_at_the_port(place: Place, standin: Callable[..., Standin]) -> None:
    first, second = place.ports
    ollama = standin("--kind", "ollama", port=first)
    result = place.run("list")
    assert (
        result.stderr
        == f"port {first} is held by Ollama 0.32.15, using http://127.0.0.1:{second}\n"
    )
    ollama.process.kill()
    ollama.process.wait()
    assert place.run("list").stderr == "", (
        "ours is found at the second port, though the first is free"
    )
    assert len(place.daemons()) == 1


def test_strangers_at_both_ports(place: Place) -> None:
    first, second = place.ports
    with stranger(first, b""), stranger(second, b""):
        result = place.run("run", "hello", "Hi")
    assert result.stderr == (
        f"Error: port {first} is held by another program and port {second} by another program, "
        "choose another with OLLAMAPY_HOST=127.0.0.1:PORT\n"
    )


def test_a_given_address_is_used_whoever_answers(
    standin: Callable[..., Standin], ollamapy: Command
) -> None:
    ollama = standin("--kind", "ollama")
    for variable in ("OLLAMA_HOST", "OLLAMAPY_HOST"):
        result = ollamapy("run", "hello", "Hi", **{variable: ollama.host})
        assert (result.returncode, result.stderr) == (0, "")


# Replacing


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [
        ("0.1.0", "0.0.9", True),
        ("0.10.0", "0.9.9", True),
        ("1.0", "0.9.9", True),
        ("0.1.0", "0.1.0", False),
        ("0.1.0", "0.2.0", False),
        ("0.1.0.dev3", "0.1.0", False),
        ("0.1.0", "", True),
    ],
)
def test_versions_compare_by_their_numbers(version: str, than: str, expected: bool) -> None:
    assert is_newer(version, than) is expected


def test_an_idle_older_daemon_is_replaced(place: Place) -> None:
    assert place.run("list", daemon=OLD).returncode == 0
    [old] = place.daemons()
    result = place.run("list")
    assert result.stderr == f"restarting the daemon: ollamapy 0.0.9 -> {__version__}\n"
    [new] = place.daemons()
    assert result.returncode == 0 and new != old
    assert place.run("list").stderr == ""


def test_a_busy_older_daemon_stays(place: Place) -> None:
    place.run("list", daemon=(*OLD, "--busy", "0.1"))
    before = place.daemons()
    result = place.run("run", "hello", "Hi")
    assert result.returncode == 0 and result.stdout.startswith("Hello!")
    assert result.stderr == (
        f"the daemon is ollamapy 0.0.9, older than this program ({__version__}), "
        "and busy: replace it with 'ollamapy daemon restart'\n"
    )
    assert place.daemons() == before


def test_a_newer_daemon_stays(place: Place) -> None:
    place.run("list", daemon=(*STANDIN, "--version", "9.0"))
    before = place.daemons()
    assert place.run("list").stderr == ""
    assert place.daemons() == before


@pytest.mark.long
def test_ps_and_stop_replace_nothing(place: Place) -> None:
    place.run("list", daemon=OLD)
    before = place.daemons()
    assert place.run("ps").stderr == "" == place.run("stop", "hello").stderr
    assert place.daemons() == before


# daemon start, stop, restart, status, logs


def test_the_life_of_a_daemon(place: Place) -> None:
    url = f"http://127.0.0.1:{place.ports[0]}"
    assert place.run("daemon", "stop").stdout == "the daemon is not running\n"
    first = place.run("daemon", "start")
    [pid] = place.daemons()
    assert first.stdout == f"ollamapy {__version__} started at {url} (pid {pid})\n"
    again = place.run("daemon", "start")
    assert again.stdout == f"ollamapy {__version__} runs already at {url} (pid {pid})\n"
    status = place.run("daemon", "status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout) == {
        "running": True,
        "address": url,
        "log": f"{place.home}/daemon.log",
        "version": __version__,
        "pid": pid,
        "requests": 0,
        "loaded": [],
    }
    assert f"pid         {pid}\n" in place.run("daemon", "status").stdout
    assert place.run("daemon", "restart").returncode == 0
    assert len(place.daemons()) == 1 and place.daemons() != [pid]
    assert place.run("daemon", "stop").stdout == "stopped\n"
    assert place.daemons() == []
    ended = place.run("daemon", "status")
    assert (ended.returncode, ended.stdout) == (1, "not running\n")


def test_a_question_during_a_restart_waits(
    standin: Callable[..., Standin], variables: dict[str, str], home: Path, ollamapy: Command
) -> None:
    """The lock that `daemon restart` holds; nothing listens yet. Without it the same question fails at once."""
    import fcntl

    [port] = free_ports(1)
    host = f"127.0.0.1:{port}"
    assert ollamapy("run", "hello", "Hi", host=host).returncode == 1
    home.mkdir(exist_ok=True)
    with (home / "start.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asking = subprocess.Popen(
            [sys.executable, "-m", "ollamapy", "run", "hello", "Hi"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env={**variables, "OLLAMAPY_HOST": host},
        )
        until(lambda: str(lock.name) in opened_by(asking.pid), "it waits for the lock")
        standin(port=port)
    assert asking.communicate()[0].startswith("Hello!") and asking.returncode == 0


def opened_by(pid: int) -> list[str]:
    return [each.path for each in psutil.Process(pid).open_files()]


def test_stop_waits_for_the_requests_in_flight(place: Place) -> None:
    place.run("daemon", "start", daemon=(*STANDIN, "--busy", "1.3"))
    result = place.run("daemon", "stop")
    assert (result.returncode, result.stdout) == (0, "stopped\n")
    assert result.stderr == "waiting for the daemon to finish its requests (Ctrl-C: do not wait)\n"
    assert place.daemons() == []


def test_a_pid_that_does_not_hold_the_port_is_left_alone(place: Place, tmp_path: Path) -> None:
    """As behind a forwarded port, where the daemon's pid is another process's here."""
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    answer = json.dumps(
        {"version": "0", "ollamapy": "0.0.1", "pid": bystander.pid, "busy": 0}
    ).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
    with stranger(place.ports[0], head + answer):
        result = place.run("daemon", "stop")
    assert result.returncode == 1
    assert "is not a process of yours on this machine" in result.stderr
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_start_at_a_given_address(place: Place) -> None:
    host = f"127.0.0.1:{place.ports[1]}"
    result = place.run("daemon", "start", OLLAMAPY_HOST=host)
    assert f"started at http://{host} " in result.stdout
    assert place.run("daemon", "stop", OLLAMAPY_HOST=host).stdout == "stopped\n"


def test_start_where_another_program_listens(place: Place) -> None:
    host = f"127.0.0.1:{place.ports[0]}"
    with stranger(place.ports[0], b""):
        status = place.run("daemon", "status", OLLAMAPY_HOST=host)
        start = place.run("daemon", "start", OLLAMAPY_HOST=host)
    assert status.stdout == f"not running: http://{host} is held by another program\n"
    assert (
        start.stderr
        == f"Error: http://{host} is held by another program, choose another OLLAMAPY_HOST\n"
    )


def test_serve_where_ours_runs(place: Place, standin: Callable[..., Standin]) -> None:
    server = standin(port=place.ports[0])
    result = place.run("serve")
    assert result.stderr == (
        f"Error: ollamapy {__version__} runs at http://{server.host} already (pid {server.process.pid}), "
        "end it with: ollamapy daemon stop\n"
    )


def test_the_log_is_shown(place: Place) -> None:
    missing = place.run("daemon", "logs")
    assert missing.stderr == (
        f"Error: there is no log at {place.home}/daemon.log: it is written by a daemon that 'ollamapy daemon start' started\n"
    )
    place.home.mkdir()
    log = place.home / "daemon.log"
    log.write_text(
        "".join(f"line {i}\n" for i in range(200)) + "Büro \udc80".encode(errors="replace").decode()
    )
    assert place.run("daemon", "logs").stdout.startswith("line 101\n")
    assert place.run("daemon", "logs", "-n", "2").stdout == "line 199\nBüro ?"
    assert place.run("daemon", "logs", "-n", "0").stdout == ""


def test_control_characters_in_the_log_are_shown_escaped(place: Place) -> None:
    place.home.mkdir()
    (place.home / "daemon.log").write_bytes("a\x1b[2Jb\rINFO forged\u202e\nnext\r\n".encode())
    escaped = "a\\x1b[2Jb\\rINFO forged\\u202e\nnext\n"
    assert place.run("daemon", "logs").stdout == escaped
    assert place.run("daemon", "logs", "-n", "2").stdout == escaped


def test_the_log_is_followed_through_a_rotation(place: Place) -> None:
    place.home.mkdir()
    log = place.home / "daemon.log"
    log.write_text("one\n")
    command = place.command("daemon", "logs", "-f")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=place.variables
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "one\n"
            with log.open("a") as more:
                more.write("two\n")
            assert process.stdout.readline() == "two\n"
            log.rename(log.with_name("daemon.log.1"))
            log.write_text("three\n")
            assert process.stdout.readline() == "three\n"
            for number in range(4, 12):
                with log.open("a") as more:
                    more.write(f"{number}\n")
                    log.rename(log.with_name("daemon.log.1"))
                    log.write_text("")
                    more.write(f"{number}, late\n")
                assert process.stdout.readline() == f"{number}\n"
                assert process.stdout.readline() == f"{number}, late\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()


def test_list_is_quick(place: Place, standin: Callable[..., Standin]) -> None:
    """The aim is 0.15 s on an idle machine; here only that nothing waits for a time limit."""
    standin(port=place.ports[0])
    begin = time.monotonic()
    assert place.run("list").returncode == 0
    assert time.monotonic() - begin < 10

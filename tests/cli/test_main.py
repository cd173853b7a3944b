"""Exit statuses, messages, and what a command may import: for these it is a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.main import main

from .conftest import Command, free_ports

FORBIDDEN = {
    "rich", "requests", "jinja2", "yaml", "numpy", "msgspec", "starlette", "uvicorn", "httpx", "asyncio",
    "llama_cpp", "psutil", "filelock", "ollamapy.engine", "ollamapy.runner", "ollamapy.daemon",
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "requires at least 1 arg(s), only received 0, see: ollamapy run --help"),
        (["show"], "accepts 1 arg(s), received 0, see: ollamapy show --help"),
        (["show", "a", "b"], "accepts 1 arg(s), received 2, see: ollamapy show --help"),
        (["nosuch"], 'unknown command "nosuch" for "ollamapy", see: ollamapy --help'),
        (["daemon", "x"], 'unknown command "x" for "ollamapy daemon", see: ollamapy daemon --help'),
        (["shwo"], "unknown command \"shwo\" for \"ollamapy\" (did you mean 'show'?), see: ollamapy --help"),
        (["list", "--nosuch"], "unknown flag: --nosuch, see: ollamapy list --help"),
        (["list", "-x"], "unknown shorthand flag: -x, see: ollamapy list --help"),
        (["run", "m", "--keepalive"], "flag needs an argument: --keepalive, see: ollamapy --help"),
        (["list", "--json=3"], "flag takes no value: --json, see: ollamapy --help"),
        (["run", "m", "--keepalive", "300"],
         'time: missing unit in duration "300", write it like 30s, 5m, 1h30m or -1s (for ever)'),
        (["completion", "tcsh"], 'unknown shell "tcsh", one of: bash, zsh, fish'),
        (["daemon", "start", "x"], "accepts 0 arg(s), received 1, see: ollamapy daemon start --help"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_status_1(
    arguments: list[str], message: str, ollamapy: Command
) -> None:
    result = ollamapy(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"Error: {message}\n")


def test_help_is_plain_text_and_status_0(ollamapy: Command) -> None:
    bare = ollamapy()
    assert bare.returncode == 0 and bare.stdout == ollamapy("--help").stdout
    assert "  list        List the installed models, newest first." in bare.stdout
    assert ollamapy("run", "-h").stdout.startswith(
        "Usage: ollamapy run MODEL [PROMPT]... [flags]\n"
    )


def test_help_on_every_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*words: str) -> str:
        assert main(words) == 0
        return capsys.readouterr().out

    assert shown("help") == shown("--help")
    listed = shown("help").partition("Talk:\n")[2].partition("Examples:")[0]
    commands = [line.split()[0] for line in listed.splitlines() if re.match(r"  \S", line)]
    assert "..." not in listed and {"serve", "run", "daemon", "help"} <= set(commands)
    for words in [*([each] for each in commands), ["daemon", "start"], ["daemon", "logs"]]:
        said = shown("help", *words)
        assert said == shown(*words, "--help")
        assert said.startswith(f"Usage: ollamapy {' '.join(words)} ")
    assert shown("start", "-h") == shown("serve", "-h").replace("serve", "start", 1)
    says = 'Error: unknown command "nosuch" for "ollamapy", see: ollamapy --help\n'
    assert (main(["help", "nosuch"]), capsys.readouterr().err) == (1, says)


def test_the_version_needs_no_daemon(ollamapy: Command, home: Path) -> None:
    from ollamapy import __version__

    for flag in ("--version", "-v"):
        result = ollamapy(flag)
        assert (result.returncode, result.stdout) == (0, f"ollamapy version is {__version__}\n")
    assert not home.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_a_full_disk_is_one_line(flag: str, variables: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "ollamapy", flag],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
        )
    assert (result.returncode, result.stderr) == (1, "Error: no space left on device\n")


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_a_reader_that_has_gone_is_no_error(flag: str, variables: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "ollamapy", flag],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


INTERRUPT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module, sys.argv[1:] = sys.argv[1], ["list"]
sys.meta_path.insert(0, Finder())
from ollamapy.__main__ import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    "module",
    ["ollamapy.cli.main", "ollamapy.config", "http.client", "ollamapy.cli.commands", "typer"],
)
def test_an_interrupt_is_quiet_from_the_beginning(module: str, variables: dict[str, str]) -> None:
    command = [sys.executable, "-c", INTERRUPT, module]
    result = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("host", "error"),
    [
        (
            "foo bar",
            "OLLAMAPY_HOST is 'foo bar': it is no address; write one host[:port] such as 127.0.0.1:11434 or [::1]:11434",
        ),
        (
            f"{'x' * 70}.example",
            f"'http://{'x' * 70}.example:11434' is no address: set OLLAMAPY_HOST or OLLAMA_HOST to HOST:PORT or http://HOST:PORT",
        ),
    ],
)
@pytest.mark.parametrize("command", [["ps"], ["run", "m", "Hi"], ["daemon", "status"]])
def test_an_address_that_is_none(
    command: list[str], host: str, error: str, ollamapy: Command
) -> None:
    result = ollamapy(*command, host=host)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"Error: {error}\n")


def test_a_path_that_is_none(standin: Any, ollamapy: Command) -> None:
    result = ollamapy("ps", host=f"{standin().host}/a b")
    assert result.returncode == 1 and "/a b': it is no address" in result.stderr


@pytest.mark.parametrize("command", ["list", "ps", "show", "stop", "run"])
def test_a_given_address_where_nobody_answers(command: str, ollamapy: Command, home: Path) -> None:
    [port] = free_ports(1)
    result = ollamapy(
        command, *(["m"] if command not in ("list", "ps") else []), host=f"127.0.0.1:{port}"
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: no server at http://127.0.0.1:{port} (connection refused), start one there with "
        "'ollamapy daemon start', or correct OLLAMAPY_HOST or OLLAMA_HOST\n"
    )
    assert not home.exists(), "nothing was started"


@pytest.mark.parametrize("command", ["run", "show"])
def test_an_unknown_model_says_which_there_are(
    command: str, standin: Any, ollamapy: Command
) -> None:
    result = ollamapy(command, "nosuch", host=standin().host)
    assert result.returncode == 1
    assert result.stderr.endswith(
        " not found, installed: hello:latest, json:latest, think:latest, tool:latest\n"
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("broken", "Error: the runner ended (signal 11)\n"),
        ("cut", "broke off in the middle of its answer, see: ollamapy daemon logs\n"),
        ("dies", "broke off in the middle of its answer, see: ollamapy daemon logs\n"),
    ],
)
def test_an_answer_that_ends_badly(
    model: str, message: str, standin: Any, ollamapy: Command
) -> None:
    result = ollamapy("run", model, "Hi", host=standin().host)
    assert (result.returncode, result.stdout) == (1, "one")
    assert result.stderr.startswith("Error: ") and result.stderr.endswith(message)
    assert result.stderr.count("\n") == 1


def test_a_server_that_is_none(ollamapy: Command) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=greet, daemon=True).start()
        result = ollamapy("list", host=f"127.0.0.1:{server.getsockname()[1]}")
    assert result.returncode == 1
    assert "the program there is not an Ollama or ollamapy server" in result.stderr


def test_json_is_what_the_api_answers(standin: Any, ollamapy: Command) -> None:
    host = standin("--loaded").host
    names = [
        model["name"]
        for model in json.loads(ollamapy("list", "--json", host=host).stdout)["models"]
    ]
    assert names == ["hello:latest", "json:latest", "think:latest", "tool:latest"]
    assert len(json.loads(ollamapy("list", "h", "--json", host=host).stdout)["models"]) == 1
    assert json.loads(ollamapy("ps", "--json", host=host).stdout)["models"][0]["size_vram"] == 0
    assert (
        json.loads(ollamapy("show", "hello", "--json", host=host).stdout)["details"]["family"]
        == "llama"
    )
    only = json.loads(ollamapy("show", "hello", "--json", "--parameters", host=host).stdout)
    assert list(only) == ["parameters"]


def test_ps_shows_what_is_loaded(standin: Any, ollamapy: Command) -> None:
    assert ollamapy("ps", "HEL", host=standin("--loaded").host).stdout == (
        "NAME            ID              SIZE      PROCESSOR    CONTEXT    UNTIL              \n"
        "hello:latest    07ec5185ab5d    9.2 MB    100% CPU     2048       4 minutes from now    \n"
    )


def test_ps_watch_shows_the_list_again(standin: Any, variables: dict[str, str]) -> None:
    server = standin("--loaded")
    watching = subprocess.Popen(
        [sys.executable, "-m", "ollamapy", "ps", "--watch"],
        stdout=subprocess.PIPE,
        text=True,
        env={**variables, "OLLAMAPY_HOST": server.host},
    )
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(4)]
    watching.send_signal(signal.SIGINT)
    watching.communicate()
    assert watching.returncode == 130
    assert lines[0] == lines[2] and lines[0].startswith("NAME")
    assert lines[1].startswith("hello:latest") and lines[3].startswith("hello:latest")


def test_a_bug_is_one_line_and_its_traceback_a_file(home: Path, variables: dict[str, str]) -> None:
    code = "import sys; from ollamapy.cli.main import main; sys.exit(main(['list'], lambda s: 1/0))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables
    )
    assert result.returncode == 1
    assert result.stderr == (
        "Error: this is a bug in ollamapy: ZeroDivisionError: division by zero "
        f"(details: {home / 'error.log'})\n"
    )
    assert "Traceback" in (home / "error.log").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["ps"],
        ["show", "hello"],
        ["run", "hello", "Hi"],
        ["stop", "hello"],
    ],
    ids=" ".join,
)
def test_thin_commands_import_nothing_heavy(
    arguments: list[str], standin: Any, variables: dict[str, str]
) -> None:
    code = (
        "import sys; from ollamapy.cli.main import main; status = main(sys.argv[1:]);"
        "print('\\n'.join(sys.modules), file=sys.stderr); sys.exit(status)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**variables, "OLLAMAPY_HOST": standin().host},
    )
    assert result.returncode == 0
    assert not set(result.stderr.split()) & FORBIDDEN


def test_the_version_imports_nothing(variables: dict[str, str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ollamapy", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, env=variables)
    imported = {line.split("|")[-1].strip() for line in result.stderr.splitlines()}
    assert "ollamapy" in imported
    assert not imported & (FORBIDDEN | {"typer", "http.client", "json", "ollamapy.config"})


@pytest.mark.parametrize("arguments", [["list"], ["pull", "m"], ["verify"], ["daemon", "status"]])
def test_a_command_reads_its_settings_once(arguments: list[str], variables: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from ollamapy import config\n"
        "from ollamapy.cli.main import main\n"
        "read, calls = config.Settings.from_env, []\n"
        "config.Settings.from_env = lambda *a: calls.append(1) or read(*a)\n"
        f"main({arguments!r})\n"
        "print(len(calls))"
    )
    environment = {**variables, "OLLAMAPY_HOST": "127.0.0.1:1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.stdout.splitlines()[-1] == "1", result.stderr

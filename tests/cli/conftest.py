"""What the tests of the commands share: running one as a process, and a server that stands in for the daemon."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.served import Daemon

from .chats import Chat, Start

ROOT = Path(__file__).parents[2]
STANDIN = (sys.executable, str(Path(__file__).parent / "standin.py"))


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@dataclass
class Standin:
    """A running stand-in server."""

    port: int
    process: subprocess.Popen[str]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def next(self) -> Any:
        """The next line that it printed: a request, or an event."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.startswith("[") else line.strip()

    def body(self, path: str) -> Any:
        """The body of the next request for a path."""
        while (request := self.next())[:2] != ["POST", path]:
            pass
        return request[2]


@pytest.fixture
def standin() -> Iterator[Callable[..., Standin]]:
    """Starts stand-in servers; they end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, port: int = 0) -> Standin:
        [port] = [port] if port else free_ports(1)
        environment = {**os.environ, "OLLAMAPY_HOST": f"127.0.0.1:{port}"}
        process = subprocess.Popen(
            [*STANDIN, *options], stdout=subprocess.PIPE, text=True, env=environment
        )
        started.append(process)
        server = Standin(port, process)
        assert server.next()[0] == "started"
        return server

    yield start
    for process in started:
        process.kill()
        process.communicate()


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose path has what shells and encodings stumble over."""
    return tmp_path / "ein Büro"


@pytest.fixture
def variables(home: Path) -> dict[str, str]:
    """A clean environment for a command: nothing of the tester's settings, no server to be found by accident."""
    keep = {
        k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA", "PYTHON", "NO_COLOR"))
    }
    return {
        **keep,
        "PYTHONPATH": str(ROOT),
        "OLLAMAPY_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture
def ollamapy(variables: dict[str, str]) -> Command:
    """Runs ``python -m ollamapy ARGUMENTS`` to its end, against ``host`` if one is given."""

    def run(
        *arguments: str, host: str = "", stdin: str | None = None, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {**variables, **({"OLLAMAPY_HOST": host} if host else {}), **extra}
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        command = [sys.executable, "-m", "ollamapy", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=60, **given
        )

    return run


# A command that looks for daemons at other ports than the usual ones, and starts stand-ins
_DRIVER = """
import sys
from ollamapy.cli.launch import Launcher
from ollamapy.cli.main import main
first, second, *daemon = sys.argv[1 : sys.argv.index("--")]
arguments = sys.argv[sys.argv.index("--") + 1 :]
ports = (int(first), int(second))
sys.exit(main(arguments, lambda settings: Launcher(settings, ports, daemon)))
"""


@dataclass
class Place:
    """Two free ports, and commands that know these as the daemon's."""

    ports: tuple[int, int]
    home: Path
    variables: dict[str, str]
    daemon: Sequence[str] = STANDIN

    def command(self, *arguments: str, daemon: Sequence[str] = ()) -> list[str]:
        first, second = map(str, self.ports)
        command = daemon or self.daemon
        return [sys.executable, "-c", _DRIVER, first, second, *command, "--", *arguments]

    def run(
        self, *arguments: str, daemon: Sequence[str] = (), **extra: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, daemon=daemon),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**self.variables, **extra},
            timeout=60,
        )

    @property
    def log(self) -> str:
        return (self.home / "daemon.log").read_text()

    def daemons(self) -> list[int]:
        """The process ids of stand-ins that listen at the two ports."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
                if STANDIN[1] in (process.info["cmdline"] or ()) and process.status() != "zombie":
                    held = {c.laddr.port for c in process.net_connections() if c.laddr}
                    found += [process.pid] if held & set(self.ports) else []
        return found


@pytest.fixture
def place(home: Path, variables: dict[str, str]) -> Iterator[Place]:
    """Two free ports for daemons, whose stand-ins end with the test."""
    first, second = free_ports(2)
    found = Place((first, second), home, variables)
    yield found
    for pid in found.daemons():
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


@pytest.fixture
def start(variables: dict[str, str]) -> Iterator[Start]:
    """Starts chats; they end with the test."""
    opened: list[Chat] = []

    def begin(*command: str, columns: int = 80, **extra: str) -> Chat:
        variables["VISUAL"] = variables["EDITOR"] = ""
        opened.append(Chat(command, {**variables, **extra}, columns))
        return opened[-1]

    yield begin
    for chat in opened:
        chat.close()


@pytest.fixture
def chat(start: Start, daemon: Daemon) -> Start:
    """Starts chats with a model of the shared daemon."""

    def begin(model: str, *flags: str, columns: int = 80, **extra: str) -> Chat:
        command = (sys.executable, "-m", "ollamapy", "run", model, *flags)
        return start(*command, columns=columns, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}", **extra)

    return begin

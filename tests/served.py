"""A real daemon as a process, for tests: start it on a free port, ask it, look at its children, end it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
PATIENCE = 90.0


@dataclass
class Daemon:
    """A running ``ollamapy serve``. ``log`` is what it writes to stderr."""

    process: subprocess.Popen[bytes]
    port: int
    home: Path
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and return before its answer is read. A body that is not bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        return Answer(connection)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and read its answer."""
        answer = self.open(method, path, body, **headers)
        answer.read()
        return answer

    def generate(self, model: str, prompt: str = "Hi", **body: Any) -> Answer:
        """Ask for an answer that is not streamed, and read it."""
        return self.ask(
            "POST", "/api/generate", {"model": model, "prompt": prompt, "stream": False, **body}
        )

    def busy(self) -> int:
        """Requests that hold or wait for a lease."""
        return int(self.ask("GET", "/api/version").json()["busy"])

    def runners(self) -> list[psutil.Process]:
        """Its children that run models."""
        return [child for child in self.children() if "ollamapy.runner" in _command(child)]

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


class Answer:
    """A response that is being received; ``body`` once it is read."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response: http.client.HTTPResponse | None = None
        self.body = b""

    @property
    def response(self) -> http.client.HTTPResponse:
        """Status and headers; waits for them."""
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response

    @property
    def status(self) -> int:
        return self.response.status

    def header(self, name: str) -> str | None:
        return self.response.getheader(name)

    def read(self) -> bytes:
        self.body = self.response.read()
        self._connection.close()
        return self.body

    def json(self) -> Any:
        return json.loads(self.body)

    def line(self) -> Any:
        """The next line of a stream."""
        return json.loads(self.response.readline())

    def lines(self) -> list[Any]:
        """The remaining lines, until the connection ends."""
        return [json.loads(line) for line in self.response]

    def leave(self) -> None:
        """Disconnect."""
        if self._response is not None:
            self._response.close()
        self._connection.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds, and return what it gave; fails after PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timed out waiting for: {what}"
        time.sleep(0.002)
    return found


def command(*arguments: str) -> list[str]:
    """The command line of ``ollamapy`` with this Python."""
    return [sys.executable, "-m", "ollamapy", *arguments]


def environment(
    home: Path, models: Path | None = None, *, hub: str = "", **extra: str
) -> dict[str, str]:
    """For a process that knows only this home, and this hub if any; ``extra`` are variables of ours, without OLLAMAPY_."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OLLAMA", "PYTHON"))}
    variables |= {"OLLAMAPY_HOME": str(home), "PYTHONPATH": str(ROOT)}
    variables |= {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "" if hub else "1"}
    if models is not None:
        variables["OLLAMAPY_MODELS"] = str(models)
    return variables | {f"OLLAMAPY_{name}": value for name, value in extra.items()}


@contextmanager
def serve(
    home: Path,
    models: Path,
    *arguments: str,
    hub: str = "",
    wrap: Sequence[str] = (),
    **extra: str,
) -> Iterator[Daemon]:
    """A daemon on a free port; killed at the end if it still runs. No child of it may be left then. ``wrap``: the beginning of a
    command that becomes the daemon's process."""
    extra.setdefault("HOST", "127.0.0.1:0")
    log = home / "serve.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [*wrap, *command("serve", *arguments)],
            env=environment(home, models, hub=hub, **extra),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            cwd=home,
        )
    daemon = Daemon(process, 0, home, log)
    children: list[psutil.Process] = []
    try:
        daemon.port = until(lambda: _port(daemon), f"the daemon listens\n{log.read_text()}")
        until(lambda: daemon.ask("GET", "/").status == 200, "the daemon answers")
        yield daemon
        children = daemon.children()
        if process.poll() is None:
            assert daemon.end() == 0, log.read_text()
        _, left = psutil.wait_procs(children, timeout=60)
        assert not left, "orphans"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _port(daemon: Daemon) -> int | None:
    """Where it listens, as its log tells."""
    text = daemon.log.read_text()
    assert daemon.process.poll() is None, text
    _, found, rest = text.partition("listening at http://")
    return int(rest.split()[0].rpartition(":")[2]) if found and "\n" in rest else None


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

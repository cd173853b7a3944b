"""Who is sent the user's keys: the user's own daemon, and no program that only claims to be it.

Strangers are real servers on this machine, and every byte that they receive is kept.
"""

from __future__ import annotations

import json
import shutil
import socket
import socketserver
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ollamapy.cli.client import Client, Unreachable
from ollamapy.config import Address
from ollamapy.secret import NONCE, PROOF, ensure_secret, proof, read_secret
from tests.cli.conftest import Command
from tests.registry.fake_hub import FakeHub
from tests.served import Daemon, serve
from tests.small_models import random_model

TOKEN = "hf_very_secret"
VERSION = {"version": "0.32.15", "ollamapy": "99.0", "pid": 1}
DONE = b'{"status":"success"}\n'


@dataclass
class Stranger:
    """A server that is not ours; ``received`` is every byte that it got."""

    port: int
    received: bytearray = field(default_factory=bytearray)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def stranger(answer: dict[str, object], *headers: str, steps: bytes = DONE) -> Iterator[Stranger]:
    """Answers /api/version with this, and all else with ``steps``."""
    body = json.dumps(answer).encode()
    head = "".join(f"{each}\r\n" for each in (f"Content-Length: {len(body)}", *headers))
    version = f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body
    other = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(steps) + steps

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(65536):
                found.received += data
                self.request.sendall(version if data.startswith(b"GET /api/version") else other)

    with _listening(Handler) as port:
        found = Stranger(port)
        yield found


@contextmanager
def relay(target: int) -> Iterator[Stranger]:
    """Passes every byte on to a daemon, and its answers back."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", target)) as there:
                back = threading.Thread(target=_copy, args=(there, self.request))
                back.start()
                with suppress(OSError):
                    while data := self.request.recv(65536):
                        found.received += data
                        there.sendall(data)
                    there.shutdown(socket.SHUT_WR)
                back.join()

    with _listening(Handler) as port:
        found = Stranger(port)
        yield found


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def _listening(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("daemon")
    with serve(home, home / "models") as running:
        yield running


@pytest.fixture
def docker(tmp_path: Path) -> str:
    """A folder with the login of a registry."""
    login = {"auths": {"registry.example": {"auth": b64encode(b"me:pass_word").decode()}}}
    (tmp_path / "config.json").write_text(json.dumps(login))
    return str(tmp_path)


COMMANDS = [["pull", "hf.co/me/m"], ["push", "hf.co/me/m"], ["push", "registry.example/me/m"]]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("knows", ["nothing", "a secret", "another proof"])
def test_a_stranger_gets_no_keys(
    ollamapy: Command, home: Path, docker: str, arguments: list[str], knows: str
) -> None:
    if knows != "nothing":
        ensure_secret(home / "secret")
    proofs = [f"{PROOF}: {'0' * 64}"] if knows == "another proof" else []
    keys = {"HF_TOKEN": TOKEN, "DOCKER_CONFIG": docker, "HF_HUB_OFFLINE": ""}
    with stranger(VERSION, *proofs) as found:
        run = ollamapy(*arguments, host=found.host, **keys)
    assert run.returncode == 1 and run.stdout == ""
    assert f"the server at http://{found.host} does not prove that it is your daemon" in run.stderr
    assert "ollamapy daemon restart" in run.stderr and run.stderr.count("\n") == 1
    assert b"POST" not in found.received
    for key in (TOKEN, "pass_word", b64encode(b"me:pass_word").decode()):
        assert key.encode() not in found.received and key not in run.stderr


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_who_passes_the_nonce_on_to_the_daemon_gets_no_keys(
    ollamapy: Command, daemon: Daemon, docker: str, arguments: list[str]
) -> None:
    keys = {"HF_TOKEN": TOKEN, "DOCKER_CONFIG": docker, "OLLAMAPY_HOME": str(daemon.home)}
    with relay(daemon.port) as found:
        run = ollamapy(*arguments, host=found.host, **keys)
    assert run.returncode == 1 and "does not prove that it is your daemon" in run.stderr
    assert NONCE.encode() in found.received and b"POST" not in found.received
    assert TOKEN.encode() not in found.received and b"pass_word" not in found.received


def test_an_ollama_is_asked_without_keys(ollamapy: Command, home: Path, docker: str) -> None:
    ensure_secret(home / "secret")
    keys = {"HF_TOKEN": TOKEN, "DOCKER_CONFIG": docker}
    with stranger({"version": "0.32.15"}) as found:
        for arguments in COMMANDS:
            assert ollamapy(*arguments, host=found.host, **keys).returncode == 0
    assert found.received.count(b"POST /api/p") == len(COMMANDS)
    assert TOKEN.encode() not in found.received and b"pass_word" not in found.received
    assert b'"hub"' not in found.received


def test_a_failed_pull_elsewhere_says_that_the_token_stays_here(ollamapy: Command) -> None:
    with stranger({"version": "0.32.15"}, steps=b'{"error":"unauthorized"}\n') as found:
        run = ollamapy("pull", "hf.co/me/m", host=found.host, HF_TOKEN=TOKEN)
    assert (run.returncode, run.stderr) == (
        1,
        f"Error: unauthorized (HF_TOKEN is not sent to http://{found.host}, set it where that server runs)\n",
    )
    assert TOKEN.encode() not in found.received


def test_without_keys_a_daemon_of_another_home_is_asked(ollamapy: Command) -> None:
    with stranger(VERSION) as found:
        assert ollamapy("pull", "m", host=found.host, HF_HUB_OFFLINE="").returncode == 0
    assert b"POST /api/pull" in found.received and b'"token": ""' in found.received


def test_the_daemon_proves_itself_for_its_own_address_alone(daemon: Daemon) -> None:
    secret = read_secret(daemon.home / "secret")
    assert secret is not None
    nonce = "0f" * 32
    answer = daemon.ask("GET", "/api/version", **{NONCE: nonce})
    assert answer.header(PROOF) == proof(secret, "daemon", nonce, ("127.0.0.1", daemon.port))
    assert not daemon.ask("GET", "/api/version").header(PROOF)
    assert not daemon.ask("GET", "/api/version", **{NONCE: "none"}).header(PROOF)


def test_keys_go_over_the_connection_that_was_proven_and_over_no_other(daemon: Daemon) -> None:
    client = Client(Address(port=daemon.port))
    key = read_secret(daemon.home / "secret")
    assert key is not None and client.prove(bytes(32)) is None
    proven = client.prove(key)
    assert proven is not None
    proven.connection.close()
    with pytest.raises(Unreachable):
        client.pull({"model": "m"}, proven)


def test_the_daemons_own_token_goes_to_another_endpoint_for_its_owner_alone(
    ollamapy: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, home = FakeHub(), tmp_path / "daemon"
    home.mkdir()
    (tmp_path / "token").write_text("hf_good")
    hub.add_repo("me/m", {"m.gguf": random_model(tmp_path / "m.gguf").read_bytes()})
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("NO_PROXY", "*")

    def tokens() -> set[str]:
        return {each.headers.get("authorization", "") for each in hub.asked("hub")}

    with serve(home, home / "models", hub="https://127.0.0.1:1") as daemon:
        body = {"model": "hf.co/me/m", "hub": {"endpoint": hub.url}, "stream": False}
        assert daemon.ask("POST", "/api/pull", body).json()["status"] == "success"
        assert tokens() == {""}
        shutil.rmtree(home / "models")
        where = {"HF_ENDPOINT": hub.url, "OLLAMAPY_HOME": str(home), "HF_HUB_OFFLINE": ""}
        run = ollamapy("pull", "hf.co/me/m", host=f"127.0.0.1:{daemon.port}", **where)
        assert run.returncode == 0, run.stderr
        assert tokens() == {"", "Bearer hf_good"}
    hub.close()

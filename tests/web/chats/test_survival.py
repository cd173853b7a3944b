"""What survives the end of the daemon and of its clients: signals, kill -9 at any moment, a full disk."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from ollamapy.daemon.service import DRAIN_SECONDS
from tests.served import PATIENCE, Daemon, serve, until
from tests.small_models import install, scripted_model

from .talk import ask, events, new_chat, said, send

LOST_SECONDS = 1.0
"""How much of an answer may be lost at most when the daemon is killed."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def messages(daemon: Daemon, chat: str) -> dict[str, Any]:
    return {m["id"]: m for m in ask(daemon, "GET", f"/api/chats/{chat}")["messages"]}


def test_a_stop_ends_the_answers_of_chats_and_keeps_their_text(
    model_store: Path, home: Path
) -> None:
    """A person who stops the daemon does not wait for them; what no one stores goes on."""
    with serve(home, model_store, NUM_PARALLEL="2") as daemon:
        chat = new_chat(daemon, model="long")
        answer = daemon.open("POST", f"/api/chats/{chat}/messages", {"content": "Hi"})
        stream = events(answer)
        first = next(stream)[1]
        found = [next(event for event in stream if event[0] == "text")]
        body = {"model": "long", "prompt": "Hi", "options": {"num_predict": 60}}
        other = daemon.open("POST", "/api/generate", body)
        other.line()
        daemon.process.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        found += list(stream)
        assert time.monotonic() < signalled + DRAIN_SECONDS, "it need not wait as others may"
        assert other.lines()[-1]["done_reason"] == "length"
        assert daemon.process.wait(PATIENCE) == 0
    assert found[-1][0] == "error" and found[-1][1]["code"] == "daemon_ended"
    with serve(home, model_store) as daemon:
        stored = messages(daemon, chat)[first["assistant"]]
        assert (stored["content"], stored["status"]) == (said(found), "failed")
        assert (
            stored["error"]["code"] == "daemon_ended" and stored["usage"] == found[-1][1]["usage"]
        )
        path = f"/api/chats/{chat}/messages"
        rest = daemon.open(
            "GET", f"{path}/{first['assistant']}/events?after={found[0][1]['number']}"
        )
        assert said(list(events(rest))) == said(found[1:]), "a reader goes on where it was"
        more = send(
            daemon, chat, None, **{"continue": first["assistant"], "options": {"num_predict": 5}}
        )
        assert more[-1][1]["stop_reason"] == "length" and said(more)


@pytest.mark.long
def test_an_answer_that_is_nearly_there_ends_as_usual(model_store: Path, home: Path) -> None:
    with serve(home, model_store) as daemon:
        chat = new_chat(daemon, model="long", options={"num_predict": 8})
        answer = daemon.open("POST", f"/api/chats/{chat}/messages", {"content": "Hi"})
        stream = events(answer)
        next(event for event in stream if event[0] == "text")
        assert daemon.end() == 0
        assert [name for name, _ in stream][-1] == "done"
    with serve(home, model_store) as daemon:
        [answered] = [m for m in messages(daemon, chat).values() if m["role"] == "assistant"]
        assert (answered["status"], answered["stop_reason"]) == ("done", "length")


def test_another_daemon_with_the_same_home_says_so(model_store: Path, home: Path) -> None:
    (home / "other").mkdir()
    with serve(home, model_store) as daemon:
        chat = new_chat(daemon)
        with serve(home / "other", model_store, HOME=str(home)) as other:
            error = ask(other, "GET", "/api/chats", status=503)
            assert (
                "another ollamapy daemon" in error["error"] and error["code"] == "chats_unavailable"
            )
            assert send(other, new_chat(other, temporary=True))[-1][0] == "done"
            daemon.end()
            assert ask(other, "GET", f"/api/chats/{chat}")["id"] == chat, "once the first has ended"


def test_a_damaged_database_is_set_aside_and_the_user_told(model_store: Path, home: Path) -> None:
    (home / "chats.db").write_bytes(b"no database" * 1000)
    with serve(home, model_store) as daemon:
        shown = ask(daemon, "GET", "/api/chats")
        assert shown["chats"] == [] and "chats.db.aside-1" in shown["notice"]
        assert new_chat(daemon)
    assert (home / "chats.db.aside-1").read_bytes() == b"no database" * 1000


# ---- kill -9 ---------------------------------------------------------------------------------------------------------

N_CLIENTS = 3
N_CTX = 8192
COUNTED = [f"{number:04d} " for number in range(6000)]
SCRIPT = "".join(COUNTED)
"""What the model says: no piece of it occurs twice, so that one that is stored twice or out of order is noticed."""


@pytest.fixture(scope="module")
def counting_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a model that counts."""
    root, gguf = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("gguf")
    install(root, "count", scripted_model(gguf / "count.gguf", COUNTED, n_ctx=N_CTX))
    return root


class Client:
    """Reads an answer until its daemon is killed, or leaves before."""

    def __init__(self, daemon: Daemon, patience: float) -> None:
        self.chat = new_chat(daemon, model="count", options={"num_ctx": N_CTX})
        self.message = ""
        self.seen: list[tuple[float, str]] = []
        self._patience = patience
        self._thread = threading.Thread(target=self._read, args=(daemon,))
        self._thread.start()

    def _read(self, daemon: Daemon) -> None:
        deadline = time.monotonic() + self._patience
        try:
            answer = daemon.open("POST", f"/api/chats/{self.chat}/messages", {"content": "Hi"})
            for name, data in events(answer):
                if name == "message":
                    self.message = data["assistant"]
                elif name == "text":
                    self.seen.append((time.monotonic(), data["text"]))
                if time.monotonic() > deadline:
                    return answer.leave()
        except (OSError, HTTPException, AssertionError):
            pass  # the daemon was killed

    def text_until(self, moment: float) -> str:
        return "".join(text for at, text in self.seen if at <= moment)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_killed_at_any_moment(counting_store: Path, home: Path, soak: int) -> None:
    """200 kills with --soak 100."""
    rng = random.Random()
    clients: list[Client] = []
    killed = 0.0
    for _ in range(2 * soak):
        with serve(home, counting_store) as daemon:
            check(daemon, home, clients, killed)
            clients = [Client(daemon, rng.uniform(0, 4)) for _ in range(N_CLIENTS)]
            time.sleep(rng.uniform(0, 3))
            daemon.process.kill()
            killed = time.monotonic()
            daemon.process.wait()
        for client in clients:
            client.join()
    with serve(home, counting_store) as daemon:
        check(daemon, home, clients, killed)


def check(daemon: Daemon, home: Path, clients: list[Client], killed: float) -> None:
    """No chat is broken, no text is there twice or out of order, and at most LOST_SECONDS of it are lost."""
    for client in clients:
        stored = messages(daemon, client.chat)
        head = ask(daemon, "GET", f"/api/chats/{client.chat}")["head"]
        assert head is None or head in stored
        assert all(m["parent"] is None or m["parent"] in stored for m in stored.values())
        if not client.message:
            continue
        answer = stored[client.message]
        assert answer["status"] in ("done", "failed")
        assert SCRIPT.startswith(answer["content"])
        assert SCRIPT.startswith(client.text_until(killed))
        certain = client.text_until(killed - LOST_SECONDS)
        assert answer["content"].startswith(certain), "more than a second is lost"
        fits = len(answer["content"]) < N_CTX - 100  # read again, each character is a token
        if answer["status"] == "failed" and answer["content"] and fits:
            body = {"continue": client.message, "options": {"num_predict": 3}}
            name, last = send(daemon, client.chat, None, **body)[-1]
            assert name == "done", last
    database = sqlite3.connect(f"file:{home / 'chats.db'}?mode=ro", uri=True)
    assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    database.close()


# ---- a full disk -----------------------------------------------------------------------------------------------------


def on_a_small_disk(folder: Path, size: str) -> list[str]:
    """The beginning of a command that runs with a disk of this size instead of a folder."""
    script = f'mount -t tmpfs -o size={size} tmpfs "{folder}" && exec "$@"'
    return ["unshare", "-rm", "sh", "-c", script, "sh"]


@pytest.fixture
def full(home: Path, model_store: Path) -> Iterator[Daemon]:
    if not shutil.which("unshare"):
        pytest.skip("needs unshare, of util-linux")
    (disk := home / "disk").mkdir()
    trial = subprocess.run([*on_a_small_disk(disk, "1m"), "true"], capture_output=True)
    if trial.returncode:
        pytest.skip(f"cannot mount in a namespace: {trial.stderr.decode()}")
    with serve(home, model_store, wrap=on_a_small_disk(disk, "6m"), HOME=str(disk)) as daemon:
        yield daemon


def test_a_full_disk(full: Daemon) -> None:
    daemon, chat = full, new_chat(full)
    ballast = Path(f"/proc/{daemon.process.pid}/root{daemon.home}/disk/ballast")
    ballast.write_bytes(bytes(9 * 2**19))
    path = f"/api/chats/{chat}/messages"
    kept = []
    while True:
        answer = daemon.ask("POST", path, {"content": "x y z " * 20_000, "answer": False})
        if answer.status != 201:
            break
        kept.append(answer.json()["id"])
    assert kept and answer.status == 507 and answer.json()["code"] == "disk_full"
    assert "no room" in answer.json()["error"]
    assert list(messages(daemon, chat)) == kept, "nothing is lost"
    assert ask(daemon, "GET", "/api/chats?q=y")["chats"], "and nothing damaged"
    temporary = new_chat(daemon, temporary=True)
    assert send(daemon, temporary)[-1][0] == "done"

    ballast.unlink()
    assert send(daemon, chat, model="hello")[-1][0] == "done", "there is room again"
    assert len(messages(daemon, chat)) == len(kept) + 2
    ask(daemon, "DELETE", f"/api/chats/{chat}", status=204)


def test_an_answer_waits_for_room_on_the_disk(full: Daemon) -> None:
    """What a model says while the disk is full is kept in memory, shown, and stored once there is room."""
    daemon = full
    chat = new_chat(daemon, model="long", options={"num_predict": 4000})
    answer = daemon.open("POST", f"/api/chats/{chat}/messages", {"content": "Hi"})
    stream = events(answer)
    first = next(stream)[1]
    disk = Path(f"/proc/{daemon.process.pid}/root{daemon.home}/disk")
    with (disk / "ballast").open("wb", buffering=0) as ballast:
        with pytest.raises(OSError):
            while True:
                ballast.write(bytes(4096))
    until(lambda: "cannot be stored for now" in daemon.log.read_text(), "the disk is full")
    until(lambda: len(messages(daemon, chat)[first["assistant"]]["content"]) > 10, "it is written")
    stopped = daemon.open("POST", f"/api/chats/{chat}/messages/{first['assistant']}/stop")
    shown = messages(daemon, chat)[first["assistant"]]
    assert shown["status"] == "streaming" and len(shown["content"]) > 10
    (disk / "ballast").unlink()
    assert stopped.status == 200
    found = list(stream)
    assert messages(daemon, chat)[first["assistant"]]["content"] == said(found)
    assert found[-1][1]["status"] == "stopped"

"""An answer that the daemon writes, followed over connections that are cut and past the death of the daemon."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.chats import Chats
from ollamapy.cli.client import AnsweredError, Client, Unreachable
from ollamapy.cli.pieces import Followed, Piece, Sent, figures
from ollamapy.config import Address
from tests.served import Daemon, serve, until

llama = pytest.mark.llama


class Cutter:
    """A way to a server on which each response is cut after some bytes. ``count`` is the number of connections so far."""

    def __init__(self, port: int, sizes: Iterator[int]) -> None:
        self._target, self._sizes = port, sizes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.count += 1
                size = next(self._sizes)
                threading.Thread(target=self._pass, args=(client, size), daemon=True).start()

    def _pass(self, client: socket.socket, size: int) -> None:
        with closing(client), suppress(OSError):
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                threading.Thread(target=_copy, args=(client, server), daemon=True).start()
                while size > 0 and (data := server.recv(min(size, 4096))):
                    client.sendall(data)
                    size -= len(data)
            client.shutdown(socket.SHUT_RDWR)  # the other thread still reads from it

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def ask_at(port: int) -> Callable[[Callable[[Client], Any]], Any]:
    client = Client(Address(port=port))
    return lambda question: question(client)


def begun(daemon: Daemon, tokens: int) -> str:
    """A chat whose answers are so long; its id."""
    body = {"model": "long", "options": {"num_predict": tokens, "seed": 1}}
    return str(daemon.ask("POST", "/api/chats", body).json()["id"])


def answer(ask: Any, chat: str, body: Any) -> Followed:
    return Followed(
        ask, lambda: Sent(chat, "long", ask(lambda client: Chats(client).send(chat, body)))
    )


def stored(daemon: Daemon, chat: str) -> Any:
    """The answer in a chat of one."""
    return daemon.ask("GET", f"/api/chats/{chat}").json()["messages"][1]


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@llama
def test_a_connection_that_is_cut_again_and_again(daemon: Daemon, soak: int) -> None:
    for seed in range(soak):
        chat = begun(daemon, 120)
        pieces = followed_over_cuts(daemon, chat, random.Random(seed))
        assert text(pieces) == stored(daemon, chat)["content"]
        assert pieces[-1].final["done_reason"] == "length"
        assert pieces[-1].final["eval_count"] == 120


def followed_over_cuts(daemon: Daemon, chat: str, chance: random.Random) -> list[Piece]:
    """The pieces of an answer whose connection is cut soon, and of whose other connections each is cut."""
    sizes = iter(lambda: chance.randint(300, 800), None)
    with closing(Cutter(daemon.port, sizes)) as cutter:
        ask = ask_at(daemon.port)
        first = ask(lambda client: Chats(client).send(chat, {"content": "go"}))
        followed = Followed(ask_at(cutter.port), lambda: Sent(chat, "long", first))
        pieces = []
        for piece in followed:
            pieces.append(piece)
            if len(pieces) == 2:
                first.close()
        assert cutter.count >= 2
    return pieces


@llama
def test_what_comes_between_the_last_piece_and_the_stop(daemon: Daemon) -> None:
    chat, ask = begun(daemon, 2000), ask_at(daemon.port)
    followed = answer(ask, chat, {"content": "go"})
    with closing(followed):
        pieces = [piece for _, piece in zip(range(20), followed, strict=False)]
        until(lambda: len(stored(daemon, chat)["content"]) > len(text(pieces)) + 20, "more text")
    message = stored(daemon, chat)
    assert text([*pieces, *followed.rest]) == message["content"]
    assert message["status"] == "stopped"


@llama
def test_a_daemon_that_is_killed_and_comes_again(
    model_store: Path, tmp_path: Path, soak: int
) -> None:
    for seed in range(soak):
        home = tmp_path / str(seed)
        home.mkdir()
        kill_and_go_on(home, model_store, random.Random(seed).randint(1, 200))


def kill_and_go_on(home: Path, model_store: Path, wanted: int) -> None:
    """Kill a daemon when it has written so many characters of an answer; a second one has them, and goes on."""
    seen: list[Piece] = []

    def follow(followed: Followed) -> None:
        for piece in followed:
            seen.append(piece)

    with serve(home, model_store) as first:
        chat, port = begun(first, 2000), first.port
        ask = ask_at(port)
        followed = answer(ask, chat, {"content": "go"})
        reading = ThreadPoolExecutor(1).submit(follow, followed)
        until(lambda: len(text(seen)) > wanted, "some text")
        first.end(signal.SIGKILL)
    with serve(home, model_store, HOST=f"127.0.0.1:{port}") as second:
        with pytest.raises(AnsweredError, match="the daemon ended"):
            reading.result(timeout=60)
        kept = stored(second, chat)
        assert kept["status"] == "failed" and text(seen).startswith(kept["content"])
        body = {"continue": followed.id, "options": {"num_predict": 5}}
        rest = text(list(answer(ask, chat, body)))
        assert stored(second, chat)["content"] == kept["content"] + rest


def test_a_server_that_is_gone_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollamapy.cli.pieces.PATIENCE", 0.3)

    class Broken:
        """A stream that breaks off behind its first event."""

        def __init__(self, events: list[Any]) -> None:
            self._events = events

        def __iter__(self) -> Iterator[Any]:
            return iter(self._events)

        def close(self) -> None:
            pass

    from ollamapy.cli.events import Event

    asked = []

    def ask(question: Any) -> Any:
        asked.append(question)
        raise Unreachable("gone")

    message = Event(1, "message", {"user": "u", "assistant": "a"})
    stream: Any = Broken([message, Event(4, "text", {"text": "abc"})])
    followed = Followed(ask, lambda: Sent("c", "m", stream))
    pieces = []
    with pytest.raises(Unreachable), closing(followed):
        for piece in followed:
            pieces.append(piece)
    assert text(pieces) == "abc" and len(asked) > 1
    before = len(asked)
    followed.close()
    assert len(asked) == before, "an answer that may go on is not stopped"
    with pytest.raises(Unreachable, match="broke off before its answer"):
        stream = Broken([])
        list(Followed(ask, lambda: Sent("c", "m", stream)))


@llama
def test_an_interrupt_while_the_question_is_sent(daemon: Daemon) -> None:
    """Whenever it comes, no answer goes on behind the user's back."""
    for turn in range(12):
        chat, ask = begun(daemon, 2000), ask_at(daemon.port)
        followed = answer(ask, chat, {"content": "go"})
        pieces = iter(followed)
        with closing(followed), suppress(KeyboardInterrupt):
            threading.Timer(turn / 1000, os.kill, (os.getpid(), signal.SIGINT)).start()
            for _ in pieces:
                pass
        messages = daemon.ask("GET", f"/api/chats/{chat}").json()["messages"]
        if followed.id:
            assert [each["status"] for each in messages] == ["done", "stopped"]
        else:
            assert messages == [], "it was not sent"


def test_figures_have_the_names_of_ollama() -> None:
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "truncated_tokens": 7,
        "dropped_messages": 2,
        "context_length": 9,
    }
    assert figures({"stop_reason": "length", "usage": usage}) == {
        "done": True,
        "done_reason": "length",
        "prompt_eval_count": 3,
        "eval_count": 2,
        "context_length": 9,
        "prompt_truncated": {"tokens": 7, "messages": 2},
    }
    assert figures({"usage": None}) == {"done": True, "done_reason": "stop"}

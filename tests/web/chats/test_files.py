"""Exports and imports over a real daemon."""

from __future__ import annotations

import http.client
import json
import select
from base64 import b64encode
from typing import Any

import psutil

from tests.conftest import HELLO
from tests.served import Daemon

from .talk import ask, new_chat, send


def plain(chat: Any) -> Any:
    """A chat without what differs when it is imported: ids, and when it was changed."""
    if isinstance(chat, dict):
        kept = chat.keys() - {"id", "parent", "head", "attachments"}
        return {name: plain(chat[name]) for name in kept}
    return [plain(each) for each in chat] if isinstance(chat, list) else chat


def test_an_export_can_be_imported(daemon: Daemon) -> None:
    id = new_chat(daemon, system="Be kind.", folder="exported", title="Tea / Té")
    file = {"type": "file", "data": b64encode(b"leaves").decode(), "name": "t.txt"}
    first = send(daemon, id, [file, {"type": "text", "text": "Tea?"}])[0][1]  # type: ignore[arg-type]
    send(daemon, id, None, parent=first["user"])
    ask(daemon, "PATCH", f"/api/chats/{id}", {"head": first["assistant"]})

    answer = daemon.ask("GET", f"/api/chats/{id}/export")
    assert (
        answer.header("content-disposition")
        == "attachment; filename*=UTF-8''Tea%20%2F%20T%C3%A9.json"
    )
    [exported] = answer.json()["chats"]
    shown = ask(daemon, "GET", f"/api/chats/{id}")
    assert plain(exported) == plain(shown)

    ask(daemon, "DELETE", f"/api/chats/{id}", status=204)
    done = daemon.ask("POST", "/api/chats/import", answer.body).json()
    assert done["skipped"] == []
    [new] = done["chats"]
    again = ask(daemon, "GET", f"/api/chats/{new}")
    assert plain(again) == plain(shown)
    assert (
        again["messages"][1]["id"] == again["head"]
        and again["messages"][1]["parent"] == again["messages"][0]["id"]
    )
    digest = again["messages"][0]["parts"][0]["digest"]
    assert daemon.ask("GET", f"/api/attachments/{digest}").body == b"leaves"
    assert [c["id"] for c in ask(daemon, "GET", "/api/chats?q=tea&folder=exported")["chats"]] == [
        new
    ]

    everything = daemon.ask("GET", "/api/chats/export").json()
    assert everything["format"] == "ollamapy-chats" and new in [
        c["id"] for c in everything["chats"]
    ]
    text = daemon.ask("GET", f"/api/chats/{new}/export?format=markdown")
    assert text.header("content-type") == "text/markdown; charset=utf-8"
    assert (
        text.body.decode().startswith("# Tea / Té\n")
        and f"## hello\n\n{HELLO}" in text.body.decode()
    )
    ask(daemon, "GET", f"/api/chats/{new}/export?format=pdf", status=400)


def test_a_chat_that_goes_on_after_its_import(daemon: Daemon) -> None:
    node = {
        "author": {"role": "user"},
        "content": {"content_type": "text", "parts": ["From elsewhere"]},
    }
    value = [
        {
            "title": "Old",
            "mapping": {"a": {"message": node, "parent": None}},
            "default_model_slug": "gpt-4",
        }
    ]
    [id] = daemon.ask("POST", "/api/chats/import", value).json()["chats"]
    error = ask(daemon, "POST", f"/api/chats/{id}/messages", {}, 404)
    assert error["code"] == "model_not_found"
    found = send(daemon, id, None, model="hello")
    assert found[-1][0] == "done" and ask(daemon, "GET", f"/api/chats/{id}")["n_messages"] == 2


def test_a_file_is_imported_as_a_whole_or_not_at_all(daemon: Daemon) -> None:
    before = ask(daemon, "GET", "/api/chats")
    good = json.dumps(
        {
            "title": "G",
            "mapping": {
                "a": {"message": {"author": {"role": "user"}, "content": {"parts": ["x"]}}}
            },
        }
    )
    for body in (f"[{good}, {{]", f"[{good}", "", "[1]"):
        error = daemon.ask("POST", "/api/chats/import", body.encode())
        assert error.status == 400 and error.json()["code"] == "invalid_request", body
    assert ask(daemon, "GET", "/api/chats") == before


def test_500_mb_are_refused_before_they_are_sent(daemon: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    connection.putrequest("POST", "/api/chats/import")
    connection.putheader("Content-Length", str(500 * 10**6))
    connection.endheaders()
    connection.send(b"[")
    answer = connection.getresponse()
    assert answer.status == 413
    assert "128 MiB: split it" in json.load(answer)["error"]
    connection.close()


def test_500_mb_without_a_length_are_refused_and_not_kept(daemon: Daemon) -> None:
    """What comes after the limit is dropped, so that the client can read the answer."""
    memory = psutil.Process(daemon.process.pid).memory_info().rss
    piece = b'{"a": "' + b"x" * 2**20 + b'"},'
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.putrequest("POST", "/api/chats/import")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    n_sent = 0
    try:
        connection.send(b"1\r\n[\r\n")
        while n_sent < 300 and not select.select([connection.sock], [], [], 0)[0]:
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            n_sent += 1
        connection.send(b"0\r\n\r\n")
    except OSError:
        pass  # the daemon has closed the connection
    assert n_sent > 100
    answer = connection.getresponse()
    assert answer.status == 413
    assert "split it" in json.load(answer)["error"]
    connection.close()
    assert psutil.Process(daemon.process.pid).memory_info().rss < memory + 3 * 128 * 2**20
    assert ask(daemon, "GET", "/api/version")["busy"] == 0

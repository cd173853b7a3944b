"""Files attached to messages, over a real daemon."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ollamapy.digests import digest_of
from ollamapy.formats.documents.kinds import type_of
from ollamapy.serving.chats.asking import message_of
from ollamapy.serving.chats.values import ChatMessage, Part
from ollamapy.types import Document
from tests.conftest import HELLO
from tests.documents import archive, docx, paragraph
from tests.served import Daemon, serve

from .talk import ask, new_chat, said, send

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def attach(daemon: Daemon, content: bytes, name: str = "a.txt", query: str = "") -> Any:
    answer = daemon.ask("POST", f"/api/attachments?name={quote(name)}{query}", content)
    assert answer.status == 201, answer.body
    return answer.json()


def files(daemon: Daemon) -> set[str]:
    folder = daemon.home / "attachments"
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_a_text_file_is_part_of_the_prompt(daemon: Daemon) -> None:
    """Its tokens are: each character of the scripted model's prompts is one."""
    text = "def f():\n    return '```'\n"
    stored = attach(daemon, text.encode(), "f.py")
    assert stored == {
        "digest": digest_of(text.encode()), "size": len(text), "media_type": "text/plain", "name": "f.py",
    }  # fmt: skip
    id = new_chat(daemon)
    parts = [{"type": "file", "digest": stored["digest"]}, {"type": "text", "text": "Why?"}]
    with_file = send(daemon, id, parts)  # type: ignore[arg-type]
    assert said(with_file) == HELLO
    rendered = f"f.py:\n````\n{text.rstrip()}\n````\n\nWhy?"
    plain = send(daemon, id, rendered, parent=None)
    usages = [found[-1][1]["usage"]["prompt_tokens"] for found in (with_file, plain)]
    assert usages[0] == usages[1]
    message = ask(daemon, "GET", f"/api/chats/{id}")["messages"][0]
    assert message["content"] == "Why?"
    part = {"type": "file", "digest": stored["digest"], "name": "f.py", "media_type": "text/plain"}
    assert message["parts"] == [part, parts[1]]


def test_a_file_can_come_with_its_message(daemon: Daemon) -> None:
    id = new_chat(daemon)
    data = base64.b64encode(b"some text").decode()
    send(daemon, id, [{"type": "file", "data": data, "name": "n.txt"}])  # type: ignore[arg-type]
    [part] = ask(daemon, "GET", f"/api/chats/{id}")["messages"][0]["parts"]
    answer = daemon.ask("GET", f"/api/attachments/{part['digest']}")
    assert (answer.status, answer.body, answer.header("content-type")) == (
        200, b"some text", "text/plain; charset=utf-8",
    )  # fmt: skip
    assert answer.header("x-content-type-options") == "nosniff"
    assert "sandbox" in str(answer.header("content-security-policy"))
    assert answer.header("content-disposition") == "attachment"


@pytest.mark.parametrize(
    ("parts", "status", "why"),
    [
        ([{"type": "image", "data": base64.b64encode(PNG).decode()}], 400, "does not support multimodal"),
        ([{"type": "image", "data": base64.b64encode(b"text").decode()}], 400, "no image"),
        ([{"type": "file", "data": base64.b64encode(b"a\0").decode(), "name": "x.pdf"}], 400, '"x.pdf" is of type application/octet-stream'),
        ([{"type": "file", "data": base64.b64encode(PNG).decode()}], 400, "does not support multimodal"),
        ([{"type": "file", "digest": digest_of(b"unknown")}], 404, "no attachment"),
        ([{"type": "file", "digest": "x"}], 400, "digest or the data"),
        ([{"type": "file", "data": "?"}], 400, "base64"),
        ([{"type": "sound"}], 400, "type of content[0]"),
        ([{"type": "text"}], 400, "content[0]"),
        ([{"type": "file", "data": "", "name": "x\n"}], 400, "name"),
        ([], 400, "parts"),
        ([{"type": "text", "text": ""}] * 101, 400, "parts"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("answer", [True, False])
def test_what_cannot_be_read_is_refused_before_it_is_stored(
    daemon: Daemon, parts: Any, status: int, why: str, answer: bool
) -> None:
    if not answer and "multimodal" in why:
        return  # no model is asked
    before = files(daemon)
    id = new_chat(daemon)
    error = ask(
        daemon, "POST", f"/api/chats/{id}/messages", {"content": parts, "answer": answer}, status
    )
    assert why in error["error"]
    assert ask(daemon, "GET", f"/api/chats/{id}")["n_messages"] == 0
    assert files(daemon) == before


def test_attachments_end_with_their_last_message(daemon: Daemon) -> None:
    stored = attach(daemon, b"shared by two")
    name = stored["digest"].replace(":", "-")
    path = daemon.home / "attachments" / name
    assert path.stat().st_mode & 0o777 == 0o600
    parts = [{"type": "file", "digest": stored["digest"]}]
    chats = [new_chat(daemon), new_chat(daemon)]
    for id in chats:
        send(daemon, id, parts)  # type: ignore[arg-type]
    ask(daemon, "DELETE", f"/api/chats/{chats[0]}", status=204)
    assert daemon.ask("GET", f"/api/attachments/{stored['digest']}").status == 200
    ask(daemon, "DELETE", f"/api/chats/{chats[1]}", status=204)
    assert daemon.ask("GET", f"/api/attachments/{stored['digest']}").status == 404
    assert not path.exists()


def test_attachments_of_temporary_chats_are_not_written(daemon: Daemon) -> None:
    before = files(daemon)
    id = new_chat(daemon, temporary=True)
    uploaded = attach(daemon, b"in memory", query="&temporary=true")
    data = base64.b64encode(b"inline").decode()
    parts = [{"type": "file", "digest": uploaded["digest"]}, {"type": "file", "data": data}]
    assert said(send(daemon, id, parts)) == HELLO  # type: ignore[arg-type]
    assert files(daemon) == before
    assert daemon.ask("GET", f"/api/attachments/{uploaded['digest']}").body == b"in memory"
    # one that was kept is used by a temporary chat, and the other way round
    kept = attach(daemon, b"kept")
    send(daemon, id, [{"type": "file", "digest": kept["digest"]}])  # type: ignore[arg-type]
    other = new_chat(daemon)
    send(daemon, other, [{"type": "file", "digest": uploaded["digest"]}])  # type: ignore[arg-type]
    ask(daemon, "DELETE", f"/api/chats/{id}", status=204)
    assert daemon.ask("GET", f"/api/attachments/{uploaded['digest']}").body == b"in memory"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PNG, "image/png"), (b"\xff\xd8\xff\xe0", "image/jpeg"), (b"GIF89a", "image/gif"), (b"RIFF1234WEBPVP8 ", "image/webp"),
        (b"%PDF-1.4", "application/pdf"), ("é".encode(), "text/plain"), (b"<svg onload=alert(1)>", "text/plain"), (b"<script>", "text/plain"),
        (b"a\0b", "application/octet-stream"), (b"\xe9", "application/octet-stream"), (b"", "text/plain"),
    ],
)  # fmt: skip
def test_what_a_file_is(content: bytes, media_type: str) -> None:
    assert type_of(content) == media_type


def test_the_text_of_a_document_is_read_when_it_is_asked_about() -> None:
    part = Part("file", digest="d", name="n", media_type="text/plain")
    message = ChatMessage(
        id="", parent=None, role="user", content="", status="done", created_at="", parts=(part,)
    )
    assert message_of(message, {"d": b"a"}).unread == (Document(b"a", "n"),)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\0", '"a.txt" is of type application/octet-stream'),
        (docx("")[:-9], '"a.txt" is a damaged zip archive'),
        (archive([("a", b"")]), '"a.txt" is a zip archive and no Word document'),
    ],
)
def test_what_no_model_can_read_is_not_stored(daemon: Daemon, content: bytes, why: str) -> None:
    before = files(daemon)
    answer = daemon.ask("POST", "/api/attachments?name=a.txt", content)
    assert answer.status == 400 and why in answer.json()["error"]
    assert files(daemon) == before


def test_a_document_is_part_of_the_prompt_of_every_later_turn(daemon: Daemon) -> None:
    stored = attach(daemon, docx(paragraph("A secret. " * 30)), "s.docx")
    assert stored["media_type"].endswith("wordprocessingml.document")
    id = new_chat(daemon)
    first = send(daemon, id, [{"type": "file", "digest": stored["digest"]}])  # type: ignore[arg-type]
    second = send(daemon, id, "And?")
    usages = [found[-1][1]["usage"] for found in (first, second)]
    assert usages[1]["prompt_tokens"] > usages[0]["prompt_tokens"] > 300
    assert usages[1]["cached_tokens"] > 300, "it was read as the same text"
    assert usages[0]["notes"] == []


def test_uploads_are_bounded(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/api/attachments", bytes(32 * 2**20 + 1)).status == 413
    assert daemon.ask("POST", "/api/attachments", b"").status == 400
    assert daemon.ask("POST", f"/api/attachments?name={'x' * 256}", b"x").status == 400
    assert daemon.ask("GET", "/api/attachments/..%2fchats.db").status in (400, 404)


def test_without_history_nothing_is_written(model_store: Path, tmp_path: Path) -> None:
    with serve(tmp_path, model_store, NOHISTORY="1") as daemon:
        id = new_chat(daemon)
        attach(daemon, b"a")
        assert said(send(daemon, id)) == HELLO
        assert [chat["id"] for chat in ask(daemon, "GET", "/api/chats")["chats"]] == [id]
        assert ask(daemon, "GET", f"/api/chats/{id}")["temporary"]
        assert not list(tmp_path.glob("chats*")) and not (tmp_path / "attachments").exists()

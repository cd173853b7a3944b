"""The database of the conversations: trees of messages, lists, search, deletion that leaves nothing, files that are no good."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import ChatConflict, ChatNotFound, ChatsUnavailable
from ollamapy.serving.chats.schema import VERSION
from ollamapy.serving.chats.store import ENDED, ChatStore
from ollamapy.serving.chats.values import Changes, Chat, ChatMessage, new_id, now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChatStore]:
    opened = ChatStore(tmp_path / "state" / "chats.db")
    yield opened
    opened.close()


def made(store: ChatStore, *, owner: str = "", **fields: Any) -> str:
    """The id of a new chat."""
    given = {"model": "m", "created_at": now(), "updated_at": now(), **fields}
    return store.create(owner, Chat(id=new_id("chat"), **given)).id


def said(
    store: ChatStore, chat: str, content: str, parent: str | None = None, **fields: Any
) -> str:
    """The id of a new message."""
    given = {"role": "user", "status": "done", "created_at": now(), **fields}
    message = ChatMessage(id=new_id("msg"), parent=parent, content=content, **given)
    store.add("", chat, [message])
    return message.id


def found(store: ChatStore, query: str, **fields: Any) -> list[str]:
    """The titles of the chats that have the words."""
    return [row.chat.title for row in store.page("", query=query, **fields)]


# ---- trees -----------------------------------------------------------------------------------------------------------


def test_a_message_s_children_are_branches(store: ChatStore) -> None:
    chat = made(store)
    a = said(store, chat, "a")
    b1, b2 = said(store, chat, "b1", a), said(store, chat, "b2", a)
    c = said(store, chat, "c", b1)
    assert [m.content for m in store.branch(chat, c)] == ["a", "b1", "c"]
    assert store.get("", chat).head == c
    assert store.update("", chat, Changes(head=b2)).head == b2
    assert store.update("", chat, Changes(head=b1)).head == c, "the leaf below"
    assert store.update("", chat, Changes(head=a)).head == b2, "the newest children"
    assert [m.content for m in store.messages(chat)] == ["a", "b1", "b2", "c"]

    store.update("", chat, Changes(head=c))
    store.delete_message("", chat, b1)
    assert [m.content for m in store.messages(chat)] == ["a", "b2"]
    assert store.get("", chat).head == b2
    store.delete_message("", chat, a)
    assert store.get("", chat).head is None and store.get("", chat).n_messages == 0


def test_nothing_follows_a_message_that_is_being_written(store: ChatStore) -> None:
    chat = made(store)
    written = said(store, chat, "a", role="assistant", status="streaming")
    with pytest.raises(ChatConflict, match="still being written"):
        said(store, chat, "b", written)


def test_the_title_is_the_first_words(store: ChatStore) -> None:
    chat = made(store)
    said(store, chat, "  one\ntwo " + "three " * 30)
    title = store.get("", chat).title
    assert title.startswith("one two three") and title.endswith("three…") and len(title) <= 60
    said(store, chat, "another")
    assert store.get("", chat).title == title


def test_what_is_someone_else_s_does_not_exist(store: ChatStore) -> None:
    chat = made(store, owner="ann")
    for attempt in (
        lambda: store.get("", chat),
        lambda: store.update("", chat, Changes(title="x")),
        lambda: store.delete("", chat),
        lambda: store.add("", chat, []),
        lambda: store.delete_message("", chat, "msg_"),
    ):
        with pytest.raises(ChatNotFound):
            attempt()
    assert store.page("") == [] and store.get("ann", chat)
    other = made(store)
    message = said(store, other, "x")
    with pytest.raises(ChatNotFound):
        store.branch(chat, message)


# ---- lists and search ------------------------------------------------------------------------------------------------


def test_pages_of_a_list(store: ChatStore) -> None:
    for number in range(7):
        made(store, title=str(number), updated_at="2026-01-01T00:00:00.000000Z", pinned=number < 2)
    made(store, title="filed", folder="work")
    made(store, title="old", archived=True)
    seen, place = [], None
    while rows := store.page("", limit=3, before=place):
        seen += [row.chat.title for row in rows]
        place = rows[-1].place
    assert seen == ["1", "0", "filed", "6", "5", "4", "3", "2"]
    assert [row.chat.title for row in store.page("", archived=True)] == ["old"]
    assert len(store.page("", archived=None)) == 9
    assert [row.chat.title for row in store.page("", folder="work")] == ["filed"]
    assert store.folders("") == ("work",)


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("quick", True), ("QUICK", True), ("qui", True), ("uick", False), ("fox quick", True), ("quick cat", False),
        ('"quick brown"', True), ('"brown quick"', False), ("brown-fox", True), ("creme brulee", True), ("Crème", True),
        ("東京", True), ("京都", True), ("京東", False), ("ひら", True), ("title", True), ("title fox", False),
        ("!!", False), ('"', False), ('"quick', True), ("quick AND NOT fox*", False), ("quick)", True), ("content:quick", False),
        ("x" * 5000, False), ("2026", True), ("   ", False),
    ],
)  # fmt: skip
def test_what_a_search_finds(store: ChatStore, query: str, is_found: bool) -> None:
    chat = made(store, title="A title")
    said(store, chat, "The quick brown fox of 2026. Crème brûlée! 東京都のひらがな")
    assert bool(found(store, query)) is is_found


def test_a_search_follows_every_change(store: ChatStore) -> None:
    chat = made(store, title="first")
    assert found(store, "first") == ["first"]
    store.update("", chat, Changes(title="second"))
    assert not found(store, "first") and found(store, "second")

    message = said(store, chat, "", role="assistant", status="streaming")
    assert not found(store, "word")
    for text, status in (("wor", "streaming"), ("word", "done")):
        [stored] = [m for m in store.messages(chat) if m.id == message]
        store.save([ChatMessage(**{**fields(stored), "content": text, "status": status})])
    assert found(store, "word")
    [row] = store.page("", query="word")
    assert row.message == message

    store.delete_message("", chat, message)
    assert not found(store, "word")


def fields(message: ChatMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


# ---- deletion --------------------------------------------------------------------------------------------------------


def words(seed: int, count: int) -> list[str]:
    """Words that occur nowhere else."""
    rng = random.Random(seed)
    return ["".join(rng.choices("bcdfghjklmnpqrstvwxz", k=12)) for _ in range(count)]


def in_files(folder: Path, given: list[str]) -> set[str]:
    """Which of the words have their last 8 letters in any file: the index leaves out what begins like the word before."""
    ends = {word[-8:].encode(): word for word in given}
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return {
        ends[part]
        for content in contents
        for letters in re.findall(rb"[a-z]{8,}", content)
        for at in range(len(letters) - 7)
        if (part := letters[at : at + 8]) in ends
    }


@pytest.mark.parametrize("what", ["chat", "message", "all"])
def test_nothing_of_what_is_deleted_is_in_any_file(
    store: ChatStore, tmp_path: Path, what: str
) -> None:
    secret, kept = words(1, 3000), words(2, 3000)
    theirs, mine = made(store, owner="" if what != "all" else "ann", title=kept[0]), made(store)
    root = said(store, mine, "root" if what == "message" else secret[0])
    parent = root
    for start in range(0, 3000, 100):  # many transactions, so that the index has many parts
        text = " ".join(secret[start : start + 100])
        parent = first = said(store, mine, text, parent)
        owner = "ann" if what == "all" else ""
        kept_text = " ".join(kept[start : start + 100])
        message = ChatMessage(
            id=new_id("msg"), parent=None, role="user", content=kept_text, status="done", created_at=now(),
            thinking=kept[start],
        )  # fmt: skip
        store.add(owner, theirs, [message])
        if start == 0:
            top = first
    assert len(in_files(tmp_path, secret)) == 3000

    if what == "chat":
        store.delete("", mine)
    elif what == "message":
        store.delete_message("", mine, top)
    else:
        store.delete_all("")
    store.erase()
    assert in_files(tmp_path, secret) == set()
    assert len(in_files(tmp_path, kept)) == 3000
    assert store.page("ann" if what == "all" else "", query=kept[1234])


def test_what_a_killed_daemon_had_deleted_is_erased_at_the_next_start(tmp_path: Path) -> None:
    store, secret = ChatStore(tmp_path / "chats.db"), words(3, 500)
    chat = made(store)
    for word in secret:
        said(store, chat, word)
    store.delete("", chat)
    store.close()
    assert in_files(tmp_path, secret)
    ChatStore(tmp_path / "chats.db").close()
    assert not in_files(tmp_path, secret)


def test_two_daemons_do_not_share_a_database(store: ChatStore, tmp_path: Path) -> None:
    with pytest.raises(ChatsUnavailable, match="another ollamapy daemon"):
        ChatStore(tmp_path / "state" / "chats.db")
    store.close()
    again = ChatStore(tmp_path / "state" / "chats.db")
    again.close()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_only_the_user_can_read_the_files(store: ChatStore, tmp_path: Path) -> None:
    made(store)
    files = list((tmp_path / "state").iterdir())
    assert len(files) == 4  # with its log, its shared memory and its lock
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_answers_that_a_killed_daemon_left_have_failed(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    store = ChatStore(path)
    chat = made(store)
    said(store, chat, "half an ans", role="assistant", status="streaming")
    store.close()
    store = ChatStore(path)
    [message] = store.messages(chat)
    assert (message.content, message.status, message.error) == ("half an ans", "failed", ENDED)
    assert store.page("", query="half")
    store.close()


def spoil_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


def spoil_beginning(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 100)


def spoil_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000:] = os.urandom(len(content) - 5000)
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(spoil_version, "version 2"), (spoil_beginning, "not a database"), (spoil_middle, ""), (cut, "")],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, spoil: Any, reason: str) -> None:
    path = tmp_path / "chats.db"
    for number in (1, 2):
        store = ChatStore(path)
        chat = made(store)
        for n in range(50):
            said(store, chat, f"{n} " * 100)
        store.close()
        spoil(path)
        content = path.read_bytes()
        store = ChatStore(path)
        assert store.page("") == []
        assert reason in store.notice and f"chats.db.aside-{number}" in store.notice
        assert (tmp_path / f"chats.db.aside-{number}").read_bytes() == content, "nothing is lost"
        store.close()
    assert ChatStore(path).notice == ""


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "chats.db").touch(0o644)
    store = ChatStore(tmp_path / "chats.db")
    assert store.notice == "" and made(store)
    assert stat.S_IMODE((tmp_path / "chats.db").stat().st_mode) == 0o600
    store.close()

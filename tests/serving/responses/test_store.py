"""The tables of stored responses: chains and their bounds, owners, items, deletion, what is too old."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.serving.chats.schema import open_database
from ollamapy.serving.responses import store as stores
from ollamapy.serving.responses.conversations import ConversationStore
from ollamapy.serving.responses.store import ResponseStore
from ollamapy.serving.responses.values import (
    ENDED,
    Item,
    Link,
    Listing,
    PreviousNotFound,
    Response,
    ResponseNotFound,
    merged,
    new_id,
)
from ollamapy.types import Chunk, ToolCall


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened, _ = open_database(tmp_path / "state" / "chats.db")
    yield opened
    opened.close()


@pytest.fixture
def store(connection: sqlite3.Connection) -> ResponseStore:
    return ResponseStore(connection)


def made(
    store: ResponseStore,
    text: str = "a",
    *,
    owner: str = "",
    status: str = "completed",
    created_at: int = 100,
    added: tuple[Item, ...] = (),
    **fields: str | int | None,
) -> str:
    """The id of a stored response whose one item and only chunk have a text."""
    values = {"status": status, "created_at": created_at, "head": b"{}", **fields}
    response = Response(id=new_id("resp"), **values)  # type: ignore[arg-type]
    store.add(owner, response, [item(text)], [Chunk(text)], added)
    return response.id


def item(text: str) -> Item:
    return Item(new_id("msg"), b'{"text":"%s"}' % text.encode())


def words(links: list[Link]) -> list[str]:
    return [bytes(each).decode()[9:-2] for link in links for each in link.items]


# ---- chains ----------------------------------------------------------------------------------------------------------


def test_a_chain_begins_at_its_first_response(store: ResponseStore) -> None:
    a = made(store, "a")
    b = made(store, "b", previous=a)
    made(store, "x", previous=a)
    c = made(store, "c", previous=b)
    links = store.chain("", c)
    assert words(links) == ["a", "b", "c"]
    assert [chunk.text for link in links for chunk in link.chunks] == ["a", "b", "c"]


def test_a_response_that_is_gone_breaks_the_chain_and_says_so(store: ResponseStore) -> None:
    a = made(store, "a")
    b = made(store, "b", previous=a)
    store.delete("", a)
    assert store.get("", b).previous == a
    with pytest.raises(PreviousNotFound, match=f"'{a}' not found: it was deleted"):
        store.chain("", b)
    with pytest.raises(PreviousNotFound, match="'resp_x' not found"):
        store.chain("", "resp_x")


def test_a_chain_is_bounded(store: ResponseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "MOST_EARLIER", 3)
    last = None
    for _ in range(3):
        last = made(store, previous=last)
    assert last and len(store.chain("", last)) == 3
    with pytest.raises(InvalidRequest, match="more than 3 responses"):
        store.chain("", made(store, previous=last))
    monkeypatch.setattr(stores, "MOST_CONTEXT", 40)
    with pytest.raises(InvalidRequest, match="begin a new conversation"):
        store.chain("", last)


def test_a_circle_of_a_spoilt_file_ends(
    store: ResponseStore, connection: sqlite3.Connection
) -> None:
    a = made(store)
    b = made(store, previous=a)
    connection.execute("UPDATE responses SET previous = ? WHERE id = ?", (b, a))
    with pytest.raises(InvalidRequest, match="responses come before"):
        store.chain("", b)
    assert store.prune(50, 2**30) == 0 and store.prune(200, 2**30) == 2


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_what_is_being_written_is_not_continued(store: ResponseStore, status: str) -> None:
    with pytest.raises(InvalidRequest, match="still being written"):
        store.chain("", made(store, status=status))


# ---- owners ----------------------------------------------------------------------------------------------------------


def test_a_response_is_read_by_its_owner_alone(
    store: ResponseStore, connection: sqlite3.Connection
) -> None:
    mine = made(store, "a", owner="me")
    for read in (
        lambda: store.get("you", mine),
        lambda: store.chunks("you", mine),
        lambda: store.input_items("you", mine, Listing()),
        lambda: store.delete("you", mine),
        lambda: store.item("you", store.input_items("me", mine, Listing()).items[0].id),
    ):
        with pytest.raises(ResponseNotFound):
            read()
    with pytest.raises(PreviousNotFound):
        store.chain("you", mine)
    # A chain does not lead into another owner's responses either
    with pytest.raises(PreviousNotFound):
        store.chain("you", made(store, owner="you", previous=mine))
    assert words(store.chain("me", mine)) == ["a"]

    talks = ConversationStore(connection)
    talk, [said] = talks.create("me", {}, [item("a")]).id, [item("b")]
    talks.add("me", talk, [said])
    for use in (
        lambda: talks.get("you", talk),
        lambda: talks.update("you", talk, {}),
        lambda: talks.add("you", talk, [item("c")]),
        lambda: talks.items("you", talk, Listing()),
        lambda: talks.item("you", talk, said.id),
        lambda: talks.delete_item("you", talk, said.id),
        lambda: talks.numbered("you", talk),
        lambda: talks.delete("you", talk),
        lambda: store.item("you", said.id),
    ):
        with pytest.raises(ResponseNotFound):
            use()
    assert len(talks.numbered("me", talk).items) == 2 and store.item("me", said.id) == said.json


# ---- conversations ---------------------------------------------------------------------------------------------------


def test_a_response_knows_its_conversation_as_it_was(
    store: ResponseStore, connection: sqlite3.Connection
) -> None:
    talks = ConversationStore(connection)
    talk = talks.create("", {}, [item("a"), item("b")]).id
    base = talks.numbered("", talk).last
    response = made(store, "c", conversation=talk, base=base, added=(item("c"), item("d")))
    assert len(talks.numbered("", talk).items) == 4
    assert words(store.chain("", response)) == ["a", "b", "c"]
    talks.delete("", talk)
    assert words(store.chain("", response)) == ["c"]
    made(
        store, "e", conversation=talk, added=(item("e"),)
    )  # deleted meanwhile: stored all the same


# ---- lists -----------------------------------------------------------------------------------------------------------


def test_pages_of_items(store: ResponseStore) -> None:
    response = Response(id="resp_1", status="completed", created_at=1, head=b"{}")
    items = [Item(f"i{n}", b"{}") for n in range(5)]
    store.add("", response, items)

    def page(**fields: object) -> tuple[str, bool]:
        found = store.input_items("", "resp_1", Listing(**fields))  # type: ignore[arg-type]
        return "".join(each.id[1] for each in found.items), found.has_more

    assert page() == ("43210", False)
    assert page(limit=2) == ("43", True) and page(limit=2, after="i3") == ("21", True)
    assert page(limit=5, ascending=True) == ("01234", False)
    assert page(ascending=True, after="i4") == ("", False)
    with pytest.raises(ResponseNotFound, match="nothing"):
        page(after="nothing")


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_what_the_last_daemon_was_writing_has_failed_with_its_text(store: ResponseStore) -> None:
    id, other = made(store, "Ye", status="in_progress"), made(store)
    store.fail_unfinished()
    assert store.get("", id).status == "failed" and store.get("", id).error == ENDED
    assert store.chunks("", id) == [Chunk("Ye")] and store.get("", other).error is None


def test_what_is_too_old_goes_unless_a_later_one_continues_it(store: ResponseStore) -> None:
    old, alone = made(store), made(store)
    middle = made(store, previous=old)
    running = made(store, status="queued")
    new = made(store, previous=middle, created_at=200)
    assert store.prune(150, 2**30) == 1
    assert len(store.chain("", new)) == 3 and store.get("", running)
    with pytest.raises(ResponseNotFound):
        store.get("", alone)
    assert store.prune(250, 2**30) == 3


def test_the_oldest_go_where_there_are_too_many(store: ResponseStore) -> None:
    ids = [made(store, "x" * 100) for _ in range(5)]
    assert store.prune(0, 700) == 2
    assert [id for id in ids if _has(store, id)] == ids[2:]


def _has(store: ResponseStore, id: str) -> bool:
    try:
        return bool(store.get("", id))
    except ResponseNotFound:
        return False


def test_nothing_of_a_deleted_response_is_in_any_file(store: ResponseStore, tmp_path: Path) -> None:
    secret = "zanzibar" * 1000
    keep = made(store, "kept")
    id = made(store, secret)
    assert any(b"zanzibar" in path.read_bytes() for path in (tmp_path / "state").iterdir())
    store.delete("", id)
    assert not any(b"zanzibar" in path.read_bytes() for path in (tmp_path / "state").iterdir())
    assert store.chunks("", keep) == [Chunk("kept")]


# ---- chunks ----------------------------------------------------------------------------------------------------------


def test_neighbouring_texts_are_joined() -> None:
    call = ToolCall("f", {}, "c")
    chunks = [
        Chunk(thinking="a"), Chunk(thinking="b"), Chunk("c"), Chunk("d"), Chunk("e", tool_calls=(call,)), Chunk("f"),
        Chunk(finish_reason="stop"),
    ]  # fmt: skip
    assert merged(chunks) == [
        Chunk(thinking="ab"), Chunk("cd"), Chunk("e", tool_calls=(call,)), Chunk("f"), Chunk(finish_reason="stop"),
    ]  # fmt: skip


def test_tables_are_added_to_a_database_of_the_first_version(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    connection, _ = open_database(path)
    for table in (
        "responses",
        "response_items",
        "response_chunks",
        "conversations",
        "conversation_items",
    ):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    connection, notice = open_database(path)
    assert notice == "" and made(ResponseStore(connection))
    connection.close()

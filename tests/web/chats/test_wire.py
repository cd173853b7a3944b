"""The conversations' API on its way in and out: fields, parts, queries, and what is refused."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from ollamapy.digests import digest_of
from ollamapy.errors import InvalidRequest
from ollamapy.serving.chats.asking import NewPart
from ollamapy.serving.chats.events import Event
from ollamapy.serving.chats.values import Chat, Hit, Listed
from ollamapy.web.body import BodyTooLarge
from ollamapy.web.chats import wire

DIGEST = digest_of(b"notes")


def body(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


# ---- chats -----------------------------------------------------------------------------------------------------------


def test_a_new_chat() -> None:
    given = body(model="m", title="Sky", options={"seed": 7}, temporary=True, head="msg_1", x=1)
    found = wire.parse_new_chat(given)
    assert found.temporary and found.given.given == {
        "model": "m",
        "title": "Sky",
        "options": {"seed": 7},
    }


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "model is required"),
        ({"model": "m", "title": "x" * 201}, "title has more than 200 characters"),
        ({"model": "m", "folder": "x" * 101}, "folder has more than 100 characters"),
        ({"model": "m", "system": "x" * 1_000_001}, "system has more than 1,000,000 characters"),
        ({"model": "m", "options": {"seed": "x"}}, "seed"),
        ({"model": "m", "format": 7}, "invalid format"),
        ({"model": "m", "think": "very"}, "think"),
        ({"model": "m", "keep_alive": "soon"}, "duration"),
        ({"model": "m", "pinned": "yes"}, "pinned"),
    ],
)
def test_chats_that_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        wire.parse_new_chat(body(**fields))


def test_null_resets_a_setting_and_leaves_everything_else() -> None:
    found = wire.parse_changes(b'{"think":null,"options":null,"title":null,"pinned":true}').given
    assert found == {"think": None, "options": None, "pinned": True}
    assert wire.parse_changes(b'{"model":null,"temporary":true}').given == {}
    with pytest.raises(InvalidRequest, match="model"):
        wire.parse_changes(b'{"model":""}')


# ---- messages --------------------------------------------------------------------------------------------------------


def test_a_message_and_what_is_wanted_for_its_answer() -> None:
    asked = wire.parse_message(body(content="Hi", model="other", think=False, keep_alive=None))
    assert asked.new is not None and (asked.new.content, asked.new.role) == ("Hi", "user")
    assert (asked.parent, asked.model, asked.think) == (UNSET, "other", False)
    assert asked.answers and asked.continues == "" and asked.keep_alive is UNSET


@pytest.mark.parametrize(
    ("given", "parent"),
    [(b'{"content":"Hi"}', UNSET), (b'{"content":"Hi","parent":null}', None), (b'{"parent":"a"}', "a")],
)  # fmt: skip
def test_the_parent_of_a_message(given: bytes, parent: Any) -> None:
    assert wire.parse_message(given).parent == parent


def test_a_request_may_store_nothing_or_want_no_answer() -> None:
    assert wire.parse_message(body(**{"continue": "msg_1"})).continues == "msg_1"
    assert wire.parse_message(body(parent="msg_1")).new is None
    assert not wire.parse_message(body(content="note", role="system", answer=False)).answers


def test_the_result_of_a_tool() -> None:
    new = wire.parse_message(
        body(content="18:00", role="tool", tool_name="sun", tool_call_id="c1")
    ).new
    assert new is not None and (new.role, new.tool_name, new.tool_call_id) == ("tool", "sun", "c1")


def test_the_parts_of_a_message_keep_their_order() -> None:
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "file", "digest": DIGEST.replace(":", "-"), "name": "notes.txt"},
        {"type": "image", "data": b64encode(b"png").decode(), "name": "a.png"},
        {"type": "text", "text": "Well?"},
    ]
    new = wire.parse_message(body(content=parts)).new
    assert new is not None and new.content == "Look:\n\nWell?"
    assert new.parts == (
        NewPart("text", "Look:"),
        NewPart("file", digest=DIGEST, name="notes.txt"),
        NewPart("image", data=b"png", name="a.png"),
        NewPart("text", "Well?"),
    )


def test_parts_that_are_all_text_are_a_text() -> None:
    new = wire.parse_message(body(content=[{"type": "text", "text": "Hi"}])).new
    assert new is not None and (new.content, new.parts) == ("Hi", ())


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"content": 7}, "content must be a text, or a list of at most 100 parts"),
        ({"content": []}, "content must be a text"),
        ({"content": [{"type": "text", "text": ""}] * 101}, "at most 100 parts"),
        ({"content": [{"type": "video"}]}, r"the type of content\[0\] must be text, image or file"),
        ({"content": [{"type": "file"}]}, r"content\[0\] must have the digest or the data"),
        ({"content": [{"type": "file", "digest": "../x"}]}, "the digest or the data"),
        ({"content": [{"type": "file", "data": "?"}]}, "base64"),
        ({"content": [{"type": "file", "digest": DIGEST, "name": "a\n"}]}, "all of them printable"),
        ({"content": [{"type": "file", "digest": DIGEST, "name": "x" * 256}]}, "at most 255"),
        ({"content": "Hi", "role": "robot"}, "role"),
        ({"content": "Hi", "tools": 7}, "tools"),
        ({"content": "Hi", "options": {"top_k": []}}, "top_k"),
    ],
)
def test_messages_that_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        wire.parse_message(body(**fields))


# ---- files, lists and events -----------------------------------------------------------------------------------------


def test_an_attachment_has_content_and_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MOST_ATTACHED", 4)
    assert wire.parse_attachment(b"abcd") == b"abcd"
    with pytest.raises(InvalidRequest, match="the file is empty"):
        wire.parse_attachment(b"")
    with pytest.raises(BodyTooLarge):
        wire.parse_attachment(b"abcde")


def test_the_html_of_many_messages_is_not_asked_for_at_once() -> None:
    assert wire.parse_html(body(messages=["a", "b"])) == ["a", "b"]
    with pytest.raises(InvalidRequest, match="at most 100 messages"):
        wire.parse_html(body(messages=["a"] * 101))


@pytest.mark.parametrize(
    ("query", "changed"),
    [
        ({}, {}),
        ({"q": "  sky "}, {"query": "sky"}),
        ({"folder": ""}, {"folder": ""}),
        ({"archived": "all", "limit": "5", "before": "c"}, {"archived": None, "limit": 5, "before": "c"}),
        ({"archived": "true"}, {"archived": True}),
    ],
)  # fmt: skip
def test_the_query_of_the_list(query: dict[str, str], changed: dict[str, Any]) -> None:
    usual = {"query": "", "folder": None, "archived": False, "limit": 100, "before": ""}
    assert wire.parse_list(query) == usual | changed


@pytest.mark.parametrize("query", [{"archived": "no"}, {"limit": "0"}, {"q": "x" * 1001}])
def test_queries_that_are_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        wire.parse_list(query)


@pytest.mark.parametrize(("text", "number"), [("", 3), ("0", 0), ("120", 120)])
def test_a_place_in_an_answer(text: str, number: int) -> None:
    assert wire.number({"after": text}, "after", 3) == number


@pytest.mark.parametrize("text", ["-1", "1.5", "٣", "1" * 16])
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(InvalidRequest, match="after must be a whole number"):
        wire.number({"after": text}, "after")


def test_a_list_has_the_hits_of_a_search_beside_their_chats() -> None:
    a, b = (Chat(id=id, model="m", created_at="2026", updated_at="2026") for id in "ab")
    hits = {"b": Hit("msg_1", (("sky", True),))}
    found = Listed((a, b), None, ("work",), hits, frozenset("a"), "set aside")
    value = msgspec.json.decode(wire.encode_list(found))
    assert [each.get("message") for each in value["chats"]] == [None, "msg_1"]
    assert value["chats"][1]["snippet"] == [["sky", True]]
    assert [each.get("running") for each in value["chats"]] == [True, None]
    assert (value["next"], value["folders"], value["notice"]) == (None, ["work"], "set aside")
    assert "notice" not in msgspec.json.decode(wire.encode_list(Listed((), None, ())))


def test_an_event_has_its_number_as_the_id_if_it_has_one() -> None:
    assert wire.write_event(Event("text", {"text": "a\nb"}, 7)) == (
        b'id: 7\nevent: text\ndata: {"text":"a\\nb"}\n'
    )
    assert wire.write_event(Event("queued", {"position": 1})) == (
        b'event: queued\ndata: {"position":1}\n'
    )

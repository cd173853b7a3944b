"""The items of responses and conversations: as they are stored, and the messages that they become."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.serving.responses.values import Item, ItemPage, Listing
from ollamapy.types import Document, Link, Message, ToolCall
from ollamapy.web.openai import conversations, item_lists, response_items

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(16)
ASKED = {"role": "user", "content": "Hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "sun", "arguments": '{"at":"Oslo"}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "18:00"}
THOUGHT = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "output_text", "text": text}]}


# ---- as messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ([ASKED], [Message("user", "Hi")]),
        ([{"role": "developer", "content": "Be short"}], [Message("developer", "Be short")]),
        (
            [ASKED, CALL, RESULT],
            [
                Message("user", "Hi"),
                Message("assistant", "", tool_calls=(ToolCall("sun", {"at": "Oslo"}, "c1"),)),
                Message("tool", "18:00", tool_name="sun", tool_call_id="c1"),
            ],
        ),
        # Thinking belongs to what follows it: a call, the text before a call, a message, or nothing
        (
            [ASKED, THOUGHT, CALL],
            [
                Message("user", "Hi"),
                Message("assistant", "", "Hm.", (ToolCall("sun", {"at": "Oslo"}, "c1"),)),
            ],
        ),
        ([THOUGHT, assistant("Yes")], [Message("assistant", "Yes", "Hm.")]),
        ([assistant("Wait"), THOUGHT, CALL], [Message("assistant", "Wait", "Hm.", (ToolCall("sun", {"at": "Oslo"}, "c1"),))]),
        ([ASKED, THOUGHT], [Message("user", "Hi"), Message("assistant", "", "Hm.")]),
        # Two calls in a row are one message's
        (
            [CALL, {**CALL, "call_id": "c2", "arguments": ""}],
            [Message("assistant", "", tool_calls=(ToolCall("sun", {"at": "Oslo"}, "c1"), ToolCall("sun", {}, "c2")))],
        ),
        ([{**CALL, "namespace": "sky"}], [Message("assistant", "", tool_calls=(ToolCall("sky.sun", {"at": "Oslo"}, "c1"),))]),
        ([{**CALL, "name": "sky.sun", "namespace": "sky"}], [Message("assistant", "", tool_calls=(ToolCall("sky.sun", {"at": "Oslo"}, "c1"),))]),
        ([RESULT], [Message("tool", "18:00", tool_call_id="c1")]),
        ([{"type": "web_search_call", "id": "ws"}, ASKED], [Message("user", "Hi")]),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
            [Message("assistant", "No.")],
        ),
        ([{"type": "reasoning", "encrypted_content": "all of it", "summary": [{"text": "a part"}]}, assistant("!")], [Message("assistant", "!", "all of it")]),
    ],
)  # fmt: skip
def test_items_become_messages(items: list[dict[str, Any]], messages: list[Message]) -> None:
    assert list(response_items.messages(items, "")) == messages


def test_instructions_come_first() -> None:
    found = response_items.messages([ASKED], "Be kind")
    assert found == (Message("system", "Be kind"), Message("user", "Hi"))


def test_an_image_and_a_sound_keep_their_places_between_texts() -> None:
    url = f"data:image/png;base64,{b64encode(PIXEL).decode()}"
    parts = [
        {"type": "input_text", "text": "Before"},
        {"type": "input_image", "image_url": url},
        {"type": "input_text", "text": "after"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]
    [message] = response_items.messages([{"role": "user", "content": parts}], "")
    assert message.parts == ("Before", PIXEL, "after", b"RIFF")


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"type": "input_image", "image_url": "https://a/b.png"}, Link("https://a/b.png")),
        ({"type": "input_file", "file_data": "data:text/csv;base64,YSxi", "filename": "a.csv"}, Document(b"a,b", "a.csv")),
        ({"type": "input_file", "file_url": "https://a/b.pdf"}, Link("https://a/b.pdf", is_image=False)),
    ],
)  # fmt: skip
def test_a_file_keeps_its_place_between_texts(part: dict[str, Any], found: Any) -> None:
    before, after = {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}
    [message] = response_items.messages([{"role": "user", "content": [before, part, after]}], "")
    assert message == Message("user", unread=("a", found, "b"))


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (1, "input[0] must be an object with a type"),
        ({"type": "computer_call"}, 'unknown input item type: "computer_call"'),
        ({"role": "robot", "content": "Hi"}, "role"),
        ({"role": "user"}, "input[0].content must be a text or a list of parts"),
        ({"role": "user", "content": [1]}, 'unknown content type of input[0].content[0]: "None"'),
        ({"role": "user", "content": [{"type": "input_file"}]}, "must have file_data"),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
            "input[0].content[0] must have its image as a data URI in image_url",
        ),
        ({**CALL, "arguments": "[1]"}, "input[0].arguments must be an object, as JSON in a text"),
        ({**CALL, "arguments": "{" * 5000}, "input[0].arguments must be an object"),
        ({**CALL, "call_id": None}, "call_id"),
        ({"type": "reasoning", "summary": "Hm."}, "input[0].summary must be a list of texts"),
        ({"type": "item_reference"}, "id"),
    ],
)
def test_items_that_are_refused(item: Any, complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        response_items.messages([item], "")
    assert complaint in str(caught.value)


# ---- as they are stored ----------------------------------------------------------------------------------------------


def stored(item: dict[str, Any], *, keeps_ids: bool = True) -> dict[str, Any]:
    [found] = response_items.stored([item], keeps_ids=keeps_ids)
    value: dict[str, Any] = msgspec.json.decode(found.json)
    assert value["id"] == found.id
    return value


@pytest.mark.parametrize(
    ("item", "prefix"),
    [(ASKED, "msg_"), (CALL, "fc_"), (RESULT, "fco_"), (THOUGHT, "rs_"), ({"type": "x"}, "item_")],
)
def test_an_item_gets_an_id_of_its_kind(item: dict[str, Any], prefix: str) -> None:
    assert stored(item)["id"].startswith(prefix)


def test_ids_are_kept_where_they_may_be_and_have_a_sensible_length() -> None:
    assert stored({**ASKED, "id": "mine"})["id"] == "mine"
    assert stored({**ASKED, "id": "mine"}, keeps_ids=False)["id"] != "mine"
    for id in ("", "x" * 101, 7, None):
        assert stored({**ASKED, "id": id})["id"].startswith("msg_")


def test_a_text_is_stored_as_parts_and_what_has_a_status_is_complete() -> None:
    found = stored(ASKED)
    assert found["content"] == [{"type": "input_text", "text": "Hi"}]
    assert found["status"] == "completed" and found["type"] == "message"
    answer = stored({"role": "assistant", "content": "Yes"})
    assert answer["content"] == [{"type": "output_text", "text": "Yes", "annotations": []}]
    assert "status" not in stored(THOUGHT)
    assert stored({**CALL, "status": "incomplete"})["status"] == "incomplete"


def test_stored_items_make_the_same_messages() -> None:
    items: list[dict[str, Any]] = [ASKED, THOUGHT, CALL, RESULT, assistant("At six.")]
    again = [
        msgspec.json.decode(each.json) for each in response_items.stored(items, keeps_ids=True)
    ]
    assert response_items.messages(again, "") == response_items.messages(items, "")


def test_references_are_replaced_by_what_they_refer_to() -> None:
    items = [{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "And you?"}]
    assert response_items.references(items) == ["msg_1"]
    assert response_items.resolved(items, {"msg_1": ASKED}) == [ASKED, items[1]]


@pytest.mark.parametrize("value", [None, 1, {}, [ASKED] * 10_001])
def test_what_is_no_input(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="input"):
        response_items.given_items(value)


# ---- conversations and lists -----------------------------------------------------------------------------------------


def encoded(**fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def test_a_new_conversation_may_be_empty() -> None:
    assert conversations.parse_new(b"") == conversations.NewConversation({}, [])
    found = conversations.parse_new(encoded(items=[ASKED], metadata={"topic": "sky"}))
    assert found.metadata == {"topic": "sky"} and len(found.items) == 1


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (encoded(items=[ASKED] * 21), "items has 21 items, at most 20 are added at once"),
        (encoded(items=[{"type": "item_reference", "id": "x"}]), "not references to others"),
        (encoded(items="Hi"), "a list of items"),
        (encoded(items=[{"role": "robot", "content": "Hi"}]), "role"),
        (encoded(metadata={str(n): "" for n in range(17)}), "metadata has more than 16 pairs"),
        (encoded(metadata={"k" * 65: ""}), "keys of at most 64"),
        (encoded(metadata={"k": "v" * 513}), "texts of at most 512"),
        (encoded(metadata={"k": 1}), "texts of at most 512"),
    ],
)
def test_conversations_that_are_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        conversations.parse_new(body)


def test_adding_nothing_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="items is required"):
        conversations.parse_items(encoded(items=[]))


@pytest.mark.parametrize(
    ("query", "listing"),
    [
        ({}, Listing()),
        ({"order": "asc", "limit": "5", "after": "msg_1"}, Listing(5, True, "msg_1")),
    ],
)
def test_the_query_of_a_list(query: dict[str, str], listing: Listing) -> None:
    assert item_lists.parse(query) == listing


@pytest.mark.parametrize(
    ("query", "complaint"),
    [({"order": "up"}, "order must be asc or desc"), ({"limit": "101"}, "limit must be")],
)
def test_a_query_that_is_refused(query: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        item_lists.parse(query)


def test_a_page_names_its_ends() -> None:
    items = [Item("a", b'{"id":"a"}'), Item("b", b'{"id":"b"}')]
    assert msgspec.json.decode(item_lists.encode(ItemPage(items, True))) == {
        "object": "list",
        "data": [{"id": "a"}, {"id": "b"}],
        "first_id": "a",
        "last_id": "b",
        "has_more": True,
    }
    empty = msgspec.json.decode(item_lists.encode(ItemPage([], False)))
    assert (empty["data"], empty["first_id"], empty["has_more"]) == ([], None, False)

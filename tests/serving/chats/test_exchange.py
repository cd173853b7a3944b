"""Conversations as files: our own, Open WebUI's, ChatGPT's, and hostile ones."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from ollamapy.digests import digest_of
from ollamapy.errors import InvalidRequest
from ollamapy.serving.chats.attachments import Attachment
from ollamapy.serving.chats.exchange import (
    HEAD,
    TAIL,
    Imported,
    NotImported,
    Reader,
    encode_chat,
    imported,
    markdown,
)
from ollamapy.serving.chats.values import AnswerUsage, Chat, ChatMessage, Failure, Part
from ollamapy.types import ToolCall

TIME = "2026-01-02T03:04:05.000000Z"
PNG = b"\x89PNG\r\n\x1a\n"


def tree(given: Imported) -> list[tuple[str, str, str | None]]:
    """Role, content and the parent's content of each message, in order."""
    contents = {message.id: message.content for message in given.messages}
    return [(m.role, m.content, contents.get(m.parent or "")) for m in given.messages]


def head(given: Imported) -> str:
    return next(m.content for m in given.messages if m.id == given.chat.head)


def read(data: bytes) -> Reader:
    reader = Reader()
    reader.feed(data)
    reader.finish()
    return reader


# ---- ours ------------------------------------------------------------------------------------------------------------


def our_chat() -> tuple[Chat, list[ChatMessage], list[tuple[Attachment, bytes]]]:
    chat = Chat(
        id="chat_old", title="T", model="m", system="S", options={"seed": 1}, format={"type": "object"}, think="low",
        keep_alive="5m", folder="f", pinned=True, archived=True, created_at=TIME, updated_at=TIME, head="c", n_messages=3,
    )  # fmt: skip
    part = Part("file", digest=digest_of(b"text"), name="n.txt", media_type="text/plain")
    call = ToolCall("t", {"x": 1}, "call_1")
    messages = [
        ChatMessage(
            id="a", parent=None, role="user", content="Hi", status="done", created_at=TIME,
            parts=(part, Part("text", "Hi")),
        ),
        ChatMessage(
            id="b", parent="a", role="assistant", content="one two", status="done", created_at=TIME, thinking="hm", model="m",
            tool_calls=(call,), stop_reason="stop", usage=AnswerUsage(prompt_tokens=3),
            order=(("text", 4), ("tool_call", 1), ("thinking", 2), ("text", 3)),
        ),
        ChatMessage(
            id="c", parent="a", role="assistant", content="x", status="failed", created_at=TIME, error=Failure("c", "m"),
        ),
    ]  # fmt: skip
    return chat, messages, [(Attachment(part.digest, 4, "text/plain", "n.txt"), b"text")]


def test_our_own_export_comes_back_as_it_was() -> None:
    chat, messages, files = our_chat()
    reader = read(
        HEAD
        + encode_chat(chat, messages, files)
        + b",\n"
        + encode_chat(chat, messages, files)
        + TAIL
    )
    assert len(reader.chats) == 2 and reader.skipped == []
    first, second = reader.chats
    names = {m.id: old for m, old in zip(first.messages, "abc", strict=True)}
    assert first.files == (("n.txt", b"text"),)
    for given in (first, second):
        names = {m.id: old for m, old in zip(given.messages, "abc", strict=True)}
        back = [
            msgspec.structs.replace(m, id=names[m.id], parent=names.get(m.parent or ""))
            for m in given.messages
        ]
        assert back == messages
        assert (
            msgspec.structs.replace(given.chat, id="chat_old", head=names[given.chat.head or ""])
            == chat
        )
    assert first.chat.id != second.chat.id
    assert {m.id for m in first.messages}.isdisjoint(m.id for m in second.messages)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"messages": []}, "no messages"),
        ({"messages": [{"id": 1}]}, "damaged"),
        ({"options": 1}, "damaged"),
        ({"attachments": [{"data": "?"}]}, "damaged"),
        ({"attachments": 1}, "damaged"),
        ({"attachments": []}, "an attachment is missing"),
    ],
)
def test_a_damaged_chat_is_left_out(change: dict[str, Any], reason: str) -> None:
    value = json.loads(encode_chat(*our_chat())) | change
    reader = read(json.dumps({"chats": [value]}).encode())
    [skipped] = reader.skipped
    assert skipped.title == "T" and reason in skipped.reason and reader.chats == []


def test_what_is_no_chat_is_left_out_among_chats_and_is_refused_alone() -> None:
    chat = encode_chat(*our_chat())
    found = read(b'[{"title": "T", "messages": 1}, %s]' % chat)
    [skipped] = found.skipped
    assert (skipped.title, skipped.reason) == ("T", "it is of no known format")
    assert len(found.chats) == 1
    for data in (b"{}", b'{"chats": [{"messages": 1}]}', b'[{"a": 1}, {"b": {}}]'):
        with pytest.raises(InvalidRequest, match="the file has no chats"):
            read(data)


def test_what_makes_no_sense_is_put_right() -> None:
    value = json.loads(encode_chat(*our_chat()))
    value["title"] = "x" * 1000
    value["created_at"] = "yesterday"
    value["messages"][1]["order"] = [["text", -5], ["text", 12]]
    value["messages"][1]["status"] = "streaming"
    given = imported(json.dumps(value).encode())
    assert len(given.chat.title) == 200 and given.chat.created_at.startswith("20")
    assert given.messages[1].order == () and given.messages[1].status == "failed"


def test_circles_doubles_and_strangers_among_the_parents() -> None:
    def message(id: str, parent: str | None) -> dict[str, Any]:
        return {
            "id": id,
            "parent": parent,
            "role": "user",
            "content": id,
            "status": "done",
            "created_at": TIME,
        }

    messages = [
        message("child", "root"), message("root", None), message("a", "b"), message("b", "a"), message("self", "self"),
        message("stray", "unknown"), message("child", "root"), message("grandchild", "child"),
    ]  # fmt: skip
    chat = {"model": "m", "created_at": TIME, "updated_at": TIME, "head": "a", "messages": messages}
    given = imported(json.dumps(chat).encode())
    assert tree(given) == [
        ("user", "root", None), ("user", "child", "root"), ("user", "stray", None), ("user", "grandchild", "child"),
    ]  # fmt: skip
    assert head(given) == "grandchild", "the last one, where the head is not among them"


def test_markdown() -> None:
    chat, messages, _ = our_chat()
    assert markdown(chat, messages[:2]) == (
        "# T\n\n*2026-01-02, m*\n\n> S\n\n## You\n\n[n.txt]\n\nHi\n\n## m\n\none two\n\n`t({\"x\":1})`\n"
    )  # fmt: skip


# ---- Open WebUI ------------------------------------------------------------------------------------------------------


def open_webui() -> dict[str, Any]:
    """A file of its "Export chats" (0.6): ids, both forms of the messages, and fields that are ignored."""
    image = f"data:image/png;base64,{b64encode(PNG).decode()}"
    thinking = '<details type="reasoning" done="true" duration="2">\n<summary>Thought for 2 seconds</summary>\n&gt; Is it 1 &lt; 2?\n&gt; Yes.\n</details>\nIt is.'
    messages = {
        "u1": {
            "id": "u1", "parentId": None, "childrenIds": ["a1", "a2"], "role": "user", "content": "Look", "timestamp": 1735786800,
            "models": ["llama3:8b"],
            "files": [
                {"type": "image", "url": image},
                {"type": "file", "name": "n.md", "file": {"data": {"content": "# N"}}},
                {"type": "collection", "name": "kb"},
                {"type": "image", "url": "data:image/png;base64,?"},
            ],
        },
        "a1": {"id": "a1", "parentId": "u1", "childrenIds": [], "role": "assistant", "content": thinking, "model": "llama3:8b", "timestamp": 1735786801, "done": True},
        "a2": {"id": "a2", "parentId": "u1", "childrenIds": [], "role": "assistant", "content": "Other", "model": "qwen", "timestamp": 1735786802},
    }  # fmt: skip
    return {
        "id": "1", "user_id": "2", "title": "Pictures", "archived": False, "pinned": True, "created_at": 1735786800, "updated_at": 1735786900,
        "chat": {
            "title": "Pictures", "models": ["llama3:8b"], "params": {"system": "Be brief."}, "tags": [], "files": [],
            "history": {"messages": messages, "currentId": "a1"}, "messages": [messages["u1"]],
        },
    }  # fmt: skip


@pytest.mark.parametrize("shape", ["list", "one", "old"])
def test_open_webui(shape: str) -> None:
    value = open_webui()
    given: Any = {"list": [value], "one": value, "old": {"title": value["title"], **value["chat"]}}[
        shape
    ]
    reader = read(json.dumps(given).encode())
    [found] = reader.chats
    assert (found.chat.title, found.chat.model, found.chat.system) == (
        "Pictures",
        "llama3:8b",
        "Be brief.",
    )
    assert tree(found) == [
        ("user", "Look", None),
        ("assistant", "It is.", "Look"),
        ("assistant", "Other", "Look"),
    ]
    assert found.messages[1].thinking == "Is it 1 < 2?\nYes." and found.messages[2].model == "qwen"
    assert head(found) == "It is."
    image, file, text = found.messages[0].parts
    assert (image.type, image.media_type, file.type, file.name, text.text) == (
        "image",
        "image/png",
        "file",
        "n.md",
        "Look",
    )
    assert found.files == (("", PNG), ("n.md", b"# N"))
    if shape != "old":
        assert found.chat.pinned and found.chat.created_at.startswith("2025-01-02T03:00")


# ---- ChatGPT ---------------------------------------------------------------------------------------------------------


def chatgpt() -> dict[str, Any]:
    """As conversations.json has one: a root without message, hidden ones, thoughts, and branches."""

    def node(
        id: str, parent: str | None, role: str = "", content: Any = None, **metadata: Any
    ) -> dict[str, Any]:
        message = {
            "id": id, "author": {"role": role, "name": metadata.pop("name", None), "metadata": {}}, "create_time": 1700000000.5,
            "content": content, "status": "finished_successfully", "weight": 1.0, "metadata": metadata, "recipient": "all",
        }  # fmt: skip
        return {"id": id, "message": message if role else None, "parent": parent, "children": []}

    def text(*parts: Any) -> dict[str, Any]:
        return {"content_type": "text", "parts": list(parts)}

    nodes = [
        node("root", None),
        node("sys", "root", "system", text(""), is_visually_hidden_from_conversation=True),
        node("ctx", "sys", "user", {"content_type": "user_editable_context", "user_profile": "secret"}),
        node("q", "ctx", "user", {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "What?"]}),
        node("t", "q", "assistant", {"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "Hm."}, {"summary": "Only"}]}),
        node("r", "t", "assistant", {"content_type": "reasoning_recap", "content": "Thought for 3 s"}),
        node("a", "r", "assistant", text("Yes."), model_slug="gpt-5"),
        node("b", "q", "assistant", text("No."), model_slug="gpt-4o"),
        node("c", "a", "assistant", {"content_type": "code", "language": "python", "text": "1+1"}),
        node("d", "c", "tool", {"content_type": "execution_output", "text": "2"}, name="python"),
        node("e", "d", "assistant", text("")),
    ]  # fmt: skip
    return {
        "title": "A question", "create_time": 1700000000.0, "update_time": 1700000100.0, "mapping": {n["id"]: n for n in nodes},
        "current_node": "e", "conversation_id": "x", "is_archived": True, "default_model_slug": "gpt-5",
    }  # fmt: skip


def test_chatgpt() -> None:
    reader = read(json.dumps([chatgpt(), {"title": "Empty", "mapping": {}}]).encode())
    [found], [skipped] = reader.chats, reader.skipped
    assert (skipped.title, skipped.reason) == ("Empty", "it has no messages")
    assert tree(found) == [
        ("user", "[image]\n\nWhat?", None),
        ("assistant", "Yes.", "[image]\n\nWhat?"),
        ("assistant", "No.", "[image]\n\nWhat?"),
        ("assistant", "```\n1+1\n```", "Yes."),
        ("tool", "2", "```\n1+1\n```"),
    ]
    assert head(found) == "2", "the nearest one that is shown"
    assert found.messages[1].thinking == "Hm.\n\nOnly" and found.messages[1].model == "gpt-5"
    assert found.messages[4].tool_name == "python"
    assert (found.chat.title, found.chat.model, found.chat.archived) == (
        "A question",
        "gpt-5",
        True,
    )
    assert found.chat.updated_at == "2023-11-14T22:15:00.000000Z"


def test_a_circle_of_hidden_nodes_has_an_end() -> None:
    value = chatgpt()
    value["mapping"]["t"]["parent"] = "r"
    value["mapping"]["r"]["parent"] = "t"
    found = imported(json.dumps(value).encode())
    assert ("assistant", "Yes.", None) in tree(found)


# ---- any -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no chats"), (b"[]", "no chats"), (b"hello", "no chats"), (b"[{]", "no JSON"), (b'[{"a": }]', "no JSON"),
        (b'[{"title": "x"', "not complete"), (b"[" * 100_000, "not complete"), (b'[{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]", "no JSON"),
        (b'[{"a": "\xff"}]', "no JSON"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_chats(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read(data)


@pytest.mark.parametrize("junk", [1, "x", [], {}, None, {"a": 1}, [[1]]])
def test_junk_in_the_place_of_any_value(junk: Any) -> None:
    """Whatever stands in a field, the rest is imported or the chat is left out."""
    for value in (open_webui(), chatgpt(), json.loads(encode_chat(*our_chat()))):
        for spoilt in spoil(value, junk):
            try:
                imported(json.dumps(spoilt).encode())
            except NotImported:
                pass


def spoil(value: Any, junk: Any) -> list[Any]:
    """Copies of a value, in each of which something else is junk."""
    found: list[Any] = [junk]
    if isinstance(value, dict):
        found += [value | {key: inner} for key in value for inner in spoil(value[key], junk)]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += [[*value[:index], inner, *value[index + 1 :]] for inner in spoil(item, junk)]
    return found

"""Chats as the tests need them, made and read over the API."""

from __future__ import annotations

from typing import Any

from tests.served import Daemon, until


def delete_chats(daemon: Daemon) -> None:
    """Delete all chats that are listed."""
    while chats := daemon.ask("GET", "/api/chats?archived=all").json()["chats"]:
        for chat in chats:
            assert daemon.ask("DELETE", f"/api/chats/{chat['id']}").status == 204


def new_chat(daemon: Daemon, model: str = "hello", **settings: Any) -> str:
    """Create a chat; its id."""
    answer = daemon.ask("POST", "/api/chats", {"model": model, **settings})
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def write(daemon: Daemon, chat: str, role: str, content: str, **fields: Any) -> str:
    """Store a message under the head, without an answer; its id."""
    body = {"role": role, "content": content, "answer": False, **fields}
    answer = daemon.ask("POST", f"/api/chats/{chat}/messages", body)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def stored_chat(daemon: Daemon, *texts: str, model: str = "hello", **settings: Any) -> str:
    """Create a chat whose messages are these texts, the user's and the model's in turns; its id."""
    chat = new_chat(daemon, model, **settings)
    for number, text in enumerate(texts):
        write(daemon, chat, "assistant" if number % 2 else "user", text)
    return chat


def read_chat(daemon: Daemon, chat: str) -> dict[str, Any]:
    """A chat with all of its messages."""
    answer = daemon.ask("GET", f"/api/chats/{chat}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    return found


def shown_path(chat: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages from the first one to the head."""
    by_id = {message["id"]: message for message in chat["messages"]}
    path: list[dict[str, Any]] = []
    current = chat["head"]
    while current is not None:
        path.insert(0, by_id[current])
        current = by_id[current].get("parent")
    return path


def settled(daemon: Daemon, chat: str) -> dict[str, Any]:
    """A chat once no answer of it is being written any more."""

    def finished() -> dict[str, Any] | None:
        found = read_chat(daemon, chat)
        return None if any(each["status"] == "streaming" for each in found["messages"]) else found

    found: dict[str, Any] = until(finished, f"the answers of {chat} end")
    return found

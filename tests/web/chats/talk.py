"""Talk to a daemon about its conversations: what the tests of their API share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.served import Answer, Daemon


def ask(daemon: Daemon, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    """The JSON of an answer with the expected status."""
    answer = daemon.ask(method, path, body)
    assert answer.status == status, answer.body
    return answer.json() if answer.body else None


def new_chat(daemon: Daemon, **fields: Any) -> str:
    return str(ask(daemon, "POST", "/api/chats", {"model": "hello", **fields}, 201)["id"])


def events(answer: Answer) -> Iterator[tuple[str, Any]]:
    """The events of a stream as they come; of numbered ones the data has "number"."""
    name, number, data = "", None, None
    assert answer.header("content-type") == "text/event-stream"
    for raw in answer.response:
        line = raw.decode().rstrip("\n")
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "id":
            number = int(value)
        elif field == "data":
            data = json.loads(value)
        elif not line and data is not None:
            yield name, data | ({"number": number} if number is not None else {})
            name, number, data = "", None, None


def said(found: list[tuple[str, Any]], kind: str = "text") -> str:
    return "".join(data["text"] for name, data in found if name == kind)


def send(
    daemon: Daemon, chat: str, content: str | None = "Hi", **body: Any
) -> list[tuple[str, Any]]:
    """Send a message, and read its answer to the end."""
    given = body if content is None else {"content": content, **body}
    answer = daemon.open("POST", f"/api/chats/{chat}/messages", given)
    assert answer.status == 200, answer.read()
    return list(events(answer))

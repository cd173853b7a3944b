"""The messages of a chat as a tree: the path to its head, and its branches. Pure.

A message names the one that it follows; those that follow the same one are branches. The head is the last message of the branch
that is shown. Chats come from files too, so a parent may be missing, and parents may even form a circle: a path ends there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
"""A message of a chat, as /api/chats has it."""


def path(messages: Sequence[Message], head: str | None) -> list[Message]:
    """The messages from the first one to ``head``."""
    by_id = {str(each["id"]): each for each in messages}
    found: list[Message] = []
    while head is not None and head in by_id:
        message = by_id.pop(head)  # so that a circle ends
        found.append(message)
        head = message.get("parent")
    return found[::-1]


def leaves(messages: Sequence[Message]) -> list[Message]:
    """The messages that none follows, the oldest first: each is the end of a branch."""
    parents = {each.get("parent") for each in messages}
    return [each for each in messages if each["id"] not in parents]

"""/v1/conversations: from JSON to items and metadata, and from conversations to JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import InvalidRequest
from ...serving.responses.conversations import Conversation
from ...serving.responses.values import Item
from . import response_items, wire

NEW_FIELDS = {"items": "any", "metadata": "map[string]interface {}"}
ITEM_FIELDS = {"items": "any"}
UPDATE_FIELDS = {"metadata": "map[string]interface {}"}

MOST_ADDED = 20
"""Items that one request adds; OpenAI's limit, as those of metadata are."""
MOST_PAIRS, MOST_KEY, MOST_VALUE = 16, 64, 512


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation that is to be made."""

    metadata: dict[str, Any]
    items: list[Item]


def parse_new(data: bytes) -> NewConversation:
    """The body of POST /v1/conversations, which may be empty. Raises InvalidRequest."""
    given = wire.read_fields(data or b"{}", NEW_FIELDS, "ConversationRequest")
    return NewConversation(_metadata(given), _items(given.get("items", [])))


def parse_items(data: bytes) -> list[Item]:
    """The body that adds items. Raises InvalidRequest."""
    given = wire.read_fields(data, ITEM_FIELDS, "ConversationItems")
    if not (items := _items(given.get("items", []))):
        raise InvalidRequest("items is required: a list of items")
    return items


def parse_update(data: bytes) -> dict[str, Any]:
    """The body that replaces the metadata; null removes it. Raises InvalidRequest."""
    return _metadata(wire.read_fields(data, UPDATE_FIELDS, "ConversationRequest"))


def _items(value: Any) -> list[Item]:
    items = response_items.given_items(value if isinstance(value, list) else None)
    if len(items) > MOST_ADDED:
        raise InvalidRequest(
            f"items has {len(items)} items, at most {MOST_ADDED} are added at once"
        )
    if response_items.references(items):
        raise InvalidRequest("items must be whole, not references to others")
    response_items.messages(items, "")
    return response_items.stored(items, keeps_ids=False)


def _metadata(given: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = given.get("metadata", {})
    if len(metadata) > MOST_PAIRS:
        raise InvalidRequest(f"metadata has more than {MOST_PAIRS} pairs")
    for key, value in metadata.items():
        if len(key) > MOST_KEY or not isinstance(value, str) or len(value) > MOST_VALUE:
            raise InvalidRequest(
                f"metadata must have keys of at most {MOST_KEY} and texts of at most {MOST_VALUE} characters"
            )
    return metadata


def encode(conversation: Conversation) -> bytes:
    """A conversation as JSON."""
    head = {"id": conversation.id, "object": "conversation"}
    return wire.encode(
        {**head, "created_at": conversation.created_at, "metadata": conversation.metadata}
    )

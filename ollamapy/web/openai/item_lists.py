"""Lists of items, of a response's input or of a conversation: their queries and their pages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...errors import InvalidRequest
from ...serving.responses.values import ItemPage, Listing
from .. import query
from . import wire

MOST_LISTED = 100
"""Items of one page."""


def parse(given: Mapping[str, str]) -> Listing:
    """The query of a list. Raises InvalidRequest."""
    order = query.text(given, "order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc")
    limit = query.count(given, "limit", 20, MOST_LISTED)
    return Listing(limit, order == "asc", query.text(given, "after"))


def encode(page: ItemPage) -> bytes:
    """A page of a list."""
    return wire.encode(
        {
            "object": "list",
            "data": [msgspec.Raw(item.json) for item in page.items],
            "first_id": page.items[0].id if page.items else None,
            "last_id": page.items[-1].id if page.items else None,
            "has_more": page.has_more,
        }
    )

"""Server-sent events, as in Anthropic's API and OpenAI's responses: each is named by its type. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MEDIA_TYPE = b"text/event-stream"

_encode = msgspec.json.Encoder().encode


def write(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Events in order, without the last line feed; an event's name is its "type"."""
    return b"\n".join(
        b"event: %s\ndata: %s\n" % (event["type"].encode(), _encode(event)) for event in events
    )

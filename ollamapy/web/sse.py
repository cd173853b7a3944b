"""Server-sent events, as Anthropic's API and OpenAI's responses write them: each named by its type. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

MEDIA_TYPE = b"text/event-stream"

_encode = msgspec.json.Encoder().encode


def write(events: Iterable[Mapping[str, Any]]) -> bytes:
    """Events one after another, without the last line feed; each has its name in "type"."""
    return b"\n".join(
        b"event: %s\ndata: %s\n" % (event["type"].encode(), _encode(event)) for event in events
    )

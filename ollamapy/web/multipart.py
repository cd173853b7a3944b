"""The fields of a form as browsers and OpenAI's clients send files: multipart/form-data. Pure.

    --boundary CRLF headers CRLF CRLF content CRLF --boundary ... --boundary--

Names of files are not looked at: no content is stored under one. Format: RFC 7578, RFC 2046 section 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import InvalidRequest

MOST_PARTS = 100
_MOST_HEADERS = 8192
"""Bytes of a part's headers."""

_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME = re.compile(rb'content-disposition:[^\r\n]*?;\s*name="([^"\r\n]*)"', re.IGNORECASE)


def fields(body: bytes, content_type: str) -> Mapping[str, list[bytes]]:
    """The contents of a form by the names of its fields, in order. Raises InvalidRequest for what is no such form."""
    kind, _, parameters = content_type.partition(";")
    boundary = _BOUNDARY.search(parameters)
    if kind.strip().lower() != "multipart/form-data" or boundary is None:
        raise InvalidRequest("the request must be a form: multipart/form-data with a boundary")
    mark = b"\r\n--" + (boundary[1] or boundary[2]).encode("latin-1", "replace")
    whole = b"\r\n" + body
    if whole.count(mark) > MOST_PARTS + 1:
        raise InvalidRequest(f"the form has more than {MOST_PARTS} parts")
    _, *parts = whole.split(mark)
    if not parts or not parts[-1].startswith(b"--"):
        raise InvalidRequest("the form ends too soon: its last boundary is missing")
    found: dict[str, list[bytes]] = {}
    for part in parts[:-1]:
        name, content = _part(part)
        found.setdefault(name, []).append(content)
    return found


def _part(part: bytes) -> tuple[str, bytes]:
    """The name and the content of a part, which begins after its boundary."""
    end = part.find(b"\r\n\r\n", 0, _MOST_HEADERS)
    named = _NAME.search(part, 0, max(end, 0) + 2)
    if end < 0 or named is None:
        raise InvalidRequest("a part of the form has no name")
    return named[1].decode("utf-8", "replace"), part[end + 4 :]

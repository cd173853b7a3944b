"""The hub's own search for repositories with GGUF files: one request, nothing is downloaded.

    GET {endpoint}/api/models?search=TEXT&filter=gguf&sort=downloads&direction=-1&limit=N

An entry of the answer has "id", "downloads", "likes", "lastModified", "pipeline_tag", "gated" and "private"; a mirror may lack any
but the id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import msgspec

from ..errors import InvalidRequest, Unauthorized
from .http import Access, Session
from .hub import Repo
from .patience import Patience, ask_json
from .refusal import odd_listing, refusal

MOST = 50
"""Repositories of one search."""

_MAX_ANSWER = 4 * 2**20  # bytes; an entry with its tags has some 2 kB


class HubModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """A repository that the hub found. ``name`` pulls its usual quantization, ``updated_at`` is RFC 3339, ``gated``: its licence
    must be accepted on the hub's page first. Numbers that the hub does not send are left out."""

    name: str
    repo: str
    downloads: int | None = None
    likes: int | None = None
    updated_at: str = ""
    use: str = ""
    gated: bool = False
    private: bool = False


def search(
    text: str, access: Access, patience: Patience | None = None, limit: int = 20
) -> tuple[HubModel, ...]:
    """The repositories that the hub finds, the most downloaded first. Raises TransferError and its children, RequestCancelled."""
    patience = patience or Patience()
    try:
        return _search(text, access, patience, limit)
    except Unauthorized:  # the hub rejects a wrong token even for what is public
        return _search(text, replace(access, authorization=""), patience, limit)


def _search(text: str, access: Access, patience: Patience, limit: int) -> tuple[HubModel, ...]:
    asked = {"search": text, "filter": "gguf", "sort": "downloads", "direction": -1, "limit": limit}
    url = f"{access.endpoint}/api/models?{urlencode(asked)}"
    with Session(access) as session:
        response, value = ask_json(session, url, patience, limit=_MAX_ANSWER)
        if response.status != 200:
            raise refusal(response, access, "the search", access.endpoint)
    if not isinstance(value, list):
        raise odd_listing(access)
    return tuple(_models(value[:limit]))


def _models(entries: list[Any]) -> Iterator[HubModel]:
    """The entries that name a repository; others are passed over."""
    for entry in entries:
        id = entry.get("id") if isinstance(entry, dict) else None
        try:
            repo = Repo(id).id if isinstance(id, str) else ""
        except InvalidRequest:
            continue
        if "/" in repo:
            yield HubModel(
                name=f"hf.co/{repo}",
                repo=repo,
                downloads=_count(entry.get("downloads")),
                likes=_count(entry.get("likes")),
                updated_at=_text(entry.get("lastModified")),
                use=_text(entry.get("pipeline_tag")),
                gated=entry.get("gated") not in (None, False),
                private=entry.get("private") is True,
            )


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**53 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 100 and value.isprintable() else ""

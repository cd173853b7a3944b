"""The paths of models that can be pulled: the catalogue, the hub's search, and a remote model's details."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from ...machine import free_memory
from ...registry.hub_search import MOST
from ...registry.offers import family_facts
from ...serving.services import Services
from .. import query
from ..call import Call, Path, Reply, json_answer

_USUAL = 20  # repositories of a search


async def _catalogue(services: Services, call: Call) -> Reply:
    found = await services.offers.catalogue(query.text(call.query, "q"))

    def encode() -> bytes:
        free = free_memory()
        return _encode({"free": free, "families": [family_facts(each, free) for each in found]})

    return json_answer(await asyncio.to_thread(encode))


async def _hub(services: Services, call: Call) -> Reply:
    text = " ".join(query.text(call.query, "q").split())
    limit = query.count(call.query, "limit", _USUAL, MOST)
    return json_answer(_encode({"models": await services.offers.search_hub(text, limit)}))


async def _remote(services: Services, call: Call) -> Reply:
    name = query.required(call.query, "model")
    free = await asyncio.to_thread(free_memory)
    shown = await services.offers.show(name, free, is_local=call.caller.is_local)
    return json_answer(await asyncio.to_thread(_encode, shown))


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


PATHS = (
    Path("/api/catalogue", "GET", _catalogue, "infer"),
    Path("/api/hub", "GET", _hub, "manage"),
    Path("/api/remote", "GET", _remote, "manage"),
)
"""What asks other machines needs the right to manage: it uses the daemon's network and its token."""

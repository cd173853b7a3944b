"""The paths of saved prefixes: what they take on the disk, and deleting them."""

from __future__ import annotations

from ...serving import saved
from ...serving.services import Services
from .. import query
from ..call import Call, Path, Reply, json_answer
from ..ollama.wire import encode


async def _list(services: Services, call: Call) -> Reply:
    return json_answer(encode(await saved.listing(services)))


async def _clear(services: Services, call: Call) -> Reply:
    return json_answer(encode(await saved.cleared(services, query.text(call.query, "model"))))


PATHS = (
    Path("/api/cache", "GET", _list, "manage"),
    Path("/api/cache", "DELETE", _clear, "manage"),
)

"""The paths of recent requests: list them, explain what was reused of one, answer one again. A caller sees its own."""

from __future__ import annotations

import asyncio

import msgspec

from ...serving import reuse
from ...serving.replay import replay
from ...serving.services import Services
from ..call import Call, Dialect, Path, Reply, encode_coded_error, json_answer
from . import wire


async def _requests(services: Services, call: Call) -> Reply:
    found = reversed(services.recent.of(call.caller.owner))
    return json_answer(msgspec.json.encode({"requests": [wire.described(each) for each in found]}))


async def _request(services: Services, call: Call) -> Reply:
    owner = call.caller.owner
    found = services.recent.get(owner, call.path["id"])
    others = services.recent.before(found)
    cache = await asyncio.to_thread(reuse.report, found, others)
    return json_answer(msgspec.json.encode(wire.described(found, cache)))


async def _replay(services: Services, call: Call) -> Reply:
    found = services.recent.get(call.caller.owner, call.path["id"])
    return json_answer(msgspec.json.encode(await replay(services, found, call.caller)))


DIALECT = Dialect(
    (
        Path("/api/requests", "GET", _requests, "infer"),
        Path("/api/requests/{id:path}", "GET", _request, "infer"),
        Path("/api/replay/{id:path}", "POST", _replay, "infer"),
    ),
    encode_coded_error,
)

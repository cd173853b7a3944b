"""The paths of presets: list, keep, delete. Each caller has its own."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace
from starlette.responses import Response

from ...errors import InvalidRequest
from ...serving.presets import Preset
from ...serving.services import Services
from .. import body
from ..call import Call, Path, Reply, json_answer
from ..ollama import wire

FIELDS = {
    "model": "string", "system": "string", "options": "map[string]interface {}", "format": "any", "think": "any",
    "keep_alive": "any",
}  # fmt: skip

_MOST_CHARACTERS = 100  # of a name


def parse_preset(data: bytes) -> Preset:
    """A preset from a body, without its name. Raises InvalidRequest for settings that no chat takes."""
    given = body.fields(body.decode(data), FIELDS, "Preset")
    wire.common({**given, "model": given.get("model") or "any"})  # checks the values
    return Preset(
        name="",
        model=given.get("model", ""),
        system=given.get("system"),
        options={key: value for key, value in given.get("options", {}).items() if value is not None},
        format=given.get("format") or None,
        think=given.get("think"),
        keep_alive=given.get("keep_alive"),
    )  # fmt: skip


def _name(call: Call) -> str:
    name = call.path["name"].strip()
    if not name or len(name) > _MOST_CHARACTERS or not name.isprintable():
        raise InvalidRequest(
            f"a preset's name has 1 to {_MOST_CHARACTERS} characters that can be printed"
        )
    return name


async def _presets(services: Services, call: Call) -> Reply:
    found = await asyncio.to_thread(services.presets.list, call.caller.owner)
    return json_answer(await asyncio.to_thread(wire.encode, {"presets": found}))


async def _put(services: Services, call: Call) -> Reply:
    preset = replace(await call.parse(parse_preset), name=_name(call))
    await asyncio.to_thread(services.presets.put, call.caller.owner, preset)
    return json_answer(wire.encode(preset))


async def _delete(services: Services, call: Call) -> Reply:
    await asyncio.to_thread(services.presets.delete, call.caller.owner, _name(call))
    return Response(status_code=204)


PATHS = (
    Path("/api/presets", "GET", _presets, "infer"),
    Path("/api/presets/{name}", "PUT", _put, "infer"),
    Path("/api/presets/{name}", "DELETE", _delete, "infer"),
)

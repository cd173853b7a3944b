"""The path of OpenAI's newer API, /v1/responses."""

from __future__ import annotations

from msgspec.structs import replace

from ...serving import answer
from ...serving.services import Services
from .. import sse
from ..body import Misread
from ..call import PLAIN_JSON, Call, Dialect, Path, Reply, describe, plain_json_answer
from ..pauses import Pauses
from ..stream import Lines
from . import response_events, responses, wire


async def _responses(services: Services, call: Call) -> Reply:
    encoding = call.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Misread(f"a body with content-encoding {encoding[:40]!r} is not read, send it plain")
    parsed = await call.parse(responses.parse)
    request = replace(parsed.request, progress=parsed.stream)
    chunks = answer.answer(services, request, call.caller)
    writer = response_events.ResponseWriter(parsed)
    if parsed.stream:
        pauses = Pauses()
        return Lines(
            pauses.without_waits(chunks, lambda chunk: chunk),
            writer.events,
            failed=lambda error: writer.failed(*describe(error)),
            media_type=sse.MEDIA_TYPE,
            idle=pauses.comment,
        )
    return plain_json_answer(writer.answer(await answer.collect(chunks)))


DIALECT = Dialect(
    (Path("/v1/responses", "POST", _responses, "infer"),), wire.encode_error, error_type=PLAIN_JSON
)

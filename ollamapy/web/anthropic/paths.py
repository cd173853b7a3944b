"""The paths of Anthropic's API."""

from __future__ import annotations

from msgspec.structs import replace

from ...serving import answer
from ...serving.services import Services
from .. import sse
from ..call import PLAIN_JSON, Call, Dialect, Path, Reply, describe, plain_json_answer
from ..pauses import Pauses
from ..stream import Lines
from . import wire


async def _messages(services: Services, call: Call) -> Reply:
    parsed = await call.parse(wire.parse_messages)
    request = replace(parsed.request, progress=parsed.stream)
    chunks = answer.answer(services, request, call.caller)
    writer = wire.MessageWriter(parsed)
    if parsed.stream:
        pauses = Pauses()
        return Lines(
            pauses.without_waits(chunks, lambda chunk: chunk),
            writer.events,
            failed=lambda error: wire.error_event(*describe(error)),
            media_type=sse.MEDIA_TYPE,
            idle=lambda: pauses.comment() + writer.ping(),
        )
    return plain_json_answer(writer.answer(await answer.collect(chunks)))


async def _count_tokens(services: Services, call: Call) -> Reply:
    request = (await call.parse(wire.parse_count)).request
    rendered = await answer.render(services, request, call.caller)
    return plain_json_answer(wire.encode_count(rendered.tokens))


DIALECT = Dialect(
    (
        Path("/v1/messages", "POST", _messages, "infer"),
        Path("/v1/messages/count_tokens", "POST", _count_tokens, "infer"),
    ),
    wire.encode_error,
    error_type=PLAIN_JSON,
)

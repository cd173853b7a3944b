"""The paths of Anthropic's API."""

from __future__ import annotations

from msgspec.structs import replace

from ...serving import answer
from ...serving.services import Services
from ...types import Request
from .. import sse
from ..call import PLAIN_JSON, Call, Dialect, Path, Reply, describe, plain_json_answer
from ..stream import Lines
from . import wire


async def _messages(services: Services, call: Call) -> Reply:
    parsed = await call.parse(wire.parse_messages)
    chunks = answer.answer(services, await _supported(services, parsed.request), call.caller)
    writer = wire.MessageWriter(parsed)
    if parsed.stream:
        return Lines(
            chunks,
            writer.events,
            failed=lambda error: wire.error_event(*describe(error)),
            media_type=sse.MEDIA_TYPE,
            idle=writer.ping,
        )
    return plain_json_answer(writer.answer(await answer.collect(chunks)))


async def _count_tokens(services: Services, call: Call) -> Reply:
    request = (await call.parse(wire.parse_count)).request
    rendered = await answer.render(services, await _supported(services, request), call.caller)
    return plain_json_answer(wire.encode_count(rendered.tokens))


async def _supported(services: Services, request: Request) -> Request:
    """The request, without thinking if the model does not support it: clients of this API turn it on for every model."""
    if not request.think:
        return request
    spec = await services.models.load(request.model)
    return request if "thinking" in spec.capabilities else replace(request, think=None)


DIALECT = Dialect(
    (
        Path("/v1/messages", "POST", _messages, "infer"),
        Path("/v1/messages/count_tokens", "POST", _count_tokens, "infer"),
    ),
    wire.encode_error,
    error_type=PLAIN_JSON,
)

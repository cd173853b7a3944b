"""The paths of Anthropic's API."""

from __future__ import annotations

from msgspec.structs import replace

from ...serving import answer as generate
from ...serving.services import Services
from ...types import Request
from .. import sse
from ..call import PLAIN_JSON, Call, Dialect, Path, Reply, describe, plain_json_answer
from ..stream import Lines
from . import wire as anthropic


async def _messages(services: Services, call: Call) -> Reply:
    parsed = await call.parse(anthropic.parse_messages)
    chunks = generate.answer(services, await _able(services, parsed.request), call.caller)
    answer = anthropic.MessageWriter(parsed)
    if parsed.stream:
        return Lines(
            chunks,
            answer.events,
            failed=lambda error: anthropic.error_event(*describe(error)),
            media_type=sse.MEDIA_TYPE,
            idle=answer.ping,
        )
    return plain_json_answer(answer.whole(await generate.whole(chunks)))


async def _count_tokens(services: Services, call: Call) -> Reply:
    request = (await call.parse(anthropic.parse_count)).request
    rendered = await generate.render(services, await _able(services, request), call.caller)
    return plain_json_answer(anthropic.encode_count(rendered.tokens))


async def _able(services: Services, request: Request) -> Request:
    """The request, but for thinking where the model knows none: clients of this API ask every model for it."""
    if not request.think:
        return request
    spec = await services.models.load(request.model)
    return request if "thinking" in spec.capabilities else replace(request, think=None)


DIALECT = Dialect(
    (
        Path("/v1/messages", "POST", _messages, "infer"),
        Path("/v1/messages/count_tokens", "POST", _count_tokens, "infer"),
    ),
    anthropic.encode_error,
    error_type=PLAIN_JSON,
)

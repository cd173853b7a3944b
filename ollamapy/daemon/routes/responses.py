"""The path of OpenAI's newer API, /v1/responses."""

from __future__ import annotations

from .. import generate
from ..api import sse
from ..api.body import Misread
from ..api.openai import response_events, responses, wire
from ..api.stream import Lines
from ..generate import Services
from .call import PLAIN_JSON, Answer, Call, Dialect, Path, describe, plain_json_answer


async def _responses(services: Services, call: Call) -> Answer:
    encoding = call.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Misread(f"a body with content-encoding {encoding[:40]!r} is not read, send it plain")
    asked = responses.parse(call.body)
    chunks = generate.answer(services, asked.request)
    answer = response_events.Answer(asked)
    if asked.stream:
        return Lines(
            chunks,
            answer.events,
            failed=lambda error: answer.failed(*describe(error)),
            media_type=sse.MEDIA_TYPE,
        )
    return plain_json_answer(answer.whole(await generate.whole(chunks)))


DIALECT = Dialect(
    (Path("/v1/responses", "POST", _responses),), wire.encode_error, error_type=PLAIN_JSON
)

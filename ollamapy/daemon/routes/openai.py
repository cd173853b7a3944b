"""The paths of OpenAI's API."""

from __future__ import annotations

from contextlib import aclosing

from starlette.responses import Response

from .. import generate
from ..api import openai
from ..api.stream import Lines
from ..generate import Services
from .call import Answer, Call, Dialect, Path, describe


async def _chat(services: Services, call: Call) -> Answer:
    asked = openai.parse_chat(call.body)
    chunks = generate.answer(services, asked.request)
    answer = openai.ChatAnswer(asked.request.model, asked.include_usage)
    if asked.stream:
        return Lines(
            chunks,
            answer.frames,
            failed=lambda error: openai.frame(openai.encode_error(*describe(error))),
            media_type=b"text/event-stream",
            ending=openai.frame(b"[DONE]"),
        )
    async with aclosing(chunks):
        whole = answer.whole(generate.merge([chunk async for chunk in chunks]))
    return Response(whole, media_type="application/json")


DIALECT = Dialect((Path("/v1/chat/completions", "POST", _chat),), openai.encode_error)

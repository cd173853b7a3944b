"""The paths of OpenAI's API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Protocol

from ...serving import answer as generate
from ...serving import choices, embed
from ...serving.answer import Services
from ...serving.prompting import Request
from ...types import Chunk, GenerateRequest
from .. import sse
from ..call import PLAIN_JSON, Answer, Call, Dialect, Path, describe, plain_json_answer
from ..stream import Lines
from . import chat, completions, models, vectors, wire


class _Writer(Protocol):
    """Writes the answers of all choices, whole or in frames."""

    def whole(self, chunks: Sequence[Chunk]) -> bytes: ...

    def frames(self, heard: tuple[int, Chunk]) -> bytes: ...


async def _chat(services: Services, call: Call) -> Answer:
    asked = chat.parse(call.body)
    model = asked.requests[0].model
    writer = chat.Answer(model, len(asked.requests), include_usage=asked.include_usage)
    if asked.render_only:
        rendered = await generate.render(services, asked.requests[0])
        return plain_json_answer(writer.rendered(rendered.prompt))
    return await _answered(services, asked.requests, writer, asked.stream)


async def _completions(services: Services, call: Call) -> Answer:
    asked = completions.parse(call.body)
    firsts = asked.requests[:: asked.n] if asked.echo else ()
    writer = completions.Answer(asked, [await _prompt(services, first) for first in firsts])
    return await _answered(services, asked.requests, writer, asked.stream)


async def _prompt(services: Services, request: GenerateRequest) -> str:
    """The text of a prompt that may be given as token ids."""
    if not request.tokens:
        return request.prompt
    return await embed.detokenize(
        services,
        request.model,
        request.tokens,
        options=request.options,
        keep_alive=request.keep_alive,
    )


async def _answered(
    services: Services,
    requests: Sequence[Request],
    writer: _Writer,
    stream: bool,
) -> Answer:
    heard = choices.answers(services, requests)
    if stream:
        return Lines(
            heard,
            writer.frames,
            failed=lambda error: wire.event(wire.encode_error(*describe(error))),
            media_type=sse.MEDIA_TYPE,
            ending=wire.DONE,
        )
    said: list[list[Chunk]] = [[] for _ in requests]
    async with aclosing(heard):
        async for place, chunk in heard:
            said[place].append(chunk)
    return plain_json_answer(writer.whole([generate.merge(each) for each in said]))


async def _embeddings(services: Services, call: Call) -> Answer:
    asked = vectors.parse_embeddings(call.body)
    found = await embed.embed(services, asked.request)
    return plain_json_answer(await asyncio.to_thread(vectors.encode_embeddings, asked, found))


async def _rerank(services: Services, call: Call) -> Answer:
    asked = vectors.parse_rerank(call.body)
    return plain_json_answer(
        vectors.encode_reranked(asked, await embed.rerank(services, asked.request))
    )


async def _models(services: Services, call: Call) -> Answer:
    return plain_json_answer(models.encode_list(await services.models.list()))


async def _model(services: Services, call: Call) -> Answer:
    name = call.path["name"]
    return plain_json_answer(models.encode_model(name, await services.models.load(name)))


DIALECT = Dialect(
    (
        Path("/v1/chat/completions", "POST", _chat),
        Path("/v1/completions", "POST", _completions),
        Path("/v1/embeddings", "POST", _embeddings),
        Path("/v1/rerank", "POST", _rerank),
        Path("/v1/models", "GET", _models),
        Path("/v1/models/{name:path}", "GET", _model),
    ),
    wire.encode_error,
    error_type=PLAIN_JSON,
)

"""The paths of OpenAI's API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from msgspec.structs import replace
from starlette.responses import Response

from ...request import Caller, DetokenizeRequest, Gap, Question, Raw, Request
from ...serving import answer, choices, embed, transcription
from ...serving.services import Services
from ...types import Chunk
from .. import sse
from ..call import PLAIN_JSON, Call, Dialect, Path, Reply, describe, plain_json_answer
from ..pauses import Pauses
from ..stream import Lines
from . import audio, chat, completions, models, vectors, wire


class _Writer(Protocol):
    """Writes the answers of all choices, as one object or as events."""

    def answer(self, chunks: Sequence[Chunk]) -> bytes: ...

    def events(self, indexed: tuple[int, Chunk]) -> bytes: ...


async def _chat(services: Services, call: Call) -> Reply:
    parsed = await call.parse(chat.parse)
    model = parsed.requests[0].model
    writer = chat.ChatWriter(model, len(parsed.requests), include_usage=parsed.include_usage)
    if parsed.render_only:
        rendered = await answer.render(services, parsed.requests[0], call.caller)
        return plain_json_answer(writer.rendered(rendered.prompt))
    chunks = _choices(services, parsed.requests, call.caller, parsed.stream)
    return await _answered(chunks, len(parsed.requests), writer, parsed.stream)


async def _completions(services: Services, call: Call) -> Reply:
    parsed = await call.parse(completions.parse)
    writer = completions.CompletionWriter(parsed)
    chunks = _choices(services, parsed.requests, call.caller, parsed.stream)
    if parsed.echo:
        chunks = _after_echoes(services, parsed, call.caller, writer, chunks)
    return await _answered(chunks, len(parsed.requests), writer, parsed.stream)


def _choices(
    services: Services, requests: Sequence[Request], caller: Caller, stream: bool
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """The chunks of all choices; a stream wants to know what they wait for."""
    if stream:
        requests = [replace(request, progress=True) for request in requests]
    return choices.answers(services, requests, caller)


async def _after_echoes(
    services: Services,
    parsed: completions.ParsedCompletion,
    caller: Caller,
    writer: completions.CompletionWriter,
    chunks: AsyncGenerator[tuple[int, Chunk], None],
) -> AsyncGenerator[tuple[int, Chunk], None]:
    """The chunks, once the writer has the texts of the prompts, which the answers begin with."""
    async with aclosing(chunks):
        firsts = parsed.requests[:: parsed.n]
        writer.echo([await _echo(services, first, caller) for first in firsts])
        async for item in chunks:
            yield item


async def _echo(services: Services, request: Request, caller: Caller) -> str:
    """The text of a prompt, which may be given as token ids."""
    assert isinstance(request.input, Question | Gap | Raw)
    prompt = request.input.prompt
    if isinstance(prompt, str):
        return prompt
    ids = DetokenizeRequest(request.model, prompt, request.options, request.keep_alive)
    return await embed.detokenize(services, ids, caller)


async def _answered(
    chunks: AsyncGenerator[tuple[int, Chunk], None], n: int, writer: _Writer, stream: bool
) -> Reply:
    """The reply with the ``n`` answers whose chunks these are."""
    if stream:
        pauses = Pauses()
        return Lines(
            pauses.without_waits(chunks, lambda indexed: indexed[1]),
            writer.events,
            failed=lambda error: wire.event(wire.encode_error(*describe(error))),
            media_type=sse.MEDIA_TYPE,
            ending=wire.DONE,
            idle=pauses.comment,
        )
    found: list[list[Chunk]] = [[] for _ in range(n)]
    async with aclosing(chunks):
        async for index, chunk in chunks:
            found[index].append(chunk)
    return plain_json_answer(writer.answer([answer.merge(each) for each in found]))


async def _embeddings(services: Services, call: Call) -> Reply:
    parsed = await call.parse(vectors.parse_embeddings)
    found = await embed.embed(services, parsed.request, call.caller)
    return plain_json_answer(await asyncio.to_thread(vectors.encode_embeddings, parsed, found))


async def _rerank(services: Services, call: Call) -> Reply:
    parsed = await call.parse(vectors.parse_rerank)
    return plain_json_answer(
        vectors.encode_rerank(parsed, await embed.rerank(services, parsed.request, call.caller))
    )


async def _transcriptions(services: Services, call: Call) -> Reply:
    return await _transcribed(services, call, "transcribe")


async def _translations(services: Services, call: Call) -> Reply:
    return await _transcribed(services, call, "translate")


async def _transcribed(services: Services, call: Call, task: str) -> Reply:
    content_type = call.headers.get("content-type", "")
    parsed = await call.parse(lambda data: audio.parse(data, content_type, task))
    found = await transcription.transcribe(services, parsed.request, call.caller)
    content, media_type = audio.encode(parsed, found)
    return Response(content, media_type=media_type)


async def _models(services: Services, call: Call) -> Reply:
    """Anthropic's API has the same path: its clients send the header anthropic-version."""
    listed = await services.models.list()
    if "anthropic-version" in call.headers:
        return plain_json_answer(models.encode_anthropic_list(listed))
    return plain_json_answer(models.encode_list(listed))


async def _model(services: Services, call: Call) -> Reply:
    name = call.path["name"]
    return plain_json_answer(models.encode_model(name, await services.models.load(name)))


DIALECT = Dialect(
    (
        Path("/v1/chat/completions", "POST", _chat, "infer"),
        Path("/v1/completions", "POST", _completions, "infer"),
        Path("/v1/embeddings", "POST", _embeddings, "infer"),
        Path("/v1/rerank", "POST", _rerank, "infer"),
        Path("/rerank", "POST", _rerank, "infer"),
        Path("/v1/audio/transcriptions", "POST", _transcriptions, "infer"),
        Path("/v1/audio/translations", "POST", _translations, "infer"),
        Path("/v1/models", "GET", _models, "infer"),
        Path("/v1/models/{name:path}", "GET", _model, "infer"),
    ),
    wire.encode_error,
    error_type=PLAIN_JSON,
)

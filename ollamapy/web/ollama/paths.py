"""The paths of Ollama's API that use a model, and those about the daemon itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from msgspec.structs import replace
from starlette.responses import Response

from ...serving import answer as generate
from ...serving import embed
from ...serving.answer import Services
from ...types import Chunk, ToolCall
from ..call import Answer, Call, Path, describe, is_loopback, json_answer
from ..stream import Lines
from . import vectors as vectors
from . import wire as ollama


async def _root(services: Services, call: Call) -> Answer:
    return Response("Ollama is running", media_type="text/plain")


async def _version(services: Services, call: Call) -> Answer:
    settings = services.settings
    # a path tells the user's name, which is nobody's business elsewhere
    models = settings.paths.models if is_loopback(settings.address.host) else None
    return json_answer(ollama.encode_version(services.scheduler.busy + services.pulls.busy, models))


async def _status(services: Services, call: Call) -> Answer:
    return json_answer(ollama.encode_status())


async def _ps(services: Services, call: Call) -> Answer:
    return json_answer(ollama.encode_ps(services.scheduler.loaded()))


async def _generate(services: Services, call: Call) -> Answer:
    asked = ollama.parse_generate(call.body)
    name = asked.request.model
    if asked.render_only:
        rendered = await generate.render(services, asked.request)
        return json_answer(ollama.encode_rendered_generate(name, rendered))
    chunks = generate.answer(services, asked.request)
    return await _answered(chunks, partial(ollama.encode_generated, name), asked.stream)


async def _chat(services: Services, call: Call) -> Answer:
    asked = ollama.parse_chat(call.body)
    name = asked.request.model
    if asked.render_only:
        rendered = await generate.render(services, asked.request)
        return json_answer(ollama.encode_rendered_chat(name, rendered))
    chunks = _with_whole_calls(generate.answer(services, asked.request))
    return await _answered(chunks, partial(ollama.encode_chatted, name), asked.stream)


async def _embed(services: Services, call: Call) -> Answer:
    request = vectors.parse_embed(call.body)
    found = await embed.embed(services, request)
    return json_answer(await asyncio.to_thread(vectors.encode_embedded, request.model, found))


async def _embeddings(services: Services, call: Call) -> Answer:
    found = await embed.embed(services, vectors.parse_embeddings(call.body))
    return json_answer(vectors.encode_embeddings(found))


async def _rerank(services: Services, call: Call) -> Answer:
    asked = vectors.parse_rerank(call.body)
    return json_answer(vectors.encode_reranked(asked, await embed.rerank(services, asked.request)))


async def _tokenize(services: Services, call: Call) -> Answer:
    asked = vectors.parse_tokenize(call.body)
    tokens = await embed.tokenize(
        services,
        asked.model,
        asked.text,
        add_special=asked.add_special,
        options=asked.options,
        keep_alive=asked.keep_alive,
    )
    return json_answer(vectors.encode_tokens(asked.model, tokens))


async def _detokenize(services: Services, call: Call) -> Answer:
    asked = vectors.parse_detokenize(call.body)
    text = await embed.detokenize(
        services, asked.model, asked.tokens, options=asked.options, keep_alive=asked.keep_alive
    )
    return json_answer(vectors.encode_text(asked.model, text))


async def _cancel(services: Services, call: Call) -> Answer:
    services.running.cancel(call.path["id"])
    return json_answer(ollama.encode({"status": "success"}))


async def _with_whole_calls(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The chunks as Ollama's API has them: tool calls whole, with what comes next, and not in pieces."""
    calls: tuple[ToolCall, ...] = ()
    async with aclosing(chunks):
        async for chunk in chunks:
            calls += chunk.tool_calls
            if chunk.text or chunk.thinking or chunk.logprobs or chunk.finish_reason:
                yield replace(chunk, tool_deltas=(), tool_calls=calls)
                calls = ()


async def _answered(
    chunks: AsyncGenerator[Chunk, None], encode: Callable[[Chunk], bytes], stream: bool
) -> Answer:
    if stream:
        return Lines(chunks, encode, failed=last_line)
    return json_answer(encode(await generate.whole(chunks)))


def last_line(error: Exception) -> bytes:
    """The line that ends a stream that failed."""
    return ollama.encode_error(describe(error)[1])


def encode_error(status: int, message: str, code: str) -> bytes:
    """An error as Ollama's API has it: the status says the rest."""
    return ollama.encode_error(message)


PATHS = (
    Path("/", "GET", _root),
    Path("/api/version", "GET", _version),
    Path("/api/status", "GET", _status),
    Path("/api/ps", "GET", _ps),
    Path("/api/generate", "POST", _generate),
    Path("/api/chat", "POST", _chat),
    Path("/api/embed", "POST", _embed),
    Path("/api/embeddings", "POST", _embeddings),
    Path("/api/rerank", "POST", _rerank),
    Path("/api/tokenize", "POST", _tokenize),
    Path("/api/detokenize", "POST", _detokenize),
    Path("/api/cancel/{id:path}", "POST", _cancel),
)

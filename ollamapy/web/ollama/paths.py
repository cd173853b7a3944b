"""The paths of Ollama's API that use a model, and those of the daemon itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import partial

from msgspec.structs import replace

from ...machine import free_memory, total_memory
from ...secret import NONCE, PROOF, proof, read_secret
from ...serving import answer, embed
from ...serving.services import Services
from ...types import Chunk, ToolCall
from ..call import Call, Path, Reply, describe, is_loopback, json_answer
from ..stream import Lines
from . import vectors, wire


async def _health(services: Services, call: Call) -> Reply:
    return json_answer(wire.encode({"status": "ok"}))


async def _version(services: Services, call: Call) -> Reply:
    settings = services.settings
    # the path contains the user's name: only callers on this machine get it
    models = settings.paths.models if is_loopback(settings.address.host) else None
    reply = json_answer(
        wire.encode_version(services.scheduler.busy + len(services.jobs.list()), models)
    )
    if nonce := call.headers.get(NONCE):
        secret = await asyncio.to_thread(read_secret, settings.paths.secret)
        with suppress(ValueError):  # an invalid nonce gets no proof
            if secret is not None:
                reply.headers[PROOF] = proof(secret, "daemon", nonce, call.server)
    return reply


async def _status(services: Services, call: Call) -> Reply:
    return json_answer(wire.encode_status())


async def _ps(services: Services, call: Call) -> Reply:
    free, total = await asyncio.to_thread(lambda: (free_memory(), total_memory()))
    return json_answer(wire.encode_ps(services.scheduler.loaded(), free, total))


async def _generate(services: Services, call: Call) -> Reply:
    parsed = await call.parse(wire.parse_generate)
    name = parsed.request.model
    if parsed.render_only:
        rendered = await answer.render(services, parsed.request, call.caller)
        return json_answer(wire.encode_rendered_generate(name, rendered))
    chunks = answer.answer(services, parsed.request, call.caller)
    return await _answered(chunks, partial(wire.encode_generate, name), parsed)


async def _chat(services: Services, call: Call) -> Reply:
    parsed = await call.parse(wire.parse_chat)
    name = parsed.request.model
    if parsed.render_only:
        rendered = await answer.render(services, parsed.request, call.caller)
        return json_answer(wire.encode_rendered_chat(name, rendered))
    chunks = _with_complete_calls(answer.answer(services, parsed.request, call.caller))
    return await _answered(chunks, partial(wire.encode_chat, name), parsed)


async def _embed(services: Services, call: Call) -> Reply:
    request = await call.parse(vectors.parse_embed)
    found = await embed.embed(services, request, call.caller)
    return json_answer(await asyncio.to_thread(vectors.encode_embed, request.model, found))


async def _embeddings(services: Services, call: Call) -> Reply:
    found = await embed.embed(services, await call.parse(vectors.parse_embeddings), call.caller)
    return json_answer(vectors.encode_embeddings(found))


async def _rerank(services: Services, call: Call) -> Reply:
    parsed = await call.parse(vectors.parse_rerank)
    return json_answer(
        vectors.encode_rerank(parsed, await embed.rerank(services, parsed.request, call.caller))
    )


async def _tokenize(services: Services, call: Call) -> Reply:
    request = await call.parse(vectors.parse_tokenize)
    tokens = await embed.tokenize(services, request, call.caller)
    return json_answer(vectors.encode_tokens(request.model, tokens))


async def _detokenize(services: Services, call: Call) -> Reply:
    request = await call.parse(vectors.parse_detokenize)
    text = await embed.detokenize(services, request, call.caller)
    return json_answer(vectors.encode_text(request.model, text))


async def _cancel(services: Services, call: Call) -> Reply:
    services.requests.cancel(call.path["id"])
    return json_answer(wire.encode({"status": "success"}))


async def _with_complete_calls(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The chunks as Ollama's API has them: complete tool calls, together with the next text or thinking, and no pieces."""
    calls: tuple[ToolCall, ...] = ()
    async with aclosing(chunks):
        async for chunk in chunks:
            calls += chunk.tool_calls
            if chunk.waiting:
                yield chunk
            elif chunk.text or chunk.thinking or chunk.logprobs or chunk.finish_reason:
                yield replace(chunk, tool_deltas=(), tool_calls=calls)
                calls = ()


async def _answered(
    chunks: AsyncGenerator[Chunk, None],
    encode: Callable[[Chunk], bytes],
    parsed: wire.ParsedRequest,
) -> Reply:
    if parsed.stream:
        failed = _last_line_with_status if parsed.request.progress else last_line
        return Lines(chunks, encode, failed)
    return json_answer(encode(await answer.collect(chunks)))


def last_line(error: Exception) -> bytes:
    """The line that ends a stream that failed."""
    return wire.encode_error(describe(error)[1])


def _last_line_with_status(error: Exception) -> bytes:
    status, message, _ = describe(error)
    return wire.encode_error(message, status)


def encode_error(status: int, message: str, code: str) -> bytes:
    """An error in the shape of Ollama's API, which has neither status nor code."""
    return wire.encode_error(message)


PATHS = (
    Path("/health", "GET", _health, "infer"),
    Path("/api/version", "GET", _version, "infer"),
    Path("/api/status", "GET", _status, "infer"),
    Path("/api/ps", "GET", _ps, "infer"),
    Path("/api/generate", "POST", _generate, "infer"),
    Path("/api/chat", "POST", _chat, "infer"),
    Path("/api/embed", "POST", _embed, "infer"),
    Path("/api/embeddings", "POST", _embeddings, "infer"),
    Path("/api/rerank", "POST", _rerank, "infer"),
    Path("/api/tokenize", "POST", _tokenize, "infer"),
    Path("/api/detokenize", "POST", _detokenize, "infer"),
    Path("/api/cancel/{id:path}", "POST", _cancel, "infer"),
)

"""The HTTP application: which path does what, and the one place where errors become answers.

What requests say is read and written by the dialects in ``api/``; what is done for them, by ``generate`` and ``models``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ModelNotFound, OllamapyError, RequestCancelled, ServerBusy
from ..types import Chunk, Progress, ToolCall
from . import blobs, embed, generate
from .api import embed as vectors
from .api import ollama, openai, stored
from .api.body import BodyTooLarge, BodyTooSlow
from .api.create import parse_create
from .api.stream import Lines, body_parts, read_body, until_gone
from .create import create
from .gate import Gate
from .generate import Services
from .pull import PullRequest
from .push import push

log = logging.getLogger(__name__)

JSON = "application/json; charset=utf-8"

Answer = Response | Lines[Chunk] | Lines[Progress]


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``body`` is read whole but where a route takes it in ``parts``; ``path`` holds what the path's blanks are.

    ``is_local``: it comes from this machine.
    """

    body: bytes
    headers: Headers
    path: Mapping[str, str]
    is_local: bool
    parts: AsyncIterator[bytes]


Handler = Callable[[Services, Call], Awaitable[Answer]]


def create_app(services: Services) -> ASGIApp:
    """The ASGI application. It has no lifespan: who made the services closes them."""
    routes = [
        _route("/", ["GET"], _root, services),
        _route("/api/version", ["GET"], _version, services),
        _route("/api/tags", ["GET"], _tags, services),
        _route("/api/ps", ["GET"], _ps, services),
        _route("/api/show", ["POST"], _show, services),
        _route("/api/delete", ["DELETE"], _delete, services),
        _route("/api/create", ["POST"], _create, services),
        _route("/api/pull", ["POST"], _pull, services),
        _route("/api/push", ["POST"], _push, services),
        _route("/api/copy", ["POST"], _copy, services),
        _route("/api/blobs/{digest}", ["HEAD"], _has_blob, services),
        _route("/api/blobs/{digest}", ["POST"], _receive_blob, services, in_parts=True),
        _route("/api/generate", ["POST"], _generate, services),
        _route("/api/chat", ["POST"], _chat, services),
        _route("/api/embed", ["POST"], _embed, services),
        _route("/api/embeddings", ["POST"], _embeddings, services),
        _route("/api/rerank", ["POST"], _rerank, services),
        _route("/api/tokenize", ["POST"], _tokenize, services),
        _route("/api/detokenize", ["POST"], _detokenize, services),
        _route("/v1/chat/completions", ["POST"], _openai_chat, services),
    ]
    if services.settings.serves_models:
        tags, files = (
            "/v2/{repository:path}/manifests/{tag}",
            "/v2/{repository:path}/blobs/{digest}",
        )
        routes.append(_route(tags, ["GET"], _served_manifest, services))
        routes.append(_route(files, ["GET"], _served_blob, services))
    app = Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_route})
    return Gate(
        app,
        origins=services.settings.origins,
        check_host=is_loopback(services.settings.address.host),
    )


def is_loopback(host: str) -> bool:
    """Does an address to bind to mean this machine only?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- what each path does ---------------------------------------------------------------------------------------------


async def _root(services: Services, call: Call) -> Answer:
    return Response("Ollama is running", media_type="text/plain")


async def _version(services: Services, call: Call) -> Answer:
    settings = (
        services.settings
    )  # a path tells the user's name, which is nobody's business elsewhere
    models = settings.paths.models if is_loopback(settings.address.host) else None
    return _json(ollama.encode_version(services.scheduler.busy + services.pulls.busy, models))


async def _tags(services: Services, call: Call) -> Answer:
    return _json(ollama.encode_tags(await services.models.list()))


async def _ps(services: Services, call: Call) -> Answer:
    return _json(ollama.encode_ps(services.scheduler.loaded()))


async def _show(services: Services, call: Call) -> Answer:
    asked = ollama.parse_show(call.body)
    shown = await services.models.show(
        asked.model,
        verbose=asked.verbose,
        system=asked.system,
        options=asked.options,
        user_agent=call.headers.get("user-agent", ""),
    )
    return _json(ollama.encode(shown))


async def _delete(services: Services, call: Call) -> Answer:
    text, name = stored.parse_delete(call.body)
    try:
        await asyncio.to_thread(services.models.store.delete, name)
    except ModelNotFound:
        raise ModelNotFound(f"model '{text}' not found") from None
    return Response()


async def _copy(services: Services, call: Call) -> Answer:
    text, source, destination = stored.parse_copy(call.body)
    try:
        await asyncio.to_thread(services.models.store.copy, source, destination)
    except ModelNotFound:
        raise ModelNotFound(f'model "{text}" not found') from None
    return Response()


async def _pull(services: Services, call: Call) -> Answer:
    asked = stored.parse_pull(call.body, is_local=call.is_local)
    return await _stepped(services.pulls.pull(asked.request), asked.stream)


async def _push(services: Services, call: Call) -> Answer:
    asked = stored.parse_push(call.body, is_local=call.is_local)
    return await _stepped(push(services.models.store, asked.request), asked.stream)


async def _has_blob(services: Services, call: Call) -> Answer:
    found = await asyncio.to_thread(services.models.store.has, call.path["digest"])
    return Response() if found else Response(status_code=404, media_type=JSON)


async def _receive_blob(services: Services, call: Call) -> Answer:
    length = call.headers.get("content-length", "")
    size = int(length) if length.isdigit() else None
    new = await blobs.receive(services.models.store, call.path["digest"], call.parts, size)
    return Response(status_code=201 if new else 200)


async def _served_manifest(services: Services, call: Call) -> Answer:
    find = partial(blobs.served_manifest, services.models.store)
    content, digest = await asyncio.to_thread(find, call.path["repository"], call.path["tag"])
    headers = {"Docker-Content-Digest": f"sha256:{digest}"}
    return Response(content, headers=headers, media_type=blobs.MANIFEST_TYPE)


async def _served_blob(services: Services, call: Call) -> Answer:
    find = partial(blobs.served_blob, services.models.store)
    path = await asyncio.to_thread(find, call.path["repository"], call.path["digest"])
    return FileResponse(path, media_type="application/octet-stream")


async def _create(services: Services, call: Call) -> Answer:
    asked = parse_create(call.body)

    def pull(name: str) -> AsyncGenerator[Progress, None]:
        return services.pulls.pull(PullRequest(name))

    steps = create(services.models.store, services.renderer, pull, asked.request)
    return await _stepped(steps, asked.stream)


async def _stepped(steps: AsyncGenerator[Progress, None], stream: bool) -> Answer:
    """What is done step by step: every step as a line, or the last one alone, whose type Ollama writes without a charset."""
    if stream:
        return Lines(steps, ollama.encode, failed=_last_line)
    try:
        async with aclosing(steps):
            *_, last = [step async for step in steps]
    except OllamapyError as error:
        return Response(_last_line(error), error.status, media_type="application/json")
    return Response(ollama.encode(last), media_type="application/json")


async def _generate(services: Services, call: Call) -> Answer:
    asked = ollama.parse_generate(call.body)
    name = asked.request.model
    if asked.render_only:
        rendered = await generate.render(services, asked.request)
        return _json(ollama.encode_rendered_generate(name, rendered))
    chunks = generate.answer(services, asked.request)
    return await _answered(chunks, partial(ollama.encode_generated, name), asked.stream)


async def _chat(services: Services, call: Call) -> Answer:
    asked = ollama.parse_chat(call.body)
    name = asked.request.model
    if asked.render_only:
        rendered = await generate.render(services, asked.request)
        return _json(ollama.encode_rendered_chat(name, rendered))
    chunks = _with_whole_calls(generate.answer(services, asked.request))
    return await _answered(chunks, partial(ollama.encode_chatted, name), asked.stream)


async def _openai_chat(services: Services, call: Call) -> Answer:
    asked = openai.parse_chat(call.body)
    chunks = generate.answer(services, asked.request)
    answer = openai.ChatAnswer(asked.request.model, asked.include_usage)
    if asked.stream:
        return Lines(
            chunks,
            answer.frames,
            failed=lambda error: openai.frame(openai.encode_error(*_describe(error))),
            media_type=b"text/event-stream",
            ending=openai.frame(b"[DONE]"),
        )
    async with aclosing(chunks):
        whole = answer.whole(generate.merge([chunk async for chunk in chunks]))
    return Response(whole, media_type="application/json")


async def _with_whole_calls(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The chunks as Ollama's API has them: tool calls whole, with what comes next, and not in pieces."""
    calls: tuple[ToolCall, ...] = ()
    async with aclosing(chunks):
        async for chunk in chunks:
            calls += chunk.tool_calls
            if chunk.text or chunk.thinking or chunk.logprobs or chunk.finish_reason:
                yield replace(chunk, tool_deltas=(), tool_calls=calls)
                calls = ()


async def _embed(services: Services, call: Call) -> Answer:
    request = vectors.parse_embed(call.body)
    found = await embed.embed(services, request)
    return _json(await asyncio.to_thread(vectors.encode_embedded, request.model, found))


async def _embeddings(services: Services, call: Call) -> Answer:
    found = await embed.embed(services, vectors.parse_embeddings(call.body))
    return _json(vectors.encode_embeddings(found))


async def _rerank(services: Services, call: Call) -> Answer:
    asked = vectors.parse_rerank(call.body)
    return _json(vectors.encode_reranked(asked, await embed.rerank(services, asked.request)))


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
    return _json(vectors.encode_tokens(asked.model, tokens))


async def _detokenize(services: Services, call: Call) -> Answer:
    asked = vectors.parse_detokenize(call.body)
    text = await embed.detokenize(
        services, asked.model, asked.tokens, options=asked.options, keep_alive=asked.keep_alive
    )
    return _json(vectors.encode_text(asked.model, text))


async def _answered(
    chunks: AsyncGenerator[Chunk, None], encode: Callable[[Chunk], bytes], stream: bool
) -> Answer:
    if stream:
        return Lines(chunks, encode, failed=_last_line)
    async with aclosing(chunks):
        return _json(encode(generate.merge([chunk async for chunk in chunks])))


def _json(body: bytes) -> Response:
    return Response(body, media_type=JSON)


# ---- one request -----------------------------------------------------------------------------------------------------


class Endpoint:
    """ASGI app of one route: read the body, do the work while the client is there, answer, also when it fails.

    ``in_parts``: the handler reads the body as it comes, and with it that the client has left.
    """

    def __init__(self, services: Services, handle: Handler, in_parts: bool = False) -> None:
        self._services = services
        self._handle = handle
        self._in_parts = in_parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. An error after the answer began is not for us: its stream says it."""
        started = time.monotonic()
        status = 0

        async def watched_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            body = b"" if self._in_parts else await read_body(receive)
            call = Call(
                body,
                Headers(scope=scope),
                scope["path_params"],
                _is_local(scope),
                body_parts(receive),
            )
            answering = self._respond(call, scope, receive, watched_send)
            await (answering if self._in_parts else until_gone(receive, answering))
        except RequestCancelled as error:
            status = error.status
        except asyncio.CancelledError:
            log.warning("the daemon ends, and a request has not: it is broken off")
        except Exception as error:
            if status:  # the answer had begun, and not even its last line could be written
                raise
            is_openai = scope["path"].startswith("/v1/")
            await _failure(error, is_openai)(scope, receive, watched_send)
        level = logging.INFO if scope["method"] == "POST" else logging.DEBUG
        log.log(
            level,
            "%s %s %d in %.3f s",
            scope["method"],
            scope["path"],
            status,
            time.monotonic() - started,
        )

    async def _respond(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._handle(self._services, call)
        await answer(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    client = scope.get("client")
    return client is not None and is_loopback(client[0])


def _route(
    path: str, methods: list[str], handle: Handler, services: Services, *, in_parts: bool = False
) -> Route:
    return Route(path, Endpoint(services, handle, in_parts), methods=methods)


# ---- errors ----------------------------------------------------------------------------------------------------------


def _describe(error: Exception) -> tuple[int, str]:
    """Status and message for an error. What nobody foresaw is told to the log, not to the client."""
    if isinstance(error, OllamapyError):
        return error.status, str(error)
    log.error("a request failed in a way that nobody foresaw", exc_info=error)
    return 500, "internal error, see the daemon's log: ollamapy daemon logs"


def _failure(error: Exception, is_openai: bool) -> Response:
    status, message = _describe(error)
    headers = {}
    if isinstance(error, ServerBusy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, BodyTooLarge | BodyTooSlow):  # what is left of it may never come
        headers["Connection"] = "close"
    said = openai.encode_error(status, message) if is_openai else ollama.encode_error(message)
    return Response(said, status, headers, JSON)


def _last_line(error: Exception) -> bytes:
    return ollama.encode_error(_describe(error)[1])


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "404 page not found", 405: "405 method not allowed"}[error.status_code]
    headers = {**(error.headers or {}), "Content-Type": "text/plain"}
    return Response(text, error.status_code, headers)

"""The HTTP application: its paths, the handling of one request from its body to its end, and errors as responses.

Each dialect's folder has the handlers of its paths, and reads and writes its wire format.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Forbidden, RequestCancelled, ServerBusy, code_of
from ..request import Caller
from ..serving.requests import Cancellation, id_for
from ..serving.services import Services
from . import description
from .anthropic import paths as anthropic_paths
from .body import AnnouncedTooLarge, BodyTooLarge, BodyTooSlow, Misread
from .call import JSON, Call, Dialect, Path, describe, is_loopback
from .chats import paths as chat_paths
from .gate import Gate
from .models import paths as models_paths
from .ollama import model_paths
from .ollama import paths as ollama_paths
from .openai import paths as openai_paths
from .openai import response_paths
from .page import paths as page_paths
from .requests import paths as requests_paths
from .stream import (
    Body,
    BodyBudget,
    Lines,
    before_the_rest,
    body_parts,
    check_announced,
    read_body,
    until_gone,
)

log = logging.getLogger(__name__)


_SHOWN_PATH = 200  # characters of an unknown path in the log

ID_HEADER = "X-Request-Id"
"""The header with a request's id, which its client may choose."""


Identify = Callable[[Scope, str], Caller]
"""The caller of a request, from its scope and its id."""


def everyone(scope: Scope, id: str) -> Caller:
    """The caller of a request to a daemon without keys, with all rights."""
    client = scope.get("client")
    return Caller(id, is_local=client is not None and is_loopback(client[0]))


def create_app(services: Services, identify: Identify = everyone) -> ASGIApp:
    """The ASGI application. It has no lifespan: the code that made the services closes them."""
    served = model_paths.SERVED_PATHS if services.settings.serves_models else ()
    dialects = (
        Dialect(
            page_paths.PATHS + ollama_paths.PATHS + model_paths.PATHS + served,
            ollama_paths.encode_error,
        ),
        openai_paths.DIALECT,
        response_paths.DIALECT,
        anthropic_paths.DIALECT,
        models_paths.DIALECT,
        chat_paths.DIALECT,
        requests_paths.DIALECT,
    )
    budget = BodyBudget()
    routes = [
        Route(path.path, Endpoint(services, path, dialect, identify, budget), methods=[path.method])
        for dialect in (*dialects, description.openapi_dialect(dialects))
        for path in dialect.paths
    ]
    app = Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_route})
    app.router.redirect_slashes = False
    return Gate(
        _plain_paths(app),
        origins=services.settings.origins,
        host=services.settings.address.host,
        is_local=is_loopback(services.settings.address.host),
    )


def _plain_paths(app: ASGIApp) -> ASGIApp:
    """Serve a path with a slash at its end, or with several in a row, as the one without: clients join addresses carelessly."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = re.sub(r"/{2,}", "/", scope["path"])
            scope = {**scope, "path": path.rstrip("/") or "/"}
        await app(scope, receive, send)

    return served


class Endpoint:
    """The ASGI app of one path: check the caller, read the body, run the handler while the client is connected, send the reply
    or the error."""

    def __init__(
        self,
        services: Services,
        path: Path,
        dialect: Dialect,
        identify: Identify,
        budget: BodyBudget,
    ) -> None:
        self._services = services
        self._path = path
        self._dialect = dialect
        self._identify = identify
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. An error after the reply has begun is written by its stream."""
        started = time.monotonic()
        status = 0
        call: Call | None = None
        headers = Headers(scope=scope)
        id = id_for(headers.get(ID_HEADER, ""))

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[ID_HEADER] = id
            await send(message)
            status = message.get("status", status)

        try:
            call = await self._received(scope, receive, headers, id)
            with self._services.requests.entered(id) as cancellation:
                work = self._respond(call, cancellation, scope, receive, watched_send)
                await (work if self._path.in_parts else until_gone(receive, work))
        except RequestCancelled as error:
            status = error.status
        except asyncio.CancelledError:
            log.warning("the daemon is stopping: a request in flight was aborted")
        except Exception as error:
            if status:  # the reply has begun, and its last line could not be written
                raise
            response = _error_response(error, self._dialect)
            early = isinstance(error, AnnouncedTooLarge)
            to = before_the_rest(receive, watched_send) if early else watched_send
            await response(scope, receive, to)
        finally:
            if call is not None:
                call.body.forget()
        _log(scope["method"], scope["path"], status, time.monotonic() - started)

    async def _received(self, scope: Scope, receive: Receive, headers: Headers, id: str) -> Call:
        """The request with its body, unless the path takes it in parts. Raises Forbidden and what `read_body` raises."""
        caller = self._identify(scope, id)
        if self._path.right not in caller.rights:
            raise Forbidden(f"this needs the right to {self._path.right}")
        body = Body()
        if not self._path.in_parts:
            check_announced(headers)
            body = await read_body(receive, self._budget)
        server = tuple(scope.get("server") or ("", 0))
        query = QueryParams(scope.get("query_string", b""))
        parts = body_parts(receive)
        return Call(body, headers, scope["path_params"], caller, parts, server, query)

    async def _respond(
        self,
        call: Call,
        cancellation: Cancellation,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        with cancellation.within():
            reply = await self._path.handle(self._services, call)
        if isinstance(reply, Lines):
            reply.cancellation = cancellation
        await reply(scope, receive, send)


def _log(method: str, path: str, status: int, seconds: float) -> None:
    """A line for a request that has ended."""
    level = logging.INFO if method == "POST" else logging.DEBUG
    log.log(level, "%s %s %d in %.3f s", method, path, status, seconds)


def _error_response(error: Exception, dialect: Dialect) -> Response:
    headers = {}
    if isinstance(error, ServerBusy):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(
        error, BodyTooLarge | BodyTooSlow | ServerBusy
    ):  # the rest of its body may never arrive
        headers["Connection"] = "close"
    status, message, code = describe(error)
    if dialect.has_codes:
        code = code_of(error)
    media_type = JSON if isinstance(error, Misread) else dialect.error_type
    return Response(dialect.encode_error(status, message, code), status, headers, media_type)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = {404: "404 page not found", 405: "405 method not allowed"}[error.status_code]
    path = request.scope["path"]
    log.info("%s %s %d", request.method, path[:_SHOWN_PATH], error.status_code)
    headers = {**(error.headers or {}), "Content-Type": "text/plain"}
    return Response(text, error.status_code, headers)

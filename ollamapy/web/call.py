"""What every dialect's handlers share: the request as they get it, the answers they give, and how an error is told."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.responses import Response

from ..errors import OllamapyError
from ..serving.services import Services
from ..types import Caller, Chunk, Progress, Right
from .stream import Body, Lines

log = logging.getLogger(__name__)

JSON = "application/json; charset=utf-8"
"""The type of Ollama's own answers."""
PLAIN_JSON = "application/json"
"""Without a charset: the type of the other APIs, and of what Ollama says at the end of pulls and the like."""

Reply = Response | Lines[Chunk] | Lines[tuple[int, Chunk]] | Lines[Progress]


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call:
    """A request as its handler gets it. ``body`` is empty where the path takes it in ``parts``; ``path`` holds the values of the
    path's placeholders, ``server`` the host and port of this end of the connection.
    """

    body: Body
    headers: Headers
    path: Mapping[str, str]
    caller: Caller
    parts: AsyncIterator[bytes]
    server: tuple[str, int] = ("", 0)

    async def parse(self, parse: Callable[[bytes], Result]) -> Result:
        """What ``parse`` makes of the body; once."""
        return await self.body.parse(parse)


Handler = Callable[[Services, Call], Awaitable[Reply]]


EncodeError = Callable[[int, str, str], bytes]
"""An error in the shape of an API, from its status, its message and its code (errors.py)."""


@dataclass(frozen=True, slots=True)
class Path:
    """What is done for the requests to one path, and the right that a caller needs for it. ``in_parts``: the handler reads the
    body as it comes."""

    path: str
    method: str
    handle: Handler
    right: Right
    in_parts: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """The paths of one API, and how it writes an error; ``error_type`` is the type of errors other than a Misread."""

    paths: tuple[Path, ...]
    encode_error: EncodeError
    error_type: str = JSON


def describe(error: Exception) -> tuple[int, str, str]:
    """Status, message and code for an error. What nobody foresaw is told to the log, not to the client."""
    if isinstance(error, OllamapyError):
        return error.status, str(error), error.code
    log.error("a request failed in a way that nobody foresaw", exc_info=error)
    return 500, "internal error, see the daemon's log: ollamapy daemon logs", ""


def json_answer(body: bytes) -> Response:
    """An answer with the type that Ollama's API gives."""
    return Response(body, media_type=JSON)


def plain_json_answer(body: bytes) -> Response:
    """An answer with the type that the other APIs give."""
    return Response(body, media_type=PLAIN_JSON)


def is_loopback(host: str) -> bool:
    """Does an address to bind to mean this machine only?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""What the handlers of all dialects share: the call that they get, the replies that they return, and errors."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import Headers
from starlette.responses import Response

from ..errors import INTERNAL, OllamapyError
from ..request import Caller, Right
from ..serving.chats.events import Event
from ..serving.services import Services
from ..types import Chunk, Progress
from .stream import Body, Lines

log = logging.getLogger(__name__)

JSON = "application/json; charset=utf-8"
"""The media type of Ollama's answers."""
PLAIN_JSON = "application/json"
"""Without a charset: the media type of the other APIs, and of Ollama's last object of pulls, pushes and creations."""

Reply = (
    Response
    | Lines[Chunk]
    | Lines[tuple[int, Chunk]]
    | Lines[Progress]
    | Lines[Event]
    | Lines[bytes]
    | Lines[list[dict[str, Any]]]
)


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call:
    """A request as its handler gets it. ``body`` is empty if the path reads it in ``parts``; ``path`` has the values of the
    path's placeholders, ``query`` the parameters after its question mark (of equal ones the last; see query.py), ``server`` is
    the host and port of the daemon's end of the connection.
    """

    body: Body
    headers: Headers
    path: Mapping[str, str]
    caller: Caller
    parts: AsyncIterator[bytes]
    server: tuple[str, int] = ("", 0)
    query: Mapping[str, str] = field(default_factory=dict)

    async def parse(self, parse: Callable[[bytes], Result]) -> Result:
        """The body, parsed by ``parse``; call it once."""
        return await self.body.parse(parse)


Handler = Callable[[Services, Call], Awaitable[Reply]]


EncodeError = Callable[[int, str, str], bytes]
"""An error in the shape of an API, from its status, its message and its code (errors.py)."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path with its handler, and the right that a caller needs for it. ``in_parts``: the handler reads the body while it
    arrives."""

    path: str
    method: str
    handle: Handler
    right: Right
    in_parts: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """The paths of one API, and how it encodes an error; ``error_type`` is the media type of errors other than Misread.
    ``has_codes``: every error has a code (errors.code_of)."""

    paths: tuple[Path, ...]
    encode_error: EncodeError
    error_type: str = JSON
    has_codes: bool = False


def describe(error: Exception) -> tuple[int, str, str]:
    """Status, message and code of an error. An unexpected one is logged; the client gets no details of it."""
    if isinstance(error, OllamapyError):
        return error.status, str(error), error.code
    log.error("a request failed with an unexpected error", exc_info=error)
    return 500, INTERNAL, ""


def encode_coded_error(status: int, message: str, code: str) -> bytes:
    """An error of the paths that no other API has: Ollama's shape, with our code where the error has one."""
    return msgspec.json.encode({"error": message, **({"code": code} if code else {})})


def json_answer(body: bytes, status: int = 200) -> Response:
    """An answer with the media type of Ollama's API."""
    return Response(body, status, media_type=JSON)


def plain_json_answer(body: bytes) -> Response:
    """An answer with the media type of the other APIs."""
    return Response(body, media_type=PLAIN_JSON)


def is_loopback(host: str) -> bool:
    """Is an address, or a host to listen at, of this machine only?

    A socket for both families writes 127.0.0.1 as ::ffff:127.0.0.1.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

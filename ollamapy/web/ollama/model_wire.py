"""Requests about stored models: pull, push, copy, delete. From JSON to values; pure.

Besides Ollama's fields, a pull has `from`, `limit_rate` (bytes a second), `connections`, `force`, `background`, and `hub`: the
caller's endpoint, token and offline switch. `hub` is accepted from this machine only, and never logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ...config import DEFAULT_ENDPOINT, HubSettings
from ...errors import InvalidName, InvalidRequest
from ...models.pull import PullRequest
from ...models.push import PushRequest
from ...names import Name
from ...registry.limits import MAX_CONNECTIONS, Limits
from .. import body

PULL_FIELDS = {
    "model": "string", "name": "string", "insecure": "bool", "stream": "bool", "from": "string", "limit_rate": "int",
    "connections": "int", "force": "bool", "background": "bool", "hub": "map[string]interface {}",
}  # fmt: skip
PUSH_FIELDS = {
    "model": "string", "name": "string", "insecure": "bool", "stream": "bool", "username": "string", "password": "string",
    "hub": "map[string]interface {}",
}  # fmt: skip
COPY_FIELDS = {"source": "string", "destination": "string"}
DELETE_FIELDS = {"model": "string", "name": "string"}
_HUB = {"endpoint": "string", "token": "string", "offline": "bool"}


Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class ParsedJob(Generic[Request]):
    """The request of a pull, a push or a creation, and whether its steps are streamed; ``background``: it is answered at once
    with the job, which goes on by itself."""

    request: Request
    stream: bool
    background: bool = False


def parse_pull(data: bytes, *, is_local: bool) -> ParsedJob[PullRequest]:
    """The body of /api/pull; `is_local`: it comes from this machine. Raises InvalidRequest."""
    given = body.fields(body.decode(data), PULL_FIELDS, "PullRequest")
    connections, rate = given.get("connections", 0), given.get("limit_rate", 0)
    if not 0 <= connections <= MAX_CONNECTIONS:
        raise InvalidRequest(f"connections must be between 1 and {MAX_CONNECTIONS}")
    if rate < 0:
        raise InvalidRequest("limit_rate is in bytes a second, 0 for none")
    limits = Limits(connections or Limits().connections, rate, given.get("force", False))
    request = PullRequest(
        model=body.model_name(given),
        insecure=given.get("insecure", False),
        via=given.get("from", ""),
        hub=_hub(given.get("hub"), is_local),
        limits=limits,
        is_local=is_local,
    )
    return ParsedJob(request, given.get("stream", True), given.get("background", False))


def parse_push(data: bytes, *, is_local: bool) -> ParsedJob[PushRequest]:
    """The body of /api/push; `is_local`: it comes from this machine. Raises InvalidRequest, InvalidName."""
    given = body.fields(body.decode(data), PUSH_FIELDS, "PushRequest")
    request = PushRequest(
        model=body.model_name(given),
        insecure=given.get("insecure", False),
        user=given.get("username", ""),
        password=given.get("password", ""),
        hub=_hub(given.get("hub"), is_local),
        is_local=is_local,
    )
    Name.parse(request.model)
    return ParsedJob(request, given.get("stream", True))


def _hub(value: Mapping[str, Any] | None, is_local: bool) -> HubSettings | None:
    if value is None:
        return None
    if not is_local:
        raise InvalidRequest("hub is taken from this machine only, leave it out")
    given = body.fields(value, _HUB, "PullRequest", "hub")
    return HubSettings(
        endpoint=given.get("endpoint", "").rstrip("/") or DEFAULT_ENDPOINT,
        token=given.get("token", ""),
        offline=given.get("offline", False),
    )


def parse_copy(data: bytes) -> tuple[str, Name, Name]:
    """The body of /api/copy: the source as written, the source, the destination. Raises InvalidRequest."""
    given = body.fields(body.decode(data), COPY_FIELDS, "CopyRequest")
    source, destination = given.get("source", ""), given.get("destination", "")
    return source, _name(source, "source"), _name(destination, "destination")


def parse_delete(data: bytes) -> tuple[str, Name]:
    """The body of /api/delete: a model's name as written, and the name. Raises InvalidRequest."""
    text = body.model_name(body.fields(body.decode(data), DELETE_FIELDS, "DeleteRequest"))
    return text, _name(text, "name")


def _name(text: str, what: str) -> Name:
    try:
        return Name.parse(text)
    except InvalidName:
        shown = ascii(text if len(text) <= 80 else text[:77] + "...")[1:-1]
        raise InvalidRequest(f'{what} "{shown}" is invalid') from None

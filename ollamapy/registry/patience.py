"""Request with retries: broken connections are retried, busy servers waited for."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RequestCancelled, TransferError
from .addresses import host_of
from .http import RETRYABLE, BrokenConnection, Response, Session
from .refusal import busy, retry_after, unreachable

MAX_JSON = 32 * 2**20
"""Bytes: a listing of a hundred thousand files."""

_BROKEN_TRIES = 3  # of a metadata request on a broken connection
_BUSY_TRIES = 5  # on a busy server


@dataclass(frozen=True, slots=True)
class Patience:
    """How to wait: `cancelled` interrupts it, `notify` gets the reason. Tests pass their own clock. A server that is busy for
    more than `longest` seconds is not waited for.

    `wait(event, seconds)` returns whether the event was set, as `threading.Event.wait` does.
    """

    cancelled: threading.Event = field(default_factory=threading.Event)
    wait: Callable[[threading.Event, float], bool] = threading.Event.wait
    now: Callable[[], float] = time.monotonic
    notify: Callable[[str], None] = lambda _: None
    longest: float = 15 * 60.0  # the hub's windows are 5 minutes long

    def pause(self, seconds: float, why: str) -> None:
        """Report why, and wait. Raises RequestCancelled."""
        self.notify(why)
        if self.wait(self.cancelled, seconds):
            raise RequestCancelled("cancelled")


def ask(
    session: Session,
    url: str,
    patience: Patience,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Send a GET request; retries broken connections and waits for busy servers.

    Raises Offline, RateLimited, TransferError, RequestCancelled.
    """
    host = host_of(url)
    for number in range(1, _BUSY_TRIES + 1):
        try:
            response = session.open(url, headers=headers)
        except BrokenConnection as error:
            if error.hopeless or number >= _BROKEN_TRIES:
                raise unreachable(host, str(error)) from None
            patience.pause(backoff(number - 1), f"waiting for {host}: {error}")
            continue
        if response.status not in RETRYABLE or number == _BUSY_TRIES:
            return response
        given = retry_after(response.headers)
        seconds = backoff(number - 1) if given is None else given
        if seconds > patience.longest:
            return response
        response.drain()
        patience.pause(seconds, busy(host, response.status, seconds))
    raise AssertionError("the last try returns")


def ask_json(
    session: Session,
    url: str,
    patience: Patience,
    *,
    limit: int = MAX_JSON,
    headers: Mapping[str, str] | None = None,
) -> tuple[Response, Any]:
    """A response and, if its status is 200, its JSON value. Raises as `ask` does."""
    response = ask(session, url, patience, headers=headers)
    if response.status != 200:
        return response, None
    try:
        content = response.content(limit)
    except BrokenConnection as error:
        raise unreachable(host_of(url), str(error)) from None
    try:
        return response, json.loads(content)
    except (ValueError, RecursionError):
        html = content.lstrip()[:1] == b"<"
        what = "a web page" if html else "something that is not JSON"
        raise TransferError(
            f"{host_of(url)} answers with {what}: is it the right address, and is there a login page"
            " or a proxy between?"
        ) from None


def backoff(number: int) -> float:
    """Seconds to wait before retry `number` + 1: doubles up to 20, randomised so that clients spread."""
    return min(2.0**number, 20.0) * random.uniform(0.5, 1.5)

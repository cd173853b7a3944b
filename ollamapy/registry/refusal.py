"""Responses that refuse: each becomes an error that names a solution."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from ..errors import (
    AccessDenied,
    GatedModel,
    Offline,
    RateLimited,
    RemoteNotFound,
    TransferError,
    Unauthorized,
)
from .http import RETRYABLE, Access, Response


def unreachable(host: str, reason: str) -> Offline:
    """The error for a machine that cannot be reached."""
    return Offline(f"cannot reach {host} ({reason}): check the network and try again")


def odd_listing(access: Access) -> TransferError:
    """The error for an answer that is JSON and no listing of a hub."""
    return TransferError(
        f"{access.host} sends a listing that makes no sense: is HF_ENDPOINT the address of a hub?"
    )


def busy(host: str, status: int, seconds: float) -> str:
    """The message while waiting for a server."""
    why = "it limits requests" if status == 429 else f"it answers {status}"
    return f"waiting {seconds:.0f} s for {host}: {why}"


def refusal(response: Response, access: Access, what: str, page: str) -> TransferError:
    """The error for a refusal. `what` was requested, `page` shows it in a browser.

    The codes and their order are those of the Hugging Face hub; other servers are judged by status.
    """
    body = response.text()
    message = _message(body, response.headers, access)
    code = response.headers.get("X-Error-Code", "")
    status, host, known = response.status, access.host, bool(access.authorization)
    if code == "GatedRepo":
        way = "with the account of your token" if known else "then set HF_TOKEN"
        return GatedModel(f"{what} is gated: accept its licence at {page}, {way} and pull again")
    if code == "RevisionNotFound":
        return RemoteNotFound(f"{what} has no such branch, tag or commit, see {page}/tree/main")
    if code == "EntryNotFound":
        return RemoteNotFound(f"{what} does not exist, see {page}/tree/main")
    # The hub has codes for what is missing, and none for a wrong token. Registries, whose 401 is about the model, lack its headers
    if status == 401 and known and not code and "X-Error-Message" in response.headers:
        return Unauthorized(
            f"{host} does not accept your token: make a new one at"
            f" {access.endpoint}/settings/tokens and set HF_TOKEN"
        )
    if code == "RepoNotFound" or status in (401, 404, 410):
        way = "or your token may not read it" if known else "or set HF_TOKEN if it is yours"
        return RemoteNotFound(
            f"{what} does not exist on {host} or is private: check the name, {way}"
        )
    if status == 403:
        return AccessDenied(f"{host} denies access to {what}{_quoted(message)}, see {page}")
    if status == 429:
        seconds = int(retry_after(response.headers) or 300)
        way = "" if known else ", or set HF_TOKEN for a higher limit"
        return RateLimited(f"{host} limits requests: try again in {seconds} s{way}", seconds)
    if status in RETRYABLE or status >= 500:
        return TransferError(f"{host} answers {status}{_quoted(message)}: try again later")
    return TransferError(f"{host} answers {status} for {what}{_quoted(message)}")


def server_message(response: Response, access: Access) -> str:
    """The reason that a server gives in its response; "" if none can be read."""
    return _message(response.text(), response.headers, access)


def _message(body: str, headers: Mapping[str, str], access: Access) -> str:
    """The message in a response: one line, printable, short, without our token; "" from a guarded server."""
    if access.guarded:
        return ""
    text = headers.get("X-Error-Message", "")
    if not text:
        try:
            value = json.loads(body)
            found = value.get("error") or value["errors"][0]["message"]
            text = found if isinstance(found, str) else found["message"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            text = "" if "<html" in body.lower() else re.sub(r"<[^>]*>", " ", body)
    secret = access.authorization.split(" ")[-1]
    if secret:
        text = text.replace(secret, "...")
    text = "".join(each if each.isprintable() else " " for each in str(text))
    return " ".join(text.split())[:200]


def _quoted(message: str) -> str:
    return f" ({message})" if message else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: from an exhausted `RateLimit`, else from `Retry-After`."""
    limit = headers.get("RateLimit", "")
    left, reset = re.search(r";\s*r=(\d+)", limit), re.search(r";\s*t=(\d+)", limit)
    if left and reset and int(left[1]) == 0:
        return int(reset[1]) + 1.0
    after = headers.get("Retry-After", "").strip()
    if after.isdigit():
        return float(after)
    try:
        there = parsedate_to_datetime(headers["Date"])
        return max(0.0, (parsedate_to_datetime(after) - there).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None

"""The check of a request's Host and Origin, before anything else looks at it.

A daemon without keys must be protected from web pages in browsers that can reach it. A page may not use it unless its origin
is allowed (CORS, with Ollama's list), and a foreign host name that resolves to this machine (DNS rebinding) is refused, at
every address that the daemon listens at. Programs that are not browsers send no Origin.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

ALWAYS_ALLOWED = (
    *(f"{scheme}://{host}{port}" for host in ("localhost", "127.0.0.1", "0.0.0.0")
      for scheme in ("http", "https") for port in ("", ":*")),
    "app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*",
)  # fmt: skip
"""Origins that are allowed by default, as in Ollama; a star matches any text, after the colon of a port any digits."""

_OWN_SUFFIXES = (".localhost", ".local", ".internal")

_PREFLIGHT = {
    "Access-Control-Allow-Headers": (
        "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,X-Request-Id,Openai-Beta,X-Stainless-Arch,"
        "X-Stainless-Async,X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,"
        "X-Stainless-Os,X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,"
        "X-Stainless-Runtime,X-Stainless-Runtime-Version,X-Stainless-Timeout,X-Api-Key,Anthropic-Version,Anthropic-Beta,"
        "Anthropic-Dangerous-Direct-Browser-Access"
    ),
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
}


class Gate:
    """ASGI middleware that refuses hosts and origins that are not allowed, and answers CORS preflights.

    ``origins`` are allowed in addition to the default ones, "*" for all. ``host`` is the one that the daemon listens at by its
    settings; ``is_local``: it is a loopback address.
    """

    def __init__(
        self, app: ASGIApp, *, origins: Iterable[str] = (), host: str, is_local: bool
    ) -> None:
        self._app = app
        self._patterns = tuple(_pattern(text) for text in (*origins, *ALWAYS_ALLOWED))
        self._hosts = tuple(_pattern(name) for name in (host, *map(_host_of, origins)) if name)
        self._is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond with 403 or 204, or pass the request on to the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin", "")
        if not self.host_allowed(host):
            await self._refusal(host)(scope, receive, send)
        elif not origin or origin in (f"http://{host}", f"https://{host}"):
            await self._app(scope, receive, send)
        elif not self.origin_allowed(origin):
            await Response(status_code=403)(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            answer = Response(status_code=204, headers={**_allow(origin), **_PREFLIGHT})
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, _with_headers(send, _allow(origin)))

    def host_allowed(self, host: str) -> bool:
        """May a request with this Host header be answered?"""
        if is_own_host(host, self._is_local):
            return True
        name = _without_port(host).lower()
        return any(pattern.fullmatch(name) for pattern in self._hosts)

    def _refusal(self, host: str) -> Response:
        log.warning("refused a request for the host %r, which is not this machine's", host[:100])
        if self._is_local:
            return Response(status_code=403)  # as Ollama
        text = (
            f"{_without_port(host)[:100]!r} is not a name of this machine: use its address or its host name,"
            " or allow the name with OLLAMAPY_ORIGINS=http://NAME:*\n"
        )
        return Response(text, status_code=403, media_type="text/plain")

    def origin_allowed(self, origin: str) -> bool:
        """Does an origin match one of the allowed ones?"""
        return any(pattern.fullmatch(origin.lower()) for pattern in self._patterns)


def is_own_host(host: str, is_local: bool) -> bool:
    """Does this Host header name this machine, without a setting?

    DNS rebinding needs a host name, so addresses are allowed: on loopback only private ones and the machine's own, as in
    Ollama; elsewhere all, since behind NAT the machine does not know its public address.
    """
    name = _without_port(host).lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        own = name in ("", "localhost", socket.gethostname().lower())
        return own or name.endswith(_OWN_SUFFIXES)
    if not is_local or address.is_private or address.is_unspecified:
        return True
    return str(address) in _own_addresses()


def _host_of(origin: str) -> str:
    """The host of an origin from the settings, without its port; "*" for any."""
    return _without_port(origin.strip().rstrip("/").rpartition("://")[2]).removesuffix(":*")


def _without_port(host: str) -> str:
    """``name:port`` and ``[address]:port`` without the port; a bare IPv6 address stays as it is."""
    found = re.fullmatch(r"\[([^\]]*)\](?::\d*)?|([^:]*):\d*", host)
    return (found[1] if found[1] is not None else found[2]) if found else host


def _own_addresses() -> set[str]:
    import psutil

    interfaces = psutil.net_if_addrs().values()
    return {address.address.partition("%")[0] for interface in interfaces for address in interface}


def _pattern(text: str) -> re.Pattern[str]:
    text, ends_with_port = re.subn(r"(?<=[^/]):\*$", "", text.strip().rstrip("/").lower())
    anything = ".*".join(re.escape(part) for part in text.split("*"))
    return re.compile(anything + (":[0-9]{1,5}" if ends_with_port else ""))


def _allow(origin: str) -> dict[str, str]:
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "X-Request-Id",
        "Vary": "Origin",
    }


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return send_with_headers

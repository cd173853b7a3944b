"""Requests that are allowed, as tables of Host and Origin headers."""

from __future__ import annotations

import asyncio
import socket

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from ollamapy.web import gate
from ollamapy.web.gate import Gate, is_own_host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:11434",
        "localhost:",
        "127.0.0.1",
        "127.0.0.1:11434",
        "127.8.9.10:1",
        "[::1]:11434",
        "[::1]",
        "::1",
        "0.0.0.0:11434",
        "192.168.1.7:11434",
        "10.0.0.1",
        "[fd00::1]:80",
        "app.localhost",
        "printer.local:8080",
        "host.docker.internal:11434",
        socket.gethostname(),
    ],
)
def test_allowed_hosts(host: str) -> None:
    assert is_own_host(host, is_local=True)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.com",
        "evil.example.com:11434",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "evillocalhost",
        "local",
        "8.8.8.8",
        "8.8.8.8:11434",
        "[2001:4860:4860::8888]:80",
        "localhost:11434:evil",
        "evil.com:localhost",
        "[evil.com]",
        "user@localhost",
        "localhost/",
        "\xe9vil.com",
    ],
)
def test_refused_hosts(host: str) -> None:
    assert not is_own_host(host, is_local=True)


ALLOWED = [
    "http://localhost",
    "https://localhost",
    "http://localhost:3000",
    "HTTP://LocalHost:3000",
    "http://127.0.0.1:8080",
    "https://0.0.0.0:1",
    "app://obsidian",
    "file://",
    "tauri://localhost",
    "vscode-webview://abc",
    "vscode-file://vscode-app",
]
REFUSED = [
    "https://evil.example.com",
    "http://localhost.evil.com",
    "http://evil.com/localhost",
    "http://evillocalhost:80",
    "ftp://localhost",
    "null",
    "chrome-extension://abc",
    "xapp://obsidian",
    "http://127.0.0.2:80",
    "http://localhost:abc",
    "http://localhost:",
    "http://localhost:80.evil.example",
    "http://127.0.0.1:8x",
    "http://127.0.0.1:1/evil",
]


def answer(
    origin: str | None,
    *,
    host: str = "localhost:11434",
    method: str = "GET",
    origins: tuple[str, ...] = (),
    bound: str = "127.0.0.1",
) -> tuple[int, dict[str, str]]:
    """Status and headers that a browser gets for a request with this origin."""
    app = Gate(PlainTextResponse("in"), origins=origins, host=bound, is_local=bound == "127.0.0.1")
    headers = [(b"host", host.encode("latin-1"))]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": "/api/chat", "headers": headers}
    asyncio.run(app(scope, receive, send))
    start = sent[0]
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}


@pytest.mark.parametrize("origin", ALLOWED)
def test_allowed_origins(origin: str) -> None:
    status, headers = answer(origin)
    assert status == 200 and headers["access-control-allow-origin"] == origin
    assert headers["vary"] == "Origin"
    assert headers["access-control-expose-headers"] == "X-Request-Id"
    found = answer(origin, method="OPTIONS")[1]["access-control-allow-headers"].split(",")
    assert {"Content-Type", "Authorization", "X-Request-Id"} <= set(found)


@pytest.mark.parametrize("origin", REFUSED)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_refused_origins(origin: str, method: str) -> None:
    status, headers = answer(origin, method=method)
    assert status == 403 and "access-control-allow-origin" not in headers


def test_no_origin_is_no_browser() -> None:
    status, headers = answer(None)
    assert status == 200 and "access-control-allow-origin" not in headers


def test_a_page_of_the_daemon_itself_is_no_foreign_origin() -> None:
    status, headers = answer("http://box.local:11434", host="box.local:11434")
    assert status == 200 and "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (("https://my.site",), "https://my.site", 200),
        (("https://my.site/",), "https://my.site", 200),
        (("https://my.site",), "https://other.site", 403),
        (("chrome-extension://*",), "chrome-extension://abc", 200),
        (("https://*.my.site",), "https://a.my.site", 200),
        (("https://*.my.site",), "https://amy.site", 403),
        (("*",), "https://any.where", 200),
    ],
)
def test_origins_of_the_user(origins: tuple[str, ...], origin: str, status: int) -> None:
    assert answer(origin, origins=origins)[0] == status


def test_a_preflight_is_answered_without_the_app() -> None:
    status, headers = answer("http://localhost:3000", method="OPTIONS")
    assert status == 204
    assert headers["access-control-allow-methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    allowed = headers["access-control-allow-headers"].lower().split(",")
    assert {"content-type", "x-stainless-timeout"} <= set(allowed)
    # What Anthropic's package sends from a browser
    assert {"x-api-key", "anthropic-version", "anthropic-dangerous-direct-browser-access"} <= set(
        allowed
    )
    assert headers["access-control-max-age"] == "43200"


def test_a_rebound_name_is_refused_even_as_its_own_origin() -> None:
    assert answer("http://evil.com", host="evil.com")[0] == 403
    assert answer(None, host="evil.com")[0] == 403


@pytest.mark.parametrize(
    ("host", "bound", "origins", "status"),
    [
        ("evil.com", "0.0.0.0", (), 403),
        ("my.server:11434", "0.0.0.0", (), 403),
        ("my.server:11434", "my.server", (), 200),
        ("ollama:11434", "0.0.0.0", ("http://ollama:*",), 200),
        ("ollama", "0.0.0.0", ("http://ollama:3000",), 200),
        ("a.my.org:80", "0.0.0.0", ("https://*.my.org",), 200),
        ("my.org.evil.com", "0.0.0.0", ("https://*.my.org",), 403),
        ("evil.com", "0.0.0.0", ("*",), 200),
        ("evil.com", "127.0.0.1", ("*",), 200),
        ("evil.com", "127.0.0.1", ("http://good.com",), 403),
        ("8.8.8.8:11434", "0.0.0.0", (), 200),
        ("[2001:4860:4860::8888]:80", "::", (), 200),
        (socket.gethostname(), "0.0.0.0", (), 200),
        ("localhost:11434", "0.0.0.0", (), 200),
        ("", "0.0.0.0", (), 200),
    ],
)
def test_hosts_at_every_bind(host: str, bound: str, origins: tuple[str, ...], status: int) -> None:
    """The machine's own names and addresses, and the names in the settings."""
    assert answer(None, host=host, bound=bound, origins=origins)[0] == status


def test_a_foreign_page_at_an_open_bind() -> None:
    assert answer("https://evil.com", host="my.server", bound="my.server")[0] == 403


def test_the_default_origins_are_ollamas() -> None:
    assert len(gate.ALWAYS_ALLOWED) == 12 + 5

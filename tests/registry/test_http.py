"""The rules for asking other machines: who sees the token, where redirects may lead, how long to wait."""

from __future__ import annotations

import logging
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from urllib3.util.ssl_match_hostname import CertificateError

from ollamapy.errors import InvalidRequest, Offline, TransferError
from ollamapy.registry import http
from ollamapy.registry.http import Access, BrokenConnection, PrivateAddress, Session
from ollamapy.registry.patience import ask, ask_json
from ollamapy.registry.refusal import refusal, retry_after
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content

GGUF = content(1000)
API = "/api/models/user/model/revision/main"


@pytest.fixture
def model(hub: FakeHub) -> FakeHub:
    hub.add_repo("user/model", {"m.gguf": GGUF, "with space/é#%.txt": b"text"})
    return hub


def test_the_token_is_for_the_endpoint_alone(model: FakeHub) -> None:
    with Session(model.access("hf_good")) as session:
        assert session.open(f"{model.url}/user/model/resolve/main/m.gguf").content(2000) == GGUF
        assert session.open(f"{model.alias_url}{API}").status == 200
        assert session.open(f"{model.cdn_url}/nothing").status == 403
    hub_saw = [each.headers.get("authorization") for each in model.asked("hub")]
    assert hub_saw == ["Bearer hf_good"] * 2
    assert len(model.asked("cdn")) == 2 and len(model.asked("alias")) == 1  # `leaks` is looked at


def test_netrc_has_no_say(model: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\nmachine localhost login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for token in ("hf_good", ""):
        with Session(model.access(token)) as session:
            session.open(f"{model.url}/user/model/resolve/main/m.gguf").close()
    hub_saw = [each.headers.get("authorization") for each in model.asked("hub")]
    assert hub_saw == ["Bearer hf_good", None]


def test_another_port_of_the_same_host_is_another_host(model: FakeHub) -> None:
    model.fault("hub", redirect=f"{model.alias_url}{API}")  # 127.0.0.1, as the hub itself
    with Session(model.access("hf_good")) as session:
        assert session.open(f"{model.url}{API}").status == 200
    assert len(model.asked("alias")) == 1


def test_cookies_are_not_kept(model: FakeHub) -> None:
    model.fault("hub", status=200, headers={"Set-Cookie": "a=b"})
    with Session(model.access()) as session:
        for _ in range(2):
            session.open(f"{model.url}{API}").drain()
    assert "cookie" not in model.asked("hub")[1].headers


def test_it_does_not_say_that_it_is_ollama(model: FakeHub) -> None:
    with Session(model.access()) as session:
        session.open(f"{model.url}{API}").close()
    assert model.asked("hub")[0].headers["user-agent"].startswith("python-ollamapy/")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.1:9/x", "without encryption"),
        ("https://127.0.0.1:9/x", "private address"),
        ("https://localhost:{port}/x", "private address"),
        ("https://10.1.2.3/x", "private address"),
        ("https://169.254.169.254/latest", "private address"),
        ("https://[::1]/x", "private address"),
        ("https://[::ffff:10.0.0.1]/x", "private address"),
        ("https://user:pass@example.com/x", "not valid"),
        ("ftp://example.com/x", "not valid"),
        ("file:///etc/passwd", "not valid"),
        ("https://[/x", "not valid"),
        ("https://exa mple.com/\n", "not valid"),
    ],
)
def test_where_a_public_server_may_not_send_us(model: FakeHub, target: str, reason: str) -> None:
    port = model.cdn_url.rpartition(":")[2]
    with Session(Access("https://8.8.8.8")) as session:  # never asked
        with pytest.raises(TransferError, match=reason):
            session.open(target.format(port=port))
    assert not model.requests


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("public", [True, False], ids=["public", "private"])
def test_a_private_address_gets_no_byte(
    monkeypatch: pytest.MonkeyPatch, scheme: str, public: bool
) -> None:
    """Not even the first of a handshake: the name may have resolved to a public address when it was checked."""
    monkeypatch.setattr(http, "is_public", lambda _: public)
    session = requests.Session()
    session.mount(f"{scheme}://", http._guarded_adapter()())
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        asked = pool.submit(session.get, f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/")
        connection, _ = listener.accept()
        with connection:
            first = connection.recv(3)
        failure = asked.exception()
    assert first == {"http": b"GET", "https": b"\x16\x03\x01"}[scheme] if public else not first
    assert isinstance(failure, requests.ConnectionError if public else PrivateAddress)


def test_a_guarded_endpoint_is_public_and_encrypted(model: FakeHub) -> None:
    """Chosen by a caller on another machine, who must not have us ask hosts that only we can reach."""
    with Session(replace(model.access(), guarded=True)) as session:
        with pytest.raises(TransferError, match="with https and a public address only"):
            session.open(f"{model.url}{API}")
    port = model.url.rpartition(":")[2]
    for endpoint in (f"https://127.0.0.1:{port}", f"https://localhost:{port}", "https://10.1.2.3"):
        with Session(Access(endpoint, guarded=True)) as session:
            with pytest.raises(TransferError, match="with https and a public address only"):
                session.open(f"{endpoint}{API}")
    assert not model.requests


def test_what_a_guarded_endpoint_writes_is_not_passed_on(model: FakeHub) -> None:
    model.fault("hub", status=403, text="the inventory of another host", times=2)
    with Session(model.access()) as session:
        told = refusal(session.open(f"{model.url}{API}"), model.access(), "x", "")
        assert "inventory" in str(told)
        guarded = replace(model.access(), guarded=True)
        told = refusal(session.open(f"{model.url}{API}"), guarded, "x", "")
        assert "inventory" not in str(told)


def test_a_redirect_in_a_circle_ends(model: FakeHub) -> None:
    model.fault("hub", redirect=f"{model.url}{API}", times=99)
    with Session(model.access()) as session, pytest.raises(TransferError, match="in circles"):
        session.open(f"{model.url}{API}")
    assert len(model.requests) == 11


@pytest.mark.parametrize(
    "endpoint", ["", "huggingface.co", "ftp://a.b", "https://a.b/", "https://a:b@c", "https://a b"]
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match="not the address of a server"):
        Access(endpoint)


def test_offline_opens_nothing(model: FakeHub) -> None:
    with Session(model.access(offline=True)) as session:
        with pytest.raises(Offline, match="HF_HUB_OFFLINE is set, unset it"):
            session.open(f"{model.url}{API}")
    assert not model.requests


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://127.0.0.1:9", "no connection"),
        ("http://no-such-host.invalid", "cannot be resolved"),
    ],
)
def test_who_cannot_be_reached_is_tried_three_times(
    haste: Haste, endpoint: str, reason: str
) -> None:
    with Session(Access(endpoint)) as session:
        with pytest.raises(Offline, match=f"cannot reach .* \\(.*{reason}\\): check the network"):
            ask(session, f"{endpoint}/x?secret=1", haste.patience)
    assert len(haste.waits) == 2
    assert all("secret" not in each for each in haste.notes)


def test_a_rate_limit_is_waited_for_as_long_as_the_hub_says(model: FakeHub, haste: Haste) -> None:
    limit = {"RateLimit": '"api";r=0;t=12', "Retry-After": "99"}
    model.fault("hub", status=429, headers=limit)
    with Session(model.access()) as session:
        assert ask(session, f"{model.url}{API}", haste.patience).status == 200
    assert haste.waits == [13.0]
    assert haste.notes == ["waiting 13 s for 127.0.0.1: it limits requests"]


def test_outages_are_waited_for(model: FakeHub, haste: Haste) -> None:
    for status in (500, 502, 503, 504):
        model.fault("hub", status=status)
    with Session(model.access()) as session:
        assert ask(session, f"{model.url}{API}", haste.patience).status == 200
    assert len(haste.waits) == 4


def test_a_server_that_falls_silent(model: FakeHub, haste: Haste) -> None:
    model.fault("hub", hang=True)
    with Session(model.access(read_timeout=0.1)) as session:
        with pytest.raises(BrokenConnection, match="stopped sending"):
            session.open(f"{model.url}{API}")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"RateLimit": '"api";r=0;t=7'}, 8.0),
        ({"RateLimit": '"api";r=3;t=7'}, None),
        ({"RateLimit": '"api";r=3;t=7', "Retry-After": "5"}, 5.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        (
            {
                "Date": "Sat, 21 Nov 2026 10:00:00 GMT",
                "Retry-After": "Sat, 21 Nov 2026 10:01:00 GMT",
            },
            60.0,
        ),
        ({}, None),
    ],
)
def test_how_long_a_server_wants_us_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"html": True}, "answers with a web page: is it the right address"),
        ({"status": 200, "text": "{"}, "something that is not JSON"),
        ({"status": 200, "text": "[" * 100_000}, "something that is not JSON"),
        ({"status": 200, "text": " " * 300_000}, "more than the 200000 bytes allowed"),
    ],
)
def test_json_that_is_none(
    model: FakeHub, haste: Haste, fault: dict[str, object], reason: str
) -> None:
    model.fault("hub", **fault)
    with Session(model.access()) as session, pytest.raises(TransferError, match=reason):
        ask_json(session, f"{model.url}{API}", haste.patience, limit=200_000)


def test_addresses_are_not_logged(model: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Session(model.access("hf_good")) as session:
        session.open(f"{model.url}/user/model/resolve/main/m.gguf").close()
    assert "Signature" not in caplog.text and "hf_good" not in caplog.text


def test_settings_do_not_show_the_token() -> None:
    assert "secret" not in repr(Access("https://a.b", "Bearer secret"))


def _tls_error(code: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {code}] in whatever language")
    error.reason = code
    return error


@pytest.mark.parametrize(
    ("error", "is_refused"),
    [
        (ssl.SSLCertVerificationError(1, "in whatever language"), True),
        (CertificateError("hostname 'a' does not match 'b'"), True),
        (_tls_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), True),
        (_tls_error("SSLV3_ALERT_BAD_CERTIFICATE"), True),
        (_tls_error("WRONG_VERSION_NUMBER"), False),
        (ssl.SSLEOFError(8, "EOF while reading the certificate"), False),
    ],
)
def test_a_refused_certificate_is_told_by_its_class_or_code(
    error: Exception, is_refused: bool
) -> None:
    assert http.is_refused_certificate(error) == is_refused

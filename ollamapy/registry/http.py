"""Requests to other machines: one session with our own rules for redirects, tokens and addresses.

    Rule 1  The token is sent to the endpoint's origin (scheme, host, port) only: not to the target of a
            redirect, not to an alias. ~/.netrc is ignored.
    Rule 2  Redirects are followed here, at most ten. They lead to https; to http only when the
            endpoint itself is http.
    Rule 3  An endpoint on the public internet cannot redirect to a private address. The address is
            checked once connected, before a byte is sent, so DNS cannot change it in between.
    Rule 4  Tokens and signed addresses are never printed, logged or put into an error.
    Rule 5  Bodies are read up to a limit; small ones also within a time limit.
    Rule 6  A `guarded` endpoint is reached by https at public addresses only, on every hop, and none of
            its text gets into an error: the caller who chose it must not read internal hosts.

`Session` makes single attempts and leaves errors to its caller; patience.py retries;
refusal.py turns a refusal into an error that names a solution. Nothing here knows about
models. `requests` is imported when the first session is made: it costs a tenth of a second.
"""

from __future__ import annotations

import functools
import logging
import platform
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from .. import __version__
from ..errors import (
    InvalidRequest,
    Offline,
    TransferError,
)
from .addresses import (
    host_of,
    is_private_literal,
    is_public,
    is_public_https,
    origin,
    resolves_to_private,
    split,
)

if TYPE_CHECKING:
    import requests
    from requests.adapters import HTTPAdapter

MAX_REDIRECTS = 10

_SMALL_SECONDS = 120.0  # for a whole listing or manifest, however slowly it drips
_REDIRECTS = (301, 302, 303, 307, 308)
RETRYABLE = (408, 425, 429, 500, 502, 503, 504)

# Not "ollama..." nor "llama-cpp...": registries answer those differently, or not at all.
USER_AGENT = f"python-ollamapy/{__version__} (python {platform.python_version()})"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one server. `endpoint` is a base URL without a slash at its end.

    `authorization` is the whole header value ("Bearer ..."), or "". `aliases` are origins that are
    the same server by another name: redirects to them are followed, the token stays here. Times in
    seconds: to connect, and of silence. `guarded`: the endpoint was chosen by a caller on another
    machine, see rule 6.
    """

    endpoint: str
    authorization: str = field(default="", repr=False)
    aliases: tuple[str, ...] = ()
    offline: bool = False
    guarded: bool = False
    connect_timeout: float = 10.0
    read_timeout: float = 30.0

    def __post_init__(self) -> None:
        parts = split(self.endpoint)
        if parts is None or self.endpoint.endswith("/"):
            shown = ascii(self.endpoint.split("@")[-1][:200])
            raise InvalidRequest(f"{shown} is not the address of a server, write it as https://...")

    @property
    def host(self) -> str:
        """The endpoint's host, as messages name it."""
        return urlsplit(self.endpoint).netloc

    def is_home(self, url: str) -> bool:
        """Whether an address is the endpoint's or an alias's."""
        return origin(url) in {origin(each) for each in (self.endpoint, *self.aliases)}


class BrokenConnection(Exception):
    """An attempt failed: no connection, a timeout, or a connection that broke. The message is the reason.

    `unreachable`: no connection was made. `hopeless`: a retry would fail the same way.
    """

    def __init__(self, reason: str, *, unreachable: bool = False, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.hopeless = hopeless


class Session:
    """Connections to one endpoint and to the targets of its redirects, for one thread."""

    def __init__(self, access: Access) -> None:
        import requests

        # its debug lines hold signed addresses, whatever level the root logger has
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
        self.access = access
        self._session = requests.Session()
        self._session.headers = requests.structures.CaseInsensitiveDict(
            {"User-Agent": USER_AGENT, "Accept": "*/*"}
        )
        self._session.cookies.set_policy(_no_cookies())
        guarded = _guarded_adapter()()
        self._session.mount("https://", guarded)
        self._session.mount("http://", guarded)
        if not access.guarded:
            home = urlsplit(access.endpoint)
            self._session.mount(f"{home.scheme}://{home.netloc}/", requests.adapters.HTTPAdapter())
        self._opened = False  # whether redirects to private addresses are allowed

    def open(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        leave_home: bool = True,
        data: Any = None,
    ) -> Response:
        """Send one request and follow redirects; with `leave_home` False only redirects to the endpoint itself.

        `data` is the body: bytes, or an object with `read` and a length. With a body, no redirect is followed.

        Raises BrokenConnection; TransferError for a redirect that the rules forbid; Offline.
        """
        if self.access.offline:
            raise Offline(
                f"cannot ask {self.access.host}: HF_HUB_OFFLINE is set, unset it to download"
            )
        came_from = url
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url, came_from)
            response = self._once(method, url, headers, data)
            target = response.redirect
            if (
                target is None
                or data is not None
                or (not leave_home and not self.access.is_home(target))
            ):
                return response
            response.drain()
            came_from, url = url, target
        raise TransferError(f"{host_of(url)} redirects in circles, try again later")

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _once(
        self, method: str, url: str, headers: Mapping[str, str] | None, data: Any
    ) -> Response:
        import requests
        import urllib3

        mine = origin(url) == origin(self.access.endpoint)
        try:
            response = self._session.request(
                method,
                url,
                headers=headers,
                data=data,
                auth=_Authorization(self.access.authorization if mine else ""),
                allow_redirects=False,
                stream=True,
                timeout=(self.access.connect_timeout, self.access.read_timeout),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _broken(error) from None
        except PrivateAddress as error:
            host = error.args[0]
            guarded = self.access.guarded
            raise TransferError(
                _guarded_refusal(host_of(url)) if guarded else _private_redirect(host)
            ) from None
        except ValueError:  # requests could not parse the address
            raise BrokenConnection("the address is broken", hopeless=True) from None
        return Response(response, url)

    def _check(self, url: str, came_from: str) -> None:
        """Check rules 2, 3 and 6, on every hop."""
        if self.access.guarded:
            if not is_public_https(url):
                raise TransferError(_guarded_refusal(host_of(url)))
            return
        if origin(url) == origin(self.access.endpoint):
            return
        parts = split(url)
        if parts is None:
            raise TransferError(f"{host_of(came_from)} redirects to an address that is not valid")
        scheme, host = parts
        if scheme == "http" and not self.access.endpoint.startswith("http://"):
            raise TransferError(
                f"{host_of(came_from)} redirects to {host} without encryption, which is refused"
            )
        if not self._opened and self._endpoint_is_private():
            import requests

            self._opened = True
            for prefix in ("https://", "http://"):
                self._session.mount(prefix, requests.adapters.HTTPAdapter())
        if not self._opened and is_private_literal(host):
            raise TransferError(_private_redirect(host))

    def _endpoint_is_private(self) -> bool:
        return resolves_to_private(urlsplit(self.access.endpoint).hostname or "")


class Response:
    """One response: its head, and its body as it arrives. The caller closes it."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        location = response.headers.get("Location")
        self.redirect: str | None = None
        if self.status in _REDIRECTS and location is not None:
            try:
                self.redirect = urljoin(url, location)
            except ValueError:
                self.redirect = "invalid:"

    def read(self, size: int) -> bytes:
        """The bytes that have arrived, up to `size`; b"" at the end. Raises BrokenConnection."""
        import urllib3

        try:
            return self._response.raw.read1(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise _broken(error) from None

    def content(self, limit: int) -> bytes:
        """The whole body, unpacked. Raises TransferError above `limit` bytes, BrokenConnection."""
        import urllib3

        content = b""
        end = time.monotonic() + _SMALL_SECONDS
        try:
            for chunk in self._response.raw.stream(65536, decode_content=True):
                content += chunk
                if len(content) > limit:
                    raise TransferError(
                        f"{host_of(self.url)} sends more than the {limit} bytes allowed here"
                    )
                if time.monotonic() > end:
                    raise BrokenConnection("it answers too slowly")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _broken(error) from None
        finally:
            self.close()
        return content

    def text(self, limit: int = 2048) -> str:
        """The beginning of the body, for an error message; "" if it cannot be read."""
        try:
            content = b""
            while len(content) < limit and (more := self.read(limit - len(content))):
                content += more
            return content.decode("utf-8", "replace")
        except BrokenConnection:
            return ""
        finally:
            self.close()

    def drain(self) -> None:
        """Read and discard a short body, so that its connection can be reused."""
        length = self.headers.get("Content-Length", "")
        if length.isdigit() and int(length) <= 65536:
            self.text(65536)
        self.close()

    def shut(self) -> None:
        """Interrupt a thread that waits for the body; called from another thread.

        Bytes read afterwards are meaningless: on a TLS connection they may be cipher text.
        """
        try:
            self._response.raw.shutdown()
        except (OSError, ValueError, RuntimeError):
            pass  # it has just ended

    def close(self) -> None:
        self._response.close()


def _broken(error: Exception) -> BrokenConnection:
    """Why an attempt failed. The exception's own text contains the address, which may be signed."""
    import requests
    import urllib3.exceptions as u

    cause: BaseException = error
    for _ in range(5):  # requests wraps urllib3, which wraps itself
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    if isinstance(cause, u.NameResolutionError | socket.gaierror):
        return BrokenConnection("its name cannot be resolved", unreachable=True)
    if isinstance(error, requests.exceptions.ProxyError):
        return BrokenConnection("the proxy does not let us through", unreachable=True)
    if isinstance(error, requests.exceptions.SSLError):
        return BrokenConnection(
            "its certificate is not trusted; if a proxy is between, set REQUESTS_CA_BUNDLE",
            hopeless=is_refused_certificate(cause),
        )
    if isinstance(cause, u.NewConnectionError):
        return BrokenConnection("no connection", unreachable=True)
    if isinstance(cause, u.ConnectTimeoutError | requests.exceptions.ConnectTimeout):
        return BrokenConnection("it does not answer", unreachable=True)
    if isinstance(cause, u.ReadTimeoutError | TimeoutError):
        return BrokenConnection("it stopped sending")
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return BrokenConnection("the address is broken", hopeless=True)
    return BrokenConnection("the connection broke off")


def is_refused_certificate(cause: BaseException) -> bool:
    """Whether one side refused the other's certificate: then a retry fails, too; a TLS connection that broke off may be retried."""
    import ssl

    from urllib3.util.ssl_match_hostname import CertificateError

    if isinstance(cause, ssl.SSLCertVerificationError | CertificateError):
        return True
    code = getattr(cause, "reason", None) or ""  # OpenSSL's; an end of file has none
    return isinstance(cause, ssl.SSLError) and "CERTIFICATE" in code


class PrivateAddress(Exception):
    """A connection led to a private address, its argument."""


def _guarded_refusal(host: str) -> str:
    return (
        f"{host} is refused: a caller on another machine may name servers with https and a public"
        " address only"
    )


def _private_redirect(host: str) -> str:
    return f"a redirect leads to the private address {host}, which is refused"


@functools.cache
def _guarded_adapter() -> type[HTTPAdapter]:
    """A transport that refuses connections to private addresses. Connections to a proxy are not checked."""
    from requests.adapters import HTTPAdapter

    class Guarded(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, **options)
            self.poolmanager.pool_classes_by_scheme = _guarded_pools()

    return Guarded


@functools.cache
def _guarded_pools() -> dict[str, Any]:
    """Scheme -> urllib3's pool. Its connections check their address before the first byte is sent; for https, before the
    handshake."""
    import ssl

    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

    class CheckedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            _check_peer(self)
            super().do_handshake(block)

    class Plain(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            _check_peer(self.sock)

    class Encrypted(HTTPSConnection):
        def connect(self) -> None:
            if self.ssl_context is None:  # what urllib3 makes then, too
                self.ssl_context = create_urllib3_context(
                    cert_reqs=resolve_cert_reqs(self.cert_reqs)
                )
            self.ssl_context.sslsocket_class = CheckedSocket
            super().connect()

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _check_peer(connected: socket.socket) -> None:
    """Close a connection to a private address. Raises PrivateAddress."""
    address = connected.getpeername()[0]
    if not is_public(address):
        connected.close()
        raise PrivateAddress(address)


class _Authorization:
    """Sets the Authorization header. Passed as `auth`, because ~/.netrc overrides a plain header."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value:
            request.headers["Authorization"] = self._value
        return request


def _no_cookies() -> Any:
    from http.cookiejar import DefaultCookiePolicy

    return DefaultCookiePolicy(allowed_domains=[])

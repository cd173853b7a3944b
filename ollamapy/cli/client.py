"""The daemon's API, called over http.client; also works against an Ollama.

One connection a request. Answers stay plain dicts as JSON has them; `views` knows their fields. Nothing is
retried, started or printed here. http.client honours no proxy variables, which is right for a daemon on this machine.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..config import Address
from ..errors import OllamapyError, reason
from .events import LONGEST, Decoder, Event

CONNECT_TIMEOUT = 5.0
ANSWER_TIMEOUT = 60.0
"""Seconds; a stream has no limit, for a model may take minutes to load."""

_LARGEST_ERROR = 64 * 1024
_PIECE = 256 * 1024
_EMPTY = (202, 204)
"""Statuses of answers without content."""

_NO_HEADERS: Mapping[str, str] = {}


class Unreachable(OllamapyError):
    """No server, or none that speaks HTTP, answers at an address.

    ``refused``: nothing listens there. ``silent``: something does, but did not answer in time.
    """

    def __init__(self, message: str, *, refused: bool = False, silent: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.silent = silent


class AnsweredError(OllamapyError):
    """The server's error, with its message; ``status`` is that of the HTTP response, ``code`` the daemon's own, if it has one."""

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Stream:
    """A streamed answer, one dict a line. The request is on its way before the first one is asked for.

    Raises AnsweredError for an error at the start or in a line, Unreachable when the answer breaks off.
    """

    def __init__(self, connection: http.client.HTTPConnection, url: str) -> None:
        self._connection = connection
        self._socket = connection.sock
        self._url = url

    def __iter__(self) -> Iterator[dict[str, Any]]:
        done = False
        try:
            response = _answer(self._connection, self._url)
            for line in response:
                if line.strip():
                    chunk = json.loads(line)
                    if "error" in chunk:
                        status = chunk.get("status")  # of an error after a report of progress
                        raise AnsweredError(
                            str(chunk["error"]),
                            status if isinstance(status, int) else response.status,
                        )
                    done = bool(chunk.get("done")) or chunk.get("status") == "success"
                    yield chunk
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            pass  # raised below, unless the answer was complete
        finally:
            self.close()
        if not done:
            raise Unreachable(
                f"the server at {self._url} broke off in the middle of its answer, see: ollamapy daemon logs"
            )

    def close(self) -> None:
        """Close the connection; the daemon cancels the request."""
        self._connection.close()

    def cancel(self) -> None:
        """End the answer from another thread than the one that reads it."""
        with suppress(OSError):  # it has ended by itself
            self._socket.shutdown(socket.SHUT_RDWR)


class EventStream:
    """A stream of server-sent events. The request is on its way before the first one is asked for.

    Ends where the connection does, also in the middle: whether the answer is whole is in its events. Raises AnsweredError for an
    error at the start, Unreachable for a server that does not answer.
    """

    def __init__(self, connection: http.client.HTTPConnection, url: str) -> None:
        self._connection = connection
        self._url = url

    def __iter__(self) -> Iterator[Event]:
        decoder = Decoder()
        try:
            response = _answer(self._connection, self._url)
            while line := response.readline(LONGEST):
                if event := decoder.feed(line.decode(errors="replace").rstrip("\r\n")):
                    yield event
        except (OSError, http.client.HTTPException, ValueError):
            pass  # as an end
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Proven:
    """A connection whose server has proven that it knows the user's secret, and the headers that prove the same of us."""

    connection: http.client.HTTPConnection
    headers: Mapping[str, str]


class Client:
    """The API at one address. Every method raises Unreachable or AnsweredError, or OllamapyError for what is no address."""

    def __init__(self, address: Address) -> None:
        self.address = address.connectable

    def version(self, timeout: float = ANSWER_TIMEOUT) -> dict[str, Any]:
        """``GET /api/version``; ``timeout`` in seconds holds for connecting and for each read."""
        return self._get("/api/version", timeout)

    def tags(self, timeout: float = ANSWER_TIMEOUT) -> list[dict[str, Any]]:
        """The stored models, newest first."""
        return list(self._get("/api/tags", timeout).get("models") or ())

    def ps(self, timeout: float = ANSWER_TIMEOUT) -> list[dict[str, Any]]:
        """The loaded models."""
        return list(self._get("/api/ps", timeout).get("models") or ())

    def show(self, model: str, *, verbose: bool = False) -> dict[str, Any]:
        """All about one stored model; ``verbose`` adds the long arrays and the tensors."""
        body = {"model": model, "verbose": verbose}
        return self._object(self._send("POST", "/api/show", body, ANSWER_TIMEOUT))

    def generate(self, body: Mapping[str, Any]) -> Stream:
        """``POST /api/generate``, streaming."""
        return Stream(self._send("POST", "/api/generate", body, None), self.address.url)

    def chat(self, body: Mapping[str, Any]) -> Stream:
        """``POST /api/chat``, streaming."""
        return Stream(self._send("POST", "/api/chat", body, None), self.address.url)

    def embed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """``POST /api/embed``: vectors of texts."""
        return self._object(self._send("POST", "/api/embed", body, None))

    def replay(self, id: str) -> dict[str, Any]:
        """``POST /api/replay/ID``: a request answered again, and compared."""
        return self._object(self._send("POST", f"/api/replay/{quote(id, safe='')}", None, None))

    def create(self, body: Mapping[str, Any]) -> Stream:
        """``POST /api/create``: the steps, the last of them "success"."""
        return Stream(self._send("POST", "/api/create", body, None), self.address.url)

    def pull(self, body: Mapping[str, Any], proven: Proven | None = None) -> Stream:
        """``POST /api/pull``: the steps, the last of them "success"."""
        return self._steps("/api/pull", body, proven)

    def push(self, body: Mapping[str, Any], proven: Proven | None = None) -> Stream:
        """``POST /api/push``: the steps, the last of them "success"."""
        return self._steps("/api/push", body, proven)

    def prove(self, key: bytes) -> Proven | None:
        """A connection to a server that has proven that it knows the secret ``key`` (secret.py); None if it does not."""
        from .. import secret

        nonce = secret.new_nonce()
        connection = self._send("GET", "/api/version", None, ANSWER_TIMEOUT, {secret.NONCE: nonce})
        proven = False
        try:
            address = connection.sock.getpeername()[:2]
            response = _answer(connection, self.address.url)
            given = response.getheader(secret.PROOF, "")
            response.read(_LARGEST_ERROR)
            stays = response.isclosed() and connection.sock is not None
            proven = stays and secret.is_proof(given, key, "daemon", nonce, address)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.address.url, error) from error
        finally:
            if not proven:
                connection.close()
        if not proven:
            return None
        connection.sock.settimeout(None)
        connection.auto_open = 0  # never to another program that has taken the port since
        own = secret.proof(key, "client", nonce, address)
        return Proven(connection, {secret.NONCE: nonce, secret.PROOF: own})

    def _steps(self, path: str, body: Mapping[str, Any], proven: Proven | None) -> Stream:
        """A streamed answer to a POST; what is secret goes over a proven connection."""
        if proven is None:
            return Stream(self._send("POST", path, body, None), self.address.url)
        connection = proven.connection
        try:
            self._request(connection, "POST", path, json.dumps(body).encode(), proven.headers)
        except http.client.NotConnected as error:
            raise _unreachable(self.address.url, error) from error
        return Stream(connection, self.address.url)

    def copy(self, source: str, destination: str) -> None:
        """``POST /api/copy``: a second name for a model."""
        body = {"source": source, "destination": destination}
        self._done(self._send("POST", "/api/copy", body, ANSWER_TIMEOUT))

    def delete(self, model: str) -> None:
        """``DELETE /api/delete``."""
        self._done(self._send("DELETE", "/api/delete", {"model": model}, ANSWER_TIMEOUT))

    def has_blob(self, digest: str) -> bool:
        """Whether the server has the content of that digest."""
        connection = self._send("HEAD", f"/api/blobs/{digest}", None, ANSWER_TIMEOUT)
        try:
            _answer(connection, self.address.url)
        except AnsweredError as error:
            if error.status == 404:
                return False
            raise
        finally:
            connection.close()
        return True

    def send_blob(self, digest: str, size: int, pieces: Iterable[bytes], *, to_come: int) -> None:
        """Upload ``size`` bytes of content, the first of ``to_come`` bytes of uploads that belong together."""
        headers = {
            "Content-Length": str(size),
            "Content-Type": "application/octet-stream",
            "Ollamapy-Bytes-To-Come": str(to_come),
        }
        connection = self._send("POST", f"/api/blobs/{digest}", pieces, None, headers)
        try:
            _answer(connection, self.address.url)
        finally:
            connection.close()

    def render(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt for a chat (a body with messages) or a single prompt, and its count: ``rendered_template`` and
        ``prompt_tokens``. An Ollama counts nothing."""
        path = "/api/chat" if "messages" in body else "/api/generate"
        body = {**body, "stream": False, "_debug_render_only": True}
        found = self._object(self._send("POST", path, body, None)).get("_debug_info")
        return found if isinstance(found, dict) else {}

    def object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The JSON object that answers a request; {} where the answer has no content."""
        return self._object(self._send(method, path, body, ANSWER_TIMEOUT))

    def events(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        after: int = 0,
        silence: float = ANSWER_TIMEOUT,
    ) -> EventStream:
        """The stream of events after the number ``after``; it ends when none comes for ``silence`` seconds."""
        headers = {"Last-Event-ID": str(after)} if after else _NO_HEADERS
        return EventStream(self._send(method, path, body, silence, headers), self.address.url)

    def content(self, path: str) -> Iterator[bytes]:
        """The bytes that a path has, in pieces. Raises Unreachable also when they break off."""
        connection = self._send("GET", path, None, ANSWER_TIMEOUT)
        try:
            response = _answer(connection, self.address.url)
            while piece := response.read(_PIECE):
                yield piece
            if response.length:  # as much of what was announced did not come
                raise http.client.IncompleteRead(b"", response.length)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.address.url, error) from error
        finally:
            connection.close()

    def upload(
        self, path: str, size: int, pieces: Iterable[bytes], media_type: str
    ) -> dict[str, Any]:
        """The JSON object that answers a POST of ``size`` bytes. A server may refuse them before it has read all."""
        headers = self._headers({"Content-Length": str(size), "Content-Type": media_type})
        connection = self._connected(None)
        broken: OSError | None = None
        try:
            connection.request("POST", self.address.path + path, body=pieces, headers=headers)
        except OSError as error:
            broken = error
        try:
            return self._object(connection)
        except Unreachable as error:
            raise _unreachable(self.address.url, broken) if broken else error from broken

    def _get(self, path: str, timeout: float) -> dict[str, Any]:
        return self._object(self._send("GET", path, None, timeout))

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Iterable[bytes] | None,
        timeout: float | None,
        more_headers: Mapping[str, str] = _NO_HEADERS,
    ) -> http.client.HTTPConnection:
        """Connect and send; the answer is still to be read. ``timeout`` None: wait for ever."""
        data = json.dumps(body).encode() if isinstance(body, Mapping) else body
        connection = self._connected(timeout)
        self._request(connection, method, path, data, more_headers)
        return connection

    def _connected(self, timeout: float | None) -> http.client.HTTPConnection:
        """A connection on which reads may take so many seconds; None: for ever."""
        secure = self.address.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        try:
            connection = kind(
                self.address.host,
                self.address.port,
                timeout=min(timeout or CONNECT_TIMEOUT, CONNECT_TIMEOUT),
            )
        except http.client.InvalidURL as error:
            raise _no_address(self.address.url) from error
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise _unreachable(self.address.url, error) from error
        except UnicodeError as error:  # too long a name
            raise _no_address(self.address.url) from error
        connection.sock.settimeout(timeout)
        return connection

    def _request(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        data: bytes | Iterable[bytes] | None,
        more_headers: Mapping[str, str],
    ) -> None:
        """Send a request over a connection, which is closed if that fails."""
        headers = self._headers(more_headers)
        try:
            connection.request(method, self.address.path + path, body=data, headers=headers)
        except OSError as error:
            connection.close()
            raise _unreachable(self.address.url, error) from error
        except (http.client.InvalidURL, UnicodeError) as error:  # in the path
            connection.close()
            raise _no_address(self.address.url) from error

    @staticmethod
    def _headers(more: Mapping[str, str]) -> dict[str, str]:
        return {
            "User-Agent": f"ollamapy/{__version__}",
            "Content-Type": "application/json",
            **more,
        }

    def _done(self, connection: http.client.HTTPConnection) -> None:
        """Read an answer without content."""
        try:
            _answer(connection, self.address.url)
        finally:
            connection.close()

    def _object(self, connection: http.client.HTTPConnection) -> dict[str, Any]:
        try:
            response = _answer(connection, self.address.url)
            value = {} if response.status in _EMPTY else json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreachable(self.address.url, error) from error
        finally:
            connection.close()
        if not isinstance(value, dict):
            raise _unreachable(self.address.url, ValueError("not a JSON object"))
        return value


def _answer(connection: http.client.HTTPConnection, url: str) -> http.client.HTTPResponse:
    """The answer's head; raises AnsweredError unless its status is a good one."""
    try:
        response = connection.getresponse()
        if response.status in (200, 201, *_EMPTY):
            return response
        text = response.read(_LARGEST_ERROR).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    code = ""
    try:
        found = json.loads(text)
        text, code = str(found["error"]), str(found.get("code") or "")
    except (ValueError, KeyError, TypeError):
        text = text or response.reason
        text = (
            f"{response.status} from {url}: {text.splitlines()[0] if text else 'no reason given'}"
        )
    raise AnsweredError(text, response.status, code)


def _no_address(url: str) -> OllamapyError:
    return OllamapyError(
        f"{url!r} is no address: set OLLAMAPY_HOST or OLLAMA_HOST to HOST:PORT or http://HOST:PORT"
    )


def _unreachable(url: str, error: Exception) -> Unreachable:
    """What went wrong at ``url``, and what to do."""
    refused = isinstance(error, ConnectionRefusedError)
    silent = isinstance(error, TimeoutError)
    if silent:
        why = "no answer in time"
    elif isinstance(error, http.client.RemoteDisconnected):
        why = "it closed the connection without an answer"
    elif isinstance(error, http.client.IncompleteRead):
        why = "it broke off in the middle of its answer"
    elif isinstance(error, (http.client.HTTPException, ValueError)):
        why = "the program there is not an Ollama or ollamapy server"
    else:
        why = reason(error)
    way_out = (
        "start one there with 'ollamapy daemon start', or correct OLLAMAPY_HOST or OLLAMA_HOST"
    )
    return Unreachable(f"no server at {url} ({why}), {way_out}", refused=refused, silent=silent)

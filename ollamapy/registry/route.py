"""The route to a remote file: the address to request its bytes from, and how to judge the response.

    SHARED   one signed address for all connections, renewed before it expires
    EACH     every request follows the redirect: for servers that refuse fresh addresses
    SINGLE   one connection; if ranges do not work, from the beginning of the file

A `Route` only moves down this ladder, and fails only on the last rung. It reads no bodies and writes no
files; connections.py does, with the responses that it accepts.
"""

from __future__ import annotations

import calendar
import enum
import json
import logging
import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

from ..errors import AccessDenied, TransferError
from .http import RETRYABLE, Access, Response, Session
from .refusal import refusal, retry_after, server_message
from .remote import RemoteFile, linked_file

log = logging.getLogger(__name__)

_ODD_TRIES = 2  # responses that ignore the range before ranges are given up
_RENEW_BEFORE = 300.0  # seconds before a signed address expires
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
IDENTITY = {"Accept-Encoding": "identity"}  # compressed responses have no ranges


class Rung(enum.IntEnum):
    """The ways to request a file, from the fastest to the most robust."""

    SHARED = 0
    EACH = 1
    SINGLE = 2


class Refused(Exception):
    """A server refused; `error` is the message for the user."""

    def __init__(self, error: TransferError, rung: Rung, generation: int, start: int) -> None:
        self.error, self.rung, self.generation, self.start = error, rung, generation, start


class Odd(Exception):
    """A response that does not fit the request. `ranged`: it ignores the range."""

    def __init__(self, reason: str, *, ranged: bool = False) -> None:
        super().__init__(reason)
        self.ranged = ranged


class Busy(Exception):
    """A server is busy; `seconds` to wait if it sends them."""

    def __init__(self, status: int, seconds: float | None) -> None:
        super().__init__(f"it answers {status}")
        self.status, self.seconds = status, seconds


class Route:
    """The ladder of rule 3 for one file, shared by all workers.

    A signed address grants access for an hour, so it is kept in memory only.
    """

    def __init__(self, file: RemoteFile, access: Access, now: Callable[[], float], rung: Rung):
        self.rung = rung
        self.ranges = rung is not Rung.SINGLE
        self._file, self._access, self._now = file, access, now
        self._lock = threading.Lock()  # held while renewing: the other workers wait
        self._url: str | None = None
        self._deadline = 0.0
        self._generation = 0
        self._worked = self._fresh = False
        self._n_odd = 0

    def open(self, session: Session, start: int, end: int) -> tuple[Response, int, int]:
        """A response with the bytes from `start` on: (response, bytes to skip, generation).

        Raises BrokenConnection, Refused, Odd, Busy, TransferError.
        """
        url, generation = self._address(session)
        rung = self.rung
        headers = dict(IDENTITY)
        if self.ranges or rung is not Rung.SINGLE:
            headers["Range"] = f"bytes={start}-{end - 1}"
        response = session.open(url, headers=headers)
        try:
            return response, self._judge(response, rung, generation, start, end), generation
        except BaseException:
            response.close()
            raise

    def brought(self, generation: int) -> None:
        """Record that bytes arrived: the address works."""
        if generation == self._generation and not self._worked:
            with self._lock:
                self._worked = generation == self._generation
                self._n_odd = 0

    @property
    def worked(self) -> bool:
        return self._worked or self.rung is not Rung.SHARED

    def refused(self, refused: Refused, number: int) -> None:
        """Move to another rung. Raises the refusal's error on the last one.

        `number` counts the worker's refusals in a row: if a server accepts one connection and refuses a
        second, the address works, and renewing it does not help.
        """
        with self._lock:
            stale = refused.rung is not self.rung or refused.generation != self._generation
            if stale:
                return  # another worker has handled it
            if self.rung is Rung.SHARED:
                if (self._fresh and not self._worked) or number >= 3:
                    self._descend(Rung.EACH)
                self._url, self._worked, self._fresh = None, False, True
            elif self.rung is Rung.EACH:
                self._descend(Rung.SINGLE)
            elif self.ranges and refused.start > 0:
                self.ranges = False
            else:
                raise refused.error

    def ignored_range(self) -> None:
        """A range was ignored: once is tolerated, twice means a server without ranges."""
        with self._lock:
            self._n_odd += 1
            if self._n_odd >= _ODD_TRIES:
                self.ranges = False
                self._descend(Rung.SINGLE)

    def _descend(self, rung: Rung) -> None:
        if rung > self.rung:
            log.info("downloading %s: going on with %s", self._file.path, rung.name.lower())
            self.rung = rung

    def _address(self, session: Session) -> tuple[str, int]:
        with self._lock:
            if self.rung is Rung.SHARED:
                if self._url is not None and self._now() >= self._deadline:
                    self._url, self._worked, self._fresh = None, False, False
                if self._url is None:
                    self._resolve(session)
            if self.rung is Rung.SHARED and self._url is not None:
                return self._url, self._generation
            return self._file.url, self._generation

    def _resolve(self, session: Session) -> None:
        """Request the current address, and check that the file is unchanged."""
        response = session.open(self._file.url, method="HEAD", headers=IDENTITY, leave_home=False)
        response.close()
        if response.status in RETRYABLE:
            raise Busy(response.status, retry_after(response.headers))
        if response.redirect is None and response.status not in (200, 206):
            self._descend(
                Rung.EACH
            )  # a server without HEAD may have GET, or refuse it with a reason
            return
        linked = linked_file(response.headers)
        if linked is not None and (
            linked[0] != (self._file.sha256 or linked[0])
            or linked[1] not in (None, self._file.size)
        ):
            raise TransferError(
                f"{self._file.path} has changed on {self._access.host} since it was listed, pull again"
            )
        self._url = response.redirect or response.url
        self._generation += 1
        life = lifetime(self._url, response.headers)
        margin = min(_RENEW_BEFORE, life / 4)
        self._deadline = self._now() + life - margin

    def _judge(self, response: Response, rung: Rung, generation: int, start: int, end: int) -> int:
        """The bytes to skip in a usable response. Raises Busy, Refused, Odd."""
        status, size, headers = response.status, self._file.size, response.headers
        if status in RETRYABLE:
            raise Busy(status, retry_after(headers))
        if status in (400, 401, 403, 404, 410, 451):
            raise Refused(self._refusal(response), rung, generation, start)
        if status not in (200, 206):
            raise Odd(f"it answers {status}")
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            raise Odd("it answers with a web page: is there a login page or a proxy between?")
        if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise Odd("it compresses the file", ranged=status == 200 and rung is not Rung.SINGLE)
        if status == 206:
            found = RANGE.fullmatch(headers.get("Content-Range", ""))
            if not found or [int(each) for each in found.groups()] != [start, end - 1, size]:
                raise Odd("it sends another range than requested", ranged=True)
            return 0
        length = headers.get("Content-Length", str(size))
        if length != str(size):
            raise Odd(f"it has {ascii(length)[1:21]} bytes of it instead of {size}")
        if rung is Rung.SINGLE:
            return start
        if (start, end) != (0, size):
            raise Odd("it ignores the requested range", ranged=True)
        return 0

    def _refusal(self, response: Response) -> TransferError:
        file, access = self._file, self._access
        if access.is_home(response.url):
            return refusal(response, access, file.path, file.page)
        host = urlsplit(response.url).hostname
        message = server_message(response, access)
        text = f"{host} refuses to send {file.path}: {response.status}{f' ({message})' if message else ''}"
        if response.status == 400 and file.size > 400 * 10**9:
            return TransferError(f"{text}; files above 400 GB need Hugging Face's own client")
        return AccessDenied(f"{text}, try again later or from another network")


def lifetime(url: str, headers: Mapping[str, str]) -> float:
    """Seconds until a signed address expires, by the server's clock; infinite if unknown."""
    try:
        query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        issued = time.time()
        if "Date" in headers:
            issued = parsedate_to_datetime(headers["Date"]).timestamp()
        if "X-Amz-Date" in query:
            signed = calendar.timegm(time.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
            ends = signed + int(query["X-Amz-Expires"])
        elif "Expires" in query:
            ends = int(query["Expires"])
        else:
            policy = query["Policy"].translate(str.maketrans("-_~", "+=/"))
            statement = json.loads(b64decode(policy))["Statement"][0]
            ends = int(statement["Condition"]["DateLessThan"]["AWS:EpochTime"])
        return ends - issued if ends > issued else float("inf")
    except (KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError):
        return float("inf")

"""The connections of a download: each is a thread that fetches one span of the file after another.

    ascending ranges; each thread writes at its own offset; connections are added while they help, and a
    stalled one is replaced

This module keeps rules 2, 3 and 5 of download.py. pieces.py decides which bytes to request, route.py
from which address.
"""

from __future__ import annotations

import zlib
from io import FileIO

from ..errors import RateLimited, TransferError
from .attempt import TICK, Attempt
from .http import BrokenConnection, Response, Session
from .limits import MAX_CONNECTIONS
from .patience import backoff
from .pieces import MAX_CUTS, MIB, Flow, Ramp, Span, laggards, usual_rate, widen
from .refusal import busy, unreachable
from .route import Busy, Odd, Refused, Route, Rung

_CHUNK = 256 * 1024  # bytes written at a time
_CHUNK_SECONDS = 0.1  # and at the latest after this time
_MEMORY = 2.5  # seconds over which the speed of a connection is averaged
_TRIES = 6  # failures of one span in a row without a byte
_LONGEST_WAIT = 15 * 60.0  # seconds that a server may ask us to wait
_EACH_PIECE = 64 * MIB  # of a request through the hub, which limits their number


class _Cut(Exception):
    """We closed the connection ourselves."""


class _Worker:
    """One connection: the span that it reads, and how fast."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.span: Span | None = None
        self.response: Response | None = None
        self.opened = 0.0
        self.received = 0  # bytes in all
        self.counted = 0  # of them, those in `rate`
        self.busy = 0.0  # seconds of work that `rate` remembers
        self.rate = 0.0  # bytes a second over the last few
        self.cut = False


class Connections:
    """The workers of an attempt, and the route that they share."""

    def __init__(self, attempt: Attempt) -> None:
        rung = Rung.SINGLE if attempt.careful else Rung.SHARED
        patience, limits = attempt.patience, attempt.limits
        self._try = attempt
        self._route = Route(attempt.file, attempt.access, patience.now, rung)  # has its own lock
        self._most = max(1, min(limits.connections, MAX_CONNECTIONS))
        self._ramp = Ramp()
        self._workers: list[_Worker] = []
        self._hold_until = 0.0
        self._contact = patience.now()  # when a server last responded
        self._pace = 0.0  # when the next byte may come, under a limit of the rate
        self._usual = 0.0  # of one connection, bytes a second
        self._ticked = patience.now()
        self._ramped = (
            patience.now(),
            0,
        )  # when the number of connections last changed, and the bytes then

    def adjust(self) -> None:
        """Measure the speeds, replace slow connections, add more. Called every `TICK`, with `changed` held."""
        self._measure()
        self._cut_laggards()
        self._widen()

    def shut(self) -> None:
        """Interrupt every worker that waits for bytes. Called with `changed` held."""
        for worker in self._workers:
            if worker.response is not None:
                worker.response.shut()

    def _measure(self) -> None:
        """Update the speed of every connection: a moving average."""
        now = self._try.patience.now()
        passed, self._ticked = now - self._ticked, now
        if passed <= 0:
            return
        for worker in self._workers:
            if worker.span is None:
                continue
            rate = (worker.received - worker.counted) / passed
            worker.counted = worker.received
            worker.busy = min(
                _MEMORY, worker.busy + passed
            )  # the full time while the connection is young
            worker.rate += min(1.0, passed / worker.busy) * (rate - worker.rate)

    def _cut_laggards(self) -> None:
        now = self._try.patience.now()
        busy = [each for each in self._workers if each.span and each.response and not each.cut]
        flows = [
            Flow(now - each.opened, each.rate, each.span.left if each.span else 0) for each in busy
        ]
        left = self._try.file.size - self._try.pieces.present
        self._usual = usual_rate(flows, self._usual)
        for number in laggards(flows, left, self._try.limits.slow_after, self._usual):
            worker = busy[number]
            if worker.span and worker.span.cuts < MAX_CUTS and not self._try.limits.rate:
                worker.span.cuts += 1
                worker.cut = True
                if worker.response:
                    worker.response.shut()

    def _widen(self) -> None:
        """Start workers: a second when the first has received bytes, more while the total speed grows."""
        now, (since, before) = self._try.patience.now(), self._ramped
        active = [each for each in self._workers if each.span]
        if self._ramp.width == 1 and self._route.worked and self._try.received:
            self._ramp, self._ramped = Ramp(min(2, self._most)), (now, self._try.received)
        elif not self._route.worked or not active or any(not each.received for each in active):
            self._ramped = (now, self._try.received)  # measured from when all of them receive
        elif self._measured(now - since, (self._try.received - before) / len(active)):
            rate = (self._try.received - before) / (now - since)
            self._ramp, self._ramped = (
                widen(self._ramp, rate, self._most),
                (now, self._try.received),
            )
        while len(self._workers) < self._width():
            worker = _Worker(len(self._workers))
            self._workers.append(worker)
            self._try.start(self._work, worker)

    def _measured(self, seconds: float, each: float) -> bool:
        """Whether the speed of a connection is known: sooner where a MiB arrives quickly."""
        most = self._try.limits.ramp_after
        return seconds >= most or (seconds >= 0.3 * most and each >= MIB)

    def _width(self) -> int:
        return 1 if self._route.rung is Rung.SINGLE else self._ramp.width

    def _work(self, worker: _Worker) -> None:
        """The thread of a worker: fetch spans, one after another, over its own session."""
        try:
            out = FileIO(self._try.data, "r+b")
        except OSError as error:
            raise self._try.disk_error(error) from None
        with out, Session(self._try.access) as session:
            while (span := self._next(worker)) is not None:
                try:
                    self._fill(worker, span, session, out)
                finally:
                    with self._try.changed:
                        worker.span = None
                        self._try.pieces.release(span)
                        self._try.changed.notify_all()

    def _next(self, worker: _Worker) -> Span | None:
        """The next span to fetch; None when this worker is no longer needed."""
        with self._try.changed:
            while not self._try.stop.is_set() and worker.rank < self._width():
                rung = self._route.rung
                longest = {
                    Rung.SHARED: self._try.pieces.piece,
                    Rung.EACH: max(self._try.pieces.piece, _EACH_PIECE),
                    Rung.SINGLE: self._try.file.size,
                }[rung]
                span = self._try.pieces.take(longest)
                if span is None and rung is Rung.SHARED and not self._try.limits.rate:
                    rates = {each.span.start: each.rate for each in self._workers if each.span}
                    span = self._try.pieces.split(rates)
                if span is not None:
                    worker.span = span
                    return span
                self._try.changed.wait(TICK)
        return None

    def _fill(self, worker: _Worker, span: Span, session: Session, out: FileIO) -> None:
        """Fetch a span, over as many connections as it takes.

        Returns early when the attempt stops or needs fewer workers. Raises errors that end the whole
        download.
        """
        failures = refusals = 0
        refused_at = -1
        while span.left > 0 and not self._try.stop.is_set() and worker.rank < self._width():
            self._wait_for_permission()
            self._wait_for_others(worker)
            before = span.position
            try:
                self._stream(worker, span, session, out)
            except _Cut:
                continue
            except Refused as refused:
                self._contact = self._try.patience.now()
                refusals = refusals + 1 if span.position == refused_at else 1
                refused_at = span.position
                self._route.refused(refused, refusals)
            except (Odd, Busy, BrokenConnection) as error:
                failures = self._failed(error, failures, moved=span.position > before)

    def _failed(self, error: Odd | Busy | BrokenConnection, failures: int, *, moved: bool) -> int:
        """Handle an error of a connection, and wait before the next try; returns the failures in a row, which were ``failures``
        before. ``moved``: bytes came before the error. Raises what ends the download."""
        host = self._try.access.host
        if isinstance(error, BrokenConnection):
            if error.hopeless:
                raise unreachable(host, str(error)) from None
            if error.unreachable:
                self._wait_for_network(failures, str(error))
                return min(failures + 1, _TRIES - 1)
        else:
            self._contact = self._try.patience.now()
        if isinstance(error, Odd) and error.ranged:
            self._route.ignored_range()
        if isinstance(error, Busy):
            self._hold(error, failures)
        failures = 0 if moved else failures + 1
        if failures >= _TRIES:
            raise TransferError(
                f"cannot get {self._try.file.path} from {host} ({error}): {self._try.resume_hint()}"
            )
        holds = isinstance(error, Busy) and error.seconds is not None
        if failures and not holds:
            self._try.patience.wait(self._try.stop, backoff(failures - 1))
        return failures

    def _stream(self, worker: _Worker, span: Span, session: Session, out: FileIO) -> None:
        """Send one request and write its bytes, until the span is complete or the connection breaks."""
        response, skip, generation = self._route.open(session, span.position, span.end)
        with self._try.changed:
            worker.response, worker.cut = response, False
            worker.opened = self._contact = self._try.patience.now()
        held: list[bytes] = []
        size, since = 0, self._try.patience.now()
        try:
            while skip > 0:
                skip -= len(self._read(response, worker, min(_CHUNK, skip)))
            while size < span.left:
                chunk = self._read(response, worker, min(self._chunk(), span.left - size))
                held.append(chunk)
                size += len(chunk)
                now = self._try.patience.now()
                if size >= _CHUNK or now - since > _CHUNK_SECONDS:
                    data, held, size, since = b"".join(held), [], 0, now
                    self._put(worker, span, data, out)
                    self._route.brought(generation)
        finally:
            try:
                if held:
                    self._put(worker, span, b"".join(held), out)
                    self._route.brought(generation)
            finally:
                with self._try.changed:
                    worker.response = None
                response.close()

    def _read(self, response: Response, worker: _Worker, size: int) -> bytes:
        try:
            chunk = response.read(size)
        except BrokenConnection:
            if self._try.stop.is_set() or worker.cut:
                raise _Cut from None
            raise
        if self._try.stop.is_set() or worker.cut:
            raise _Cut
        if not chunk:
            raise BrokenConnection("the connection broke off")
        if self._try.limits.rate:
            now = self._try.patience.now()
            with self._try.changed:
                due = self._pace = max(self._pace, now)
                self._pace += len(chunk) / self._try.limits.rate
            if due > now:
                self._try.patience.wait(self._try.stop, due - now)
        return chunk

    def _chunk(self) -> int:
        rate = self._try.limits.rate
        return min(_CHUNK, max(4096, rate // 8)) if rate else _CHUNK

    def _put(self, worker: _Worker, span: Span, data: bytes, out: FileIO) -> None:
        """Write bytes at the span's position, up to its end, which another thread may move closer."""
        with self._try.changed:
            if self._try.stop.is_set() or worker.cut:
                raise _Cut
            left = span.left
        view = memoryview(data)[:left]
        try:
            out.seek(span.position)
            written = 0
            while written < len(view):
                written += out.write(view[written:])
        except OSError as error:
            raise self._try.disk_error(error) from None
        crc = zlib.crc32(view, span.crc)
        with self._try.changed:
            if span.left < len(
                view
            ):  # split meanwhile: another worker fetches the rest, the bytes are the same
                view = view[: span.left]
                crc = zlib.crc32(view, span.crc)
            self._try.pieces.advance(span, len(view), crc)
            worker.received += len(data)
            self._try.received += len(data)
            self._contact = self._try.patience.now()
            self._try.note = ""

    def _wait_for_permission(self) -> None:
        """Wait as long as the server asked all workers to."""
        while not self._try.stop.is_set():
            left = self._hold_until - self._try.patience.now()
            if left <= 0:
                return
            self._try.patience.wait(self._try.stop, left)

    def _wait_for_others(self, worker: _Worker) -> None:
        """On the last rung one connection is allowed: wait until the other workers have closed theirs."""
        with self._try.changed:
            while (
                self._route.rung is Rung.SINGLE
                and any(each.response for each in self._workers if each is not worker)
                and not self._try.stop.is_set()
            ):
                self._try.changed.wait(TICK)

    def _hold(self, server: Busy, failures: int) -> None:
        """Make all workers wait as long as the server asks for."""
        seconds = server.seconds
        if seconds is None:
            return
        if seconds > _LONGEST_WAIT or (server.status == 429 and failures + 1 >= _TRIES):
            raise RateLimited(
                f"{self._try.access.host} limits requests, try again in {seconds:.0f} s: "
                f"{self._try.resume_hint()}",
                int(seconds),
            )
        with self._try.changed:
            self._hold_until = max(self._hold_until, self._try.patience.now() + seconds)
            self._try.note = busy(self._try.access.host, server.status, seconds)

    def _wait_for_network(self, failures: int, reason: str) -> None:
        if self._try.patience.now() - self._contact > self._try.limits.network_patience:
            error = unreachable(self._try.access.host, reason)
            raise type(error)(f"{error}; {self._try.resume_hint()}")
        with self._try.changed:
            self._try.note = f"waiting for the network: {reason}"
        self._try.patience.wait(self._try.stop, backoff(failures))

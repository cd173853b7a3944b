"""One file from another machine into the store: fast, resumable, verified, published whole.

    worker ──┐ ranges, ascending          ┌─ hasher: sha256 close behind the first missing byte
    worker ──┼──> partial/<key> ──────────┤
    worker ──┘ each writes at its place   └─ keeper: flush, then journal, every two seconds
        verified -> flushed -> renamed to blobs/sha256-<hex> -> journal removed

    Rule 1  Nothing gets into blobs/ that was not hashed from the disk and found right.
    Rule 2  Bytes are written where they belong or not at all: a 206 with exactly the range asked
            for, or a whole 200 read from its beginning. Two writers write the same bytes, so the
            lock between processes is advice: broken, it costs bandwidth and never truth.
    Rule 3  A refusal of a signed address is first taken for its age, once. Then the way is changed:
            one address for all -> a new one for each request -> one connection from end to end.
    Rule 4  Whatever ends it, the journal is written; the same call goes on where it stopped.
    Rule 5  A worker that was told to stop, or whose connection was ended, writes nothing any more.

`fetch` blocks its caller, who gets progress in its own thread and can cancel from any other. What to
fetch is decided elsewhere (hub.py, oci.py); how machines are asked, in http.py; where, in route.py;
which bytes, in pieces.py.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import (
    DigestMismatch,
    DiskFull,
    OllamapyError,
    RateLimited,
    RequestCancelled,
    StoreError,
    TransferError,
    reason,
)
from ..human import format_bytes
from . import journal
from .http import Access, Answer, BrokenConnection, Session
from .patience import Patience, ask, backoff
from .pieces import (
    MAX_CUTS,
    MIB,
    Flow,
    Pieces,
    Ramp,
    Segment,
    Span,
    laggards,
    piece_size,
    usual_rate,
    widen,
)
from .refusal import busy, refusal, unreachable
from .route import IDENTITY, RANGE, Busy, Odd, Refused, RemoteFile, Route, Rung, linked_file
from .store import MAX_SMALL, Store

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16

_CHUNK = 256 * 1024  # bytes written at a time
_CHUNK_SECONDS = 0.1  # and no later than this after they came
_TICK = 0.1  # seconds between two looks at everything: progress, speed, cancellation
_MEMORY = 2.5  # seconds over which the speed of a connection is averaged
_JOURNAL_BYTES = 256 * MIB
_JOURNAL_ROOM = 64 * 1024  # bytes on the disk that a journal may take
_TRIES = 6  # of one span in a row without a byte
_LONGEST_WAIT = 15 * 60.0  # seconds that a server may ask us to wait
_EACH_PIECE = 64 * MIB  # where every request costs the hub one
_POLL = 0.5  # seconds between looks at what another process downloads
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# What is said and asked


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. Rates in bytes a second (0: none), times in seconds."""

    connections: int = 8
    rate: int = 0
    force: bool = False
    """Start though the disk seems too small."""
    network_patience: float = 600.0
    """How long to wait for a network that went away."""
    slow_after: float = 5.0
    ramp_after: float = 0.5
    journal_after: float = 2.0
    piece: int = 0
    """Bytes asked for at a time; 0 chooses by the file's size."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes that are there of `total`, those of them that came in this call, and why it waits."""

    digest: str
    total: int
    completed: int
    received: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A blob that is in the store now, and the bytes that had to be received for it."""

    digest: str
    received: int


def fetch(
    file: RemoteFile,
    access: Access,
    store: Store,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    patience: Patience | None = None,
    limits: Limits | None = None,
) -> Fetched:
    """Bring a file into the store, unless it is there; go on with what an earlier call left.

    `progress` is called in this thread, at most ten times a second. Raises TransferError and its
    children, StoreError, and RequestCancelled once `patience.cancelled` is set.
    """
    patience, limits = patience or Patience(), limits or Limits()
    folder = store.roots[0] / "partial"
    if _present(file, store):
        store.touch(f"sha256:{file.sha256}")
        return Fetched(f"sha256:{file.sha256}", 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    lock = _claim(file, store, progress, patience)
    try:
        if _present(file, store):  # while we waited for the lock
            return Fetched(f"sha256:{file.sha256}", 0)
        if not limits.force:
            check_space([file], store)
        return _fetch_twice(file, access, store, progress, patience, limits)
    finally:
        if lock is not None:
            if not (folder / file.key).exists():  # nothing left that would need a lock
                with suppress(OSError):
                    (folder / f"{file.key}.lock").unlink(missing_ok=True)
            lock.release()


def _fetch_twice(
    file: RemoteFile,
    access: Access,
    store: Store,
    progress: Callable[[Progress], None],
    patience: Patience,
    limits: Limits,
) -> Fetched:
    """The second time for content that came wrong: from nothing, over one connection."""
    received = 0
    for careful in (False, True):
        download = _Download(file, access, store, progress, patience, limits, careful)
        try:
            digest = download.run()
            return Fetched(digest, received + download.received)
        except StoreError:
            if not _present(file, store):
                raise
            download.discard()  # somebody with another idea of the lock was first
            return Fetched(f"sha256:{file.sha256}", received + download.received)
        except DigestMismatch as error:
            download.discard()
            if careful:
                raise
            received += download.received
            log.warning("%s; getting it again over one connection", error)
    raise AssertionError("the second try returns or raises")


def check_space(files: Iterable[RemoteFile], store: Store) -> None:
    """Raise DiskFull if the store's disk has no room for these files and some to spare.

    What is there or begun is not counted twice. To spare is a hundredth, and up to 512 MiB for a
    file that is as large.
    """
    folder = store.roots[0] / "partial"
    left, largest = 0, 0
    for file in {each.key: each for each in files if not _present(each, store)}.values():
        left += file.size - journal.kept(folder / f"{file.key}.json", file.size)
        largest = max(largest, file.size)
    needed = left + max(left // 100, min(largest, 512 * MIB))
    if left:
        store.check_room(needed)


def read_small(
    file: RemoteFile, access: Access, patience: Patience | None = None, limit: int = MAX_SMALL
) -> bytes:
    """A small file's content, verified, kept out of the store. Raises as `fetch` does."""
    if file.size > limit:
        raise TransferError(f"{file.path} has {file.size} bytes, more than the {limit} allowed")
    with Session(access) as session:
        answer = ask(session, file.url, patience or Patience())
        if answer.status != 200:
            raise refusal(answer, access, file.path, file.page)
        try:
            content = answer.content(limit)
        except BrokenConnection as error:
            raise unreachable(access.host, str(error)) from None
    _verify(file, access, hashlib.sha256(content).hexdigest(), _git_sum(file.size, content))
    return content


def probe(url: str, access: Access, patience: Patience | None = None) -> RemoteFile:
    """What lies at an address that somebody typed: its size, and its sha256 if the server says.

    Raises TransferError, also if the server does not say how large it is.
    """
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "model"
    path = "".join(each for each in name if each.isprintable())[:200]
    patience = patience or Patience()
    with Session(access) as session:
        head = None
        with suppress(BrokenConnection):  # not everybody answers HEAD; GET has the last word
            head = session.open(url, method="HEAD", leave_home=False)
            head.close()
        linked = linked_file(head.headers) if head is not None else None
        if linked and linked[1] is not None:
            return RemoteFile(path, url, linked[1], linked[0])
        answer = ask(session, url, patience, headers={**IDENTITY, "Range": "bytes=0-0"})
        if answer.status not in (200, 206):
            raise refusal(answer, access, path, url.partition("?")[0])
        answer.close()
        found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        length = answer.headers.get("Content-Length", "")
        if answer.status == 206 and found:
            size = int(found[3])
        elif answer.status == 200 and length.isdigit():
            size = int(length)
        else:
            raise TransferError(f"{access.host} does not say how large {path} is")
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise TransferError(f"{access.host} answers with a web page instead of {path}")
        etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
        return RemoteFile(path, url, size, None, etag=etag)


def _present(file: RemoteFile, store: Store) -> bool:
    if file.sha256 is None:
        return False
    digest = f"sha256:{file.sha256}"
    try:
        return store.has(digest) and store.blob_path(digest).stat().st_size == file.size
    except (OSError, StoreError):
        return False


def _git_sum(size: int, content: bytes = b"") -> Any:
    return hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False)


def _verify(file: RemoteFile, access: Access, sha256: str, git: Any) -> None:
    """Raise DigestMismatch unless it is what was announced."""
    if file.sha256 is not None:
        expected, got = f"sha256:{file.sha256}", f"sha256:{sha256}"
    elif file.git_sha1 is not None:
        expected, got = f"git:{file.git_sha1}", f"git:{git.hexdigest()}"
    else:
        return
    if expected != got:
        raise DigestMismatch(
            f"{file.path} from {access.host} is damaged, expected {expected}, got {got}: a proxy or"
            " a mirror may have changed it, try again or from another network"
        )


def _claim(
    file: RemoteFile, store: Store, progress: Callable[[Progress], None], patience: Patience
) -> Any:
    """The lock on a file's work, or None where there are no locks; waits while another has it.

    Returns, too, when the other has finished.
    """
    from filelock import FileLock, Timeout

    folder = store.roots[0] / "partial"
    lock = FileLock(folder / f"{file.key}.lock", mode=0o644)
    while True:
        try:
            lock.acquire(blocking=False)
            return lock
        except Timeout:
            pass
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS, *_DISK_FULL):
                raise _cannot_write(folder, error) from None
            return None
        if _present(file, store):
            return None
        there = journal.kept(folder / f"{file.key}.json", file.size)
        digest = f"sha256:{file.sha256}"
        note = "another process downloads it"
        progress(Progress(digest, file.size, there, 0, note))
        if patience.wait(patience.cancelled, _POLL):
            raise RequestCancelled("cancelled")


def _cannot_write(folder: Path, error: OSError) -> OllamapyError:
    return StoreError(
        f"cannot write to {folder} ({reason(error)}): make it writable or point OLLAMAPY_MODELS elsewhere"
    )


# The download


class _Cut(Exception):
    """The connection was ended by ourselves."""


class _Worker:
    """One connection's life: what it reads now, and how fast."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.span: Span | None = None
        self.answer: Answer | None = None
        self.opened = 0.0
        self.received = 0  # bytes in all
        self.counted = 0  # of them, those in `rate`
        self.busy = 0.0  # seconds of work that `rate` remembers
        self.rate = 0.0  # bytes a second over the last few
        self.cut = False


class _Download:
    """One try at one file. Its fields are guarded by `_changed`, but for those that say otherwise."""

    def __init__(
        self,
        file: RemoteFile,
        access: Access,
        store: Store,
        progress: Callable[[Progress], None],
        patience: Patience,
        limits: Limits,
        careful: bool,
    ) -> None:
        folder = store.roots[0] / "partial"
        self._file, self._access, self._store = file, access, store
        self._progress, self._patience, self._limits = progress, patience, limits
        self._data = folder / file.key
        self._journal = folder / f"{file.key}.json"
        segments = [] if careful else self._resumed()
        self._pieces = Pieces(file.size, limits.piece or piece_size(file.size), segments)
        rung = Rung.SINGLE if careful else Rung.SHARED
        self._route = Route(file, access, patience.now, rung)  # has a lock of its own
        self._most = max(1, min(limits.connections, MAX_CONNECTIONS))
        self._ramp = Ramp()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._workers: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._digest: str | None = None
        self._hold_until = 0.0
        self._contact = patience.now()  # when a machine last answered
        self._pace = 0.0  # when the next byte may come, under a limit of the rate
        self._usual = 0.0  # what one connection brings, bytes a second
        self._note = ""
        self._told: Progress | None = None
        self._told_at = 0.0
        self._ticked = patience.now()
        self._ramped = (patience.now(), 0)  # when the connections were last counted, bytes then
        self.received = 0

    def run(self) -> str:
        """Do it; the digest of the blob that is in the store then."""
        try:
            with self._data.open("ab") as data:  # made if it is not there, and never emptied
                if data.tell() > self._file.size:
                    data.truncate(self._file.size)
        except OSError as error:
            raise self._disk_error(error) from None
        try:
            self._start(self._hash)
            self._start(self._keep_journal)
            self._watch()
        finally:
            self._end()
        assert self._digest is not None
        self._publish(self._digest)
        return self._digest

    def discard(self) -> None:
        """Remove what was downloaded: it is wrong."""
        for path in (self._data, self._journal):
            path.unlink(missing_ok=True)

    def _resumed(self) -> list[Segment]:
        try:
            size = self._data.stat().st_size
        except OSError:
            return []
        found = journal.read(self._journal, self._file.size)
        return [each for each in found if each.end <= size]

    # The caller's thread

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._failure is not None:
                    raise self._failure
                if self._digest is not None:
                    break
                self._measure()
                self._cut_laggards()
                self._widen()
                report = self._report()
            self._tell(report)
            if self._patience.cancelled.is_set():
                raise RequestCancelled(f"cancelled, {self._resume_hint()}")
            with self._changed:
                if self._failure is None and self._digest is None:
                    self._changed.wait(_TICK)
        self._tell(self._report(), now=True)

    def _report(self) -> Progress:
        digest = f"sha256:{self._file.sha256}" if self._file.sha256 else self._digest or ""
        return Progress(digest, self._file.size, self._pieces.present, self.received, self._note)

    def _tell(self, report: Progress, *, now: bool = False) -> None:
        if report != self._told and (now or time.monotonic() - self._told_at >= _TICK):
            self._told, self._told_at = report, time.monotonic()
            self._progress(report)

    def _measure(self) -> None:
        """Bring the speed of every connection up to now: an average that slowly forgets."""
        now = self._patience.now()
        passed, self._ticked = now - self._ticked, now
        if passed <= 0:
            return
        for worker in self._workers:
            if worker.span is None:
                continue
            rate = (worker.received - worker.counted) / passed
            worker.counted = worker.received
            worker.busy = min(_MEMORY, worker.busy + passed)  # all of it, while it is young
            worker.rate += min(1.0, passed / worker.busy) * (rate - worker.rate)

    def _cut_laggards(self) -> None:
        now = self._patience.now()
        busy = [each for each in self._workers if each.span and each.answer and not each.cut]
        flows = [
            Flow(now - each.opened, each.rate, each.span.left if each.span else 0) for each in busy
        ]
        left = self._file.size - self._pieces.present
        self._usual = usual_rate(flows, self._usual)
        for number in laggards(flows, left, self._limits.slow_after, self._usual):
            worker = busy[number]
            if worker.span and worker.span.cuts < MAX_CUTS and not self._limits.rate:
                worker.span.cuts += 1
                worker.cut = True
                if worker.answer:
                    worker.answer.shut()

    def _widen(self) -> None:
        """Start workers: the second when the first has brought something, then by what they bring."""
        now, (since, before) = self._patience.now(), self._ramped
        active = [each for each in self._workers if each.span]
        if self._ramp.width == 1 and self._route.worked and self.received:
            self._ramp, self._ramped = Ramp(min(2, self._most)), (now, self.received)
        elif not self._route.worked or not active or any(not each.received for each in active):
            self._ramped = (now, self.received)  # measured from when all of them flow
        elif self._measured(now - since, (self.received - before) / len(active)):
            rate = (self.received - before) / (now - since)
            self._ramp, self._ramped = widen(self._ramp, rate, self._most), (now, self.received)
        while len(self._workers) < self._width():
            worker = _Worker(len(self._workers))
            self._workers.append(worker)
            self._start(self._work, worker)

    def _measured(self, seconds: float, each: float) -> bool:
        """Whether what a connection brings is known: sooner where a MiB comes in a moment."""
        most = self._limits.ramp_after
        return seconds >= most or (seconds >= 0.3 * most and each >= MIB)

    def _width(self) -> int:
        return 1 if self._route.rung is Rung.SINGLE else self._ramp.width

    def _end(self) -> None:
        """Stop the threads, wait a moment for them, and write down what is there."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
            for worker in self._workers:
                if worker.answer is not None:
                    worker.answer.shut()
        end = time.monotonic() + 1
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        if self._digest is None:
            with suppress(OSError):
                self._write_last_journal()

    def _publish(self, digest: str) -> None:
        """The blob gets its name; its journal goes on as the checksums of its pieces."""
        self._store.adopt_file(self._data, digest)
        with suppress(OSError):
            self._journal.unlink(missing_ok=True)
        if self._file.size >= journal.SUMS_FROM:
            sums = self._store.sums_path(digest)
            with suppress(OSError):  # without them a repair fetches more
                journal.write(sums, self._file.size, self._file.path, self._pieces.segments())

    # Threads

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._fail(error)

        thread = threading.Thread(target=run, name="download", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            if self._failure is None:
                self._failure = error
            self._stop.set()
            self._changed.notify_all()

    def _work(self, worker: _Worker) -> None:
        """A worker: spans, one after the other, over connections of its own."""
        try:
            out = FileIO(self._data, "r+b")
        except OSError as error:
            raise self._disk_error(error) from None
        with out, Session(self._access) as session:
            while (span := self._next(worker)) is not None:
                try:
                    self._fill(worker, span, session, out)
                finally:
                    with self._changed:
                        worker.span = None
                        self._pieces.release(span)
                        self._changed.notify_all()

    def _next(self, worker: _Worker) -> Span | None:
        """What to fetch next; None when this worker is not needed any more."""
        with self._changed:
            while not self._stop.is_set() and worker.rank < self._width():
                rung = self._route.rung
                longest = {
                    Rung.SHARED: self._pieces.piece,
                    Rung.EACH: max(self._pieces.piece, _EACH_PIECE),
                    Rung.SINGLE: self._file.size,
                }[rung]
                span = self._pieces.take(longest)
                if span is None and rung is Rung.SHARED and not self._limits.rate:
                    rates = {each.span.start: each.rate for each in self._workers if each.span}
                    span = self._pieces.split(rates)
                if span is not None:
                    worker.span = span
                    return span
                self._changed.wait(_TICK)
        return None

    def _fill(self, worker: _Worker, span: Span, session: Session, out: FileIO) -> None:
        """Get a span's bytes, over as many connections as it takes.

        Returns early when told to stop or when one connection is to be enough. Raises what ends the
        whole download.
        """
        failures = refusals = 0
        refused_at = -1
        while span.left > 0 and not self._stop.is_set() and worker.rank < self._width():
            self._wait_for_permission()
            before = span.position
            seconds: float | None = None
            try:
                self._stream(worker, span, session, out)
                continue
            except _Cut:
                continue
            except Refused as refused:
                self._contact = self._patience.now()
                refusals = refusals + 1 if span.position == refused_at else 1
                refused_at = span.position
                self._route.refused(refused, refusals)
                continue
            except Odd as odd:
                self._contact = self._patience.now()
                if odd.ranged:
                    self._route.ignored_range()
                reason = str(odd)
            except Busy as answer:
                self._contact = self._patience.now()
                seconds, reason = answer.seconds, str(answer)
                self._hold(answer, failures)
            except BrokenConnection as error:
                reason = str(error)
                if error.hopeless:
                    raise unreachable(self._access.host, reason) from None
                if error.unreachable:
                    self._wait_for_network(failures, reason)
                    failures += 1 if failures < 5 else 0
                    continue
            failures = 0 if span.position > before else failures + 1
            if failures >= _TRIES:
                raise TransferError(
                    f"cannot get {self._file.path} from {self._access.host} ({reason}):"
                    f" {self._resume_hint()}"
                )
            if seconds is None and failures:
                self._patience.wait(self._stop, backoff(failures - 1))

    def _stream(self, worker: _Worker, span: Span, session: Session, out: FileIO) -> None:
        """One request: its bytes into the file, until the span is full or it breaks off."""
        answer, skip, generation = self._route.open(session, span.position, span.end)
        with self._changed:
            worker.answer, worker.cut = answer, False
            worker.opened = self._contact = self._patience.now()
        held: list[bytes] = []
        size, since = 0, self._patience.now()
        try:
            while skip > 0:
                skip -= len(self._read(answer, worker, min(_CHUNK, skip)))
            while size < span.left:
                chunk = self._read(answer, worker, min(self._chunk(), span.left - size))
                held.append(chunk)
                size += len(chunk)
                now = self._patience.now()
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
                with self._changed:
                    worker.answer = None
                answer.close()

    def _read(self, answer: Answer, worker: _Worker, size: int) -> bytes:
        try:
            chunk = answer.read(size)
        except BrokenConnection:
            if self._stop.is_set() or worker.cut:
                raise _Cut from None
            raise
        if self._stop.is_set() or worker.cut:
            raise _Cut
        if not chunk:
            raise BrokenConnection("the connection broke off")
        if self._limits.rate:
            now = self._patience.now()
            with self._changed:
                due = self._pace = max(self._pace, now)
                self._pace += len(chunk) / self._limits.rate
            if due > now:
                self._patience.wait(self._stop, due - now)
        return chunk

    def _chunk(self) -> int:
        rate = self._limits.rate
        return min(_CHUNK, max(4096, rate // 8)) if rate else _CHUNK

    def _put(self, worker: _Worker, span: Span, data: bytes, out: FileIO) -> None:
        """Write bytes at the span's position, no further than its end, which may come nearer."""
        with self._changed:
            if self._stop.is_set() or worker.cut:
                raise _Cut
            left = span.left
        view = memoryview(data)[:left]
        try:
            out.seek(span.position)
            written = 0
            while written < len(view):
                written += out.write(view[written:])
        except OSError as error:
            raise self._disk_error(error) from None
        crc = zlib.crc32(view, span.crc)
        with self._changed:
            if span.left < len(view):  # split while we wrote: the rest is another's, and the same
                view = view[: span.left]
                crc = zlib.crc32(view, span.crc)
            self._pieces.advance(span, len(view), crc)
            worker.received += len(data)
            self.received += len(data)
            self._contact = self._patience.now()
            self._note = ""

    def _wait_for_permission(self) -> None:
        """Wait as long as a server asked all of us to."""
        while not self._stop.is_set():
            left = self._hold_until - self._patience.now()
            if left <= 0:
                return
            self._patience.wait(self._stop, left)

    def _hold(self, answer: Busy, failures: int) -> None:
        """Let all workers wait as long as the server asks for."""
        seconds = answer.seconds
        if seconds is None:
            return
        if seconds > _LONGEST_WAIT or (answer.status == 429 and failures + 1 >= _TRIES):
            raise RateLimited(
                f"{self._access.host} limits requests, try again in {seconds:.0f} s: "
                f"{self._resume_hint()}",
                int(seconds),
            )
        with self._changed:
            self._hold_until = max(self._hold_until, self._patience.now() + seconds)
            self._note = busy(self._access.host, answer.status, seconds)

    def _wait_for_network(self, failures: int, reason: str) -> None:
        if self._patience.now() - self._contact > self._limits.network_patience:
            error = unreachable(self._access.host, reason)
            raise type(error)(f"{error}; {self._resume_hint()}")
        with self._changed:
            self._note = f"waiting for the network: {reason}"
        self._patience.wait(self._stop, backoff(failures))

    # Verifying and keeping

    def _hash(self) -> None:
        """The hasher: sums over the disk's own bytes, from the first to the last.

        A segment of an earlier run that is not what the journal says goes back to the workers, and
        the sums back to where it begins.
        """
        sums = [hashlib.sha256(), _git_sum(self._file.size)]
        saved = [each.copy() for each in sums]
        buffer = memoryview(bytearray(MIB))
        start = position = crc = 0
        with FileIO(self._data, "rb") as source:
            while position < self._file.size:
                found = self._reach(start, position)
                if found is None:
                    return
                end, segment, unchecked = found
                damaged = False
                while position < end and not damaged:
                    source.seek(position)
                    n = source.readinto(buffer[: end - position]) or 0
                    for each in sums[: 1 if self._file.sha256 else 2]:
                        each.update(buffer[:n])
                    crc = zlib.crc32(buffer[:n], crc) if unchecked else 0
                    position += n
                    damaged = n == 0  # somebody cut the file
                    if self._stop.is_set():
                        return
                if segment is None and not damaged:
                    continue
                if damaged or (unchecked and segment is not None and crc != segment.crc):
                    if not unchecked:
                        raise DigestMismatch(f"{self._data} was changed by another program")
                    with self._changed:
                        self._pieces.reject(start)
                    sums, position = [each.copy() for each in saved], start
                else:
                    start, saved = position, [each.copy() for each in sums]
                crc = 0
        self._finish(sums)

    def _reach(self, start: int, position: int) -> tuple[int, Segment | None, bool] | None:
        """Wait until bytes after `position` can be hashed, or their segment is done; None: stop."""
        with self._changed:
            while not self._stop.is_set():
                found = self._pieces.reach(start)
                if found is not None and (found[0] > position or found[1] is not None):
                    return *found, self._pieces.is_unchecked(start)
                self._changed.wait(0.02)
        return None

    def _finish(self, sums: list[Any]) -> None:
        sha256, git = sums
        _verify(self._file, self._access, sha256.hexdigest(), git)
        if self._file.sha256 is None and self._file.size < 1024:
            if self._data.read_bytes().startswith(b"version https://git-lfs"):
                raise TransferError(
                    f"{self._file.path} is only a pointer to the file (Git LFS), use another address"
                )
        with self._changed:
            self._digest = f"sha256:{sha256.hexdigest()}"
            self._stop.set()
            self._changed.notify_all()

    def _keep_journal(self) -> None:
        """The keeper: the journal, every so often, never ahead of the disk."""
        written, at = self._pieces.present, time.monotonic()
        while not self._stop.wait(min(0.25, self._limits.journal_after)):
            new = self._pieces.present - written
            due = time.monotonic() - at >= self._limits.journal_after
            if (new and due) or new >= _JOURNAL_BYTES:
                written = self._pieces.present
                try:
                    self._write_journal()
                except OSError as error:
                    raise self._disk_error(error) from None
                at = time.monotonic()

    def _write_journal(self) -> None:
        with self._changed:
            segments = self._pieces.segments()
        with FileIO(self._data, "r+b") as data:
            getattr(os, "fdatasync", os.fsync)(data.fileno())
        journal.write(self._journal, self._file.size, self._file.path, segments)

    def _write_last_journal(self) -> None:
        """On a disk that is full, the last bytes of the file make room for what knows of the others."""
        try:
            self._write_journal()
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            segments, freed = self._pieces.segments(), 0
            while segments and freed < _JOURNAL_ROOM:
                last = segments.pop()
                freed += last.end - last.start
                os.truncate(self._data, last.start)
            journal.write(self._journal, self._file.size, self._file.path, segments)

    def _resume_hint(self) -> str:
        percent = 100 * self._pieces.present // max(self._file.size, 1)
        return f"the same command goes on from {percent} %"

    def _disk_error(self, error: OSError) -> OllamapyError:
        folder = self._data.parent
        if error.errno not in _DISK_FULL:
            return _cannot_write(folder, error)
        missing = self._file.size - self._pieces.present
        return DiskFull(
            f"the disk is full, {format_bytes(missing)} of {self._file.path} are missing: make room"
            f" in {folder}, {self._resume_hint()}",
            missing,
        )

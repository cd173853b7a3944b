"""Download one file into the store: fast, resumable, verified, and published only when complete.

    worker ──┐ ranges, ascending          ┌─ hasher: sha256 close behind the first missing byte
    worker ──┼──> partial/<key> ──────────┤
    worker ──┘ each at its own offset     └─ keeper: flush, then journal, every two seconds
        verified -> flushed -> renamed to blobs/sha256-<hex> -> journal removed

    Rule 1  Nothing gets into blobs/ unless it was hashed from the disk and the digest matched.
    Rule 2  Bytes are written at their right offset or not at all: from a 206 with exactly the requested
            range, or from a complete 200. Two writers write the same bytes, so the lock between
            processes is advisory: if it fails, that costs bandwidth, not correctness.
    Rule 3  When a signed address is refused, it is first assumed to have expired, once. Then the route
            changes: one address for all -> a new one for each request -> one single connection.
    Rule 4  However it ends, the journal is written; the same call resumes where it stopped.
    Rule 5  A worker that was stopped, or whose connection was closed by us, writes nothing more.

`fetch` blocks, reports progress in the caller's thread, and can be cancelled from any other. hub.py and
oci.py decide what to fetch.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import DigestMismatch, RequestCancelled, StoreError
from . import journal
from .attempt import TICK, Attempt, Downloaded
from .connections import Connections
from .hasher import Hasher
from .http import Access
from .keeper import Keeper
from .limits import Limits
from .patience import Patience
from .pieces import MIB
from .remote import RemoteFile
from .reservation import Reservation
from .store import Store
from .work import DISK_FULL, cannot_write

log = logging.getLogger(__name__)

_POLL = 0.5  # seconds between checks of what another process downloads


@dataclass(frozen=True, slots=True)
class Fetched:
    """A blob that is in the store, and the bytes that were received for it."""

    digest: str
    received: int


def fetch(
    file: RemoteFile,
    access: Access,
    store: Store,
    *,
    progress: Callable[[Downloaded], None] = lambda _: None,
    patience: Patience | None = None,
    limits: Limits | None = None,
    reservation: Reservation | None = None,
) -> Fetched:
    """Download a file into the store, unless it is there; resume what an earlier call left.

    The blob is added to the `reservation` before it is looked for or published. `progress` is called in
    this thread, at most ten times a second. Raises TransferError and its children,
    StoreError, and RequestCancelled once `patience.cancelled` is set.
    """
    patience, limits = patience or Patience(), limits or Limits()
    folder = store.roots[0] / "partial"
    if reservation is not None and file.digest:
        reservation.add(file.digest)
    if _present(file, store):
        store.touch(file.digest)
        return Fetched(file.digest, 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(store.roots[0], folder, error) from None
    lock = _claim(file, store, progress, patience)
    try:
        if _present(file, store):  # another process finished it meanwhile
            return Fetched(file.digest, 0)
        if not limits.force:
            check_space([file], store)
        return _fetch_twice(file, access, store, progress, patience, limits, reservation)
    finally:
        if lock is not None:
            if not (folder / file.key).exists():  # nothing left to lock
                with suppress(OSError):
                    (folder / f"{file.key}.lock").unlink(missing_ok=True)
            lock.release()


def _fetch_twice(
    file: RemoteFile,
    access: Access,
    store: Store,
    progress: Callable[[Downloaded], None],
    patience: Patience,
    limits: Limits,
    reservation: Reservation | None,
) -> Fetched:
    """Retry once after a wrong digest: from the beginning, over one connection."""
    received = 0
    for careful in (False, True):
        attempt = Attempt(file, access, store, patience, limits, careful)
        try:
            digest = _run(attempt, progress)
            if reservation is not None:
                reservation.add(digest)
            _publish(attempt, digest)
            return Fetched(digest, received + attempt.received)
        except StoreError:
            if not _present(file, store):
                raise
            attempt.discard()  # a process without the lock was first
            return Fetched(file.digest, received + attempt.received)
        except DigestMismatch as error:
            attempt.discard()
            if careful:
                raise
            received += attempt.received
            log.warning("%s; getting it again over one connection", error)
    raise AssertionError("the second try returns or raises")


def check_space(files: Iterable[RemoteFile], store: Store) -> None:
    """Raise DiskFull if the store's disk lacks space for these files plus a reserve.

    Bytes that are already on the disk are not counted. The reserve is 1 %, and at least the size of
    the largest file up to 512 MiB.
    """
    folder = store.roots[0] / "partial"
    left, largest = 0, 0
    for file in {each.key: each for each in files if not _present(each, store)}.values():
        left += file.size - journal.kept(folder / f"{file.key}.json", file.size)
        largest = max(largest, file.size)
    needed = left + max(left // 100, min(largest, 512 * MIB))
    if left:
        store.check_room(needed)


def _present(file: RemoteFile, store: Store) -> bool:
    if not file.digest:
        return False
    try:
        return store.has(file.digest) and store.blob_path(file.digest).stat().st_size == file.size
    except (OSError, StoreError):
        return False


def _claim(
    file: RemoteFile, store: Store, progress: Callable[[Downloaded], None], patience: Patience
) -> Any:
    """Lock a file's download; waits while another process holds the lock.

    Returns None on a file system without locks, or when the other process has finished.
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
            if error.errno in (errno.EACCES, errno.EROFS, *DISK_FULL):
                raise cannot_write(store.roots[0], folder, error) from None
            return None
        if _present(file, store):
            return None
        there = journal.kept(folder / f"{file.key}.json", file.size)
        note = "another process is downloading it"
        progress(Downloaded(file.digest, file.size, there, 0, note))
        if patience.wait(patience.cancelled, _POLL):
            raise RequestCancelled("cancelled")


def _run(attempt: Attempt, progress: Callable[[Downloaded], None]) -> str:
    """Download and verify the file; returns its digest."""
    try:
        with attempt.data.open("ab") as data:  # created if missing, never truncated to zero
            if data.tell() > attempt.file.size:
                data.truncate(attempt.file.size)
    except OSError as error:
        raise attempt.disk_error(error) from None
    connections, keeper = Connections(attempt), Keeper(attempt)
    try:
        attempt.start(Hasher(attempt).run)
        attempt.start(keeper.run)
        _watch(attempt, connections, progress)
    finally:
        _end(attempt, connections, keeper)
    assert attempt.digest is not None
    return attempt.digest


def _watch(
    attempt: Attempt, connections: Connections, progress: Callable[[Downloaded], None]
) -> None:
    """Adjust the connections and report progress until the end. Raises the error that ended it."""
    reported: Downloaded | None = None
    reported_at = 0.0
    while True:
        with attempt.changed:
            if attempt.failure is not None:
                raise attempt.failure
            done = attempt.digest is not None
            if not done:
                connections.adjust()
            report = attempt.report()
        if report != reported and (done or time.monotonic() - reported_at >= TICK):
            reported, reported_at = report, time.monotonic()
            progress(report)
        if done:
            return
        if attempt.patience.cancelled.is_set():
            raise RequestCancelled(f"cancelled, {attempt.resume_hint()}")
        with attempt.changed:
            if attempt.failure is None and attempt.digest is None:
                attempt.changed.wait(TICK)


def _end(attempt: Attempt, connections: Connections, keeper: Keeper) -> None:
    """Stop the threads, wait up to a second for them, and write the journal."""
    attempt.stop.set()
    with attempt.changed:
        attempt.changed.notify_all()
        connections.shut()
    end = time.monotonic() + 1
    for thread in attempt.threads:
        thread.join(max(0.0, end - time.monotonic()))
    keeper.close()
    if attempt.digest is None:
        with suppress(OSError):
            keeper.write_last()


def _publish(attempt: Attempt, digest: str) -> None:
    """Move the file to blobs/, and keep its journal as the checksums of its pieces."""
    attempt.store.adopt_file(attempt.data, digest)
    with suppress(OSError):
        attempt.journal.unlink(missing_ok=True)
    if attempt.file.size >= journal.SUMS_FROM:
        with suppress(OSError):  # without them, a repair downloads more
            sums = attempt.store.sums_path(digest)
            journal.write(sums, attempt.file.size, attempt.file.path, attempt.pieces.segments())

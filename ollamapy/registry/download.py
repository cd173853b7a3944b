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
fetch is decided elsewhere (hub.py, oci.py).
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
from .lease import Lease
from .limits import Limits
from .patience import Patience
from .pieces import MIB
from .remote import RemoteFile
from .store import Store
from .work import DISK_FULL, cannot_write

log = logging.getLogger(__name__)

_POLL = 0.5  # seconds between looks at what another process downloads


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
    progress: Callable[[Downloaded], None] = lambda _: None,
    patience: Patience | None = None,
    limits: Limits | None = None,
    lease: Lease | None = None,
) -> Fetched:
    """Bring a file into the store, unless it is there; go on with what an earlier call left.

    The `lease` names the blob before it is looked for or published. `progress` is called in this thread, at most ten times a second. Raises TransferError and its
    children, StoreError, and RequestCancelled once `patience.cancelled` is set.
    """
    patience, limits = patience or Patience(), limits or Limits()
    folder = store.roots[0] / "partial"
    if lease is not None and file.sha256 is not None:
        lease.add(f"sha256:{file.sha256}")
    if _present(file, store):
        store.touch(f"sha256:{file.sha256}")
        return Fetched(f"sha256:{file.sha256}", 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(store.roots[0], folder, error) from None
    lock = _claim(file, store, progress, patience)
    try:
        if _present(file, store):  # while we waited for the lock
            return Fetched(f"sha256:{file.sha256}", 0)
        if not limits.force:
            check_space([file], store)
        return _fetch_twice(file, access, store, progress, patience, limits, lease)
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
    progress: Callable[[Downloaded], None],
    patience: Patience,
    limits: Limits,
    lease: Lease | None,
) -> Fetched:
    """The second time for content that came wrong: from nothing, over one connection."""
    received = 0
    for careful in (False, True):
        attempt = Attempt(file, access, store, patience, limits, careful)
        try:
            digest = _run(attempt, progress)
            if lease is not None:
                lease.add(digest)
            _publish(attempt, digest)
            return Fetched(digest, received + attempt.received)
        except StoreError:
            if not _present(file, store):
                raise
            attempt.discard()  # somebody with another idea of the lock was first
            return Fetched(f"sha256:{file.sha256}", received + attempt.received)
        except DigestMismatch as error:
            attempt.discard()
            if careful:
                raise
            received += attempt.received
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


def _present(file: RemoteFile, store: Store) -> bool:
    if file.sha256 is None:
        return False
    digest = f"sha256:{file.sha256}"
    try:
        return store.has(digest) and store.blob_path(digest).stat().st_size == file.size
    except (OSError, StoreError):
        return False


def _claim(
    file: RemoteFile, store: Store, progress: Callable[[Downloaded], None], patience: Patience
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
            if error.errno in (errno.EACCES, errno.EROFS, *DISK_FULL):
                raise cannot_write(store.roots[0], folder, error) from None
            return None
        if _present(file, store):
            return None
        there = journal.kept(folder / f"{file.key}.json", file.size)
        digest = f"sha256:{file.sha256}"
        note = "another process downloads it"
        progress(Downloaded(digest, file.size, there, 0, note))
        if patience.wait(patience.cancelled, _POLL):
            raise RequestCancelled("cancelled")


def _run(attempt: Attempt, progress: Callable[[Downloaded], None]) -> str:
    """Get all bytes; the digest of the file, which is verified."""
    try:
        with attempt.data.open("ab") as data:  # made if it is not there, and never emptied
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
    """Adjust the connections and report until it is done. Raises what ended it, RequestCancelled."""
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
    """Stop the threads, wait a moment for them, and write down what is there."""
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
    """The blob gets its name; its journal goes on as the checksums of its pieces."""
    attempt.store.adopt_file(attempt.data, digest)
    with suppress(OSError):
        attempt.journal.unlink(missing_ok=True)
    if attempt.file.size >= journal.SUMS_FROM:
        with suppress(OSError):  # without them a repair fetches more
            sums = attempt.store.sums_path(digest)
            journal.write(sums, attempt.file.size, attempt.file.path, attempt.pieces.segments())

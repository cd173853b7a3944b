"""Accept connections, at most as many as the limit of open files allows: the others wait in the listener's queue.

asyncio's own server accepts until the process has no file descriptor left; then connections fail, and so does opening models'
files and pipes. Here a place is acquired before a connection is accepted, and released when it is closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_RETRY_SECONDS = 0.5
_LOG_SECONDS = 60.0


class Acceptor:
    """The accept loop of one listener. ``connect`` makes the protocol of a connection, which releases its place when the
    connection is lost; ``places`` are shared by all listeners."""

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[], asyncio.Protocol],
        places: asyncio.Semaphore,
    ) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._connect = connect
        self._places = places
        self._logged = -_LOG_SECONDS
        self._task = asyncio.ensure_future(self._run())

    def close(self) -> None:
        """Accept no more; open connections stay."""
        self._task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the accept loop has ended."""
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_for_a_place()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                self._places.release()
                self._report(error)
                if error.errno in _NO_RESOURCES:
                    await asyncio.sleep(_RETRY_SECONDS)
                continue
            except asyncio.CancelledError:
                self._places.release()
                raise
            await self._hand_over(connection)

    async def _wait_for_a_place(self) -> None:
        if self._places.locked():
            self._warn(
                "no more connections are accepted until one is closed: the limit of open files is too low"
            )
        await self._places.acquire()

    async def _hand_over(self, connection: socket.socket) -> None:
        """Attach a protocol to an accepted connection; from then on the protocol releases the place."""
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            # asyncio does so for sockets that name their protocol; this one has its listener's, 0. Without it, the body
            # waits for the client to acknowledge the head: 40 ms for each request of a kept connection
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(self._connect, connection)
        except OSError as error:  # the client closed it meanwhile
            connection.close()
            self._places.release()
            log.debug("a connection was lost at once: %s", error)

    def _report(self, error: OSError) -> None:
        if error.errno in _NO_RESOURCES:
            self._warn(f"cannot accept connections: {error.strerror}")
        else:
            log.debug("a connection was not accepted: %s", error)

    def _warn(self, text: str) -> None:
        """Log a warning, at most once a minute."""
        if time.monotonic() - self._logged >= _LOG_SECONDS:
            self._logged = time.monotonic()
            log.warning("%s", text)

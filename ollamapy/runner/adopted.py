"""Adopt a process that was started early (early.py): the transport that a Child sees, over the pipes that are there.

What asyncio's own transport of a subprocess does, but for a process that exists already. All of it runs on the event loop: the
process is reaped where its signals are sent, so no signal can reach another process with the same number.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from .child import Spawn


def spawning(process: subprocess.Popen[bytes]) -> Spawn:
    """What spawns a Child's process: the given one first; a second process, after a fault, is a new one."""
    waiting = [process]

    async def spawn(
        make: Callable[[], asyncio.SubprocessProtocol], *command: str, **options: Any
    ) -> Any:
        if waiting:
            transport = AdoptedProcess(waiting.pop(), make())
            await transport.connect()
            return transport, None
        return await asyncio.get_running_loop().subprocess_exec(make, *command, **options)

    return spawn


class AdoptedProcess(asyncio.SubprocessTransport):
    """A process with its three pipes, and the protocol that gets their events."""

    def __init__(
        self, process: subprocess.Popen[bytes], protocol: asyncio.SubprocessProtocol
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._protocol = protocol
        self._pidfd = os.pidfd_open(process.pid)
        self._pipes: dict[int, asyncio.BaseTransport] = {}
        self._started = False
        self._closed = False

    async def connect(self) -> None:
        """Attach the pipes, start the protocol, and watch for the process's end. Kills the process where it cannot."""
        try:
            await self._connect()
        except BaseException:
            self.close()
            self._exited()  # killed, so this waits for a moment only
            raise

    async def _connect(self) -> None:
        loop, process = self._loop, self._process
        self._pipes[0], _ = await loop.connect_write_pipe(partial(_Pipe, self, 0), process.stdin)
        self._started = True
        self._protocol.connection_made(self)
        for fd, pipe in ((1, process.stdout), (2, process.stderr)):
            self._pipes[fd], _ = await loop.connect_read_pipe(partial(_Pipe, self, fd), pipe)
        loop.add_reader(self._pidfd, self._exited)

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._process.wait()  # it has exited: this only reaps it
        if self._started:
            self._protocol.process_exited()

    # ---- what a Child uses -------------------------------------------------------------------------------------------

    def get_pid(self) -> int:
        """The process id."""
        return self._process.pid

    def get_returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """The transport of stdin (0), stdout (1) or stderr (2)."""
        return self._pipes.get(fd)

    def send_signal(self, number: int) -> None:
        """Signal the process. Raises ProcessLookupError once it has ended."""
        if self._pidfd < 0:
            raise ProcessLookupError
        signal.pidfd_send_signal(self._pidfd, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes, and kill the process if it still runs; its end is still read, so that it is reaped."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.close()
        if self._pidfd >= 0:
            with suppress(ProcessLookupError):  # it has just exited
                self.kill()

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self._closed


class _Pipe(asyncio.Protocol):
    """One pipe's end, which passes on what happens to the process's protocol."""

    def __init__(self, owner: AdoptedProcess, fd: int) -> None:
        self._protocol = owner._protocol
        self._fd = fd

    def data_received(self, data: bytes) -> None:
        self._protocol.pipe_data_received(self._fd, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.pipe_connection_lost(self._fd, exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

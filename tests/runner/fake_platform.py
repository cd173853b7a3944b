"""Where a child process is spawned, faked: for ``loop.subprocess_exec`` and its transports, on POSIX and on Windows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ollamapy.runner.child import Child
from ollamapy.runner.frames import Frame
from ollamapy.runner.protocol import FromRunner


class FakePipe(asyncio.WriteTransport):
    """A child's stdin: what was written, and a failure where the test wants one."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.failure: Exception | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.failure is not None:
            raise self.failure
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class FakeProcess(asyncio.SubprocessTransport):
    """A process that does what the test says; ``calls`` are the signals it got."""

    def __init__(self, child: Child) -> None:
        super().__init__()
        self.child = child
        self.stdin = FakePipe()
        self.code: int | None = None
        self.calls: list[str] = []
        self.dies_of: dict[str, int] = {"kill": -9}
        self.failure: OSError | None = None
        self.lost: set[int] = set()

    def get_pid(self) -> int:
        return 4242

    def get_returncode(self) -> int | None:
        return self.code

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        return self.stdin if fd == 0 else None

    def _signal(self, name: str) -> None:
        assert self.code is None, "the process was reaped"
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure
        if name in self.dies_of:
            self.exits(self.dies_of[name])

    def terminate(self) -> None:
        self._signal("terminate")

    def kill(self) -> None:
        self._signal("kill")

    def close(self) -> None:
        self.calls.append("close")

    def exits(self, code: int) -> None:
        self.code = code
        self.child.process_exited()
        for fd in {1, 2} - self.lost:
            self.lost.add(fd)
            self.child.pipe_connection_lost(fd, None)


class Platform:
    """Where processes are spawned. ``options`` is what the last one was spawned with."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.options: dict[str, Any] = {}
        self.process: FakeProcess

    async def spawn(self, factory: Callable[[], Child], *command: str, **options: Any) -> None:
        self.options = options
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        self.process = FakeProcess(factory())
        self.process.child.connection_made(self.process)


def start(
    platform: Platform,
    receive: Callable[[Frame], None] = lambda _: None,
    farewell: Frame | None = None,
    system: str = "linux",
) -> Child:
    return Child(
        ["x"],
        FromRunner,
        receive,
        name="fake",
        farewell=farewell,
        spawn=platform.spawn,
        platform=system,
    )

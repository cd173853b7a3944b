"""A command in a pseudo-terminal, read from its screen as people read it."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence

import pyte
import pytest

llama = pytest.mark.llama
PATIENCE = 30.0  # seconds
ROWS = 100


class Chat:
    """A command in a pseudo-terminal, and what is on its screen."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int
    ) -> None:
        import fcntl
        import struct
        import termios

        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # The width must be there before the command looks
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
            # At Ctrl-C a terminal drops what it was given and has not shown, half an escape sequence too: ours must not
            modes = termios.tcgetattr(0)
            modes[3] |= termios.NOFLSH
            termios.tcsetattr(0, termios.TCSANOW, modes)
            os.execve(command[0], [*command], {**environment})
        self._screen = pyte.Screen(columns, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._rows = [""] * ROWS
        self.written = b""

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without those below the last one that is not empty."""
        while (
            self._screen.dirty
        ):  # all of its rows at every look would cost more than most commands
            row = self._screen.dirty.pop()
            cells = self._screen.buffer[row]
            self._rows[row] = "".join(cells[at].data for at in range(self._screen.columns)).rstrip()
        return "\n".join(self._rows).rstrip().split("\n")

    @property
    def screen(self) -> str:
        return "\n".join(self.lines)

    @property
    def words(self) -> str:
        """The screen's text, however it is broken into lines."""
        return " ".join(self.screen.split())

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def enter(self, line: str) -> None:
        self.send(line + "\r")

    def until(self, condition: Callable[[], bool] | str) -> Chat:
        """Read until a condition holds, or a text is on the screen; where it was wrapped does not matter."""

        def holds() -> bool:
            if isinstance(condition, str):
                return condition in self.screen or condition in self.words
            return condition()

        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"{condition} was not in:\n{self.screen}"
            assert self._read() or holds(), f"it ended without {condition}:\n{self.screen}"
        return self

    def prompted(self, times: int) -> Chat:
        """Read until the prompt is there for the n-th time, and the last line."""
        return self.until(
            lambda: (
                self.screen.count("\n>>>") + self.screen.startswith(">>>") == times
                and self.lines[-1].startswith(">>>")
            )
        )

    def leave(self) -> int:
        """Ctrl-D; the exit status."""
        self.send("\x04")
        return self.status()

    def status(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _read(self) -> bool:
        """Take in what is written next; False at the end."""
        if not select.select([self.fd], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)

    def kill(self) -> None:
        """End it as it stands."""
        os.kill(self.pid, signal.SIGKILL)
        self.status()

    def close(self) -> None:
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


Start = Callable[..., Chat]

"""Which server a command talks to, and the daemon's life: finding, starting, replacing and stopping it.

    OLLAMAPY_HOST or OLLAMA_HOST set    that address, without a probe; no daemon is started
    else, by the servers at 11434 / 11435:

        ours      -          11434
        none      ours       11435    (a stranger held the first port when it started)
        none      -          11434, to be started
        stranger  ours       11435, with a remark
        stranger  none       11435, to be started, with a remark
        stranger  stranger   an error

A stranger is whatever is not our daemon: an Ollama, another program, a socket that is silent. Ours answers
``/api/version`` with the key "ollamapy". The lock `Paths.start_lock` is held from the decision to start until the daemon
answers, so two commands at once make one daemon; a daemon that has bound its port and does not answer yet looks like a
silent stranger, therefore a command that gets the lock probes again.

Only `Launcher.say` prints.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .. import __version__
from ..config import DEFAULT_PORT, FALLBACK_PORT, Address, Settings, environment
from ..errors import OllamapyError, reason
from .client import AnsweredError, Client, Unreachable
from .terminal import Spinner, remark

if TYPE_CHECKING:
    import subprocess

    import psutil

_PROBE_TIMEOUT = 2.0
_START_TIMEOUT = 60.0
_POLL = 0.01
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """Our daemon, as /api/version describes it; ``busy`` counts the requests in flight, ``models`` is their directory or ""."""

    version: str
    pid: int
    busy: int
    models: str = ""


@dataclass(frozen=True, slots=True)
class Stranger:
    """Something else on a port; ``name`` completes "held by ..."."""

    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """An address and the server there; ``notice`` is for the user, if not empty."""

    address: Address
    holder: Daemon | Stranger | None
    notice: str = ""

    @property
    def daemon(self) -> Daemon | None:
        """Our daemon, if it is the server there."""
        return self.holder if isinstance(self.holder, Daemon) else None


def probe(address: Address, timeout: float = _PROBE_TIMEOUT) -> Daemon | Stranger | None:
    """The server at an address; None = nothing listens there."""
    try:
        answer = Client(address).version(timeout)
        if "ollamapy" in answer:
            return Daemon(
                version=str(answer["ollamapy"]),
                pid=int(answer["pid"]),
                busy=int(answer.get("busy") or 0),
                models=str(answer.get("models") or ""),
            )
    except Unreachable as error:
        if error.refused:
            return None
        return Stranger("a program that does not answer" if error.silent else "another program")
    except (AnsweredError, KeyError, ValueError):
        return Stranger("another web server")
    version = answer.get("version")
    return Stranger(f"Ollama {version}" if isinstance(version, str) else "another web server")


def is_newer(version: str, than: str) -> bool:
    """Whether one version number is above another, by the numbers in them."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


@dataclass(frozen=True, slots=True)
class Launcher:
    """Finds the daemon for one command, and starts it where that is wanted.

    ``ports``: the usual one and the one to fall back to. ``command`` runs the daemon in the foreground.
    ``probe_timeout``: seconds after which a socket counts as silent.
    """

    settings: Settings
    ports: tuple[int, int] = (DEFAULT_PORT, FALLBACK_PORT)
    command: Sequence[str] = (sys.executable, "-m", "ollamapy", "serve")
    say: Callable[[str], None] = remark
    probe_timeout: float = _PROBE_TIMEOUT

    def find(self) -> Place:
        """Where our daemon is or would be. Raises Unreachable when strangers hold both ports."""
        if self.settings.address_given:
            address = self.settings.address.connectable
            return Place(address, self._probe(address))
        first, second = (Address(port=port) for port in self.ports)
        at_first = self._probe(first)
        if isinstance(at_first, Daemon):
            return Place(first, at_first)
        at_second = self._probe(second)
        if at_first is None:
            return Place(second, at_second) if isinstance(at_second, Daemon) else Place(first, None)
        if isinstance(at_second, Stranger):
            raise Unreachable(
                f"port {first.port} is held by {at_first.name} and port {second.port} by {at_second.name}, "
                "choose another with OLLAMAPY_HOST=127.0.0.1:PORT"
            )
        notice = f"port {first.port} is held by {at_first.name}, using {second.url}"
        return Place(second, at_second, notice)

    def _probe(self, address: Address) -> Daemon | Stranger | None:
        return probe(address, self.probe_timeout)

    def running(self) -> Client | None:
        """The server to talk to, if one runs; starts nothing. With a given address: that one, unasked."""
        if self.settings.address_given:
            return Client(self.settings.address)
        place = self.find()
        if place.daemon is None:
            return None
        self.remark(place)
        return Client(place.address)

    def connect(self, preload: str | None = None) -> Client:
        """The server to talk to, started or replaced by a newer one if need be.

        ``preload`` names a model for a daemon that is started now to load at once.
        """
        if self.settings.address_given:
            return Client(self.settings.address)
        place = self.find()
        if place.daemon is None:
            place, _ = self.start(preload)
        elif is_newer(__version__, place.daemon.version):
            place = self._upgrade()
        self.remark(place)
        return Client(place.address)

    def remark(self, place: Place) -> None:
        """Tell the user of another port than usual, and of other models than those that the environment names."""
        if place.notice:
            self.say(place.notice)
        paths, found = self.settings.paths, place.daemon.models if place.daemon else ""
        named = paths.models_given or paths.home_given
        if named and found and os.path.realpath(found) != os.path.realpath(paths.models):
            self.say(
                f"the daemon at {place.address.url} has the models in {found}, not those in {paths.models}: "
                "'ollamapy daemon restart' changes that"
            )

    def start(self, preload: str | None = None) -> tuple[Place, bool]:
        """Our daemon, running; and whether it was started by this call."""
        with self._lock():
            place = self.find()
            if place.daemon is not None:
                return place, False
            if isinstance(place.holder, Stranger):
                raise Unreachable(
                    f"{place.address.url} is held by {place.holder.name}, choose another OLLAMAPY_HOST"
                )
            return self._spawn(place, preload), True

    def restart(self) -> Place:
        """Our daemon, started anew. Requests of other commands wait meanwhile: see `awaits_restart`."""
        with self._lock():
            place = self.find()
            if place.daemon is not None:
                end(place.address, place.daemon, self.say)
                place = self.find()
            if place.holder is not None:
                raise Unreachable(f"{place.address.url} is held by another program")
            return self._spawn(place, None)

    def awaits_restart(self) -> bool:
        """Wait while another command starts or restarts the daemon; False at once if none does."""
        try:
            file = open(self.settings.paths.start_lock, "ab")
        except OSError:
            return False
        with file:
            if _try_lock(file):
                return False
        with Spinner("waiting for the daemon, which another command restarts"), self._lock():
            return True

    def stop(self) -> bool:
        """End our daemon, after the requests in flight; False if none ran."""
        place = self.find()
        if place.daemon is None:
            return False
        end(place.address, place.daemon, self.say)
        return True

    def _upgrade(self) -> Place:
        """Replace an idle daemon that is older than this program; leave a busy one alone and say so."""
        with self._lock():
            place = self.find()
            found = place.daemon
            if found is None or not is_newer(__version__, found.version):
                return place if found else self._spawn(place, None)
            if found.busy:
                self.say(
                    f"the daemon is ollamapy {found.version}, older than this program ({__version__}), "
                    "and busy: replace it with 'ollamapy daemon restart'"
                )
                return place
            try:
                end(place.address, found, self.say)
            except OllamapyError as error:
                self.say(f"the daemon stays ollamapy {found.version}: {error}")
                return place
            self.say(f"restarting the daemon: ollamapy {found.version} -> {__version__}")
            return self._spawn(place, None)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the right to start the daemon; the lock goes with the process, however it ends."""
        path, deadline = self.settings.paths.start_lock, time.monotonic() + _START_TIMEOUT
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "ab")
        except OSError as error:
            raise _unwritable(path.parent, error) from error
        with file:
            while not _try_lock(file):
                if time.monotonic() > deadline:
                    raise OllamapyError(
                        f"another command has been starting the daemon for {_START_TIMEOUT:.0f} s, "
                        f"see: {self.settings.paths.log}"
                    )
                time.sleep(_POLL)
            yield

    def _spawn(self, place: Place, preload: str | None) -> Place:
        """Start the daemon for good, and wait until it answers at ``place``."""
        import subprocess

        path = self.settings.paths.log
        command = [*self.command, *(["--preload", preload] if preload else [])]
        try:
            log = open(path, "ab")
            begin = path.stat().st_size
        except OSError as error:
            raise _unwritable(path.parent, error) from error
        with log, Spinner("starting the daemon"):
            process = subprocess.Popen(
                command,
                cwd=Path("/"),
                env=self._environment(place.address),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                creationflags=getattr(subprocess, "DETACHED_PROCESS", 0),
            )
            daemon = self._await(place.address, process, begin)
        return Place(place.address, daemon, place.notice)

    def _environment(self, address: Address) -> Mapping[str, str]:
        """For the daemon: where to bind, and where the package is when this is a checkout, for it runs elsewhere."""
        variables = environment()
        if not self.settings.address_given:
            variables["OLLAMAPY_HOST"] = f"{address.host}:{address.port}"
        home = Path(__file__).parents[2]
        if (home / "pyproject.toml").exists():
            variables["PYTHONPATH"] = os.pathsep.join(
                filter(None, (str(home), variables.get("PYTHONPATH")))
            )
        return variables

    def _await(self, address: Address, process: subprocess.Popen[bytes], begin: int) -> Daemon:
        """Poll until the daemon answers; ``begin`` is where its lines in the log begin."""
        log, deadline = self.settings.paths.log, time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            answer = probe(address, timeout=1.0)
            if isinstance(answer, Daemon):
                return answer
            if process.poll() is not None:
                reason = _last_line(log, begin) or f"exit status {process.returncode}"
                raise OllamapyError(f"the daemon did not start: {reason} (log: {log})")
            time.sleep(_POLL)
        process.kill()
        raise OllamapyError(
            f"the daemon did not answer within {_START_TIMEOUT:.0f} s, see its log: {log}"
        )


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file for this process, unless another has. (filelock does it, too, after 30 ms of imports.)"""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a file system without locks: better to start without than not to start
    return True


def end(address: Address, daemon: Daemon, say: Callable[[str], None]) -> None:
    """Terminate our daemon and wait until it is gone; it finishes the requests in flight first."""
    import psutil

    process = _listening(daemon.pid, address)
    if process is None:
        raise OllamapyError(
            f"the daemon at {address.url} is not a process of yours on this machine, stop it where it was started"
        )
    with suppress(psutil.NoSuchProcess):
        process.terminate()  # this process, and none that has got its number since
    started, is_reported = time.monotonic(), False
    while _runs(process):
        if not is_reported and time.monotonic() - started > _PATIENCE:
            say("waiting for the daemon to finish its requests (Ctrl-C: do not wait)")
            is_reported = True
        time.sleep(_POLL)


def _listening(pid: int, address: Address) -> psutil.Process | None:
    """The process of that number if it listens there: a pid from behind a forwarded port may be another process's here."""
    import psutil

    if not (address.host.startswith("127.") or address.host in ("localhost", "::1")):
        return None
    try:
        process = psutil.Process(pid)
        connections = process.net_connections(kind="tcp")
    except (psutil.Error, OSError, ValueError):
        return None
    listens = any(
        c.status == psutil.CONN_LISTEN and c.laddr.port == address.port for c in connections
    )
    return process if listens else None


def _runs(process: psutil.Process) -> bool:
    """Whether it has not ended: not even as a zombie, which its parent has to reap."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def serve(launcher: Launcher, preload: str | None) -> int:
    """Run the daemon in this process until a signal ends it; returns the exit status."""
    settings = launcher.settings
    if not settings.address_given:
        place = launcher.find()
        if place.daemon is not None:
            raise OllamapyError(
                f"ollamapy {place.daemon.version} runs at {place.address.url} already (pid {place.daemon.pid}), "
                "end it with: ollamapy daemon stop"
            )
        if place.notice:
            launcher.say(place.notice)
        settings = replace(settings, address=place.address)
    from ..daemon.serve import serve as serve_daemon

    return serve_daemon(settings, preload=preload)


def _last_line(path: Path, begin: int) -> str:
    """The last line that was written to a log from an offset on (or from its beginning, where the daemon has begun a new
    one), without "Error: "."""
    with path.open("rb") as log:
        size = path.stat().st_size
        log.seek(max(begin if begin <= size else 0, size - 16384))
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "").removeprefix(
        "Error: "
    )


def _unwritable(directory: Path, error: OSError) -> OllamapyError:
    return OllamapyError(
        f"cannot write to {directory}: {reason(error)}, set OLLAMAPY_HOME to a directory of yours"
    )

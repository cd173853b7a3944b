"""Start the daemon: listen, start the runner's process for the model to preload, then import the rest.

In this order, because the imports take as long as a small model takes to load, and a client that polls should find the port
open: requests before the server runs wait in the listen queue. So this module imports almost nothing; the rest of the start is
in ``service.py``.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ..config import Address, Settings
from ..errors import InvalidSetting, OllamapyError, reason
from ..runner import early

BACKLOG = 2048
"""Connections that may wait to be accepted; the system lowers it to its own limit."""


def serve(settings: Settings, *, preload: str | None = None) -> int:
    """Run the daemon until a signal ends it, and return the exit status.

    ``preload`` names a model to load at once. Raises OllamapyError if it cannot listen at the address, InvalidSetting.
    """
    settings.check()
    check_folder(settings.paths.models)
    _end_quietly_while_starting()
    listener = listen(settings.address)
    process = early.start() if preload else None
    port = listener.getsockname()[1]
    settings = replace(settings, address=replace(settings.address, port=port))
    # asyncio, the store, the scheduler, the runner's protocol: 0.1 s, in which the runner's process imports the engine
    from .service import run

    run(settings, listener, preload, process)
    return 0


def check_folder(models: Path) -> None:
    """Raise InvalidSetting where the models folder, or a folder above it, is no folder: a link to a disk that is missing, above
    all. A folder that does not exist is made later."""
    place = next(each for each in (models, *models.parents) if os.path.lexists(each))
    if place.is_dir():
        return
    what = f"a link to {os.readlink(place)}, which is missing" if place.is_symlink() else "a file"
    raise InvalidSetting(
        f"models cannot be stored in {models}: {place} is {what}; mount the disk, or set OLLAMAPY_MODELS to another folder"
    )


def listen(address: Address) -> socket.socket:
    """A socket that listens at the address. Raises OllamapyError with the reason."""
    host = address.host
    try:
        if host in ("", "::") and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("::", address.port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        # As in Go: a name with both kinds of address (localhost, usually) means the IPv4 one
        found = socket.getaddrinfo(host or "0.0.0.0", address.port, type=socket.SOCK_STREAM)
        family, _, _, _, target = min(found, key=lambda each: each[0] != socket.AF_INET)
        return socket.create_server((str(target[0]), address.port), family=family, backlog=BACKLOG)
    except socket.gaierror:
        raise OllamapyError(
            f"cannot listen at the host {host!r}: it is not known, set OLLAMAPY_HOST to an address of this machine"
        ) from None
    except (OSError, OverflowError) as error:
        raise OllamapyError(_why_not(address, error)) from error


def _why_not(address: Address, error: OSError | OverflowError) -> str:
    if isinstance(error, OSError) and error.errno in _LISTEN_ERRORS:
        return _LISTEN_ERRORS[error.errno].format(address.url)
    return f"cannot listen at {address.url}: {reason(error)}, choose another address with OLLAMAPY_HOST"


_LISTEN_ERRORS = {
    errno.EADDRINUSE: "{} is in use, stop the program that holds it or choose another address with OLLAMAPY_HOST",
    errno.EACCES: "no permission to listen at {}, choose a port above 1023 with OLLAMAPY_HOST",
    errno.EADDRNOTAVAIL: "{} is not an address of this machine, choose another with OLLAMAPY_HOST",
}


def _end_quietly_while_starting() -> None:
    """Exit without an error at a signal, until the server has its own handlers."""

    def end(number: int, frame: object) -> NoReturn:
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)

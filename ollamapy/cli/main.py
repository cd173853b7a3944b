"""The command's entry: from arguments to an exit status, and the one place where errors become a line on stderr.

Exit status: 0 done, also when the reader of stdout went away; 1 any error, wrong usage too; 130 interrupted. The daemon's own
start must not wait for typer: it is recognised before that is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..config import Settings
from ..errors import OllamapyError, reason
from . import faults, terminal
from .drawing import complain

if TYPE_CHECKING:
    from .launch import Launcher


def main(
    arguments: Sequence[str] | None = None, launcher: Callable[[Settings], Launcher] | None = None
) -> int:
    """Run one command; returns the exit status. ``launcher`` makes the value that finds and starts daemons."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    settings = None
    try:
        terminal.prepare_streams()
        settings = Settings.from_env()
        status = _dispatch(arguments, settings, launcher)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        terminal.silence_stdout()
        return 0
    except OllamapyError as error:
        return _fail(str(error))
    except OSError as error:
        what = reason(error)
        return _fail(f"{what}: {error.filename}" if error.filename else what)
    except Exception as error:
        return _fail(faults.recorded(error, settings.paths.state if settings else None))


def _dispatch(
    arguments: list[str], settings: Settings, launcher: Callable[[Settings], Launcher] | None
) -> int:
    match arguments:
        case ["serve" | "start"]:
            return _serve(settings, launcher, None)
        case ["serve" | "start", "--preload", model]:
            return _serve(settings, launcher, model)
    from .launch import Launcher

    ready = (launcher or Launcher)(settings)
    # Costs 50 ms: only after the cases that can do without
    from .commands import table

    if arguments[:1] == ["__complete"]:  # from the shells' scripts, with words of their own
        return table.complete(arguments[1:], ready)
    return table.run(arguments, ready)


def _serve(
    settings: Settings, launcher: Callable[[Settings], Launcher] | None, preload: str | None
) -> int:
    if settings.address_given:  # as in a daemon that a command starts: it looks for no free port
        from ..daemon.serve import serve as serve_daemon

        return serve_daemon(settings, preload=preload)
    from .launch import Launcher, serve

    return serve((launcher or Launcher)(settings), preload)


def _fail(message: str) -> int:
    """The error on stderr, whatever the message holds; one line, but on a terminal."""
    try:
        sys.stdout.flush()
    except OSError:
        terminal.silence_stdout()
    complain(message)
    return 1

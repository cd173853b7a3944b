"""The command's entry: from arguments to an exit status, and the one place where errors become a line on stderr.

Exit status: 0 done, also when the reader of stdout went away; 1 any error, wrong usage too; 130 interrupted. The daemon's own
start must not wait for typer: it is recognised before that is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ..config import Settings
from ..errors import OllamapyError, reason
from . import faults, terminal
from .launch import Launcher, serve


def main(
    arguments: Sequence[str] | None = None, launcher: Callable[[Settings], Launcher] = Launcher
) -> int:
    """Run one command; returns the exit status. ``launcher`` makes the value that finds and starts daemons."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    settings = None
    try:
        terminal.prepare_streams()
        settings = Settings.from_env()
        status = _dispatch(arguments, launcher(settings))
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


def _dispatch(arguments: list[str], ready: Launcher) -> int:
    match arguments:
        case ["serve" | "start"]:
            return serve(ready, None)
        case ["serve" | "start", "--preload", model]:
            return serve(ready, model)
    # Costs 50 ms: only after the cases that can do without
    from .commands import table

    if arguments[:1] == [
        "__complete"
    ]:  # asked by the shells' scripts, with words that are no arguments of ours
        return table.complete(arguments[1:], ready)
    return table.run(arguments, ready)


def _fail(message: str) -> int:
    """One line on stderr, whatever the message holds."""
    try:
        sys.stdout.flush()
    except OSError:
        terminal.silence_stdout()
    terminal.remark(f"Error: {' '.join(message.split())}")
    return 1

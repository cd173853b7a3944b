"""`serve`, and the daemon in the background: start, stop, restart, status, logs."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer import Option

from ...errors import OllamapyError
from ...human import one_line
from .. import launch, views
from ..client import Client
from ..launch import Launcher, Place, Stranger
from .arguments import POSITIONAL, Commands, Json, exactly, group_app, launcher_of, print_json

SERVE_VARIABLES = """\b
Environment variables (each of them also as OLLAMA_...):
  OLLAMAPY_HOST               address to listen at: 127.0.0.1:11434
  OLLAMAPY_MODELS             the directory of the models
  OLLAMAPY_ORIGINS            web pages that may use the API
  OLLAMAPY_KEEP_ALIVE         how long a model stays loaded: 5m
  OLLAMAPY_LOAD_TIMEOUT       how long a load may take without progress: 5m
  OLLAMAPY_CONTEXT_LENGTH     tokens of context (default: by memory)
  OLLAMAPY_NUM_PARALLEL       parallel requests of a model (default: by memory)
  OLLAMAPY_MAX_LOADED_MODELS  models loaded at once: 3
  OLLAMAPY_MAX_QUEUE          requests that may wait: 512
  OLLAMAPY_FLASH_ATTENTION    0: off
  OLLAMAPY_KV_CACHE_TYPE      f16, q8_0 ...
  OLLAMAPY_CACHE              disk space for computed prompts, such as 20GB; 0: off
  OLLAMAPY_NOHISTORY          1: keep chats in memory only
  OLLAMAPY_RESPONSES_DAYS     days that stored responses are kept: 30
  OLLAMAPY_SERVE_MODELS       1: let other machines pull models from here
  OLLAMAPY_DEBUG              1: log more
\b
Only in ollamapy:
  OLLAMAPY_HOME               one folder for all files
  OLLAMAPY_MORE_MODELS        more directories with models, only read
  OLLAMAPY_LIBRARY            your own catalogue
"""
"""The variables that a daemon reads; docs/configuration.md has all of them."""

app = group_app()
daemon = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    options_metavar="",
    help="Start, stop and inspect the daemon.",
)
app.add_typer(daemon, name="daemon")


@app.command(
    "serve",
    options_metavar="[--preload MODEL]",
    context_settings=POSITIONAL,
    epilog=SERVE_VARIABLES,
)
def serve(
    context: typer.Context,
    preload: Annotated[
        str | None, Option(metavar="MODEL", help="Load this model at the start.")
    ] = None,
) -> None:
    """Run the server in the foreground. (Also: start)"""
    exactly(context, 0)
    raise typer.Exit(launch.serve(launcher_of(context), preload))


app.command(
    "start",
    hidden=True,
    options_metavar="[--preload MODEL]",
    context_settings=POSITIONAL,
    epilog=SERVE_VARIABLES,
)(serve)


@daemon.callback(invoke_without_command=True)
def daemon_root(context: typer.Context) -> None:
    """Start, stop and inspect the daemon."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@daemon.command("start", options_metavar="[flags]", context_settings=POSITIONAL)
def start(context: typer.Context, as_json: Json = False) -> None:
    """Start the daemon, if it does not run."""
    exactly(context, 0)
    place, started = launcher_of(context).start()
    _print_place(launcher_of(context), place, "started" if started else "runs already", as_json)


def _print_place(launcher: Launcher, place: Place, state: str, as_json: bool) -> None:
    assert place.daemon is not None
    launcher.remark(place)
    version, pid, url = place.daemon.version, place.daemon.pid, place.address.url
    if as_json:
        return print_json({"state": state, "version": version, "address": url, "pid": pid})
    print(f"ollamapy {version} {state} at {url} (pid {pid})")


@daemon.command("stop", options_metavar="[flags]", context_settings=POSITIONAL)
def stop_daemon(context: typer.Context, as_json: Json = False) -> None:
    """Stop the daemon, after the requests in flight."""
    exactly(context, 0)
    stopped = launcher_of(context).stop()
    if as_json:
        return print_json({"stopped": stopped})
    print("stopped" if stopped else "the daemon is not running")


@daemon.command("restart", options_metavar="[flags]", context_settings=POSITIONAL)
def restart(context: typer.Context, as_json: Json = False) -> None:
    """Stop the daemon, if it runs, and start it.

    Requests that arrive meanwhile wait.
    """
    exactly(context, 0)
    _print_place(launcher_of(context), launcher_of(context).restart(), "started", as_json)


@daemon.command("status", options_metavar="[--json]", context_settings=POSITIONAL)
def status(context: typer.Context, as_json: Json = False) -> None:
    """Show whether the daemon runs, and where.

    Exit status 1 if it does not run.
    """
    exactly(context, 0)
    launcher = launcher_of(context)
    place = launcher.find()
    facts: dict[str, Any] = {
        "running": place.daemon is not None,
        "address": place.address.url,
        "log": str(launcher.settings.paths.log),
    }
    if place.daemon is not None:
        names = [str(model.get("name")) for model in Client(place.address).ps()]
        process = {"version": place.daemon.version, "pid": place.daemon.pid}
        facts |= {**process, "requests": place.daemon.busy, "loaded": names}
    if as_json:
        print_json(facts)
    elif place.daemon is not None:
        facts["loaded"] = ", ".join(facts["loaded"]) or "no model"
        for name, value in facts.items():
            print(one_line(f"{name:<12}{views.plain(value)}"))
    elif isinstance(place.holder, Stranger):
        print(one_line(f"not running: {place.address.url} is held by {place.holder.name}"))
    else:
        print("not running")
    raise typer.Exit(0 if place.daemon is not None else 1)


@daemon.command("logs", options_metavar="[flags]", context_settings=POSITIONAL)
def logs(
    context: typer.Context,
    lines: Annotated[
        int, Option("--lines", "-n", metavar="N", min=0, help="Number of last lines to show.")
    ] = 100,
    follow: Annotated[bool, Option("--follow", "-f", help="Continue to print new lines.")] = False,
) -> None:
    """Show the log of a daemon that runs in the background.

    A daemon that `serve` runs in the foreground writes to its terminal instead.
    """
    exactly(context, 0)
    path = launcher_of(context).settings.paths.log
    if not path.exists():
        raise OllamapyError(
            f"there is no log at {path}: it is written by a daemon that 'ollamapy daemon start' started"
        )
    _print_log(path, lines, follow)


_POLL = 0.2
"""Seconds between two looks at a log that is followed."""


def _print_log(path: Path, lines: int, follow: bool) -> None:
    """Print the last lines of a log; with ``follow`` also new ones, without end and across rotations.

    Control characters are escaped: lines that did not come through logging (a crash's last words) may hold some.
    """
    log = _opened(path)
    try:
        sys.stdout.writelines(map(_shown, deque(log, maxlen=lines)))
        while follow:
            newer = _newer(path, log)  # before the old one is read: then that is its end
            if newer:
                time.sleep(_POLL)  # but for what another process was writing when it was renamed
            sys.stdout.write(_shown(log.read()))
            sys.stdout.flush()
            if newer:
                log.close()
                log = newer
            else:
                time.sleep(_POLL)
    finally:
        log.close()


def _opened(path: Path) -> TextIO:
    """A log, whose lines end with "\\n" alone: a carriage return begins none."""
    return path.open(encoding="utf-8", errors="replace", newline="\n")


def _shown(text: str) -> str:
    """Lines of a log as they are safe to print."""
    return "\n".join(map(one_line, text.replace("\r\n", "\n").split("\n")))


def _newer(path: Path, log: TextIO) -> TextIO | None:
    """The file that has taken the place of a log, if one has."""
    try:
        if os.path.samestat(path.stat(), os.fstat(log.fileno())):
            return None
        return _opened(path)
    except FileNotFoundError:
        return None  # in the middle of a rotation

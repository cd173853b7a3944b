"""`ps --watch`: the table of the loaded models, again every second, in its place on a terminal. Ends at Ctrl-C."""

from __future__ import annotations

import sys
import time

from . import terminal, views
from .drawing import shown
from .launch import Launcher

_SECONDS = 1.0


def watch(launcher: Launcher, prefix: str) -> None:
    """Print the table until KeyboardInterrupt, which is raised."""
    redraws, rows = terminal.has_cursor(sys.stdout), 0
    while True:
        client = launcher.running()
        models = views.with_prefix(client.ps() if client else (), prefix)
        text = shown(views.loaded(models, time.time()))
        if client is None:
            text += "the daemon is not running\n"
        back = f"\x1b[{rows}A\r\x1b[J" if rows else ""
        sys.stdout.write((back if redraws else "") + text)
        sys.stdout.flush()
        rows = text.count("\n")
        time.sleep(_SECONDS)

"""A runner's process that is started before asyncio is imported: the first thing that a daemon with a model to load does.

The process imports the engine while the daemon imports the rest, and waits for its Load. Later a Child
adopts it. Its end is read from a pidfd and signals go through it, never to a number, so this is for Linux alone: elsewhere
:func:`start` returns None, and the runner is started when it is needed.
"""

from __future__ import annotations

import os
import subprocess

from ..config import child_command, child_environment


def start() -> subprocess.Popen[bytes] | None:
    """A process of ``ollamapy.runner`` that waits for its first frame; None where it cannot be started this early."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return subprocess.Popen(
            child_command("ollamapy.runner"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            bufsize=0,
            start_new_session=True,
        )
    except OSError:
        return None  # the runner that is started later has the same fault, and reports it


def discard(process: subprocess.Popen[bytes]) -> None:
    """End a process that no Child has adopted, and reap it."""
    process.kill()
    process.communicate()

"""How many threads llama.cpp gets."""

from __future__ import annotations

import os
import sys


def usable_cores() -> int:
    """Threads for llama.cpp: the physical cores this process may run on; siblings on one core only get in each other's way."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS and Windows
        return max((os.cpu_count() or 2) // (1 if sys.platform == "darwin" else 2), 1)
    cores = set()
    for cpu in allowed:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
                cores.add(file.read().strip())
        except OSError:
            cores.add(str(cpu))
    return max(len(cores), 1)


def threads_for(wanted: int) -> int:
    """Threads that compute, where so many are wanted: at most one for each logical core; 0: as many as there are usable ones."""
    return min(wanted, os.cpu_count() or 1) or usable_cores()

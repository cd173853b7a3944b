"""The memory of this machine and what of it is free, and what processes take of its processors. Imports no other module of the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that can be allocated without swapping, within the limits of this process's cgroups.

    ``root`` is the folder of ``proc`` and ``sys``; only the cgroup files are read below it.
    """
    import psutil

    return max(min([int(psutil.virtual_memory().available), *_cgroup_headrooms(root)]), 0)


def total_memory() -> int:
    """Bytes of this machine's memory; limits of cgroups are not considered."""
    import psutil

    return int(psutil.virtual_memory().total)


def processor_seconds(pid: int | None) -> float | None:
    """The time that a process has computed, in seconds; None where it is gone or the system does not tell."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times() if pid is not None else None
    except psutil.Error:
        return None
    return times.user + times.system if times is not None else None


def _cgroup_headrooms(root: Path) -> Iterator[int]:
    """The bytes left under the limit of this process's memory cgroup and of each of its parents.

    In a container the path in proc may be the host's: folders that do not exist are skipped, up to
    the mount, which is the container's own group. The page cache on the inactive list counts as
    free, since the kernel reclaims it first.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        parts = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            if not controllers:  # version 2
                group = mount.joinpath(*parts[:depth])
                names = ("memory.max", "memory.current", "inactive_file")
            elif "memory" in controllers.split(","):  # version 1
                group = mount.joinpath("memory", *parts[:depth])
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            else:
                break
            limit, used = _number(group / names[0]), _number(group / names[1])
            if limit is not None and used is not None:
                yield limit - used + _reclaimable(group / "memory.stat", names[2])


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none, or "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _reclaimable(path: Path, key: str) -> int:
    """One line of a memory.stat file."""
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(pair[1]) for pair in pairs if pair[:1] == [key] and len(pair) == 2), 0)
    except (OSError, ValueError):
        return 0

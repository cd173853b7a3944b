"""The command ``ollamapy``, also as ``python -m ollamapy``: the version before anything is imported, else `cli.main`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command that the arguments name; returns the exit status."""
    try:
        if sys.argv[1:] in (["--version"], ["-v"]) and _print_version():
            return 0
        from .cli.main import main as run

        return run()
    except KeyboardInterrupt:  # while modules are imported; cli.main handles later ones
        return 130


def _print_version() -> bool:
    """False if stdout cannot be written: `cli.main` then tries again, and reports why."""
    from . import __version__

    try:
        print(f"ollamapy version is {__version__}", flush=True)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())

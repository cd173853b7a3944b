"""The command ``ollamapy``, also as ``python -m ollamapy``: what is said before anything is imported, then `cli.main`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command that the arguments name; returns the exit status."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        from . import __version__

        print(f"ollamapy version is {__version__}")
        return 0
    from .cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

"""The report of a bug of ours: a message, and a file with the traceback."""

from __future__ import annotations

from pathlib import Path


def recorded(error: Exception, folder: Path | None) -> str:
    """The message for a bug, whose traceback goes to ``error.log`` in the folder of the state, if that is known."""
    import traceback

    message = f"this is a bug in ollamapy: {type(error).__name__}: {error}"
    if folder is None:
        return message
    try:
        path = folder / "error.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(traceback.format_exception(error)), encoding="utf-8", errors="replace"
        )
    except OSError:
        return message
    return f"{message} (details: {path})"

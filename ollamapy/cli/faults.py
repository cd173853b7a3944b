"""What an error of our own making becomes: a message, and a file with the traceback."""

from __future__ import annotations

from ..config import Settings


def recorded(error: Exception) -> str:
    """The message for a bug, whose traceback goes to ``error.log`` among the state."""
    import traceback

    message = f"this is a bug in ollamapy: {type(error).__name__}: {error}"
    try:
        path = Settings.from_env().paths.state / "error.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "".join(traceback.format_exception(error)), encoding="utf-8", errors="replace"
        )
    except OSError:
        return message
    return f"{message} (details: {path})"

"""Every error that ollamapy raises on purpose, as one tree.

Each class knows the HTTP status that it becomes; ``daemon/app.py`` turns an error into an answer and ``cli/main.py`` into
one line on stderr, and nothing else translates errors. The message is one sentence that names the thing and the way out.

    OllamapyError                         500
    +- InvalidName                        400   the caller's
    +- InvalidModelfile                   400   carries reason, line and column
    +- InvalidRequest                     400
    +- InvalidModel                       500   a file that says it is a model and is not
    +- ModelNotFound                      404
    +- RequestCancelled                   499   the client left
    +- ServerBusy                         503   carries retry_after, seconds
    +- NotEnoughMemory                    507
    +- StoreError                         500   the disk: read-only, full, unreadable
    +- TemplateError                      500   the model's template, not the caller
    +- RunnerError                        500
       +- LoadFailed
       +- RunnerCrashed                         carries exit_code and the last lines of stderr
"""

from __future__ import annotations


class OllamapyError(Exception):
    """Base of all errors raised on purpose; ``status`` is the HTTP status it becomes."""

    status = 500


class InvalidName(OllamapyError):
    """A model name that does not follow the grammar of names."""

    status = 400


class InvalidModelfile(OllamapyError):
    """A Modelfile that breaks the grammar, or asks for what no model can have.

    ``reason`` is the message without the place; ``line`` and ``column`` begin at 1, and are 0 where the file as a whole is meant.
    """

    status = 400

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"(line {line}): {reason} (column {column})" if line else reason)
        self.reason = reason
        self.line = line
        self.column = column


class InvalidRequest(OllamapyError):
    """A request that cannot be understood or served as it stands; the message names the field."""

    status = 400


class InvalidModel(OllamapyError):
    """A model file, manifest or layer that is damaged or not what it says it is."""


class ModelNotFound(OllamapyError):
    """No store root has a model of that name."""

    status = 404


class RequestCancelled(OllamapyError):
    """The client went away before its answer was complete."""

    status = 499


class ServerBusy(OllamapyError):
    """The queue is full; ``retry_after`` is in seconds."""

    status = 503

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotEnoughMemory(OllamapyError):
    """The model does not fit even alone; the message says what it needs and what is free."""

    status = 507


class StoreError(OllamapyError):
    """The models directory cannot be read or written."""


class TemplateError(OllamapyError):
    """The model's own template failed, ran too long or grew too large."""


class RunnerError(OllamapyError):
    """A runner process could not do its work."""


class LoadFailed(RunnerError):
    """llama.cpp refused the model file."""


class RunnerCrashed(RunnerError):
    """The runner process ended while it had work.

    ``exit_code`` is negative for a signal, as in :mod:`subprocess`; ``tail`` holds its last lines of stderr.
    """

    def __init__(self, message: str, exit_code: int | None = None, tail: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.tail = tail

"""Every error that ollamapy raises on purpose, as one tree.

Each class has the HTTP status that it becomes; ``web/app.py`` turns an error into a response and ``cli/main.py`` into one line
on stderr, and nothing else translates errors. The message is one sentence: what failed, why, and what to do.

    OllamapyError                         500
    +- InvalidName                        400
    +- InvalidModelfile                   400   carries reason, line and column
    +- InvalidRequest                     400
    |  +- PromptTooLong
    +- InvalidModel                       500   a damaged model file, manifest or layer
    +- InvalidCatalog                   500   a file of the catalogue; names the file and the key
    +- ModelNotFound                      404
    +- Forbidden                          403   the caller does not have the right
    +- RequestNotFound                    404   no request with the id to cancel
    +- JobNotFound                        404
    +- PresetNotFound                     404
    +- RequestCancelled                   499   the client disconnected
    +- CancelRequested                    499   cancelled by its id
    +- ServerBusy                         503   carries retry_after, seconds
    +- NotEnoughMemory                    507
    +- ChatError                          500   the conversations that the daemon keeps
    |  +- ChatNotFound                    404
    |  +- ChatConflict                    409   the message is being written
    |  +- ChatsUnavailable                503   their database cannot be opened
    |  +- ChatsFull                       507   the disk has no room for them
    +- InvalidSetting                     500   the environment of this process
    +- StoreError                         500   the disk: read-only, full, unreadable
    |  +- ReadOnlyModel                   403   a model of a read-only store root
    +- TemplateError                      500   the model's own template
    |  +- RefusedByTemplate               400
    |  +- TemplateTooSlow
    +- TransferError                      502   another machine, or the network
    |  +- Offline                         502
    |  +- Unauthorized                    401   the token is wrong
    |  +- AccessDenied                    403
    |  |  +- GatedModel
    |  +- RemoteNotFound                  404
    |  +- RateLimited                     429   carries retry_after, seconds
    |  +- DigestMismatch                  502
    |  +- DiskFull                        507   carries missing, bytes
    +- RunnerError                        500
       +- LoadFailed
       +- RunnerCrashed                         carries exit_code and the last lines of stderr
"""

from __future__ import annotations

import re

INTERNAL = "internal error, see the daemon's log: ollamapy daemon logs"
"""The message of an error that no one foresaw, whose details the log alone gets."""


class OllamapyError(Exception):
    """Base of all errors raised on purpose; ``status`` is the HTTP status it becomes.

    ``code``: OpenAI's code, for the few errors that programs handle.
    """

    status = 500
    code = ""


class InvalidName(OllamapyError):
    """A model name that does not follow the grammar of names."""

    status = 400


class InvalidModelfile(OllamapyError):
    """A Modelfile that breaks the grammar, or has an instruction that no model can have.

    ``reason`` is the message without the position; ``line`` and ``column`` begin at 1, and are 0 for the file as a whole.
    """

    status = 400

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"(line {line}): {reason} (column {column})" if line else reason)
        self.reason = reason
        self.line = line
        self.column = column


class InvalidRequest(OllamapyError):
    """A request that cannot be parsed or answered; the message names the field."""

    status = 400


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room in its context. Programs that get this code shorten the conversation."""

    code = "context_length_exceeded"


class InvalidModel(OllamapyError):
    """A model file, manifest or layer that is damaged or of another kind than it claims."""


class InvalidCatalog(OllamapyError):
    """A file of the catalogue that breaks its schema; the message names the file and the key."""


class ModelNotFound(OllamapyError):
    """No store root has a model of that name."""

    status = 404


class Forbidden(OllamapyError):
    """The caller does not have the right that the path needs."""

    status = 403
    code = "forbidden"


class RequestCancelled(OllamapyError):
    """The client disconnected before its answer was complete."""

    status = 499


class RequestNotFound(OllamapyError):
    """No request with that id is in flight."""

    status = 404


class JobNotFound(OllamapyError):
    """No job with that id runs or has ended lately."""

    status = 404


class PresetNotFound(OllamapyError):
    """The caller has no preset of that name."""

    status = 404


class CancelRequested(OllamapyError):
    """The request was cancelled by its id; its client is still connected and gets this error."""

    status = 499

    def __init__(self) -> None:
        super().__init__("request canceled: it was cancelled by its id")


class ServerBusy(OllamapyError):
    """The queue is full; ``retry_after`` is in seconds."""

    status = 503

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotEnoughMemory(OllamapyError):
    """The model does not fit even alone; the message says what it needs and what is free."""

    status = 507


class ChatError(OllamapyError):
    """A conversation cannot be read or written."""


class ChatNotFound(ChatError):
    """The caller has no chat, message or attachment with that id."""

    status = 404
    code = "not_found"


class ChatConflict(ChatError):
    """The message is being written, or cannot be continued."""

    status = 409
    code = "conflict"


class ChatsUnavailable(ChatError):
    """The database of the conversations cannot be opened or read."""

    status = 503
    code = "chats_unavailable"


class ChatsFull(ChatError):
    """The disk has no room for a conversation."""

    status = 507
    code = "disk_full"


class InvalidSetting(OllamapyError):
    """A setting that cannot be used; the message names the variable and the values that it can have."""


class StoreError(OllamapyError):
    """The models directory cannot be read or written."""


class ReadOnlyModel(StoreError):
    """A model that cannot be changed or deleted, because its store root is read-only: the built-in one, for example."""

    status = 403


class TemplateError(OllamapyError):
    """The model's own template failed, ran too long or grew too large."""


class RefusedByTemplate(TemplateError):
    """The model's template calls raise_exception: it does not take these messages, which are the caller's."""

    status = 400


class TemplateTooSlow(TemplateError):
    """The template ran too long, or the machine was suspended meanwhile."""


class TransferError(OllamapyError):
    """A transfer from or to another machine failed."""

    status = 502


class Offline(TransferError):
    """The other machine cannot be reached, or the user turned the network off."""


class Unauthorized(TransferError):
    """The other machine does not accept the token."""

    status = 401


class AccessDenied(TransferError):
    """The other machine refuses access."""

    status = 403


class GatedModel(AccessDenied):
    """The licence must be accepted on a web page first; the message names the page."""


class RemoteNotFound(TransferError):
    """The other machine has no such repository, model, file or variant, or hides it from this user."""

    status = 404


class RateLimited(TransferError):
    """The other machine limits the rate of requests; ``retry_after`` is in seconds."""

    status = 429

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DigestMismatch(TransferError):
    """Downloaded content does not match its digest, also on a second try."""


class DiskFull(TransferError):
    """The disk has no room for a download; ``missing`` is in bytes."""

    status = 507

    def __init__(self, message: str, missing: int) -> None:
        super().__init__(message)
        self.missing = missing


class RunnerError(OllamapyError):
    """A runner process failed."""


class LoadFailed(RunnerError):
    """llama.cpp refused the model file."""


class RunnerCrashed(RunnerError):
    """The runner process ended while requests were open.

    ``exit_code`` is negative for a signal, as in :mod:`subprocess`; ``tail`` is its last lines of stderr.
    """

    def __init__(self, message: str, exit_code: int | None = None, tail: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.tail = tail


def code_of(error: Exception) -> str:
    """The code of an error where every error has one: its own, or the name of its class ("model_not_found")."""
    if not isinstance(error, OllamapyError):
        return "internal_error"
    return error.code or re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def reason(error: BaseException) -> str:
    """The reason of a system error, to be part of a sentence: "permission denied", without the number and the path."""
    return (getattr(error, "strerror", None) or str(error)).lower()

"""Ollama's own API: from JSON to requests of the vocabulary, and from answers to JSON. Pure.

What a request may ask for and is not built yet (FIELDS_TO_COME) is refused by name whenever it would change the answer:
nothing is ignored in silence but what Ollama ignores too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from ... import __version__, human
from ...errors import InvalidRequest
from ...types import (
    ChatRequest,
    Chunk,
    GenerateRequest,
    Message,
    Options,
    Rendered,
    TokenLogprob,
    parse_options,
)
from ..models import Details, ListedModel, print_time
from ..scheduler import Loaded
from . import body

log = logging.getLogger(__name__)

OLLAMA_VERSION = "0.32.15"
"""The Ollama that we are compatible with: clients refuse old ones."""

ROLES = ("system", "user", "assistant", "tool")
MOST_LOGPROBS = 20

FIELDS_TO_COME = (
    "images",
    "tools",
    "tool_calls",
    "tool_name",
    "tool_call_id",
)
"""Not built yet, and refused unless empty."""

_THINK_LEVELS = ("high", "medium", "low", "max")

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Request]):
    """A request, and how its answer is wanted. ``render_only``: the prompt instead of an answer."""

    request: Request
    stream: bool
    render_only: bool


@dataclass(frozen=True, slots=True)
class ShowRequest:
    """What /api/show is asked; ``system`` and ``options`` only change the Modelfile that it prints."""

    model: str
    verbose: bool
    system: str
    options: Mapping[str, Any]


# ---- requests --------------------------------------------------------------------------------------------------------

_COMMON = {
    "model": "string", "stream": "bool", "format": "any", "keep_alive": "any", "options": "map[string]interface {}",
    "think": "any", "truncate": "bool", "shift": "bool", "logprobs": "bool", "top_logprobs": "int",
    "_debug_render_only": "bool",
}  # fmt: skip
_GENERATE = _COMMON | {
    "prompt": "string", "suffix": "string", "system": "string", "template": "string", "context": "[]int",
    "raw": "bool", "images": "[]string",
}  # fmt: skip
_CHAT = _COMMON | {"messages": "[]api.Message", "tools": "any"}
_MESSAGE = {
    "role": "string", "content": "string", "images": "[]string", "tool_calls": "any", "tool_name": "string",
    "tool_call_id": "string",
}  # fmt: skip
_SHOW = {
    "model": "string", "name": "string", "system": "string", "template": "string", "verbose": "bool",
    "options": "map[string]interface {}",
}  # fmt: skip


def parse_generate(data: bytes) -> Asked[GenerateRequest]:
    """The body of /api/generate. Raises InvalidRequest."""
    given = body.fields(body.decode(data), _GENERATE, "GenerateRequest")
    raw, context = given.get("raw", False), given.get("context")
    if raw and (given.get("template") or given.get("system") or context):
        raise InvalidRequest("raw mode does not support template, system, or context")
    if context is not None and not all(0 <= token < 2**31 for token in context):
        raise InvalidRequest("context holds a number that is no token id")
    request = GenerateRequest(
        prompt=given.get("prompt", ""),
        system=given.get("system", ""),
        raw=raw,
        template=given.get("template", ""),
        suffix=given.get("suffix", ""),
        context=None if context is None else tuple(context),
        truncate=given.get("truncate", True),
        **_common(given),
    )
    return _asked(request, given, bool(request.prompt))


def parse_chat(data: bytes) -> Asked[ChatRequest]:
    """The body of /api/chat. Raises InvalidRequest."""
    given = body.fields(body.decode(data), _CHAT, "ChatRequest")
    messages = tuple(_message(item, i) for i, item in enumerate(_list(given, "messages")))
    request = ChatRequest(messages=messages, **_common(given))
    return _asked(request, given, bool(messages))


def parse_show(data: bytes) -> ShowRequest:
    """The body of /api/show. Raises InvalidRequest."""
    given = body.fields(body.decode(data), _SHOW, "ShowRequest")
    return ShowRequest(
        model=_model(given),
        verbose=given.get("verbose", False),
        system=given.get("system", ""),
        options=given.get("options", {}),
    )


def _asked(request: Request, given: Mapping[str, Any], has_work: bool) -> Asked[Request]:
    """Loading and unloading, and a rendered prompt, are answered with one object whatever was asked for."""
    render_only = has_work and given.get("_debug_render_only", False)
    stream = has_work and given.get("stream", True) and not render_only
    return Asked(request, stream, render_only)


def _common(given: Mapping[str, Any]) -> dict[str, Any]:
    _refuse_what_is_to_come(given, "")
    if given.get("format") not in (None, ""):
        raise _not_yet("format")
    return {
        "model": _model(given),
        "options": _options(given.get("options", {})),
        "keep_alive": _keep_alive(given.get("keep_alive")),
        "logprobs": _logprobs(given),
        "think": _think(given.get("think")),
        "shift": given.get("shift"),
    }


def _refuse_what_is_to_come(given: Mapping[str, Any], where: str) -> None:
    for name in FIELDS_TO_COME:
        if given.get(name):
            raise _not_yet(f"{where}{name}")


def _not_yet(what: str) -> InvalidRequest:
    """Clients look for "does not support" and try without."""
    return InvalidRequest(f"this version of ollamapy does not support {what} yet, leave it out")


def _model(given: Mapping[str, Any]) -> str:
    """The model's name; some requests also know it as "name"."""
    name: str = given.get("model") or given.get("name") or ""
    if not name:
        raise InvalidRequest("model is required")
    return name


def _options(given: Mapping[str, Any]) -> Options:
    options, unknown = parse_options(given)
    if unknown:
        log.warning(
            "options that are unknown and ignored: %s",
            ", ".join(f"{name[:40]!r}" for name in unknown[:20]),
        )
    return options


def _keep_alive(value: Any) -> float | None | UnsetType:
    if value is None:
        return UNSET
    try:
        seconds = human.parse_keep_alive(value)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return None if seconds == human.FOREVER else seconds


def _logprobs(given: Mapping[str, Any]) -> int | None:
    top = given.get("top_logprobs", 0)
    if not 0 <= top <= MOST_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
    return top if given.get("logprobs") else None


def _think(value: Any) -> bool | None:
    """Only leaving thoughts out is built; to think and tell it apart from the answer is not."""
    if value in (None, False):
        return value if value is None else False
    if value is True or value in _THINK_LEVELS:
        raise _not_yet("thinking")
    shown = f'"{value}"' if isinstance(value, str) else body.kind(value)
    levels = ", ".join(f'"{level}"' for level in _THINK_LEVELS)
    raise InvalidRequest(f"invalid think value: {shown} (must be {levels}, true, or false)")


def _list(given: Mapping[str, Any], name: str) -> list[Any]:
    found: list[Any] = given.get(name, [])
    return found


def _message(item: Any, index: int) -> Message:
    given = body.fields(item, _MESSAGE, "ChatRequest", "messages")
    _refuse_what_is_to_come(given, f"messages[{index}].")
    role = given.get("role", "").lower()
    if role not in ROLES:
        raise InvalidRequest(
            f"role {role[:40]!r} of messages[{index}] is unknown, use one of {', '.join(ROLES)}"
        )
    return Message(role, given.get("content", ""))


# ---- answers ---------------------------------------------------------------------------------------------------------


class _Metrics(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Nanoseconds and tokens; only the last object of an answer has them, and then all six.

    ``prompt_truncated`` is ours: what was cut off a prompt that did not fit, which Ollama does in silence.
    """

    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    prompt_truncated: dict[str, int] | None = None


class _Generated(_Metrics, frozen=True, omit_defaults=True, kw_only=True):
    model: str
    created_at: str
    response: str
    done: bool
    done_reason: str | None = None
    context: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class _Turn(msgspec.Struct, frozen=True):
    role: str
    content: str


class _Chatted(_Metrics, frozen=True, omit_defaults=True, kw_only=True):
    model: str
    created_at: str
    message: _Turn
    done: bool
    done_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


encode = msgspec.json.Encoder().encode


def encode_generated(model: str, chunk: Chunk) -> bytes:
    """One object of /api/generate, without a line end."""
    return encode(
        _Generated(
            model=model,
            created_at=_now(),
            response=chunk.text,
            done=chunk.finish_reason is not None,
            done_reason=chunk.finish_reason,
            context=chunk.context,
            logprobs=chunk.logprobs,
            **_metrics(chunk),
        )
    )


def encode_chatted(model: str, chunk: Chunk) -> bytes:
    """One object of /api/chat, without a line end."""
    return encode(
        _Chatted(
            model=model,
            created_at=_now(),
            message=_Turn("assistant", chunk.text),
            done=chunk.finish_reason is not None,
            done_reason=chunk.finish_reason,
            logprobs=chunk.logprobs,
            **_metrics(chunk),
        )
    )


def encode_rendered_generate(model: str, rendered: Rendered) -> bytes:
    """The answer of /api/generate to _debug_render_only."""
    return encode(_rendered(model, rendered, {"response": ""}))


def encode_rendered_chat(model: str, rendered: Rendered) -> bytes:
    """The answer of /api/chat to _debug_render_only."""
    return encode(_rendered(model, rendered, {"message": {"role": "", "content": ""}}))


def _rendered(model: str, rendered: Rendered, empty: Mapping[str, Any]) -> dict[str, Any]:
    """``prompt_tokens`` is ours."""
    found = {"rendered_template": rendered.prompt, "prompt_tokens": rendered.tokens}
    head = {"model": model, "created_at": _now(), **empty, "done": False}
    return {**head, "_debug_info": found}


def _metrics(chunk: Chunk) -> dict[str, Any]:
    if chunk.usage is None:
        return {}
    usage = chunk.usage
    return {
        "total_duration": usage.total_duration,
        "load_duration": usage.load_duration,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": usage.prompt_duration,
        "eval_count": usage.completion_tokens,
        "eval_duration": usage.completion_duration,
        "prompt_truncated": {"tokens": usage.truncated_tokens} if usage.truncated_tokens else None,
    }


def encode_error(message: str) -> bytes:
    """An error, as a body and as the last line of a stream."""
    return encode({"error": message})


def encode_version(busy: int, models: Path | None) -> bytes:
    """The Ollama we stand in for; the other keys tell our daemon from a stranger, whether it can be restarted, and where its
    models are, if that may be told."""
    ours = {"ollamapy": __version__, "pid": os.getpid(), "busy": busy}
    where = {} if models is None else {"models": str(models)}
    return encode({"version": OLLAMA_VERSION, **ours, **where})


# ---- models ----------------------------------------------------------------------------------------------------------


def encode_tags(models: Iterable[ListedModel]) -> bytes:
    """The answer of /api/tags."""
    return encode({"models": list(models)})


class _Running(msgspec.Struct, frozen=True):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


def encode_ps(loaded: Iterable[Loaded]) -> bytes:
    """The answer of /api/ps: the one that stays longest first."""
    now = time.time()
    longest_first = sorted(loaded, key=_stays, reverse=True)
    return encode({"models": [_running(each, now) for each in longest_first]})


def _stays(loaded: Loaded) -> float:
    """Seconds."""
    return _FOREVER if loaded.expires_in is None else min(loaded.expires_in, _FOREVER)


def _running(loaded: Loaded, now: float) -> _Running:
    header = loaded.request.header
    details = Details(
        parent_model="",
        format="gguf",
        family=header.architecture,
        families=(header.architecture,),
        parameter_size=human.format_number(header.parameter_count),
        quantization_level=header.file_type_name,
    )
    name = loaded.name.display
    return _Running(
        name=name,
        model=name,
        size=loaded.size,
        digest=loaded.digest,
        details=details,
        expires_at=print_time(now + _stays(loaded)),
        size_vram=loaded.size_vram,
        context_length=loaded.n_ctx,
    )


_FOREVER = 200 * 365.25 * 86400.0
"""Seconds; clients take what is centuries ahead as for ever."""


# ---- times -----------------------------------------------------------------------------------------------------------


def _now() -> str:
    """UTC with nanoseconds, as created_at has it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{_to_the_second(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))

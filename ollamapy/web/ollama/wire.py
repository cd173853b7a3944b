"""Ollama's API: from JSON to requests, and from answers to JSON. Pure."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ... import __version__, human
from ...errors import InvalidRequest
from ...fleet.loaded import LoadedModel
from ...fleet.state import Status
from ...models.listing import ListedModel
from ...models.spec import Details, details_of_header
from ...request import (
    Conversation,
    Gap,
    Input,
    Question,
    Raw,
    Request,
    constraint_of,
    keep_alive_of,
)
from ...types import (
    THINK_LEVELS,
    CacheReport,
    Chunk,
    Constraint,
    Message,
    Options,
    Provenance,
    RenderedPrompt,
    TokenLogprob,
    ToolCall,
    Usage,
    Waiting,
    parse_options,
)
from .. import attached, body

log = logging.getLogger(__name__)

OLLAMA_VERSION = "0.32.15"
"""The version of Ollama that this API is compatible with: clients refuse old ones."""

# "developer" and "control" are roles that some models' templates use
ROLES = ("system", "developer", "user", "assistant", "tool", "control")
MOST_LOGPROBS = 20
MOST_TOOLS = 1024


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request, and how its answer is sent. ``render_only``: answer with the prompt."""

    request: Request
    stream: bool
    render_only: bool


@dataclass(frozen=True, slots=True)
class ShowRequest:
    """A request of /api/show; ``system`` and ``options`` only change the Modelfile that it prints."""

    model: str
    verbose: bool
    system: str
    options: Mapping[str, Any]


# ---- requests --------------------------------------------------------------------------------------------------------

_COMMON = {
    "model": "string", "stream": "bool", "format": "any", "keep_alive": "any", "options": "map[string]interface {}",
    "think": "any", "truncate": "bool", "shift": "bool", "logprobs": "bool", "top_logprobs": "int",
    "_debug_render_only": "bool", "think_budget": "int", "grammar": "string", "logit_bias": "map[string]interface {}",
    "progress": "bool", "explain_cache": "bool",
}  # fmt: skip
GENERATE_FIELDS = _COMMON | {
    "prompt": "string", "suffix": "string", "system": "string", "template": "string", "context": "[]int",
    "raw": "bool", "images": "[]string", "files": "any",
}  # fmt: skip
CHAT_FIELDS = _COMMON | {
    "messages": "[]api.Message", "tools": "any", "tool_choice": "string", "parallel_tool_calls": "bool",
}  # fmt: skip
MESSAGE_FIELDS = {
    "role": "string", "content": "string", "thinking": "string", "images": "[]string", "tool_calls": "any",
    "tool_name": "string", "tool_call_id": "string", "files": "any",
}  # fmt: skip
SHOW_FIELDS = {
    "model": "string", "name": "string", "system": "string", "template": "string", "verbose": "bool",
    "options": "map[string]interface {}",
}  # fmt: skip


def parse_generate(data: bytes) -> ParsedRequest:
    """The body of /api/generate. Raises InvalidRequest."""
    given = body.fields(body.decode(data), GENERATE_FIELDS, "GenerateRequest")
    raw, context = given.get("raw", False), given.get("context")
    if raw and (given.get("template") or given.get("system") or context):
        raise InvalidRequest("raw mode does not support template, system, or context")
    if context is not None and not all(0 <= token < 2**31 for token in context):
        raise InvalidRequest("context holds a number that is no token id")
    return _parsed(Request(input=_input(given), **common(given)), given)


def _input(given: Mapping[str, Any]) -> Input:
    """The prompt of /api/generate: raw, a gap where there is a suffix, or a question."""
    prompt, suffix, images = given.get("prompt", ""), given.get("suffix", ""), _images(given)
    files = attached.documents(given.get("files"), "files")
    if files and (given.get("raw") or suffix):
        raise InvalidRequest(
            "files need a prompt that the template renders, without raw and suffix"
        )
    if given.get("raw"):
        return Raw(prompt, suffix, images)
    context = None if given.get("context") is None else tuple(given["context"])
    template = given.get("template", "")
    if suffix:
        return Gap(prompt, suffix, template, context, images)
    return Question(prompt, given.get("system", ""), template, context, images, files)


def parse_chat(data: bytes) -> ParsedRequest:
    """The body of /api/chat. Raises InvalidRequest."""
    given = body.fields(body.decode(data), CHAT_FIELDS, "ChatRequest")
    items = _list(given, "messages")
    body.check_count(items, "messages")
    messages = tuple(_message(item, i) for i, item in enumerate(items))
    return _parsed(chat_request(given, messages), given)


def chat_request(given: Mapping[str, Any], messages: tuple[Message, ...]) -> Request:
    """A chat from its messages and its other fields, by Ollama's names, without null. Raises InvalidRequest."""
    conversation = Conversation(
        messages=messages,
        tools=given_tools(given.get("tools")),
        tool_choice=given.get("tool_choice", "auto"),
        parallel_tool_calls=given.get("parallel_tool_calls", True),
        continues_last=given.get("continue_final_message", False),
    )
    request = Request(input=conversation, **common(given))
    names = {tool["function"]["name"] for tool in conversation.tools}
    if conversation.tool_choice not in ("auto", "none") and not names:
        raise InvalidRequest("tool_choice asks for a tool, but no tools are given")
    if conversation.tool_choice not in ("auto", "none", "required", *names):
        raise InvalidRequest("tool_choice must be auto, none, required or the name of a given tool")
    return request


MAX_SHOW = 8 * 2**20
"""Bytes of a body of /api/show, whose texts come back in the answer, which the event loop encodes."""


def parse_show(data: bytes) -> ShowRequest:
    """The body of /api/show. Raises InvalidRequest, BodyTooLarge."""
    if len(data) > MAX_SHOW:
        raise body.BodyTooLarge(f"the request is longer than {human.format_bytes(MAX_SHOW)}")
    given = body.fields(body.decode(data), SHOW_FIELDS, "ShowRequest")
    return ShowRequest(
        model=body.model_name(given),
        verbose=given.get("verbose", False),
        system=given.get("system", ""),
        options=given.get("options", {}),
    )


def _parsed(request: Request, given: Mapping[str, Any]) -> ParsedRequest:
    """The answer to loading, unloading and ``render_only`` is one object, even with ``stream``; with ``progress`` (our own field)
    loading is streamed too."""
    has_work, progress = request.has_work, given.get("progress", False)
    render_only = has_work and given.get("_debug_render_only", False)
    stream = (has_work or progress) and given.get("stream", True) and not render_only
    return ParsedRequest(replace(request, progress=progress and stream), stream, render_only)


def common(given: Mapping[str, Any]) -> dict[str, Any]:
    """The common parts of chat and generate requests, from the fields that are not null. Raises InvalidRequest."""
    return {
        **model_fields(given),
        "logprobs": _logprobs(given),
        "think": _think(given.get("think")),
        "think_budget": _at_least_0(given, "think_budget"),
        "shift": given.get("shift"),
        "truncate": given.get("truncate", True),
        "constraint": _constraint(given),
        "logit_bias": _logit_bias(given.get("logit_bias", {})),
        "explain_cache": given.get("explain_cache", False),
    }


def model_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The common parts of all requests to a model: its name, its options, and how long it stays loaded."""
    return {
        "model": body.model_name(given),
        "options": _options(given.get("options", {})),
        "keep_alive": keep_alive_of(given.get("keep_alive")),
    }


def _options(given: Mapping[str, Any]) -> Options:
    options, unknown = parse_options(given)
    if unknown:
        log.warning(
            "unknown options are ignored: %s",
            ", ".join(f"{name[:40]!r}" for name in unknown[:20]),
        )
    return options


def _logprobs(given: Mapping[str, Any]) -> int | None:
    top = given.get("top_logprobs", 0)
    if not 0 <= top <= MOST_LOGPROBS:
        raise InvalidRequest(f"top_logprobs must be between 0 and {MOST_LOGPROBS}")
    return top if given.get("logprobs") else None


def _at_least_0(given: Mapping[str, Any], name: str) -> int | None:
    number: int | None = given.get(name)
    if number is not None and number < 0:
        raise InvalidRequest(f"{name} must not be negative")
    return number


def _constraint(given: Mapping[str, Any]) -> Constraint | None:
    """The constraint of ``format`` or of ``grammar`` (a GBNF grammar; our own field)."""
    form, grammar = given.get("format"), given.get("grammar")
    if grammar:
        if form not in (None, ""):
            raise InvalidRequest("give format or grammar, not both")
        return Constraint("gbnf", grammar)
    return constraint_of(form)


def _logit_bias(given: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    """Token ids, as JSON's keys, and the values added to their logits, from -100 to 100."""
    pairs = []
    for token, bias in given.items():
        number = isinstance(bias, (int, float)) and not isinstance(bias, bool)
        if not token.isascii() or not token.isdigit() or len(token) > 9 or not number:
            raise InvalidRequest("logit_bias must be an object of token ids and numbers")
        pairs.append((int(token), float(max(-100, min(bias, 100)))))
    return tuple(pairs)


def _think(value: Any) -> bool | str | None:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str) and value in THINK_LEVELS:
        return value
    shown = f'"{value}"' if isinstance(value, str) else body.kind(value)
    levels = ", ".join(f'"{level}"' for level in THINK_LEVELS)
    raise InvalidRequest(f"invalid think value: {shown} (must be {levels}, true, or false)")


def _list(given: Mapping[str, Any], name: str) -> list[Any]:
    found: list[Any] = given.get(name, [])
    return found


def _message(item: Any, index: int) -> Message:
    given = body.fields(item, MESSAGE_FIELDS, "ChatRequest", "messages")
    role = body.role(given.get("role", ""), ROLES, f"messages[{index}]")
    calls = given.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise InvalidRequest(f"messages[{index}].tool_calls must be a list")
    files = attached.documents(given.get("files"), f"messages[{index}].files")
    return Message.of(
        role,
        [*files, *_images(given), given.get("content", "")],
        thinking=given.get("thinking", ""),
        tool_calls=tuple(
            _tool_call(call, f"messages[{index}].tool_calls[{i}]") for i, call in enumerate(calls)
        ),
        tool_name=given.get("tool_name", ""),
        tool_call_id=given.get("tool_call_id", ""),
    )


def _images(given: Mapping[str, Any]) -> tuple[bytes, ...]:
    return tuple(body.from_base64(image) for image in given.get("images", ()))


def _tool_call(call: Any, where: str) -> ToolCall:
    """A call that a model made earlier. Its arguments may be a JSON text, as OpenAI's clients send them."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(name := function.get("name", ""), str):
        raise InvalidRequest(f"{where} must have a function with a name")
    arguments, id = function.get("arguments", {}), call.get("id", "")
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments or "{}")
        except ValueError:
            raise InvalidRequest(f"{where}.function.arguments is no JSON") from None
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"{where}.function.arguments must be an object")
    return ToolCall(name, arguments, id if isinstance(id, str) else "")


def given_tools(tools: Any) -> tuple[dict[str, Any], ...]:
    """Tools in OpenAI's form, passed to templates unchanged."""
    if not tools:
        return ()
    if not isinstance(tools, list) or len(tools) > MOST_TOOLS:
        raise InvalidRequest(f"tools must be a list of at most {MOST_TOOLS}")
    for i, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidRequest(f"tools[{i}] must have a function with a name")
        if not isinstance(function.get("parameters"), dict | None):
            raise InvalidRequest(f"tools[{i}].function.parameters must be an object")
        if not isinstance(function.get("description"), str | None):
            raise InvalidRequest(f"tools[{i}].function.description must be a text")
    return tuple(tools)


# ---- answers ---------------------------------------------------------------------------------------------------------


class GenerateAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An object of /api/generate; the keys are in Ollama's order.

    The durations are nanoseconds, the counts tokens; only the last object of an answer has them, and then all six. Two are
    ours, for what Ollama does silently: ``prompt_truncated``, the messages and tokens cut from a prompt that did not fit;
    ``context_grown``, with or without the others, the context before and after it was made longer for the request.
    ``progress``, ours too: what the request waits for, in objects before the first text, if the request wants them; and
    ``cache_report``, what was reused of the prompt, if the request wants it explained; ``provenance``, what a deterministic
    answer depends on; and ``notes``, what was left out of the request's files.
    """

    model: str
    created_at: str
    response: str
    thinking: str = ""
    done: bool
    done_reason: str | None = None
    context: tuple[int, ...] = ()
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    cached_from: dict[str, int] | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    prompt_truncated: dict[str, int] | None = None
    context_grown: dict[str, int] | None = None
    cache_report: CacheReport | None = None
    provenance: Provenance | None = None
    notes: tuple[str, ...] | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    progress: Waiting | None = None


class _CalledFunction(msgspec.Struct, frozen=True):
    index: int
    name: str
    arguments: dict[str, Any]


class _ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: _CalledFunction


class _ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    tool_calls: tuple[_ToolCall, ...] = ()


class ChatAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An object of /api/chat; see :class:`GenerateAnswer`."""

    model: str
    created_at: str
    message: _ChatMessage
    done: bool
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    cached_from: dict[str, int] | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    prompt_truncated: dict[str, int] | None = None
    context_grown: dict[str, int] | None = None
    cache_report: CacheReport | None = None
    provenance: Provenance | None = None
    notes: tuple[str, ...] | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    progress: Waiting | None = None


encode = msgspec.json.Encoder().encode


def encode_generate(model: str, chunk: Chunk) -> bytes:
    """One object of /api/generate, without a line end."""
    return encode(
        GenerateAnswer(
            model=model,
            created_at=_now(),
            response=chunk.text,
            thinking=chunk.thinking,
            done=chunk.finish_reason is not None,
            done_reason=chunk.finish_reason,
            context=chunk.context,
            logprobs=chunk.logprobs,
            progress=chunk.waiting,
            **_metrics(chunk),
            **own_fields(chunk),
        )
    )


def encode_chat(model: str, chunk: Chunk) -> bytes:
    """One object of /api/chat, without a line end."""
    return encode(
        ChatAnswer(
            model=model,
            created_at=_now(),
            message=_chat_message(chunk),
            done=chunk.finish_reason is not None,
            done_reason=chunk.finish_reason,
            logprobs=chunk.logprobs,
            progress=chunk.waiting,
            **_metrics(chunk),
            **own_fields(chunk),
        )
    )


def _chat_message(chunk: Chunk) -> _ChatMessage:
    calls = (
        _ToolCall(call.id, _CalledFunction(index, call.name, call.arguments))
        for index, call in enumerate(chunk.tool_calls)
    )
    return _ChatMessage("assistant", chunk.text, chunk.thinking, tuple(calls))


def encode_rendered_generate(model: str, rendered: RenderedPrompt) -> bytes:
    """The answer of /api/generate to _debug_render_only."""
    return encode(_rendered(model, rendered, {"response": ""}))


def encode_rendered_chat(model: str, rendered: RenderedPrompt) -> bytes:
    """The answer of /api/chat to _debug_render_only."""
    return encode(_rendered(model, rendered, {"message": {"role": "", "content": ""}}))


def _rendered(model: str, rendered: RenderedPrompt, empty: Mapping[str, Any]) -> dict[str, Any]:
    """``prompt_tokens`` is our own field."""
    found = {"rendered_template": rendered.prompt, "prompt_tokens": rendered.tokens}
    head = {"model": model, "created_at": _now(), **empty, "done": False}
    return {**head, "_debug_info": found}


def _metrics(chunk: Chunk) -> dict[str, Any]:
    grown = None if chunk.grown is None else dict(zip(("from", "to"), chunk.grown, strict=True))
    if chunk.usage is None:
        return {"context_grown": grown}
    usage = chunk.usage
    return {
        "context_grown": grown,
        "total_duration": usage.total_duration,
        "load_duration": usage.load_duration,
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": usage.prompt_duration,
        "eval_count": usage.completion_tokens,
        "eval_duration": usage.completion_duration,
        **cached_from(usage),
        **truncated(usage),
    }


def cached_from(usage: Usage) -> dict[str, dict[str, int]]:
    """``cached_from``: where the tokens came from that were not computed, as a key of an answer; empty where all were in a slot."""
    return {"cached_from": found} if (found := usage.cached_from) else {}


def truncated(usage: Usage) -> dict[str, dict[str, int]]:
    """``prompt_truncated``: the messages and tokens cut from a prompt that did not fit, as a key of an answer; empty if none."""
    counts = {"messages": usage.dropped_messages, "tokens": usage.truncated_tokens}
    cut = {name: count for name, count in counts.items() if count}
    return {"prompt_truncated": cut} if cut else {}


def own_fields(chunk: Chunk) -> dict[str, Any]:
    """Our own fields of an answer's end: what was reused of its prompt, what a deterministic answer depends on, and what was left
    out of the request's files."""
    found = {
        "cache_report": chunk.cache,
        "provenance": chunk.provenance,
        "notes": chunk.notes or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def encode_error(message: str, status: int | None = None) -> bytes:
    """An error, as a body and as the last line of a stream. ``status`` is our own field, where the response's own is 200 because
    the progress of a request was reported before it failed."""
    return encode({"error": message} if status is None else {"error": message, "status": status})


def encode_version(busy: int, models: Path | None) -> bytes:
    """The version of Ollama that we are compatible with. The other keys identify our daemon, show whether it is busy (a restart
    would end requests), and where its models are, if the caller may know."""
    ours = {"ollamapy": __version__, "pid": os.getpid(), "busy": busy}
    where = {} if models is None else {"models": str(models)}
    return encode({"version": OLLAMA_VERSION, **ours, **where})


def encode_status() -> bytes:
    """The answer of /api/status: Ollama's cloud is disabled, it is never used."""
    return encode({"cloud": {"disabled": True, "source": "config"}})


# ---- models ----------------------------------------------------------------------------------------------------------


def encode_tags(models: Iterable[ListedModel]) -> bytes:
    """The answer of /api/tags."""
    return encode({"models": list(models)})


class RunningModel(msgspec.Struct, frozen=True):
    """One entry of /api/ps; the last four are ours. ``status`` is starting, ready or stopping; while it starts ``stage`` says
    what the load does and ``fraction`` how much of the weights is loaded; ``in_flight`` counts the requests that use the model."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int
    status: str
    stage: str | None
    fraction: float
    in_flight: int


def encode_ps(loaded: Iterable[LoadedModel], free: int, total: int) -> bytes:
    """The answer of /api/ps: the model that stays loaded longest comes first; ``memory``, in bytes, is ours."""
    now = time.time()
    longest_first = sorted(loaded, key=_remaining, reverse=True)
    running = [_running(each, now) for each in longest_first]
    return encode({"models": running, "memory": {"free": free, "total": total}})


def _remaining(loaded: LoadedModel) -> float:
    """Seconds until the model is unloaded."""
    return _FOREVER if loaded.expires_in is None else min(loaded.expires_in, _FOREVER)


def _running(loaded: LoadedModel, now: float) -> RunningModel:
    name = loaded.name.display
    return RunningModel(
        name=name,
        model=name,
        size=loaded.size,
        digest=loaded.digest,
        details=details_of_header(loaded.request.header),
        expires_at=human.print_time(now + _remaining(loaded)),
        size_vram=loaded.size_vram,
        context_length=loaded.n_ctx,
        status=loaded.status.value,
        stage=loaded.stage if loaded.status is Status.STARTING else None,
        fraction=round(loaded.fraction, 3),
        in_flight=loaded.in_flight,
    )


_FOREVER = 200 * 365.25 * 86400.0
"""Seconds; clients show a time that is centuries ahead as "Forever"."""


# ---- times -----------------------------------------------------------------------------------------------------------


def _now() -> str:
    """UTC with nanoseconds, as created_at has it."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return f"{_to_the_second(seconds)}.{nanoseconds:09d}Z"


@lru_cache(maxsize=2)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))

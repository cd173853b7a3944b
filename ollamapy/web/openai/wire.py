"""The common parts of the endpoints of OpenAI's API: sampling options, choices, usage, events, errors. Pure."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...request import Request
from ...types import Chunk, Options, Usage
from .. import body
from ..ollama.wire import cached_from, truncated
from ..ollama.wire import encode as encode
from ..ollama.wire import own_fields as own_fields

MOST_CHOICES = 128
"""Answers to one request; OpenAI's limit."""

COMMON = {
    "model": "string", "stream": "bool", "stream_options": "map[string]interface {}", "n": "int", "max_tokens": "int",
    "seed": "int", "stop": "any", "temperature": "any", "top_p": "any", "frequency_penalty": "any",
    "presence_penalty": "any", "logit_bias": "map[string]interface {}", "keep_alive": "any",
    "options": "map[string]interface {}", "top_k": "any", "min_p": "any", "repeat_penalty": "any", "num_ctx": "any",
    "explain_cache": "bool",
}  # fmt: skip
"""Fields of chats and completions -> their Go types (body.py)."""

EFFORTS: Mapping[str, bool | str] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "max": "max", "xhigh": "max",
    "ultra": "max",
}  # fmt: skip
"""OpenAI's reasoning efforts -> the values of ``think``."""

_FLOATS = (
    "temperature", "top_p", "frequency_penalty", "presence_penalty", "min_p", "repeat_penalty",
)  # fmt: skip
_INTS = ("top_k", "num_ctx", "seed")


# ---- requests --------------------------------------------------------------------------------------------------------


def read_fields(data: bytes, types: Mapping[str, str], owner: str) -> dict[str, Any]:
    """The fields of a body that are given and not null; ``owner`` is the request's name in errors. Raises InvalidRequest."""
    try:
        return body.fields(body.decode(data), types, owner)
    except body.MissingBody:
        raise InvalidRequest("EOF") from None


def native(given: Mapping[str, Any], owner: str, **more: Any) -> dict[str, Any]:
    """The fields of COMMON and those in ``more`` under Ollama's names, without null. Raises InvalidRequest."""
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    if limit == 0:
        raise InvalidRequest("max_tokens must be at least 1")
    found = {
        "model": given.get("model"),
        "keep_alive": given.get("keep_alive"),
        "logit_bias": given.get("logit_bias"),
        "explain_cache": given.get("explain_cache"),
        "options": _options(given, owner, limit),
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def _options(given: Mapping[str, Any], owner: str, limit: int | None) -> dict[str, Any]:
    """OpenAI's defaults for temperature and top_p are 1, even if the model has its own."""
    for names, kinds, go_type in ((_FLOATS, (int, float), "float64"), (_INTS, (int,), "int")):
        for name in names:
            value = given.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, kinds):
                raise body.wrong_type(value, f"{owner}.{name}", go_type)
    found = {name: given[name] for name in (*_FLOATS, *_INTS) if name in given}
    if "stop" in given:
        found["stop"] = [given["stop"]] if isinstance(given["stop"], str) else given["stop"]
    if limit is not None:
        found["num_predict"] = limit
    return {"temperature": 1.0, "top_p": 1.0, **given.get("options", {}), **found}


def inputs(value: Any, name: str) -> tuple[str | tuple[int, ...], ...]:
    """Texts and token ids as OpenAI takes them: a text, a list of ids (one input), a list of texts and lists of ids.

    Raises InvalidRequest that names the field.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise InvalidRequest(f"invalid {name}: give a text, a list of texts or token ids")
    if not value:
        raise InvalidRequest(f"invalid {name}: the list is empty")
    if not isinstance(value[0], (str, list)):
        return (_tokens(value, name),)
    body.check_count(value, name)
    return tuple(
        each if isinstance(each, str) else _tokens(each, f"{name}[{i}]")
        for i, each in enumerate(value)
    )


def _tokens(value: Any, name: str) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or not value
        or not all(
            isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**31
            for each in value
        )
    ):
        raise InvalidRequest(f"invalid {name}: give a text, texts or token ids")
    return tuple(value)


def several_calls(choice: str | None, parallel: bool | None) -> bool | None:
    """May an answer have several calls? As in OpenAI's API, a tool that is chosen by name is called exactly once."""
    return parallel if choice in (None, "auto", "none", "required") else False


def effort(value: Any) -> bool | str | None:
    """The value of ``think`` for a reasoning effort; None if there is none. Raises InvalidRequest."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value not in EFFORTS:
        raise InvalidRequest(
            f'invalid reasoning value: "{str(value)[:80]}" (must be "minimal", "low", "medium", "high", '
            '"xhigh", "ultra", "max", or "none")'
        )
    return EFFORTS[value]


def include_usage(given: Mapping[str, Any], owner: str) -> bool:
    """Does a stream end with the usage?"""
    path = "stream_options"
    options = body.fields(given.get(path), {"include_usage": "bool"}, owner, path)
    return bool(options.get("include_usage", False))


def count(given: Mapping[str, Any]) -> int:
    """The number of choices. Raises InvalidRequest."""
    n: int = given.get("n", 1)
    if not 1 <= n <= MOST_CHOICES:
        raise InvalidRequest(f"n must be between 1 and {MOST_CHOICES}")
    return n


def choices(request: Request, n: int) -> tuple[Request, ...]:
    """The same request ``n`` times, each with another seed: the next number if a seed is given, else a random one.

    The first is the request itself, so that its answer is the same as without other choices.
    """
    return tuple(request if step == 0 else _reseeded(request, step) for step in range(n))


def _reseeded(request: Request, step: int) -> Request:
    """A seed of -1 is none. Without one the model's own would apply, and all choices would be the same."""
    given = request.options.seed
    seed = random.getrandbits(31) if given is None or given < 0 else (given + step) % (2**32 - 1)
    return msgspec.structs.replace(request, options=Options(seed=seed).over(request.options))


# ---- answers ---------------------------------------------------------------------------------------------------------


class Head:
    """The common fields of all objects of one answer: its id, its time, its model."""

    def __init__(self, prefix: str, model: str) -> None:
        self._id = f"{prefix}-{random.randrange(10**9)}"
        self._created = int(time.time())
        self._model = model

    def encode(self, kind: str, choices: Sequence[Any], **more: Any) -> bytes:
        """An object of this answer as JSON."""
        head = {"id": self._id, "object": kind, "created": self._created, "model": self._model}
        return encode({**head, "system_fingerprint": "fp_ollama", "choices": choices, **more})


def usage(prompts: Iterable[Sequence[Chunk]]) -> dict[str, Any]:
    """The usage of the answers, from the last chunks of each prompt's choices: the prompt is counted once.

    ``prompt_truncated`` is our own field, as in Ollama's API: the part of the prompt that was cut because it did not fit.
    """
    prompts = list(prompts)
    firsts = [choices[0].usage or Usage() for choices in prompts]
    prompt = sum(each.prompt_tokens for each in firsts)
    cached = sum(each.cached_tokens for each in firsts)
    completion = sum(
        chunk.usage.completion_tokens for each in prompts for chunk in each if chunk.usage
    )
    found = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    more = cached_from(firsts[0]) if len(firsts) == 1 else {}
    details = {"prompt_tokens_details": {"cached_tokens": cached, **more}} if cached else {}
    cut = next(filter(None, map(truncated, firsts)), {})
    return {**found, **details, **cut}


def event(data: bytes) -> bytes:
    """One event of a stream, without its second line feed."""
    return b"data: " + data + b"\n"


DONE = event(b"[DONE]")
"""The end of every stream, also of one that failed."""


def encode_error(status: int, message: str, code: str = "") -> bytes:
    """An error in OpenAI's shape."""
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    error = {"message": message, "type": kinds.get(status, "api_error")}
    return encode({"error": {**error, "param": _PARAMS.get(code), "code": code or None}})


_PARAMS = {"previous_response_not_found": "previous_response_id"}
"""The field that an error with a code is about, for the codes that programs handle."""

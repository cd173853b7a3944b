"""/v1/completions: continue prompts, each with several choices; the answers as one object or as events. Pure.

A text is rendered with the model's template, as in Ollama; token ids go to the model unchanged. Thinking, which this API does
not have, is in ``reasoning`` beside the text, as in chats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidRequest
from ...types import Chunk, Gap, Question, Raw, Request, TokenLogprob
from .. import body
from ..ollama import wire as ollama
from . import wire

MOST_ANSWERS = 2048
"""Prompts times choices of one request."""

_OWNER = "CompletionRequest"
FIELDS = wire.COMMON | {
    "prompt": "any", "suffix": "string", "echo": "bool", "logprobs": "int", "best_of": "int",
}  # fmt: skip
_OBJECT = "text_completion"

Prompt = str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A request for each answer, ``n`` in a row for each prompt, and how the answers are sent. ``echo``: each after its prompt.
    ``tops``: the number of likely tokens beside each chosen one."""

    requests: tuple[Request, ...]
    n: int
    stream: bool
    include_usage: bool
    echo: bool
    tops: int


def parse(data: bytes) -> ParsedCompletion:
    """The body of /v1/completions. Raises InvalidRequest; Misread where Ollama fails before it looks for the model."""
    with body.reading():
        given = wire.read_fields(data, FIELDS, _OWNER)
        prompts = wire.inputs(given.get("prompt", ""), "prompt")
        n = wire.count(given)
        tops = given.get("logprobs")
        _check(given, prompts, n)
        logprobs = {} if tops is None else {"logprobs": True, "top_logprobs": tops}
        fields = wire.native(given, _OWNER, **logprobs)
        include_usage = wire.include_usage(given, _OWNER)
    common = ollama.common(fields)
    suffix = given.get("suffix", "")
    requests = (_request(prompt, suffix, common) for prompt in prompts)
    return ParsedCompletion(
        requests=tuple(each for request in requests for each in wire.choices(request, n)),
        n=n,
        stream=given.get("stream", False),
        include_usage=include_usage,
        echo=given.get("echo", False),
        tops=tops or 0,
    )


def _check(given: Mapping[str, Any], prompts: Sequence[Prompt], n: int) -> None:
    if len(prompts) * n > MOST_ANSWERS:
        raise InvalidRequest(f"prompts times n must be at most {MOST_ANSWERS}")
    if len(prompts) > 1 and not all(prompts):
        raise InvalidRequest(f"prompt[{prompts.index('')}] is empty, leave it out")
    if given.get("best_of", n) != n:
        raise InvalidRequest("best_of is not supported, leave it out and choose among n")
    if given.get("echo") and given.get("logprobs") is not None:
        raise InvalidRequest("logprobs of a prompt are not supported, leave echo or logprobs out")
    if given.get("suffix") and not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidRequest("a suffix needs a prompt that is a text")


def _request(prompt: Prompt, suffix: str, common: Mapping[str, Any]) -> Request:
    if isinstance(prompt, str):
        source = Gap(prompt, suffix) if suffix else Question(prompt)
        return Request(source=source, **common)
    return Request(source=Raw(prompt), **common)


# ---- answers ---------------------------------------------------------------------------------------------------------


class CompletionWriter:
    """Writes the answers, as one object or as events; ``echoes`` are the prompts' texts, if the answers begin with them."""

    def __init__(self, parsed: ParsedCompletion, echoes: Sequence[str] = ()) -> None:
        self._head = wire.Head("cmpl", parsed.requests[0].model)
        self._n = parsed.n
        self._include_usage = parsed.include_usage
        count = range(len(parsed.requests))
        self._choices = [
            _Choice(i, echoes[i // parsed.n] if echoes else "", parsed.tops) for i in count
        ]
        self._lasts: list[Chunk | None] = [None for _ in count]

    def answer(self, chunks: Sequence[Chunk]) -> bytes:
        """The answer that is not streamed, from one chunk for each choice."""
        choices = [
            choice.encode(chunk) for choice, chunk in zip(self._choices, chunks, strict=True)
        ]
        return self._head.encode(_OBJECT, choices, usage=self._usage(chunks))

    def events(self, indexed: tuple[int, Chunk]) -> bytes:
        """The events of a choice's chunk, without the last line feed.

        If the usage is included at the end, it is null before, as in OpenAI's API.
        """
        index, chunk = indexed
        more = {"usage": None} if self._include_usage else {}
        choice = self._choices[index].encode(chunk)
        events = [wire.event(self._head.encode(_OBJECT, [choice], **more))]
        if chunk.finish_reason:
            self._lasts[index] = chunk
            lasts = [last for last in self._lasts if last]
            if self._include_usage and len(lasts) == len(self._lasts):
                usage = self._usage(lasts)
                events.append(wire.event(self._head.encode(_OBJECT, [], usage=usage)))
        return b"\n".join(events)

    def _usage(self, lasts: Sequence[Chunk]) -> dict[str, Any]:
        return wire.usage(lasts[i : i + self._n] for i in range(0, len(lasts), self._n))


class _Choice:
    """One choice: its first piece begins with the prompt, and offsets count from there."""

    def __init__(self, index: int, echo: str, tops: int) -> None:
        self._index = index
        self._echo = echo
        self._tops = tops
        self._offset = 0

    def encode(self, chunk: Chunk) -> dict[str, Any]:
        """The object of the next piece."""
        found: dict[str, Any] = {"text": self._echo + chunk.text, "index": self._index}
        self._echo = ""
        if chunk.thinking:
            found["reasoning"] = chunk.thinking
        if chunk.logprobs:
            found["logprobs"] = self._logprobs(chunk.logprobs)
        return {**found, "finish_reason": chunk.finish_reason}

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Four lists of one length; an offset counts the characters before a token."""
        offsets = []
        for each in tokens:
            offsets.append(self._offset)
            self._offset += len(each.token)
        tops = [{other.token: other.logprob for other in each.top_logprobs} for each in tokens]
        return {
            "tokens": [each.token for each in tokens],
            "token_logprobs": [each.logprob for each in tokens],
            "top_logprobs": tops if self._tops else None,
            "text_offset": offsets,
        }

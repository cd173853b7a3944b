"""/v1/completions: continue prompts, each with several choices; the answers as one object or as events. Pure.

A text is rendered with the model's template, as in Ollama; token ids go to the model unchanged, and so does a text whose own log
probabilities are requested (``echo`` with ``logprobs``, or vLLM's ``prompt_logprobs``): a benchmark measures it as it is. Thinking, which this API does
not have, is in ``reasoning`` beside the text, as in chats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ...errors import InvalidRequest
from ...request import Gap, Question, Raw, Request
from ...types import Chunk, PromptToken, TokenLogprob
from .. import body
from ..ollama import wire as ollama
from . import forms, wire

MOST_ANSWERS = 2048
"""Prompts times choices of one request."""

_OWNER = "CompletionRequest"
FIELDS = wire.COMMON | forms.FIELDS | {
    "prompt": "any", "suffix": "string", "echo": "bool", "logprobs": "int", "best_of": "int",
    "prompt_logprobs": "int", "response_format": "map[string]interface {}",
}  # fmt: skip
_OBJECT = "text_completion"

Prompt = str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParsedCompletion:
    """A request for each answer, ``n`` in a row for each prompt, and how the answers are sent. ``echo``: each after its prompt.
    ``tops``: the number of likely tokens beside each chosen one. ``prompt_tops``: the same for each token of the prompt, in
    vLLM's form; None: not requested."""

    requests: tuple[Request, ...]
    n: int
    stream: bool
    include_usage: bool
    echo: bool
    tops: int
    prompt_tops: int | None = None


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
        form = forms.constraint(given, forms.response_format(given.get("response_format", {})))
    common = {**ollama.common(fields), "constraint": form}
    suffix = given.get("suffix", "")
    scores = _scores(given)
    requests = (_request(prompt, suffix, common, scores) for prompt in prompts)
    return ParsedCompletion(
        requests=tuple(each for request in requests for each in wire.choices(request, n)),
        n=n,
        stream=given.get("stream", False),
        include_usage=include_usage,
        echo=given.get("echo", False),
        tops=tops or 0,
        prompt_tops=given.get("prompt_logprobs"),
    )


def _scores(given: Mapping[str, Any]) -> int | None:
    """How many likely tokens are requested beside each of the prompt's, for either form; None: no log probabilities of it."""
    tops = given.get("logprobs") if given.get("echo") else None
    wanted = [each for each in (tops, given.get("prompt_logprobs")) if each is not None]
    return max(wanted, default=None)


def _check(given: Mapping[str, Any], prompts: Sequence[Prompt], n: int) -> None:
    if len(prompts) * n > MOST_ANSWERS:
        raise InvalidRequest(f"prompts times n must be at most {MOST_ANSWERS}")
    if len(prompts) > 1 and not all(prompts):
        raise InvalidRequest(f"prompt[{prompts.index('')}] is empty, leave it out")
    if given.get("best_of", n) != n:
        raise InvalidRequest("best_of is not supported, leave it out and choose among n")
    if not 0 <= given.get("prompt_logprobs", 0) <= ollama.MOST_LOGPROBS:
        raise InvalidRequest(f"prompt_logprobs must be between 0 and {ollama.MOST_LOGPROBS}")
    if given.get("suffix") and _scores(given) is not None:
        raise InvalidRequest("logprobs of a prompt with a suffix are not supported, leave one out")
    if given.get("suffix") and not all(isinstance(prompt, str) for prompt in prompts):
        raise InvalidRequest("a suffix needs a prompt that is a text")


def _request(prompt: Prompt, suffix: str, common: Mapping[str, Any], scores: int | None) -> Request:
    if scores is not None:
        request = Request(input=Raw(prompt), **common)
        return replace(request, prompt_logprobs=scores, truncate=False)
    if isinstance(prompt, str):
        given = Gap(prompt, suffix) if suffix else Question(prompt)
        return Request(input=given, **common)
    return Request(input=Raw(prompt), **common)


# ---- answers ---------------------------------------------------------------------------------------------------------


class CompletionWriter:
    """Writes the answers, as one object or as events."""

    def __init__(self, parsed: ParsedCompletion) -> None:
        self._head = wire.Head("cmpl", parsed.requests[0].model)
        self._n = parsed.n
        self._include_usage = parsed.include_usage
        count = range(len(parsed.requests))
        self._choices = [_Choice(i, parsed) for i in count]
        self._lasts: list[Chunk | None] = [None for _ in count]

    def echo(self, prompts: Sequence[str]) -> None:
        """Let each answer begin with the text of its prompt; call it before the first piece."""
        for i, choice in enumerate(self._choices):
            choice.echo = prompts[i // self._n]

    def answer(self, chunks: Sequence[Chunk]) -> bytes:
        """The answer that is not streamed, from one chunk for each choice."""
        choices = [
            choice.encode(chunk) for choice, chunk in zip(self._choices, chunks, strict=True)
        ]
        more = wire.own_fields(chunks[0])
        return self._head.encode(_OBJECT, choices, usage=self._usage(chunks), **more)

    def events(self, indexed: tuple[int, Chunk]) -> bytes:
        """The events of a choice's chunk, without the last line feed.

        If the usage is included at the end, it is null before, as in OpenAI's API.
        """
        index, chunk = indexed
        more = {"usage": None} if self._include_usage else {}
        more |= wire.own_fields(chunk)
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

    def __init__(self, index: int, parsed: ParsedCompletion) -> None:
        self.echo = ""
        self._index = index
        self._tops, self._prompt_tops = parsed.tops, parsed.prompt_tops
        self._scores = parsed.echo
        self._offset = 0

    def encode(self, chunk: Chunk) -> dict[str, Any]:
        """The object of the next piece."""
        found: dict[str, Any] = {"text": self.echo + chunk.text, "index": self._index}
        self.echo = ""
        if chunk.thinking:
            found["reasoning"] = chunk.thinking
        echoed = chunk.prompt_tokens if self._scores else ()
        if chunk.logprobs or echoed:
            found["logprobs"] = self._logprobs(echoed, chunk.logprobs)
        if chunk.prompt_tokens and self._prompt_tops is not None:
            found["prompt_logprobs"] = [
                _vllm(each, self._prompt_tops) for each in chunk.prompt_tokens
            ]
        return {**found, "finish_reason": chunk.finish_reason}

    def _logprobs(
        self, prompt: Sequence[PromptToken], tokens: Sequence[TokenLogprob]
    ) -> dict[str, Any]:
        """Four lists of one length; an offset counts the characters before a token. The prompt's first token has null."""
        texts = [each.token for each in prompt] + [each.token for each in tokens]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        tops: list[dict[str, float | None] | None] = [
            None if each.logprob is None else {o.token: o.logprob for o in each.top[: self._tops]}
            for each in prompt
        ]
        tops += [{other.token: other.logprob for other in each.top_logprobs} for each in tokens]
        return {
            "tokens": texts,
            "token_logprobs": [e.logprob for e in prompt] + [e.logprob for e in tokens],
            "top_logprobs": tops if self._tops else None,
            "text_offset": offsets,
        }


def _vllm(token: PromptToken, tops: int) -> dict[str, Any] | None:
    """A token of a prompt and the likeliest at its place, by their ids; null for the first one."""
    if token.logprob is None:
        return None
    return {
        str(each.id): {"logprob": each.logprob, "rank": each.rank, "decoded_token": each.token}
        for each in (token, *token.top[:tops])
    }

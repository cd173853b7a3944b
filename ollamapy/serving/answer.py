"""What is asked of running models: answer a prompt or a conversation, load, unload. Knows no dialect and no HTTP.

An answer is an async generator of Chunks whose last one has the finish reason. Closing it, or cancelling the task that
iterates it, cancels the work wherever it stands (queued, loading, rendering, in prefill, generating) and gives the lease back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from ..chat import output
from ..chat.template import Template
from ..config import Settings
from ..errors import InvalidRequest, RunnerCrashed
from ..fleet.scheduler import Lease, LoadRequest, Runner, Scheduler
from ..formats.footprint import padded
from ..models.models import Models
from ..models.spec import ModelSpec
from ..runner.protocol import Done, Piece, Ready
from ..runner.proven import is_fault
from ..runner.render import Renderer
from ..types import (
    ChatRequest,
    Chunk,
    Constraint,
    FinishReason,
    GenerateRequest,
    Generation,
    Options,
    Rendered,
    TokenLogprob,
    ToolCall,
    ToolDelta,
    Usage,
    resolve_sampling,
)
from .prompting import Prompt, Request, fitted, prompt_of, template_of, tools_of
from .requests import Running

if TYPE_CHECKING:
    from ..models.pull import Pulls

log = logging.getLogger(__name__)

DEFAULT_NUM_KEEP = 4
"""Tokens that stay at the beginning when a context is shifted, if the options do not say (Ollama's default)."""

UNSHIFTABLE = ("deepseek2",)

_TAIL = 400
"""Characters of a prompt's end that tell whether the model is thinking already."""

CONTEXTS_PER_ANSWER = 10
"""An answer is cut off after this many times the context: a model that never stops must not run for ever (as in Ollama)."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the daemon that answer requests; made once, closed by ``serve``."""

    settings: Settings
    models: Models
    scheduler: Scheduler
    renderer: Renderer
    pulls: Pulls
    running: Running = field(default_factory=Running)


async def answer(services: Services, request: Request) -> AsyncGenerator[Chunk, None]:
    """Continue a prompt or a conversation; where there is none, load or unload the model.

    Raises what loading the model's files, the lease, the template and the runner raise; InvalidRequest for a model that
    cannot generate or a prompt longer than the context.
    """
    started = time.monotonic_ns()
    spec = await services.models.load(request.model)
    if not _has_work(request):
        yield await _load_or_unload(services, spec, request)
        return
    request = _thinking(spec, request)
    said: list[str] = []
    try:
        async with aclosing(_answered(services, spec, request, said, started)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    except RunnerCrashed as error:
        if said or not is_fault(error.exit_code):
            raise
        # A build that faults (proven.py): the next runner is warmed up first, and falls back if need be.
        log.warning("%s is asked once more: %s", spec.name.display, error)
    async with aclosing(_answered(services, spec, request, [], started)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _answered(
    services: Services, spec: ModelSpec, request: Request, said: list[str], started: int
) -> AsyncGenerator[Chunk, None]:
    """One try at an answer; ``said`` gets the texts as they are given out."""
    async with _leased(services, spec, request) as (lease, ready):
        runner, grown = lease.runner, _grown(lease, ready)
        load_duration = time.monotonic_ns() - started
        options = request.options.over(spec.options)
        n_ctx = _context_length(options, ready)
        policy = options.context_policy if request.truncate else "error"
        prompt = await prompt_of(services.renderer, spec, request, runner, ready)
        if isinstance(request, ChatRequest) and policy not in ("error", "shift"):
            prompt = await fitted(services.renderer, spec, request, runner, ready, prompt, n_ctx)
        forced = _forced_call(spec, request)
        constraint = forced or _form(spec, request)
        parser = _parser(spec, request, prompt.text, forced=forced is not None)
        if beginning := _beginning(
            request, parser, bound=constraint is not None, forced=forced is not None
        ):
            prompt = replace(prompt, text=prompt.text + beginning, tokens=None)
            parser = _parser(spec, request, prompt.text, forced=forced is not None)
        events = runner.generate(
            Generation(
                prompt.text if prompt.tokens is None else prompt.tokens,
                resolve_sampling(options),
                num_predict=_bounded(options.num_predict, n_ctx),
                stop=options.stop or (),
                logprobs=request.logprobs,
                shift=_shifts(spec) if request.shift is None else request.shift,
                num_keep=DEFAULT_NUM_KEEP if options.num_keep is None else options.num_keep,
                truncate=policy != "error"
                if isinstance(request, GenerateRequest)
                else policy == "shift",
                logit_bias=request.logit_bias,
                constraint=constraint,
                constraint_after=parser.answer_after,
                think_end=parser.think_end,
                think_budget=request.think_budget,
                n_ctx=n_ctx,
                shown=parser.marks,
                by_token=isinstance(request, ChatRequest) and request.by_token,
            )
        )
        logprobs: list[TokenLogprob] = []
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Piece):
                    said.append(event.text)
                    logprobs += event.logprobs
                    if heard := _heard(parser.feed(event.text), request.think, logprobs):
                        logprobs = []
                        yield heard
                else:
                    if heard := _heard(parser.flush(), request.think, logprobs):
                        yield heard
                    context = await _context(runner, request, prompt.text, said)
                    yield _last(event, context, prompt, started, load_duration, grown)


async def render(services: Services, request: Request) -> Rendered:
    """The prompt that the model would be given, without giving it. Raises as :func:`answer`."""
    spec = await services.models.load(request.model)
    request = _thinking(spec, request)
    async with _leased(services, spec, request) as (lease, ready):
        prompt = await prompt_of(services.renderer, spec, request, lease.runner, ready)
        return Rendered(prompt.text, len(await lease.runner.tokenize(prompt.text)))


def merge(chunks: Iterable[Chunk]) -> Chunk:
    """One chunk that says what all of them say: the answer that is not streamed."""
    chunks = list(chunks) or [Chunk()]
    return msgspec.structs.replace(
        chunks[-1],
        text="".join(chunk.text for chunk in chunks),
        thinking="".join(chunk.thinking for chunk in chunks),
        logprobs=tuple(each for chunk in chunks for each in chunk.logprobs),
        tool_deltas=tuple(each for chunk in chunks for each in chunk.tool_deltas),
        tool_calls=tuple(each for chunk in chunks for each in chunk.tool_calls),
    )


async def whole(chunks: AsyncGenerator[Chunk, None]) -> Chunk:
    """What an answer says altogether, when it has ended. Closes it, also when it is cancelled."""
    async with aclosing(chunks):
        return merge([chunk async for chunk in chunks])


def load_request(spec: ModelSpec, options: Options, *, embeds: bool = False) -> LoadRequest:
    """What the scheduler needs to know of a model for a request with these options; ``embeds``: one for embeddings."""
    return LoadRequest(
        key=spec.key,
        name=spec.name,
        digest=spec.digest,
        header=spec.header,
        path=spec.model_path,
        options=options.over(spec.options),
        shards=spec.shard_paths,
        adapters=spec.adapter_paths,
        adapter_size=spec.adapter_size,
        embeds=embeds,
    )


def _has_work(request: Request) -> bool:
    if isinstance(request, ChatRequest):
        return bool(request.messages)
    return bool(request.prompt or request.tokens)


def _thinking(spec: ModelSpec, request: Request) -> Request:
    """The request of a model that can think, where nobody said whether it shall: it does (so in Ollama), but before a call that
    is forced."""
    if request.think is None and "thinking" in spec.capabilities:
        forced = isinstance(request, ChatRequest) and request.tool_choice not in ("auto", "none")
        return msgspec.structs.replace(request, think=not forced)
    return request


async def _load_or_unload(services: Services, spec: ModelSpec, request: Request) -> Chunk:
    if request.keep_alive == 0:
        await services.scheduler.unload(spec.key)
        return Chunk(finish_reason="unload")
    async with _leased(services, spec, request) as (lease, ready):
        return Chunk(finish_reason="load", grown=_grown(lease, ready))


def _grown(lease: Lease, ready: Ready) -> tuple[int, int] | None:
    return (lease.grown_from, ready.n_ctx) if lease.grown_from else None


@asynccontextmanager
async def _leased(
    services: Services, spec: ModelSpec, request: Request
) -> AsyncIterator[tuple[Lease, Ready]]:
    """The model's runner; what renders its prompts comes up while it loads."""
    if "completion" not in spec.capabilities:
        what = "chat" if isinstance(request, ChatRequest) else "generate"
        raise InvalidRequest(f'"{request.model}" does not support {what}')
    if (
        isinstance(request, GenerateRequest)
        and request.suffix
        and "insert" not in spec.capabilities
    ):
        raise InvalidRequest(f"{spec.name.full} does not support insert")
    if isinstance(request, ChatRequest) and request.tools and "tools" not in spec.capabilities:
        raise InvalidRequest(f"{spec.name.full} does not support tools")
    if request.think and "thinking" not in spec.capabilities:
        raise InvalidRequest(f'"{request.model}" does not support thinking')
    if _has_images(request):
        if "vision" not in spec.capabilities:
            raise InvalidRequest(
                f'images were given, but "{request.model}" does not support multimodal requests, leave them out'
            )
        raise InvalidRequest("this version does not support images yet, leave them out")
    if template_of(spec, request).is_foreign:
        services.renderer.warm()
    loading = load_request(spec, request.options)
    async with services.scheduler.lease(loading, request.keep_alive) as lease:
        yield lease, await lease.runner.ready()


def _has_images(request: Request) -> bool:
    if isinstance(request, ChatRequest):
        return any(message.images for message in request.messages)
    return bool(request.images)


def _form(spec: ModelSpec, request: Request) -> Constraint | None:
    """The form that is asked for; an answer that may call tools has it only where it calls none, as in OpenAI's API."""
    if request.constraint is None or not tools_of(request):
        return request.constraint
    marks = output.call_marks(template_of(spec, request))
    return msgspec.structs.replace(request.constraint, unless=marks)


def _forced_call(spec: ModelSpec, request: Request) -> Constraint | None:
    """The form of an answer that must call a tool, whatever form was asked for: that is for an answer that calls none."""
    if isinstance(request, GenerateRequest) or not tools_of(request):
        return None
    return output.call_grammar(
        template_of(spec, request), request.tools, request.tool_choice, request.parallel_tool_calls
    )


def _beginning(request: Request, parser: output.Parser, *, bound: bool, forced: bool) -> str:
    """What is put in the model's mouth; it is not asked whether it will think. What holds from the end of thinking on (a form,
    a budget) needs thinking to begin; and thinking that nobody wants before a forced call, but the template began, ends."""
    if request.think and (bound or request.think_budget is not None):
        return f"{parser.opens}\n" if parser.opens else ""
    return f"\n{parser.think_end}\n\n" if forced and not request.think and parser.think_end else ""


def _parser(spec: ModelSpec, request: Request, prompt: str, *, forced: bool) -> output.Parser:
    """What tells text, thoughts and tool calls of the answer apart. Raw answers are text."""
    if isinstance(request, GenerateRequest) and (request.raw or request.suffix):
        return output.choose(Template("bare"))
    return output.choose(
        template_of(spec, request),
        tools=tools_of(request),
        prompt_tail=prompt[-_TAIL:],
        forced=forced,
    )


def _heard(
    events: Sequence[output.Event], think: bool | str | None, logprobs: Sequence[TokenLogprob]
) -> Chunk | None:
    """What the parser heard, as a chunk; None for nothing. Thoughts that were not wanted are left out."""
    chunk = Chunk(
        "".join(event.text for event in events if isinstance(event, output.Text)),
        tuple(logprobs),
        thinking="".join(event.text for event in events if isinstance(event, output.Thought))
        if think is not False
        else "",
        tool_deltas=tuple(event for event in events if isinstance(event, ToolDelta)),
        tool_calls=tuple(event for event in events if isinstance(event, ToolCall)),
    )
    said = chunk.text or chunk.thinking or chunk.tool_deltas or chunk.tool_calls or logprobs
    return chunk if said else None


def _shifts(spec: ModelSpec) -> bool:
    """Ollama shifts a full context unless the model's attention cannot bear it."""
    return spec.header.architecture not in UNSHIFTABLE


def _context_length(options: Options, ready: Ready) -> int:
    """Tokens that a request may use: what it asked for, as llama.cpp rounds it, of what is loaded."""
    return min(padded(max(options.num_ctx, 1)), ready.n_ctx) if options.num_ctx else ready.n_ctx


def _bounded(num_predict: int | None, n_ctx: int) -> int:
    """How many tokens an answer may have. 0 and less mean until the model stops, which is bounded too."""
    most = CONTEXTS_PER_ANSWER * n_ctx
    return min(num_predict, most) if num_predict is not None and num_predict > 0 else most


async def _context(
    runner: Runner, request: Request, prompt: str, said: list[str]
) -> tuple[int, ...]:
    """The token ids of prompt and answer, from which a later request can go on.

    The text is tokenized anew, as in Ollama: a stop string that was cut off is not in it, and neither is BOS.
    """
    if isinstance(request, ChatRequest) or request.raw:
        return ()
    return await runner.tokenize("".join([prompt, *said]), add_special=False)


def _last(
    done: Done,
    context: tuple[int, ...],
    prompt: Prompt,
    started: int,
    load_duration: int,
    grown: tuple[int, int] | None,
) -> Chunk:
    usage = Usage(
        prompt_tokens=done.n_prompt,
        cached_tokens=done.n_cached,
        truncated_tokens=done.n_truncated + prompt.dropped_tokens,
        dropped_messages=prompt.dropped_messages,
        completion_tokens=done.n_predicted,
        total_duration=time.monotonic_ns() - started,
        load_duration=load_duration,
        prompt_duration=done.prompt_ns,
        completion_duration=done.predict_ns,
    )
    reason: FinishReason = "length" if done.reason == "length" else "stop"
    return Chunk(
        finish_reason=reason,
        usage=usage,
        context=context,
        stop_sequence=done.stop_text,
        grown=grown,
    )

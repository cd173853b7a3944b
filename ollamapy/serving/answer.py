"""Answer a prompt or a conversation with a model; load and unload models. Independent of dialects and HTTP.

An answer is an async generator of Chunks whose last one has the finish reason. Closing it, or cancelling the task that
iterates it, cancels the work at any stage (queued, loading, rendering, prefill, generating) and releases the lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

import msgspec
from msgspec import UNSET, UnsetType

from ..chat import files, output
from ..chat import prompt as prompts
from ..chat.verbatim import Sampled, after_thinking, tail_tokens
from ..context import usable
from ..errors import RunnerCrashed
from ..fleet.lease import Lease, Runner
from ..fleet.request import LeaseRequest
from ..fleet.wait import Wait
from ..models.spec import ModelSpec
from ..request import Caller, Request
from ..runner.kernels import is_fault
from ..runner.protocol import Done, Piece, Progressed, PromptRead, Ready
from ..types import (
    CacheReport,
    Chunk,
    Generation,
    Options,
    Prompt,
    PromptToken,
    RenderedPrompt,
    TokenLogprob,
    ToolCall,
    ToolDelta,
    Usage,
    resolve_sampling,
)
from .prompting import PromptWriter, Written
from .provenance import provenance, seeded
from .reading import SHARE
from .recent import Recent
from .reuse import report
from .services import Services
from .turn import Turn

log = logging.getLogger(__name__)

DEFAULT_NUM_KEEP = 4
"""Tokens kept at the beginning when a context is shifted, if no option sets it (Ollama's default)."""

_DAEMON = Caller()
"""The caller of what the daemon asks by itself: a model to preload."""

_CUTS = 3
"""How often documents are cut to fit: once is enough where each part of their texts has about as many tokens."""

CONTEXTS_PER_ANSWER = 10
"""An answer is cut off after this many contexts of tokens: a model that never stops must not run for ever (as in Ollama)."""


async def answer(
    services: Services, request: Request, caller: Caller
) -> AsyncGenerator[Chunk, None]:
    """Continue a prompt or a conversation; without one, load or unload the model.

    Raises the errors of the model's files, the lease, the template and the runner; InvalidRequest for features that the model
    does not support and for a prompt longer than the context.
    """
    started = time.monotonic_ns()
    spec = await services.models.load(request.model)
    if not request.has_work and request.keep_alive == 0:
        await services.scheduler.unload(spec.files.key)
        yield Chunk(finish_reason="unload")
        return
    turn = await _turn_of(services, spec, request)
    if not request.has_work:
        async with _queued(services, turn, caller) as wait:
            while waiting := await wait.next_report():
                yield Chunk(waiting=waiting)
            lease = await wait.lease
            yield Chunk(finish_reason="load", grown=_grown(lease, await lease.runner.ready()))
        return
    texts: list[str] = []
    try:
        async with aclosing(_answered(services, turn, caller, texts, started)) as chunks:
            async for chunk in chunks:
                yield chunk
        return
    except RunnerCrashed as error:
        if texts or not is_fault(error.exit_code):
            raise
        # A build that faults (kernels.py): the next runner is warmed up first, and falls back if need be.
        log.warning(
            "%s crashed before its first token, trying once more: %s", spec.name.display, error
        )
    async with aclosing(_answered(services, turn, caller, [], started)) as chunks:
        async for chunk in chunks:
            yield chunk


async def _answered(
    services: Services, turn: Turn, caller: Caller, texts: list[str], started: int
) -> AsyncGenerator[Chunk, None]:
    """One attempt at an answer; ``texts`` collects the model's output."""
    async with _queued(services, turn, caller) as wait:
        while waiting := await wait.next_report():
            yield Chunk(waiting=waiting)
        lease = await wait.lease
        ready = await lease.runner.ready()
        turn = await _with_documents_cut(services, turn, lease.runner, ready)
        attempt = _Attempt(services, turn, caller, lease, ready, texts, started)
        async with aclosing(attempt.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk


class _Attempt:
    """An answer that a runner is writing."""

    def __init__(
        self,
        services: Services,
        turn: Turn,
        caller: Caller,
        lease: Lease,
        ready: Ready,
        texts: list[str],
        started: int,
    ) -> None:
        self._services, self._turn, self._caller = services, turn, caller
        self._runner, self._ready = lease.runner, ready
        self._writer = PromptWriter.of(turn, services, lease.runner, ready)
        self._grown = _grown(lease, ready)
        self._texts, self._started = texts, started
        self._load_duration = time.monotonic_ns() - started
        self._n_ctx = _context_length(turn.options, ready)
        self._said: list[Chunk] = []  # where there may be calls
        self._logprobs: list[TokenLogprob] = []

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """The prompt, then what is written after it, then the counts."""
        prompt, parser = await _opened(self._turn, self._writer, self._n_ctx)
        written = self._writer.prompt(prompt, self._n_ctx)
        marks = prompts.marks(prompt.text, self._turn.messages)
        generation = _generation(self._turn, written, parser, self._n_ctx, marks, self._caller)
        first = _Beginning(prompt, self._n_ctx)
        async with aclosing(self._runner.generate(generation)) as events:
            async for event in events:
                if isinstance(event, Progressed):
                    yield Chunk(waiting=event.waiting)
                elif isinstance(event, PromptRead):
                    first.note(event)
                elif isinstance(event, Piece):
                    self._texts.append(event.text)
                    self._logprobs += event.logprobs
                    if chunk := self._chunk(parser.feed(event.text), event.n_predicted):
                        yield first.put_on(chunk)
                else:
                    if chunk := self._chunk(parser.flush(event.reason == "length")):
                        yield first.put_on(chunk)
                    last = await self._last(event, prompt, generation)
                    yield first.put_on(msgspec.structs.replace(last, cut_call=parser.cut_call))

    def _chunk(self, segments: Sequence[output.Segment], n_tokens: int = 0) -> Chunk | None:
        """The segments as a chunk, with the log probabilities that have come; None if there is nothing."""
        chunk = _chunk(segments, self._turn.request.think, self._logprobs, n_tokens)
        if chunk is not None:
            self._logprobs = []
            self._said += [chunk] if self._turn.tools else []
        return chunk

    async def _last(self, done: Done, prompt: Written, generation: Generation) -> Chunk:
        """The end of the answer; what later turns need of it is remembered."""
        turn, services = self._turn, self._services
        if done.reason == "stop" and not done.stop_text:
            _remember_calls(services, turn, merge(self._said), "".join(self._texts), done)
        context = await _context(self._runner, turn, prompt.text, self._texts)
        recent = self._recent(prompt.text, generation, done)
        return Chunk(
            finish_reason="length" if done.reason == "length" else "stop",
            usage=self._usage(done, prompt),
            context=context,
            stop_sequence=done.stop_text,
            grown=self._grown,
            cache=await _remembered(services, recent, turn.request),
            provenance=recent.provenance if turn.options.deterministic else None,
            notes=turn.notes,
        )

    def _recent(self, prompt: str, generation: Generation, done: Done) -> Recent:
        """The request with its answer's counts, as it is remembered."""
        turn, caller, runner = self._turn, self._caller, self._runner
        return Recent(
            id=caller.id,
            owner=caller.owner,
            at=time.time(),
            model=turn.spec.name.display,
            key=turn.spec.files.key,
            load=runner.pid,
            messages=turn.messages,
            prompt=prompt,
            generation=generation,
            prompt_tokens=done.n_prompt,
            cached_tokens=done.n_cached,
            options=turn.options,
            provenance=provenance(turn.spec, runner.plan, self._ready, generation),
            tokens=done.tokens,
            is_logged=bool(turn.options.deterministic) and not turn.request.is_kept,
        )

    def _usage(self, done: Done, prompt: Written) -> Usage:
        return Usage(
            prompt_tokens=done.n_prompt,
            cached_tokens=done.n_cached,
            truncated_tokens=done.n_truncated + prompt.dropped_tokens,
            dropped_messages=prompt.dropped_messages,
            completion_tokens=done.n_predicted,
            context_length=self._n_ctx,
            total_duration=time.monotonic_ns() - self._started,
            load_duration=self._load_duration,
            prompt_duration=done.prompt_ns,
            completion_duration=done.predict_ns,
            restored_tokens=done.n_restored,
            read_tokens=done.n_read,
        )


async def _opened(turn: Turn, writer: PromptWriter, n_ctx: int) -> tuple[Written, output.Parser]:
    """The prompt, within the context if messages may be left out, and the parser of what the model writes after it."""
    prompt = await writer.write()
    if turn.drops_messages:
        prompt = await writer.fit(prompt, n_ctx)
    parser = turn.parser(prompt.text)
    if beginning := turn.beginning(parser):
        prompt = prompt.then(beginning)
        parser = turn.parser(prompt.text)
    return prompt, parser


class _Beginning:
    """What the runner reported of the prompt, for the first chunk of the answer."""

    def __init__(self, prompt: Written, n_ctx: int) -> None:
        self._prompt = prompt
        self._n_ctx = n_ctx
        self._usage: Usage | None = None
        self._tokens: list[PromptToken] = []

    def note(self, event: PromptRead) -> None:
        """Take a report; the counts of the last one hold."""
        self._tokens += event.tokens
        self._usage = Usage(
            prompt_tokens=event.n_prompt,
            cached_tokens=event.n_cached,
            truncated_tokens=event.n_truncated + self._prompt.dropped_tokens,
            dropped_messages=self._prompt.dropped_messages,
            context_length=self._n_ctx,
        )

    def put_on(self, chunk: Chunk) -> Chunk:
        """The chunk, with the reports where it is the first one after them."""
        if self._usage is None:
            return chunk
        usage, tokens = self._usage, tuple(self._tokens)
        self._usage, self._tokens = None, []
        return msgspec.structs.replace(chunk, prompt_usage=usage, prompt_tokens=tokens)


def _generation(
    turn: Turn,
    prompt: Prompt,
    parser: output.Parser,
    n_ctx: int,
    marks: tuple[int, ...],
    caller: Caller,
) -> Generation:
    """The runner's part of a turn."""
    request, options = turn.request, turn.options
    return Generation(
        prompt,
        seeded(resolve_sampling(options)),
        num_predict=_bounded(options.num_predict, n_ctx),
        stop=options.stop or (),
        logprobs=request.logprobs,
        shift=turn.shifts,
        num_keep=DEFAULT_NUM_KEEP if options.num_keep is None else options.num_keep,
        truncate=turn.truncates,
        logit_bias=request.logit_bias,
        constraint=turn.constraint,
        constraint_after=parser.answer_after,
        think_end=parser.think_end,
        think_budget=request.think_budget,
        n_ctx=n_ctx,
        shown=parser.marks,
        by_token=request.by_token,
        prompt_logprobs=request.prompt_logprobs,
        progress=request.progress,
        with_tokens=bool(turn.tools) or not request.is_private,
        marks=marks,
        salt=caller.owner,
        private=request.is_private,
    )


async def _remembered(services: Services, recent: Recent, request: Request) -> CacheReport | None:
    """Remember a request, unless it is private, and explain what was reused of it, if it wants that."""
    others = services.recent.of(recent.owner) if request.explain_cache else ()
    if not request.is_private:
        services.recent.add(recent)
    if not request.explain_cache:
        return None
    return await asyncio.to_thread(report, recent, others)


def _remember_calls(services: Services, turn: Turn, answer: Chunk, output: str, done: Done) -> None:
    """Remember how the model wrote an answer with calls, for the prompts of later turns."""
    text = after_thinking(output, turn.format.thinking) if answer.tool_calls else None
    if text is not None:
        sampled = Sampled(text, tail_tokens(output, text, done.tokens, done.sizes), done.end)
        services.sampled.add(turn.spec.files.key, answer.text, answer.tool_calls, sampled)


async def render(services: Services, request: Request, caller: Caller) -> RenderedPrompt:
    """The prompt of a request, without running it. Raises as :func:`answer`."""
    turn = await _turn_of(services, await services.models.load(request.model), request)
    async with _queued(services, turn, caller) as wait:
        lease = await wait.lease
        ready = await lease.runner.ready()
        turn = await _with_documents_cut(services, turn, lease.runner, ready)
        writer = PromptWriter.of(turn, services, lease.runner, ready)
        prompt = await writer.write()
        _, n_tokens = await writer.count(prompt, 0)
        return RenderedPrompt(files.shown(prompt.text, prompt.files), n_tokens)


async def check(services: Services, request: Request) -> None:
    """Raise what makes it impossible to answer a request, before it needs a runner: the errors of the model's files,
    InvalidRequest for features that the model does not support."""
    await _turn_of(services, await services.models.load(request.model), request)


async def _turn_of(
    services: Services, spec: ModelSpec, request: Request, share: float = 1.0
) -> Turn:
    """The request's turn, once its documents and links are read, ``share`` of what may fit of them; made in a thread if the
    request has a template of its own."""
    context = services.settings.context_length
    read = await services.files.read_request(request, spec, context, share)
    make = partial(Turn.of, spec, read.request)
    turn = await asyncio.to_thread(make) if request.own_template else make()
    unread = request if read.text else None
    return replace(turn, notes=read.notes, documents=read.text, unread=unread)


async def _with_documents_cut(services: Services, turn: Turn, runner: Runner, ready: Ready) -> Turn:
    """The turn, with less of its documents where their texts have more tokens than documents may have. History does not count: it
    loses its oldest messages, and a document shall stay the same text in each turn."""
    most = int(SHARE * _context_length(turn.options, ready))
    share = 1.0
    for _ in range(_CUTS):
        # No token is less than a byte
        if turn.unread is None or len(turn.documents.encode("utf-8", "replace")) <= most:
            break
        _, n_tokens = await runner.tokens_within(turn.documents, 0)
        if n_tokens <= most:
            break
        share *= most / n_tokens
        turn = await _turn_of(services, turn.spec, turn.unread, share)
    return turn


def merge(chunks: Iterable[Chunk]) -> Chunk:
    """All chunks of an answer as one, for an answer that is not streamed."""
    chunks = list(chunks) or [Chunk()]
    return msgspec.structs.replace(
        chunks[-1],
        text="".join(chunk.text for chunk in chunks),
        thinking="".join(chunk.thinking for chunk in chunks),
        logprobs=tuple(each for chunk in chunks for each in chunk.logprobs),
        prompt_tokens=tuple(each for chunk in chunks for each in chunk.prompt_tokens),
        tool_deltas=tuple(each for chunk in chunks for each in chunk.tool_deltas),
        tool_calls=tuple(each for chunk in chunks for each in chunk.tool_calls),
    )


async def collect(chunks: AsyncGenerator[Chunk, None]) -> Chunk:
    """An answer as one chunk, once it has ended. Closes it, also when it is cancelled."""
    async with aclosing(chunks):
        return merge([chunk async for chunk in chunks])


def lease_request(
    spec: ModelSpec,
    options: Options,
    keep_alive: float | None | UnsetType = UNSET,
    caller: Caller = _DAEMON,
    *,
    embeds: bool = False,
    progress: bool = False,
) -> LeaseRequest:
    """The scheduler's request for a model with these options, which include its own; ``embeds``: for embeddings; ``progress``:
    the caller wants to know what it waits for."""
    return LeaseRequest(
        name=spec.name,
        digest=spec.digest,
        files=spec.files,
        header=spec.header,
        options=options,
        embeds=embeds,
        keep_alive=keep_alive,
        caller=caller,
        progress=progress,
    )


def _grown(lease: Lease, ready: Ready) -> tuple[int, int] | None:
    return (lease.grown_from, ready.n_ctx) if lease.grown_from else None


@asynccontextmanager
async def _queued(services: Services, turn: Turn, caller: Caller) -> AsyncIterator[Wait]:
    """The wait for a lease on the model's runner; the child that renders its prompts starts while it loads."""
    if turn.template.is_foreign:
        services.renderer.warm()
    request = lease_request(
        turn.spec,
        turn.options,
        turn.request.keep_alive,
        caller,
        progress=turn.request.progress,
    )
    async with services.scheduler.queue(request) as wait:
        yield wait


def _chunk(
    segments: Sequence[output.Segment],
    think: bool | str | None,
    logprobs: Sequence[TokenLogprob],
    n_tokens: int = 0,
) -> Chunk | None:
    """The parser's segments as a chunk; None if it is empty. Thinking is left out if the request turned it off."""
    chunk = Chunk(
        "".join(segment.text for segment in segments if isinstance(segment, output.Text)),
        tuple(logprobs),
        thinking="".join(
            segment.text for segment in segments if isinstance(segment, output.Thought)
        )
        if think is not False
        else "",
        tool_deltas=tuple(segment for segment in segments if isinstance(segment, ToolDelta)),
        tool_calls=tuple(segment for segment in segments if isinstance(segment, ToolCall)),
        completion_tokens=n_tokens,
    )
    filled = chunk.text or chunk.thinking or chunk.tool_deltas or chunk.tool_calls or logprobs
    return chunk if filled else None


def _context_length(options: Options, ready: Ready) -> int:
    """Tokens that a request may use: its option, rounded as llama.cpp does, within the loaded context."""
    return usable(options.num_ctx, ready.n_ctx)


def _bounded(num_predict: int | None, n_ctx: int) -> int:
    """The most tokens of an answer. 0 and less mean until the model stops, which is bounded too."""
    most = CONTEXTS_PER_ANSWER * n_ctx
    return min(num_predict, most) if num_predict is not None and num_predict > 0 else most


async def _context(runner: Runner, turn: Turn, prompt: str, texts: list[str]) -> tuple[int, ...]:
    """The token ids of prompt and answer, which a later request can continue.

    The text is tokenized again, as in Ollama: it includes neither a stop string that was cut off nor BOS.
    """
    if not turn.returns_context:
        return ()
    return await runner.tokenize("".join([prompt, *texts]), add_special=False)

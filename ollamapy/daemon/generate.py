"""What is asked of running models: answer a prompt or a conversation, load, unload. Knows no dialect and no HTTP.

Both use-cases are async generators of Chunks whose last one has the finish reason; closing one, or cancelling the task that
iterates it, cancels the work wherever it stands and gives the lease back. While a model loads, its prompt is rendered.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..chat import prompt as prompts
from ..chat.template import Marks, Template, choose
from ..config import Settings
from ..errors import InvalidRequest
from ..formats.gguf import read_header
from ..runner.protocol import Done, Piece
from ..types import (
    ChatRequest,
    Chunk,
    FinishReason,
    GenerateRequest,
    Message,
    Options,
    TokenLogprob,
    Usage,
    resolve_sampling,
)
from .models import Models, ModelSpec
from .render import Renderer
from .scheduler import LoadRequest, Runner, Scheduler

CONTEXTS_PER_ANSWER = 10
"""An answer is cut off after this many times the context: a model that never stops must not run for ever (as in Ollama)."""


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of the daemon that answer requests; made once, closed by ``serve``."""

    settings: Settings
    models: Models
    scheduler: Scheduler
    renderer: Renderer


async def generate(services: Services, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
    """Continue a prompt; without one, load or unload the model.

    Raises what loading the model's files, the lease, the template and the runner raise; InvalidRequest for a model that
    cannot generate or a prompt longer than the context.
    """
    started = time.monotonic_ns()
    spec = await services.models.load(request.model)
    if not request.prompt:
        yield Chunk(finish_reason=await _load_or_unload(services, spec, request, "generate"))
        return
    rendering = _rendered_generate(services, spec, request)
    async with aclosing(_answer(services, spec, request, rendering, "generate", started)) as chunks:
        async for chunk in chunks:
            yield chunk


async def chat(services: Services, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
    """Answer a conversation; without messages, load or unload the model. Raises as :func:`generate`."""
    started = time.monotonic_ns()
    spec = await services.models.load(request.model)
    if not request.messages:
        yield Chunk(finish_reason=await _load_or_unload(services, spec, request, "chat"))
        return
    rendering = _rendered_chat(services, spec, request)
    async with aclosing(_answer(services, spec, request, rendering, "chat", started)) as chunks:
        async for chunk in chunks:
            yield chunk


async def render(services: Services, request: GenerateRequest | ChatRequest) -> str:
    """The prompt that the model would be given, without giving it."""
    spec = await services.models.load(request.model)
    if isinstance(request, ChatRequest):
        return await _rendered_chat(services, spec, request)
    text = await _rendered_generate(services, spec, request)
    if request.context:
        async with services.scheduler.lease(
            load_request(spec, request.options), request.keep_alive
        ) as runner:
            text = prompts.after_context(await runner.detokenize(request.context), text)
    return text


def merge(chunks: Iterable[Chunk]) -> Chunk:
    """One chunk that says what all of them say: the answer that is not streamed."""
    texts: list[str] = []
    logprobs: list[TokenLogprob] = []
    last = Chunk()
    for last in chunks:
        texts.append(last.text)
        logprobs += last.logprobs
    return Chunk("".join(texts), tuple(logprobs), last.finish_reason, last.usage, last.context)


def load_request(spec: ModelSpec, options: Options) -> LoadRequest:
    """What the scheduler needs to know of a model for a request with these options."""
    return LoadRequest(
        key=spec.model_digest,
        name=spec.name,
        digest=spec.digest,
        header=spec.header,
        path=spec.model_path,
        options=options.over(spec.options),
    )


async def _load_or_unload(
    services: Services, spec: ModelSpec, request: GenerateRequest | ChatRequest, what: str
) -> FinishReason:
    if request.keep_alive == 0:
        await services.scheduler.unload(spec.model_digest)
        return "unload"
    _require_completion(spec, request.model, what)
    async with services.scheduler.lease(load_request(spec, request.options), request.keep_alive):
        return "load"


def _require_completion(spec: ModelSpec, name: str, what: str) -> None:
    if "completion" not in spec.capabilities:
        raise InvalidRequest(f'"{name}" does not support {what}')


# ---- the prompt ------------------------------------------------------------------------------------------------------


async def _rendered_generate(services: Services, spec: ModelSpec, request: GenerateRequest) -> str:
    if request.raw:
        return request.prompt
    messages = prompts.generate_messages(
        request.prompt,
        system=request.system,
        model_system=spec.system,
        model_messages=spec.messages,
        has_context=request.context is not None,
    )
    return await _render(services, spec, template_of(spec).for_generate, messages, request.think)


async def _rendered_chat(services: Services, spec: ModelSpec, request: ChatRequest) -> str:
    messages = prompts.chat_messages(
        request.messages, model_system=spec.system, model_messages=spec.messages
    )
    return await _render(services, spec, template_of(spec), messages, request.think)


def template_of(spec: ModelSpec) -> Template:
    """How prompts for the model are written."""
    return choose(spec.go_template, spec.jinja_template, spec.joins_messages)


async def _render(
    services: Services,
    spec: ModelSpec,
    template: Template,
    messages: Sequence[Message],
    think: bool | None,
) -> str:
    variables = {} if think is None else {"enable_thinking": think}
    marks = Marks()
    if "bos_token" in template.source or "eos_token" in template.source:
        marks = await asyncio.to_thread(read_marks, spec.model_path)
    return await services.renderer.render(template, messages, marks=marks, variables=variables)


@functools.lru_cache(maxsize=64)
def read_marks(path: Path) -> Marks:
    """The texts of a model's first and last token, for templates that write them: reads the whole vocabulary.

    That tokenizing adds a mark which is there already is the engine's to prevent: it looks at tokens, not at texts.
    """
    header = read_header(path, arrays=True)
    strings = header.token_strings or ()
    sentencepiece = header.metadata.get("tokenizer.ggml.model") == "llama"

    def text(key: str, default: int) -> str:
        number = header.metadata.get(
            f"tokenizer.ggml.{key}_token_id", default if sentencepiece else -1
        )
        return strings[number] if isinstance(number, int) and 0 <= number < len(strings) else ""

    return Marks(bos=text("bos", 1), eos=text("eos", 2))


# ---- the answer ------------------------------------------------------------------------------------------------------


async def _answer(
    services: Services,
    spec: ModelSpec,
    request: GenerateRequest | ChatRequest,
    rendering: Coroutine[Any, Any, str],
    what: str,
    started: int,
) -> AsyncGenerator[Chunk, None]:
    """Load the model and render the prompt at the same time, then pass on what the runner says.

    ``started``: when the request came, of the monotonic clock in nanoseconds.
    """
    prompt = asyncio.ensure_future(rendering)
    try:
        _require_completion(spec, request.model, what)
        loading = load_request(spec, request.options)
        async with services.scheduler.lease(loading, request.keep_alive) as runner:
            load_duration = time.monotonic_ns() - started
            text = await prompt
            if isinstance(request, GenerateRequest) and request.context:
                text = prompts.after_context(await runner.detokenize(request.context), text)
            n_ctx = (await runner.ready()).n_ctx
            events = runner.generate(
                text,
                sampling=resolve_sampling(loading.options),
                num_predict=_bounded(loading.options.num_predict, n_ctx),
                stop=loading.options.stop or (),
                logprobs=request.logprobs,
            )
            said: list[str] = [text]
            async with aclosing(cast(AsyncGenerator[Piece | Done, None], events)):
                async for event in events:
                    if isinstance(event, Piece):
                        said.append(event.text)
                        yield Chunk(event.text, event.logprobs)
                    else:
                        context = await _context(runner, request, said)
                        yield _last(event, context, started, load_duration)
    finally:
        prompt.cancel()
        await asyncio.gather(prompt, return_exceptions=True)


def _bounded(num_predict: int | None, n_ctx: int) -> int:
    """How many tokens an answer may have. 0 and less mean until the model stops, which is bounded too."""
    most = CONTEXTS_PER_ANSWER * n_ctx
    return min(num_predict, most) if num_predict is not None and num_predict > 0 else most


async def _context(
    runner: Runner, request: GenerateRequest | ChatRequest, said: list[str]
) -> tuple[int, ...]:
    """The token ids of prompt and answer, from which a later request can go on. The text is tokenized anew, as in Ollama:
    a stop string that was cut off is not in it, and neither is BOS."""
    if isinstance(request, ChatRequest) or request.raw:
        return ()
    return await runner.tokenize("".join(said), add_special=False)


def _last(done: Done, context: tuple[int, ...], started: int, load_duration: int) -> Chunk:
    usage = Usage(
        prompt_tokens=done.n_prompt,
        cached_tokens=done.n_cached,
        completion_tokens=done.n_predicted,
        total_duration=time.monotonic_ns() - started,
        load_duration=load_duration,
        prompt_duration=done.prompt_ns,
        completion_duration=done.predict_ns,
    )
    return Chunk(
        finish_reason="length" if done.reason == "length" else "stop", usage=usage, context=context
    )

"""The prompt of a request: whose template writes it, with which messages, and without which where all are too long.

Renders nothing itself (render.py) and decides nothing about running; the rules for messages are chat/prompt.py's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..chat import prompt as prompts
from ..chat.template import Marks, Template, choose, go_capabilities
from ..errors import InvalidRequest, TemplateError
from ..fleet.scheduler import Runner
from ..models.spec import ModelSpec
from ..runner.protocol import Ready
from ..runner.render import Renderer
from ..types import ChatRequest, GenerateRequest, Message

Request = GenerateRequest | ChatRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is given to continue: as tokens too, where they had to be counted. ``dropped_tokens`` is the difference that
    the messages left out make."""

    text: str
    tokens: tuple[int, ...] | None = None
    dropped_messages: int = 0
    dropped_tokens: int = 0


def template_of(spec: ModelSpec, request: Request) -> Template:
    """How the prompt of a request is written.

    A suffix is a matter of the Go template, even where the Jinja template is preferred in chats.
    """
    if isinstance(request, ChatRequest):
        return choose(spec.go_template, spec.jinja_template, spec.joins_messages)
    if request.template:
        return Template("go", request.template)
    if request.suffix and "insert" in go_capabilities(spec.go_template or ""):
        return Template("go", spec.go_template or "")
    return choose(spec.go_template, spec.jinja_template, spec.joins_messages).for_generate


def tools_of(request: Request) -> tuple[dict[str, Any], ...]:
    """The tools that a prompt tells of: none where none may be called."""
    if isinstance(request, GenerateRequest) or request.tool_choice == "none":
        return ()
    return tuple(prompts.tool_for_template(tool) for tool in request.tools)


async def prompt_of(
    renderer: Renderer,
    spec: ModelSpec,
    request: Request,
    runner: Runner,
    ready: Ready,
    cut: int = 0,
) -> Prompt:
    """The prompt of a request, by the rules of ``chat/prompt.py``, without the ``cut`` oldest messages."""
    if isinstance(request, GenerateRequest) and request.raw:
        return Prompt(request.prompt, request.tokens or None)
    marks = Marks(ready.bos, ready.eos, ready.adds_bos, ready.adds_eos)
    template = template_of(spec, request)
    try:
        if isinstance(request, GenerateRequest) and request.suffix:
            prompt = await renderer.render_gap(
                template, request.prompt, request.suffix, marks=marks
            )
        else:
            messages = prompts.without_oldest(_messages(spec, request), cut)
            messages = prompts.without_old_thoughts(messages)
            prompt = await renderer.render(
                template, messages, marks=marks, tools=tools_of(request), think=request.think
            )
    except TemplateError as error:
        if isinstance(request, GenerateRequest) and request.template:
            raise InvalidRequest(f"template: {error}") from None  # it is not the model's fault
        raise
    if isinstance(request, GenerateRequest) and request.context:
        prompt = prompts.after_context(await runner.detokenize(request.context), prompt)
    return Prompt(prompt)


async def fitted(
    renderer: Renderer,
    spec: ModelSpec,
    request: ChatRequest,
    runner: Runner,
    ready: Ready,
    whole: Prompt,
    n_ctx: int,
) -> Prompt:
    """The prompt with as few of the oldest messages left out as must be, found by bisection.

    Where even the last message alone is too long, the whole: the runner refuses it with both numbers.
    """
    # No token is less than a byte; BOS, EOS
    if len(whole.text.encode("utf-8", "replace")) + 2 < n_ctx:
        return whole
    n_whole = len(whole_tokens := await runner.tokenize(whole.text))
    whole = replace(whole, tokens=whole_tokens)
    if n_whole < n_ctx:
        return whole
    messages = _messages(spec, request)
    cuts = prompts.cuts(messages)[1:]
    best, low, high = whole, 0, len(cuts)
    while low < high:
        middle = (low + high) // 2 if best is not whole else high - 1  # the shortest first
        prompt = await prompt_of(renderer, spec, request, runner, ready, cuts[middle])
        tokens = await runner.tokenize(prompt.text)
        if len(tokens) < n_ctx:
            dropped = len(messages) - len(prompts.without_oldest(messages, cuts[middle]))
            best, high = Prompt(prompt.text, tokens, dropped, n_whole - len(tokens)), middle
        elif best is whole:
            break
        else:
            low = middle + 1
    return best


def _messages(spec: ModelSpec, request: Request) -> tuple[Message, ...]:
    """The conversation that a request is part of."""
    if isinstance(request, ChatRequest):
        return prompts.chat_messages(
            prompts.with_known_roles(request.messages, template_of(spec, request)),
            model_system=spec.system,
            model_messages=spec.messages,
        )
    return prompts.generate_messages(
        request.prompt,
        system=request.system,
        model_system=spec.system,
        model_messages=spec.messages,
        has_context=request.context is not None,
    )

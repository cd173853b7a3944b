"""The turn of a request: which template renders the prompt, with which messages and tools, and the form that the answer must
have. Made once, before there is a runner. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ..chat import output
from ..chat import prompt as prompts
from ..chat.steady import steady_messages
from ..chat.template import Template, check_size
from ..chat.thinking import ON_REQUEST
from ..errors import InvalidRequest, TemplateError
from ..formats import media
from ..models.spec import ModelSpec
from ..request import Conversation, Gap, Question, Request
from ..types import Constraint, Message, Options

MOST_FILES = 256
"""Images and sounds of one request."""

UNSHIFTABLE = ("deepseek2",)
"""Architectures whose attention cannot shift a full context (as in Ollama)."""

_TAIL = 400
"""Characters of a prompt's end that are checked for the beginning of thinking."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request to one model.

    ``request`` has ``think`` resolved, ``options`` are the request's over the model's. ``messages`` is the conversation with
    the model's own, empty if no template renders one; ``format`` is the answer format; ``tools`` are in the form for templates.
    ``constraint`` is the form of the answer; with ``is_forced`` it is the grammar of a tool call. ``policy``: how a prompt that
    does not fit is cut (types.CONTEXT_POLICIES). ``notes``: what was left out of the request's documents, for the answer; ``documents``: the
    text of all of these, ``unread``: the request before they were read, None if it has none.
    """

    spec: ModelSpec
    request: Request
    options: Options
    template: Template
    format: output.AnswerFormat
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    constraint: Constraint | None
    is_forced: bool
    policy: str
    notes: tuple[str, ...] = ()
    documents: str = ""
    unread: Request | None = None

    @classmethod
    def of(cls, spec: ModelSpec, request: Request) -> Turn:
        """The turn of a request without documents and links. Raises InvalidRequest for features that the model does not support.

        A template of the request's own takes up to 0.2 s to recognize: call it in a thread then.
        """
        request = _with_thinking(spec, request)
        _check(spec, request)
        template = template_of(spec, request)
        format = output.answer_format(template) if request.own_template else spec.answer_format
        tools = _tools(request)
        forced = _forced_call(format, tools, request)
        options = request.options.over(spec.options)
        return cls(
            spec=spec,
            request=request,
            options=options,
            template=template,
            format=format,
            messages=_messages(spec, request, template),
            tools=tools,
            constraint=forced or _form(format, tools, request),
            is_forced=forced is not None,
            policy=_policy(options, request),
        )

    @property
    def is_chat(self) -> bool:
        """Is the request a conversation?"""
        return self.request.is_chat

    @property
    def drops_messages(self) -> bool:
        """Are the oldest messages left out if the conversation does not fit?"""
        return self.is_chat and self.policy not in ("error", "shift")

    @property
    def truncates(self) -> bool:
        """Does the runner cut the middle out of a prompt that does not fit?"""
        return self.policy == "shift" if self.is_chat else self.policy != "error"

    @property
    def shifts(self) -> bool:
        """Does a full context lose its older half? The request decides, else the model's architecture."""
        if self.request.shift is not None:
            return self.request.shift
        return self.spec.header.architecture not in UNSHIFTABLE

    @property
    def returns_context(self) -> bool:
        """Does the answer include the token ids that a later request can continue?"""
        return self.request.returns_context

    def parser(self, prompt: str) -> output.Parser:
        """The parser that splits the answer to ``prompt`` into text, thinking and tool calls. For a gap and a raw text, all is
        text."""
        if self.request.is_plain:
            return output.choose(output.PLAIN)
        return output.choose(
            self.format, tools=self.tools, prompt_tail=prompt[-_TAIL:], forced=self.is_forced
        )

    def beginning(self, parser: output.Parser) -> str:
        """Text appended to the prompt to force how the answer begins.

        A constraint or a budget that applies from the end of thinking needs thinking to begin. Thinking that the template began
        is ended before a forced call, unless the request wants it.
        """
        think, budget = self.request.think, self.request.think_budget
        if think and (self.constraint is not None or budget is not None):
            return f"{parser.opens}\n" if parser.opens else ""
        if self.is_forced and not think and parser.think_end:
            return f"\n{parser.think_end}\n\n"
        return ""


def template_of(spec: ModelSpec, request: Request) -> Template:
    """The template that renders the prompt of a request.

    A suffix needs the Go template, even if the Jinja template is preferred for chats.
    """
    if request.own_template:
        return Template("go", request.own_template)
    if request.needs_insert and spec.fills_gaps:
        return Template("go", spec.go_template or "")
    return spec.template if request.is_chat else spec.template.for_generate


def _with_thinking(spec: ModelSpec, request: Request) -> Request:
    """Turn thinking on for a model that can think, if the request does not decide (as in Ollama), but not before a forced call or if it
    thinks on request only; turn it off for one that cannot, if it is optional."""
    can_think = "thinking" in spec.capabilities
    if request.think and request.think_is_optional and not can_think:
        return msgspec.structs.replace(request, think=None)
    if request.think is None and can_think:
        on_request = spec.answer_format.thinking in ON_REQUEST
        return msgspec.structs.replace(request, think=not request.forces_call and not on_request)
    return request


def _check(spec: ModelSpec, request: Request) -> None:
    """Raise InvalidRequest for the first feature that the model does not support."""
    capabilities = spec.capabilities
    try:
        check_size(request.own_template)
    except TemplateError as error:
        raise InvalidRequest(f"template: {error}") from None
    if "completion" not in capabilities:
        verb = "chat" if request.is_chat else "generate"
        raise InvalidRequest(f'"{request.model}" does not support {verb}')
    if request.needs_insert and "insert" not in capabilities:
        raise InvalidRequest(f"{spec.name.full} does not support insert")
    if request.needs_tools and "tools" not in capabilities:
        raise InvalidRequest(f"{spec.name.full} does not support tools")
    if request.think and "thinking" not in capabilities:
        raise InvalidRequest(f'"{request.model}" does not support thinking')
    if request.files:
        _check_files(spec, request)


def _check_files(spec: ModelSpec, request: Request) -> None:
    """Raise InvalidRequest for images and sounds that the model or the request cannot have, and for files that are none."""
    if not {"vision", "audio"} & set(spec.capabilities):
        raise InvalidRequest(
            f'images were given, but "{request.model}" does not support multimodal requests, leave them out'
        )
    if spec.files.projector is None:
        raise InvalidRequest(
            f'"{request.model}" has no projector in a file of its own, which images need here: pull one that has'
        )
    if isinstance(request.input, Gap):
        raise InvalidRequest("a request with a suffix cannot have images, leave them out")
    if len(request.files) > MOST_FILES:
        raise InvalidRequest(f"{len(request.files)} images are too many, at most {MOST_FILES}")
    for format in map(media.check, request.files):
        _check_sense(spec, request, format)


def _check_sense(spec: ModelSpec, request: Request, format: media.Format) -> None:
    """Raise InvalidRequest for a sound if the model only sees, and for an image if it only hears."""
    sense, verb, kind = "vision", "see", "an image"
    if media.is_sound(format):
        sense, verb, kind = "audio", "hear", "a sound"
    if sense not in spec.capabilities:
        raise InvalidRequest(f'"{request.model}" cannot {verb}: {kind} was given, leave it out')


def _tools(request: Request) -> tuple[dict[str, Any], ...]:
    """The tools that the prompt describes: none if none may be called."""
    return tuple(prompts.tool_for_template(tool) for tool in request.callable_tools)


def _messages(spec: ModelSpec, request: Request, template: Template) -> tuple[Message, ...]:
    """The messages of a request with the model's own, without what changes with every request (chat/steady.py); empty for a gap
    and a raw text."""
    match request.input:
        case Conversation(messages):
            found = prompts.chat_messages(
                prompts.with_known_roles(messages, template),
                model_system=spec.system,
                model_messages=spec.messages,
            )
        case Question(prompt, system, _, context):
            found = prompts.generate_messages(
                prompt,
                system=system,
                model_system=spec.system,
                model_messages=spec.messages,
                has_context=context is not None,
                images=request.input.images,
            )
        case _:
            found = ()
    return steady_messages(found)


def _forced_call(
    format: output.AnswerFormat, tools: Sequence[dict[str, Any]], request: Request
) -> Constraint | None:
    """The grammar of an answer that must call a tool; the request's own constraint is for answers without a call."""
    match request.input:
        case Conversation(_, given, choice, parallel) if tools:
            return output.call_grammar(format, given, choice, parallel)
    return None


def _form(
    format: output.AnswerFormat, tools: Sequence[dict[str, Any]], request: Request
) -> Constraint | None:
    """The request's own constraint; if the answer may call tools, it applies only to an answer without a call, as in OpenAI's API."""
    if request.constraint is None or not tools:
        return request.constraint
    return msgspec.structs.replace(request.constraint, unless=output.call_marks(format))


def _policy(options: Options, request: Request) -> str:
    if not request.truncate:
        return "error"
    return options.context_policy or "drop-oldest"

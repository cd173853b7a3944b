"""What a caller requests of a model: the vocabulary that every dialect is translated to.

Pure values. "Unset" is ``None`` until the defaults are put in (types.resolve_sampling, fleet/fit.py).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from . import human
from .errors import InvalidRequest
from .types import Constraint, Document, Message, Options


class Conversation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request's messages, and the tools that the answer may call.

    ``tools`` are in OpenAI's form, as templates expect them. ``tool_choice`` is "auto", "none", "required" or the name of the
    one tool that must be called. ``continues_last``: the answer continues the last message, which is the assistant's.
    """

    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    continues_last: bool = False


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """One prompt, rendered with the model's template.

    ``template`` is a Go template to use instead of the model's. ``context`` holds the token ids of an earlier answer; if it is given,
    even empty, the model's MESSAGEs are left out. ``images`` are the files' bytes; ``files`` are documents, whose texts come before
    the prompt.
    """

    prompt: str = ""
    system: str = ""
    template: str = ""
    context: tuple[int, ...] | None = None
    images: tuple[bytes, ...] = ()
    files: tuple[Document, ...] = ()


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prompt and the text after the answer (``suffix``), for models whose Go template can fill a gap.

    The template gets the prompt and the suffix only. The other fields are those of :class:`Question`.
    """

    prompt: str
    suffix: str
    template: str = ""
    context: tuple[int, ...] | None = None
    images: tuple[bytes, ...] = ()


class Raw(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text or token ids that the model continues as they are, without its template.

    ``suffix`` is not used, but as in Ollama it is refused for a model that cannot fill a gap.
    """

    prompt: str | tuple[int, ...]
    suffix: str = ""
    images: tuple[bytes, ...] = ()


Input = Conversation | Question | Gap | Raw
"""What the model answers or continues."""


class Request(msgspec.Struct, frozen=True):
    """Answer a conversation or continue a prompt (``input``).

    A request without work (:attr:`has_work`) loads the model or, with a ``keep_alive`` of 0, unloads it. ``keep_alive`` is in seconds; None: for
    ever, UNSET: the value last set. ``logprobs``: None for none, n for the n likeliest tokens beside each chosen one. ``think``:
    False turns thinking off, True or a level ("low", "medium", "high", "max") turns it on, separate from the answer's text;
    ``think_is_optional``: a model that cannot think answers without, else it refuses; ``think_budget`` limits its tokens. ``shift``: when the context is full, drop its older half and go on (None: if the
    model's architecture can); ``truncate``: cut a prompt that does not fit, and report it in the answer's usage; else refuse it.
    ``constraint`` and ``logit_bias`` are those of :class:`Generation`. ``by_token``: stream each token's text by itself.
    ``prompt_logprobs`` is that of :class:`Generation`. ``progress``: report what the request waits for before its first token.
    ``explain_cache``: report what was reused of the prompt, and why not more. ``is_private``: it is not remembered. ``is_kept``: it
    belongs to a chat or a response that is kept, and what is deleted there must be in no file: it is remembered in memory only.
    ``variables`` are for the model's template, if it is a Jinja template.
    """

    model: str
    input: Input
    options: Options = Options()
    keep_alive: float | None | UnsetType = UNSET
    logprobs: int | None = None
    think: bool | str | None = None
    think_budget: int | None = None
    think_is_optional: bool = False
    shift: bool | None = None
    truncate: bool = True
    constraint: Constraint | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    by_token: bool = False
    prompt_logprobs: int | None = None
    progress: bool = False
    explain_cache: bool = False
    is_private: bool = False
    is_kept: bool = False
    variables: dict[str, Any] = {}

    @property
    def has_work(self) -> bool:
        """Is there anything to answer or to continue?"""
        given = self.input
        if isinstance(given, Conversation):
            return bool(given.messages)
        return bool(given.prompt) or (isinstance(given, Question) and bool(given.files))

    @property
    def files(self) -> tuple[bytes, ...]:
        """The images and sounds of the prompt or the messages."""
        given = self.input
        if isinstance(given, Conversation):
            return tuple(file for message in given.messages for file in message.images)
        return given.images

    @property
    def is_chat(self) -> bool:
        """Is the input a conversation?"""
        return isinstance(self.input, Conversation)

    @property
    def is_plain(self) -> bool:
        """Is all of the answer text, without thinking and tool calls?"""
        return isinstance(self.input, Gap | Raw)

    @property
    def returns_context(self) -> bool:
        """Does the answer include the token ids that a later request can continue?"""
        return isinstance(self.input, Question | Gap)

    @property
    def own_template(self) -> str:
        """A Go template to use instead of the model's; "" for none."""
        return self.input.template if isinstance(self.input, Question | Gap) else ""

    @property
    def earlier(self) -> tuple[int, ...]:
        """The token ids of an earlier answer, which come first in the prompt."""
        given = self.input
        return (given.context or ()) if isinstance(given, Question | Gap) else ()

    @property
    def needs_insert(self) -> bool:
        """Does it need a model that can fill a gap?"""
        return isinstance(self.input, Gap | Raw) and bool(self.input.suffix)

    @property
    def needs_tools(self) -> bool:
        """Does it need a model that can call tools, even where none may be called?"""
        return isinstance(self.input, Conversation) and bool(self.input.tools)

    @property
    def callable_tools(self) -> tuple[dict[str, Any], ...]:
        """The tools that the answer may call."""
        given = self.input
        if not isinstance(given, Conversation) or given.tool_choice == "none":
            return ()
        return given.tools

    @property
    def forces_call(self) -> bool:
        """Must the answer call a tool?"""
        given = self.input
        return isinstance(given, Conversation) and given.tool_choice not in ("auto", "none")


Right = Literal["infer", "manage", "admin"]
"""What a caller may do: use models; change the store; inspect and change the daemon itself."""


RIGHTS: frozenset[Right] = frozenset(("infer", "manage", "admin"))


class Caller(msgspec.Struct, frozen=True):
    """The sender of a request. ``id`` names the request (X-Request-Id); ``is_local``: it comes from this machine. ``owner`` tells
    whose conversations and presets it uses."""

    id: str = ""
    is_local: bool = True
    rights: frozenset[Right] = RIGHTS
    owner: str = ""


class EmbedRequest(msgspec.Struct, frozen=True):
    """Turn texts (or token ids) into vectors. ``truncate``: an input that does not fit loses its end; else it is refused.
    ``dimensions``: keep the first so many numbers of each vector (None: all), scaled to length 1 again.
    """

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    truncate: bool = True
    dimensions: int | None = None
    normalize: bool = True
    options: Options = Options()
    keep_alive: float | None | UnsetType = UNSET


class TokenizeRequest(msgspec.Struct, frozen=True):
    """Turn a text into token ids, with BOS and the like if ``add_special``."""

    model: str
    text: str
    add_special: bool = True
    options: Options = Options()
    keep_alive: float | None | UnsetType = UNSET


class DetokenizeRequest(msgspec.Struct, frozen=True):
    """Turn token ids into a text."""

    model: str
    tokens: tuple[int, ...]
    options: Options = Options()
    keep_alive: float | None | UnsetType = UNSET


class RerankRequest(msgspec.Struct, frozen=True):
    """Score documents by how well they answer a query; with a model whose pooling is rank."""

    model: str
    query: str
    documents: tuple[str, ...]
    options: Options = Options()
    keep_alive: float | None | UnsetType = UNSET


def keep_alive_of(value: Any) -> float | None | UnsetType:
    """Seconds of a ``keep_alive`` as Ollama's API has it; None: for ever, UNSET: not given. Raises InvalidRequest."""
    if value is None:
        return UNSET
    try:
        seconds = human.parse_keep_alive(value)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return None if seconds == human.FOREVER else seconds


def constraint_of(format: Any) -> Constraint | None:
    """The constraint of a ``format`` as Ollama's API has it: "json" or a JSON Schema; None where there is none. Raises InvalidRequest."""
    if format in (None, ""):
        return None
    if format == "json":
        return Constraint("json")
    if isinstance(format, dict):
        return Constraint("schema", msgspec.json.encode(format).decode())
    shown = msgspec.json.encode(format).decode()[:200]
    raise InvalidRequest(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')

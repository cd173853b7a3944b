"""The vocabulary of requests and answers: what every dialect is translated to and from.

Pure values, nothing of ours imported but the errors. "Unset" is ``None`` until :func:`resolve_sampling` (and, for the
options of loading, ``fleet/fit.py``) sets the defaults, so that no code needs to know where a value came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from .errors import InvalidRequest

FinishReason = Literal["stop", "length", "load", "unload"]


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool call that a model made. ``id`` names it in the answer and in the tool's result; "" where none was given."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


class ToolDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a call while the model writes it: the first of an ``index`` has its id and name, ``arguments`` is the next
    piece of their JSON text. All pieces of an index together are the ToolCall that follows.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Document(msgspec.Struct, frozen=True):
    """A file of a message whose text the model gets (PDF, docx, HTML, text), or an image or a sound: its content decides."""

    content: bytes
    name: str = ""


class Link(msgspec.Struct, frozen=True):
    """The address of a file that a message asks the daemon to fetch; ``is_image``: nothing but an image will do."""

    url: str
    is_image: bool = True


ContentPart = str | bytes | Document | Link
"""A part of a message: a text, a media file (an image or a sound), or what must be read or fetched before it is one of these."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message of a conversation; ``role`` is lower case.

    ``thinking`` and ``tool_calls`` are an assistant's; a tool's result names the tool and, where it has one, the call's id.
    ``images`` are the files' bytes, and ``places`` their offsets in ``content``; empty where all come before the text.
    ``unread``: the parts in order (ContentPart, which no decoder could tell apart) while there are documents or links among them
    (serving/reading.py); ``content`` and ``images`` are empty then.
    """

    role: str
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""
    images: tuple[bytes, ...] = ()
    places: tuple[int, ...] = ()
    unread: tuple[Any, ...] = ()

    @classmethod
    def of(cls, role: str, parts: Sequence[ContentPart], **fields: Any) -> Message:
        """A message whose content has several parts. ``fields`` are the other fields by name."""
        if any(isinstance(part, Document | Link) for part in parts):
            return cls(role, unread=tuple(parts), **fields)
        content, images, places = "", [], []
        for part in parts:
            if isinstance(part, str):
                content += part
            elif isinstance(part, bytes):
                images.append(part)
                places.append(len(content))
        kept = tuple(places) if any(places) else ()
        return cls(role, content, images=tuple(images), places=kept, **fields)

    @property
    def parts(self) -> tuple[str | bytes, ...]:
        """The content in order: texts, none of them empty, and images."""
        found: list[str | bytes] = []
        start = 0
        for image, place in zip(self.images, self.places or (0,) * len(self.images), strict=True):
            found += [*([self.content[start:place]] if place > start else []), image]
            start = place
        return (*found, *([self.content[start:]] if self.content[start:] else []))

    def read(self, parts: Sequence[str | bytes]) -> Message:
        """The message once its documents and links are texts and media files."""
        whole = Message.of(self.role, parts)
        return msgspec.structs.replace(
            self, content=whole.content, images=whole.images, places=whole.places, unread=()
        )


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """Ollama's options as a caller or a model's params layer gave them; ``None`` means not given.

    The first block is fixed when a model is loaded, the second belongs to one request.
    """

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    draft_num_predict: int | None = None
    deterministic: bool | None = None

    num_keep: int | None = None
    seed: int | None = None
    num_predict: int | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    temperature: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] | None = None
    context_policy: str | None = None

    def over(self, base: Options) -> Options:
        """These options, with ``base`` where they are unset."""
        return Options(
            **{
                name: mine if (mine := getattr(self, name)) is not None else getattr(base, name)
                for name in self.__struct_fields__
            }
        )


OPTION_KINDS: Mapping[str, str] = {
    "num_ctx": "integer", "num_batch": "integer", "num_gpu": "integer", "main_gpu": "integer",
    "use_mmap": "boolean", "num_thread": "integer", "draft_num_predict": "integer", "deterministic": "boolean",
    "num_keep": "integer", "seed": "integer", "num_predict": "integer", "top_k": "integer",
    "top_p": "float32", "min_p": "float32", "typical_p": "float32", "repeat_last_n": "integer",
    "temperature": "float32",
    "repeat_penalty": "float32", "presence_penalty": "float32", "frequency_penalty": "float32",
    "stop": "array", "context_policy": "string",
}  # fmt: skip
"""Name of each option -> its type in the words that Ollama's errors use."""

OPTION_RANGES: Mapping[str, tuple[float, float]] = {
    "num_ctx": (1, math.inf),
    "num_batch": (1, math.inf),
    "num_gpu": (-1, math.inf),
    "num_thread": (0, math.inf),
    "num_predict": (-2, math.inf),
    "draft_num_predict": (0, math.inf),
    "top_k": (0, math.inf),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "temperature": (0, 100),
    "repeat_last_n": (-1, math.inf),
    "repeat_penalty": (0, 100),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "main_gpu": (0, 1023),
    "num_keep": (-1, math.inf),
}
"""The values of an option that have a meaning; others are accepted, as by Ollama, and do nothing or harm."""

CONTEXT_POLICIES = ("error", "drop-oldest", "shift")
"""What is done with a conversation that does not fit: refuse it, leave out the oldest messages (the default), or cut the middle
out of the prompt as /api/generate does."""

THINK_LEVELS = ("high", "medium", "low", "max")
"""The levels of thinking that a request can set, in the order in which Ollama's errors name them."""

MOST_STOPS = 256
"""Stop strings of one request: each of them is looked for after every token."""

_INT32 = 2**31 - 1


def parse_options(given: Mapping[str, Any]) -> tuple[Options, list[str]]:
    """Typed options from JSON, and the names that are no option (accepted and ignored, as Ollama does).

    Integers may be written as floats (the fraction is cut off); null means not given.
    Raises :class:`InvalidRequest` that names the option of a wrong type.
    """
    typed: dict[str, Any] = {}
    unknown = []
    for name, value in given.items():
        kind = OPTION_KINDS.get(name)
        if kind is None:
            unknown.append(name)
        elif value is not None:
            typed[name] = _typed(name, kind, value)
    return Options(**typed), unknown


def _typed(name: str, kind: str, value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "integer" and number and -(2**63) <= value < 2**63:
        return max(-_INT32, min(int(value), _INT32)) if name != "seed" else int(value)
    if kind == "float32" and number and abs(value) <= 3.4e38:
        return float(value)
    if kind == "boolean" and isinstance(value, bool):
        return value
    if name == "context_policy" and value not in CONTEXT_POLICIES:
        raise InvalidRequest(f'option "{name}" must be one of {", ".join(CONTEXT_POLICIES)}')
    if kind == "string" and isinstance(value, str):
        return value
    if kind == "array" and isinstance(value, (list, tuple)):
        if len(value) > MOST_STOPS:
            raise InvalidRequest(f'option "{name}" has {len(value)} strings, at most {MOST_STOPS}')
        if all(isinstance(item, str) for item in value):
            return tuple(item for item in value if item)
        raise InvalidRequest(f'option "{name}" must be of type array of strings')
    raise InvalidRequest(f'option "{name}" must be of type {kind}')


class Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen: every value known. Defaults are Ollama's (its options table)."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1


def resolve_sampling(options: Options) -> Sampling:
    """The sampler's settings, with the defaults where an option is unset."""
    given = {name: getattr(options, name) for name in Sampling.__struct_fields__}
    return Sampling(**{name: value for name, value in given.items() if value is not None})


class Constraint(msgspec.Struct, frozen=True):
    """The form that an answer must have. ``text`` is a JSON Schema ("schema"), a regular expression ("regex"), a JSON list of
    strings ("choice"), a GBNF grammar ("gbnf"), a Lark grammar ("lark"), or nothing ("json": any JSON object).
    ``unless`` (with "json" and "schema" only): an answer that begins with one of these texts, a tool call, is not constrained.
    ``parts``: names of what the text is made of, and the JSON Schema of each: an error tells which one is wrong.
    """

    kind: Literal["json", "schema", "regex", "choice", "gbnf", "lark"]
    text: str = ""
    unless: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()


class Media(msgspec.Struct, frozen=True):
    """The file of an image or a sound in a prompt."""

    data: bytes

    def __len__(self) -> int:
        return len(self.data)


class Prompt(msgspec.Struct, frozen=True, array_like=True):
    """What a runner continues: its parts in order, each a text, token ids, or the file of an image or a sound.

    Special tokens in a text are recognised. A text at the beginning gets the model's BOS, one at the end its EOS, if it has them.
    """

    parts: tuple[str | tuple[int, ...] | Media, ...]

    def __len__(self) -> int:
        """Characters, token ids and the bytes of files together."""
        return sum(map(len, self.parts))


class Generation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a runner generates from: a prompt and settings, without templates, messages or dialects.

    ``num_predict`` < 0 means until a stop; ``logprobs`` None means none, n means the n likeliest beside the chosen token.
    ``shift``: when the context is full, its older half is dropped except the first ``num_keep`` tokens (< 0: the prompt),
    and generation goes on; else the answer ends. ``truncate``: a prompt that does not fit loses its middle; else it is refused.
    ``logit_bias``: pairs of a token id and the value added to its logit. ``constraint`` applies from the beginning or, if
    ``constraint_after`` is not empty, once the answer contains this text. ``think_end`` is the text that ends thinking;
    after ``think_budget`` tokens without it, it is appended to the answer (None: never). ``n_ctx``: tokens of the slot's
    context that may be used (None: all). ``by_token``: each token's text is its own piece; otherwise the text of 25 ms is
    joined. ``shown``: texts of control tokens ("[TOOL_CALLS]") that are kept in the answer's text; other control tokens have
    no text. A text that is no control token of the model is ignored. ``prompt_logprobs``: the log probabilities of the prompt's
    tokens too, each with those of the n likeliest; no part of the prompt then comes from the cache. ``progress``: report what
    the request waits for before its first token. ``with_tokens``: the ending has the answer's tokens. ``marks``: bytes
    of the prompt's text before each place where another prompt may go on in another way (:func:`ollamapy.chat.prompt.marks`).
    ``salt`` names whose cached tokens it may use and add to; ``private``: nothing of it is saved.
    """

    prompt: Prompt
    sampling: Sampling = Sampling()
    num_predict: int = -1
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    shift: bool = False
    num_keep: int = 4
    truncate: bool = False
    logit_bias: tuple[tuple[int, float], ...] = ()
    constraint: Constraint | None = None
    constraint_after: str = ""
    think_end: str = ""
    think_budget: int | None = None
    n_ctx: int | None = None
    shown: tuple[str, ...] = ()
    by_token: bool = False
    prompt_logprobs: int | None = None
    progress: bool = False
    with_tokens: bool = False
    marks: tuple[int, ...] = ()
    salt: str = ""
    private: bool = False


class EmbedInputs(msgspec.Struct, frozen=True):
    """Inputs that a runner turns into vectors, each a text or token ids.

    ``n_ctx``: the most tokens of an input (None: the whole context); ``truncate``: a longer one loses its end, else all are
    refused. ``dimensions``: keep the first so many numbers of a vector, 0 for all; ``normalize``: scale it to length 1.
    """

    inputs: tuple[str | tuple[int, ...], ...]
    truncate: bool = True
    n_ctx: int | None = None
    dimensions: int = 0
    normalize: bool = True


class Embeddings(msgspec.Struct, frozen=True):
    """One vector for each input, in order; ``tokens`` counts the tokens read of all inputs. Durations in nanoseconds.

    The numbers are float32, thousands of them: ``array("f")`` holds them.
    """

    vectors: tuple[Sequence[float], ...]
    tokens: int
    total_duration: int = 0
    load_duration: int = 0


class Scores(msgspec.Struct, frozen=True):
    """The score of each document, in the given order: a higher one answers better. Other fields as in :class:`Embeddings`."""

    scores: tuple[float, ...]
    tokens: int
    total_duration: int = 0
    load_duration: int = 0

    def best(self, count: int) -> list[int]:
        """The places of the best ``count`` documents, the best first; of equal ones the earlier."""
        return sorted(range(len(self.scores)), key=lambda place: -self.scores[place])[:count]


class RenderedPrompt(msgspec.Struct, frozen=True):
    """The prompt of a request that is not run; ``tokens`` includes those that tokenizing adds (BOS)."""

    prompt: str
    tokens: int


class TokenLogprob(msgspec.Struct, frozen=True, omit_defaults=True):
    """One token with its log probability; ``bytes`` are the UTF-8 bytes of the token."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[TokenLogprob, ...] = ()


class PromptToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token of a prompt with its log probability after the tokens before it, None for the first. ``rank`` 1 is the likeliest
    token at its place. ``top`` are the likeliest tokens at this place.
    """

    id: int
    token: str
    logprob: float | None
    rank: int = 0
    top: tuple[PromptToken, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """The tokens and times of an answer. Durations in nanoseconds; ``prompt_tokens`` includes the cached ones, but not those
    that were cut because the prompt did not fit: these are ``truncated_tokens``. ``dropped_messages`` counts messages left out.
    ``context_length``: the tokens that prompt and answer may have together. ``restored_tokens`` of the cached ones came from saved
    prefixes, ``read_tokens`` of these from files; the others were in a slot.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    truncated_tokens: int = 0
    dropped_messages: int = 0
    completion_tokens: int = 0
    context_length: int = 0
    total_duration: int = 0
    load_duration: int = 0
    prompt_duration: int = 0
    completion_duration: int = 0
    restored_tokens: int = 0
    read_tokens: int = 0

    @property
    def cached_from(self) -> dict[str, int]:
        """Where the cached tokens came from; empty where all were in a slot."""
        if not self.restored_tokens:
            return {}
        return {
            "slot": self.cached_tokens - self.restored_tokens,
            "memory": self.restored_tokens - self.read_tokens,
            "disk": self.read_tokens,
        }


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a prompt first differs from the one of the turn before. ``message`` counts the messages as the model gets them, the
    system's too, from 0; None: after the last. ``character`` is that of its content; None: in what the template writes around
    the contents (tools, calls, thinking, marks). ``earlier`` and ``now`` are some characters around the place.
    """

    message: int | None
    role: str
    character: int | None
    earlier: str
    now: str


class CacheReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much of a prompt was reused, and why not all of the turn before.

    ``reason``: "first" (no earlier turn is remembered), "whole" (all of it was reused), "changed" (``difference`` says where),
    "reloaded" (the model was loaded anew meanwhile), "replaced" (other requests took its place in the cache, or the model
    cannot go back). ``summary`` says the same in a sentence. ``earlier_id`` and ``earlier_tokens`` are the request of the turn
    before and the length of its prompt.
    """

    prompt_tokens: int
    reused_tokens: int
    reason: Literal["first", "whole", "changed", "reloaded", "replaced"]
    summary: str
    earlier_id: str = ""
    earlier_tokens: int = 0
    difference: Difference | None = None


class Provenance(msgspec.Struct, frozen=True):
    """What an answer depends on beside its prompt: with all of it the same, and ``deterministic`` among the settings, the tokens
    are the same. ``digest`` identifies the weights and adapters, ``build`` what computed and for which processor; ``settings`` are
    those of the load and of the sampler, by the names of options where there are any.
    """

    model: str
    digest: str
    build: str
    seed: int
    settings: dict[str, Any]


LoadStage = Literal["starting", "weights", "context", "warm-up"]
"""What a load does now: start the process; read the weights; take memory for the context; try the kernels."""


class Queued(msgspec.Struct, frozen=True, tag="queued"):
    """A request waits for its turn; ``position`` is its place in the queue, 1 for the next one."""

    position: int


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """The model of a request is loaded: the stage of the load, and how much of its weights is loaded, 0 to 1."""

    stage: LoadStage
    fraction: float


class Prefill(msgspec.Struct, frozen=True, tag="prefill"):
    """The prompt of a request is computed: ``fraction`` of it is, 0 to 1. It has ``tokens``, of which ``cached`` were computed
    before and count as computed.
    """

    fraction: float
    tokens: int
    cached: int


Waiting = Queued | Loading | Prefill
"""What a request waits for before its first token."""


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of an answer; the last one of a stream has ``finish_reason`` and ``usage``.

    ``tool_deltas`` are pieces of a call while it is written, ``tool_calls`` the complete calls: a dialect uses one of the two.
    ``context`` (last chunk, generate only) holds the token ids of the prompt and the answer. ``stop_sequence`` (last chunk) is
    the stop string that ended the answer. ``grown`` (last chunk) are the tokens of context before and after, if it was made longer
    for this request.
    ``cut_call`` (last chunk): the token limit cut the answer within a call; ``tool_deltas`` have what there is of it, if anything.
    ``prompt_usage`` (first chunk) has the usage's counts of the prompt; ``prompt_tokens`` (first chunk) are its tokens, if their
    log probabilities are requested. ``completion_tokens`` (of a text, and not of the last chunk): so many tokens the model has
    generated until then. Before these, if the request wants progress, come chunks with ``waiting`` and nothing else.
    ``cache`` (last chunk): what was reused of the prompt and why not more, if the request wants that explained. ``provenance``
    (last chunk): what the answer depends on, if it is to be deterministic. ``notes`` (last chunk): what was left out of the
    request's files, a sentence each.
    """

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    context: tuple[int, ...] = ()
    thinking: str = ""
    tool_deltas: tuple[ToolDelta, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    stop_sequence: str = ""
    grown: tuple[int, int] | None = None
    prompt_usage: Usage | None = None
    prompt_tokens: tuple[PromptToken, ...] = ()
    cut_call: bool = False
    waiting: Waiting | None = None
    cache: CacheReport | None = None
    completion_tokens: int = 0
    provenance: Provenance | None = None
    notes: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step of a job; for pulls, pushes and creations ``status`` is Ollama's text. ``total`` and ``completed`` are bytes of the
    blob ``digest`` ("sha256:...") that is transferred; ``total`` 0: nothing is counted. ``note`` has details: which file was
    chosen and why, or what the job waits for. ``model`` (last step) is the name under which a pulled address was stored.
    """

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0
    note: str = ""
    model: str = ""


Report = Callable[[Progress], None]
"""Reports a step of a job; raises RequestCancelled to end it."""


def no_report(step: Progress) -> None:
    """Ignore a step."""

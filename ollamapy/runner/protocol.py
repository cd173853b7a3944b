"""The frozen messages between the daemon and its children; frames.py says how they travel.

To a runner the daemon writes Load first, then any of the others; the runner answers Load with Loading* and Ready (or Failed
with id 0), and every later id with exactly one ending: Done, Embedded, Tokens, Text, Forgotten, Resized or Failed. ``Cancel`` of
an unknown id is no error. The end of stdin means that the daemon is gone: the runner exits.

    runner             Load, then requests      ->  Loading*, Ready | Failed(0), then for each id its ending
    quantizing         Quantize                 ->  Loading*, Quantized | Failed(0)
    conversion         Convert                  ->  Converting*, Converted | Failed(0)
    template renderer  Render, one after the other  ->  RendererReady once, then Rendered | Refused for each
    document reader    Read                     ->  Extracted | Refused
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from ..formats.documents.extract import Extract
from ..formats.documents.kinds import Kind
from ..loading import LoadPlan
from ..types import (
    EmbedInputs,
    Generation,
    LoadStage,
    Prefill,
    Prompt,
    PromptToken,
    Queued,
    TokenLogprob,
)
from .frames import Frame

PROTOCOL = 12
"""Raised when a message changes its meaning; Ready carries it and the daemon refuses another."""

MAX_RENDER_FRAME = 128 * 1024 * 1024
"""Bytes of a frame to and from a template renderer; longer than the longest prompt can be."""

# ---- daemon -> runner ------------------------------------------------------------------------------------------------


class CacheFolder(msgspec.Struct, frozen=True):
    """Where saved prefixes lie: the folder of all models' files, the bytes that they may take together, those that must stay free
    on the disk, and the daemon's salt."""

    path: Path
    budget: int
    floor: int
    salt: str


class Load(Frame, frozen=True):
    """The first frame: which files, and how; ``cache`` None: prefixes are saved in memory only."""

    plan: LoadPlan
    cache: CacheFolder | None = None


class Generate(Frame, frozen=True):
    """Continue a prompt; answered by Texts and a Done."""

    id: int
    generation: Generation


class Tokenize(Frame, frozen=True):
    """Ask for the token ids of a text, if they are at most ``most``, and for their number; answered by Tokens."""

    id: int
    text: str
    most: int
    add_special: bool = True


class Count(Frame, frozen=True):
    """Ask for the number of tokens of a prompt, whose files are not decoded for it; answered by Tokens without ids."""

    id: int
    prompt: Prompt


class Detokenize(Frame, frozen=True):
    """Ask for the text of token ids; answered by Text."""

    id: int
    tokens: tuple[int, ...]


class Embed(Frame, frozen=True):
    """Ask for vectors of texts; answered by Embedded."""

    id: int
    inputs: EmbedInputs


class Rerank(Frame, frozen=True):
    """Ask for the score of each document; answered by Embedded with one number (or as many as the model's head has) a document.

    A document that does not fit beside the query loses its end.
    """

    id: int
    query: str
    documents: tuple[str, ...]


class Resize(Frame, frozen=True):
    """Make the context anew for a plan that has another size and is the load's otherwise; answered by Resized, or by Failed: then
    it is as it was. Requests go on in either case.
    """

    id: int
    plan: LoadPlan


class Cancel(Frame, frozen=True):
    """Stop working for an id. In the engine it still gets its ending (Done with reason "cancel") unless it already had one; what
    is not tokenized yet is dropped without an ending, which no one waits for.
    """

    id: int


class Forget(Frame, frozen=True):
    """Forget everything that was computed of prompts that have ended, so that it is in memory no more and written to no file; answered
    by Forgotten."""

    id: int


class Stop(Frame, frozen=True):
    """Finish nothing more, save what the slots hold, and exit 0."""


class Quantize(Frame, frozen=True):
    """Instead of Load: write a GGUF in another type; answered by Loading*, then Quantized or Failed with id 0.

    ``number`` is llama.cpp's ``llama_ftype``. The runner does nothing else and exits.
    """

    source: str
    target: str
    number: int


class Convert(Frame, frozen=True):
    """To a child that converts: write the GGUF of files at ``target``; answered by Converting*, then Converted or Failed with id 0.

    ``files`` are paths by their names in the model's folder, whose ``projector`` is a file of its own; for ``llama2c`` the paths of "checkpoint" and, where there is
    one, "tokenizer". ``base`` are the paths of the GGUF files of an adapter's base model.
    """

    kind: Literal["model", "projector", "adapter", "llama2c"]
    files: dict[str, Path]
    target: Path
    base: tuple[Path, ...] = ()


class Render(Frame, frozen=True):
    """To a template renderer: execute a template; answered by Rendered or Refused.

    ``arguments`` is a JSON object as bytes, with the template's source in it: values from clients, whose integers msgpack cannot
    hold and whose texts may have lone surrogates.
    """

    language: Literal["go", "jinja"]
    arguments: bytes


class Read(Frame, frozen=True):
    """To a document reader: the first ``most`` characters of a document; answered by Extracted or Refused. ``images``: pages
    without text as images.
    """

    content: bytes
    kind: Kind
    most: int
    images: bool = False


# ---- runner -> daemon ------------------------------------------------------------------------------------------------


class Loading(Frame, frozen=True):
    """How far the load (or the quantizing) is: its stage, and the fraction of the weights, 0 to 1."""

    fraction: float
    stage: LoadStage = "weights"


class Quantized(Frame, frozen=True):
    """The requested file is complete."""


class Ready(Frame, frozen=True):
    """The model is loaded: the context of each slot in tokens, how many slots, and what lies on the GPU.

    ``bos`` and ``eos`` are the texts of these tokens, which chat templates write; empty where the model has none.
    ``adds_bos`` and ``adds_eos``: tokenizing a prompt puts them there by itself. ``build`` names what computes, ``threads`` how
    many of them do.
    """

    n_ctx: int
    n_slots: int
    protocol: int = PROTOCOL
    gpu_layers: int = 0
    n_layers: int = 0
    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    adds_eos: bool = False
    build: str = ""
    threads: int = 0


class Piece(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """The new text of one request, after ``n_predicted`` tokens; ``logprobs`` one entry a token, if they were requested."""

    id: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    n_predicted: int = 0


class Texts(Frame, frozen=True):
    """The new text of all requests since the last frame: one frame a step, or for 25 ms of steps."""

    pieces: tuple[Piece, ...]


class Progressed(Frame, frozen=True):
    """What an id waits for before its first text, if its Generate wants progress; at most four a second."""

    id: int
    waiting: Queued | Prefill


class PromptRead(Frame, frozen=True):
    """How long the prompt of an id is and how much of it was in the cache, before the first text; ``tokens`` are the next ones
    whose log probabilities were requested, in as many frames as it takes.
    """

    id: int
    n_prompt: int
    n_cached: int
    n_truncated: int = 0
    tokens: tuple[PromptToken, ...] = ()


class Done(Frame, frozen=True):
    """The one good ending of a Generate: why it ended, and what it cost in tokens and nanoseconds.

    ``n_prompt`` counts the cached tokens too; ``n_predicted`` counts every sampled token, an end-of-sequence one as well;
    ``n_truncated`` are the prompt's tokens that were left out because it did not fit; ``stop_text`` is the stop string
    that ended the answer, if one did. If its Generate wants them: the answer's ``tokens`` with the bytes of their texts
    (``sizes``), and the text of the end-of-sequence token that followed (``end``).
    ``n_restored`` of the cached tokens came from saved prefixes, ``n_read`` of these from files.
    """

    id: int
    reason: Literal["stop", "length", "cancel"]
    n_prompt: int = 0
    n_cached: int = 0
    n_predicted: int = 0
    prompt_ns: int = 0
    predict_ns: int = 0
    n_truncated: int = 0
    stop_text: str = ""
    tokens: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    end: str = ""
    n_restored: int = 0
    n_read: int = 0


class Resized(Frame, frozen=True):
    """The good ending of a Resize: the context of each slot in tokens, and how many slots there are."""

    id: int
    n_ctx: int
    n_slots: int


class Outgrown(Frame, frozen=True):
    """A request comes near the end of its slot's cells, which are fewer than its context has tokens: it needs ``n_cells`` or more. It
    waits for a Resize, which may be one to a shorter context: then it must do with that."""

    n_cells: int


class Working(Frame, frozen=True):
    """A sign of life from a runner that computes but has no text to send: in a long prompt, for example. At most one a second."""


class Tokens(Frame, frozen=True):
    """The ending of a Tokenize or a Count. ``count`` is the number of tokens; ``tokens`` is empty if they are too many to send."""

    id: int
    tokens: tuple[int, ...]
    count: int


class Text(Frame, frozen=True):
    """The ending of a Detokenize."""

    id: int
    text: str


class Forgotten(Frame, frozen=True):
    """The ending of a Forget."""

    id: int


class Held(Frame, frozen=True):
    """Bytes of memory that saved prefixes take now; sent again when they are a sixteenth of what they may take more or fewer."""

    size: int


class Embedded(Frame, frozen=True):
    """The good ending of an Embed or a Rerank: the vectors one after the other, float32 in this machine's bytes, and how many
    tokens each input had.
    """

    id: int
    vectors: bytes
    n_tokens: tuple[int, ...]


class Failed(Frame, frozen=True):
    """The bad ending of an id; 0 stands for the load itself.

    kinds: ``load`` (the model file was refused), ``too_long`` (prompt longer than the context), ``invalid`` (a value that cannot
    be used), ``internal`` (decode failed), ``disk`` (a file cannot be written).
    """

    id: int
    kind: Literal["load", "too_long", "invalid", "internal", "disk"]
    message: str


# ---- other children -> daemon ----------------------------------------------------------------------------------------


class Converting(Frame, frozen=True):
    """How many bytes of the weights are written, of ``total``."""

    done: int
    total: int


class Converted(Frame, frozen=True):
    """The requested file is complete."""


class RendererReady(Frame, frozen=True):
    """The template renderer has its modules and waits for work."""


class Rendered(Frame, frozen=True):
    """The rendered text of a template."""

    text: str


class Refused(Frame, frozen=True):
    """The reason why a template was not rendered, or a document not read. ``by_template``: the template calls raise_exception, so
    the messages are at fault."""

    reason: str
    by_template: bool = False


class Extracted(Frame, frozen=True):
    """What was read of a document."""

    extract: Extract


ToRunner = (
    Load
    | Quantize
    | Generate
    | Embed
    | Rerank
    | Count
    | Tokenize
    | Detokenize
    | Forget
    | Resize
    | Cancel
    | Stop
)
FromRunner = (
    Loading
    | Quantized
    | Ready
    | Working
    | Texts
    | Progressed
    | PromptRead
    | Done
    | Embedded
    | Tokens
    | Text
    | Forgotten
    | Held
    | Resized
    | Outgrown
    | Failed
)
FromConverter = Converting | Converted | Failed
FromRenderer = RendererReady | Rendered | Refused
FromReader = Extracted | Refused

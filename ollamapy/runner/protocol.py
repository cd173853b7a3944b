"""The frozen messages that cross the process boundary, and how they are framed.

A frame is a 4-byte little-endian length and a msgpack map with the message's tag in ``type``. The daemon writes Load first, then
any of the others; the runner answers Load with Loading* and Ready (or Failed with id 0), and every later id with exactly one
ending: Done, Embedded, Tokens, Text or Failed. ``Cancel`` of an unknown id is no error. End of file on the runner's stdin means that the
daemon is gone: the runner exits.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..loading import LoadPlan
from ..types import Embedding, Generation, TokenLogprob

PROTOCOL = 5
"""Raised when a message changes its meaning; Ready carries it and the daemon refuses another."""

MAX_FRAME = 256 * 1024 * 1024
"""Bytes; a longer frame is a defect or an attack, and ends the connection."""

_LENGTH = struct.Struct("<I")


class Frame(msgspec.Struct, frozen=True, omit_defaults=True, array_like=False, tag=True):
    """Base of all messages."""


# ---- daemon -> runner ------------------------------------------------------------------------------------------------


class Load(Frame, frozen=True):
    """The first frame: which files, and how."""

    plan: LoadPlan


class Generate(Frame, frozen=True):
    """Continue a prompt; answered by Texts and a Done."""

    id: int
    job: Generation


class Tokenize(Frame, frozen=True):
    """Ask for the token ids of a text; answered by Tokens."""

    id: int
    text: str
    add_special: bool = True


class Detokenize(Frame, frozen=True):
    """Ask for the text of token ids; answered by Text."""

    id: int
    tokens: tuple[int, ...]


class Embed(Frame, frozen=True):
    """Ask for the vectors of a job; answered by Embedded."""

    id: int
    job: Embedding


class Rerank(Frame, frozen=True):
    """Ask for the score of each document; answered by Embedded with one number (or as many as the model's head has) a document.

    A document that does not fit beside the query loses its end.
    """

    id: int
    query: str
    documents: tuple[str, ...]


class Cancel(Frame, frozen=True):
    """Stop working for an id. In the engine it still gets its ending (Done with reason "cancel") unless it already had one; what
    is not tokenized yet is only forgotten, for who cancels waits for nothing.
    """

    id: int


class Stop(Frame, frozen=True):
    """Finish nothing more and exit 0."""


class Quantize(Frame, frozen=True):
    """Instead of Load: write a GGUF in another type; answered by Loading*, then Quantized or Failed with id 0.

    ``number`` is llama.cpp's ``llama_ftype``. The runner does nothing else and exits.
    """

    source: str
    target: str
    number: int


# ---- runner -> daemon ------------------------------------------------------------------------------------------------


class Loading(Frame, frozen=True):
    """How far the load (or the quantizing) is, 0 to 1."""

    fraction: float


class Quantized(Frame, frozen=True):
    """The file that was asked for is whole."""


class Ready(Frame, frozen=True):
    """The model is loaded: the context of each slot in tokens, how many slots, and what lies on the GPU.

    ``bos`` and ``eos`` are the texts of these tokens, which chat templates write; empty where the model has none.
    ``adds_bos`` and ``adds_eos``: tokenizing a prompt puts them there by itself.
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


class Piece(msgspec.Struct, frozen=True, omit_defaults=True, array_like=True):
    """The new text of one request; ``logprobs`` one entry a token, where they were asked for."""

    id: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Texts(Frame, frozen=True):
    """The new text of all requests since the last frame: one frame a step, or for 25 ms of steps."""

    pieces: tuple[Piece, ...]


class Done(Frame, frozen=True):
    """The one good ending of a Generate: why it ended, and what it cost in tokens and nanoseconds.

    ``n_prompt`` counts the cached tokens too; ``n_predicted`` counts every sampled token, an end-of-sequence one as well;
    ``n_truncated`` are the prompt's tokens that were left out because it did not fit; ``stop_text`` is the stop string
    that ended the answer, if one did.
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


class Working(Frame, frozen=True):
    """A sign of life from a runner that computes but has no text to send: a long prompt, say. At most one a second."""


class Tokens(Frame, frozen=True):
    """The ending of a Tokenize."""

    id: int
    tokens: tuple[int, ...]


class Text(Frame, frozen=True):
    """The ending of a Detokenize."""

    id: int
    text: str


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
    be used), ``internal`` (decode failed).
    """

    id: int
    kind: Literal["load", "too_long", "invalid", "internal"]
    message: str


ToRunner = Load | Quantize | Generate | Embed | Rerank | Tokenize | Detokenize | Cancel | Stop
FromRunner = (
    Loading | Quantized | Ready | Working | Texts | Done | Embedded | Tokens | Text | Failed
)


def _encode_path(value: Any) -> bytes:
    """A path as the system has it: not all of them are UTF-8."""
    if isinstance(value, Path):
        return os.fsencode(value)
    raise NotImplementedError(f"a frame cannot hold a {type(value).__name__}")


def _decode_path(kind: type, value: Any) -> Any:
    if kind is not Path or not isinstance(value, bytes):
        raise ValueError("a path must be bytes")
    return Path(os.fsdecode(value))


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
_to_runner = msgspec.msgpack.Decoder(ToRunner, dec_hook=_decode_path)
_from_runner = msgspec.msgpack.Decoder(FromRunner)


def encode(frame: Frame) -> bytes:
    """The frame as it goes on the pipe, its length before it."""
    body = _encoder.encode(frame)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cut a byte stream back into messages: ``feed`` what arrived, get the messages that it completes.

    ``side`` names who is reading. Raises ValueError when the bytes cannot be frames (msgspec's errors are ValueErrors too).
    """

    def __init__(self, side: Literal["daemon", "runner"]) -> None:
        self._decode = (_from_runner if side == "daemon" else _to_runner).decode
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The messages that are complete with ``data``, in order."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(self._buffer, start)
            if length > MAX_FRAME:
                raise ValueError(f"frame of {length} bytes")
            if len(self._buffer) - start - 4 < length:
                break
            frame = self._decode(self._buffer[start + 4 : start + 4 + length])
            start += 4 + length
            yield frame
        del self._buffer[:start]

"""llama2.c's checkpoints (`stories15M.bin` and the like) with their `tokenizer.bin` -> GGUF.

All three formats of its export.py are read: v0 (float32, no magic number), v1 (float32) and v2 (int8). What is wrong with a
file is recognized before anything is written or much memory is taken: sizes must fit each other, and the file's length must be
exactly what they make it. Weights are never all in memory at once.

    v0: dim hidden_dim n_layers n_heads n_kv_heads vocab_size max_seq_len, int32 each; a negative vocab_size: the classifier
        (GGUF's output matrix) is stored apart, else the embedding serves as one | float32 weights
    v1, v2: magic 0x616b3432 u32 | version i32 | the seven, vocab_size positive | classifier shared? u8
        | v2: group_size i32 | zeros up to byte 256 | weights
    a quantised tensor of v2: int8 values | float32 scales, one for each group of values: weight = value * scale
    tokenizer.bin: longest piece u32, then of each token: score f32 | length u32 | bytes

All little endian. Sources: https://github.com/karpathy/llama2.c export.py, run.c, runq.c, tokenizer.py. No matrix is
reordered: llama2.c rotates neighbouring pairs of a head, as GGUF's `llama` does.
"""

from __future__ import annotations

import math
import re
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NoReturn

from ollamapy.errors import InvalidModel, reason

from .writer import PIECE, OnProgress, Value, Weight, pieces_of, read_at, write

MAX_LAYERS = 512  # llama.cpp takes no more
MAX_CONTEXT = 2**24
MAX_TOKENIZER_BYTES = 64 * 2**20
MAX_PIECE_BYTES = 1_024

_HEADER_BYTES = 256
_MAGIC = 0x616B3432
_SEVEN = struct.Struct("<7i")
_VERSIONED = struct.Struct("<Ii7iBi")  # magic, version, the seven, shared, group_size
_PIECE_HEAD = struct.Struct("<fI")

UNKNOWN, BOS, EOS = 0, 1, 2
_N_SPECIAL = 3
_NORMAL_TYPE, _UNKNOWN_TYPE, _CONTROL_TYPE, _BYTE_TYPE = 1, 2, 3, 6  # gguf.TokenType
_BYTE = re.compile(rb"<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's header. `group_size` is 0 but in v2; `shared`: the embedding is the classifier too."""

    version: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    context_length: int
    shared: bool
    group_size: int = 0

    @property
    def head_dim(self) -> int:
        """The length of one head's vectors."""
        return self.dim // self.n_heads


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint's header. Raises InvalidModel, also for a file of any other kind."""
    size = _size(path, "checkpoint")
    with _opened(path, "checkpoint") as file:
        head = read_at(file, 0, min(size, _HEADER_BYTES))
    if len(head) < _SEVEN.size:
        _refuse("it is too short to be a llama2.c checkpoint")
    if struct.unpack_from("<I", head)[0] == _MAGIC:
        found = _versioned(head)
    else:
        dim, hidden, layers, heads, kv_heads, vocab, context = _SEVEN.unpack_from(head)
        found = Checkpoint(
            0, dim, hidden, layers, heads, kv_heads, abs(vocab), context, shared=vocab > 0
        )
    _check(found, known=found.version > 0)
    if (end := _places(found)[-1].end) != size:
        _refuse(
            f"it has {size:,} bytes and its sizes make {end:,}", *(() if found.version else _OTHER)
        )
    return found


def convert(
    checkpoint: Path, tokenizer: Path | None, target: Path, *, progress: OnProgress | None = None
) -> None:
    """Write the GGUF of a checkpoint at `target`, all weights in F32: int8 ones are dequantized.

    Where `tokenizer` is None, tok<vocab_size>.bin or tokenizer.bin beside the checkpoint is taken. Raises InvalidModel when a
    file is not what it should be, StoreError when `target` cannot be written; `target` is then removed.
    """
    header = read_checkpoint(checkpoint)
    vocabulary = read_tokenizer(tokenizer or _beside(checkpoint, header), header.vocab_size)
    with _opened(checkpoint, "checkpoint") as file:
        weights = [_weight(file, place) for place in _places(header) if place.name]
        write(target, "llama", _metadata(header, vocabulary), weights, progress)


def read_tokenizer(path: Path, vocab_size: int) -> tuple[tuple[str, float], ...]:
    """The (piece, score) of each token, in GGUF's form: "▁" for a blank. Raises InvalidModel.

    Checked as llama.cpp needs it, which aborts on less: as many pieces as the model has, none twice, a piece for each byte.
    """
    size = _size(path, "tokenizer")
    if size > MAX_TOKENIZER_BYTES:
        _refuse_tokenizer(f"it has {size:,} bytes")
    with _opened(path, "tokenizer") as file:
        data = read_at(file, 0, size)
    pieces = list(islice(_pieces(data), vocab_size + 1))
    if len(pieces) != vocab_size:
        count = "more" if len(pieces) > vocab_size else len(pieces)
        _refuse_tokenizer(f"it has {count} pieces, the checkpoint has {vocab_size} tokens")
    texts = [piece for piece, _ in pieces]
    if len(set(texts)) != len(texts):
        _refuse_tokenizer("it has a piece twice")
    if missing := {f"<0x{byte:02X}>" for byte in range(256)}.difference(texts):
        _refuse_tokenizer(f"it has no piece for the byte {min(missing)}")
    return tuple(pieces)


def _pieces(data: bytes) -> Iterator[tuple[str, float]]:
    if len(data) < 4:
        _refuse_tokenizer("it is empty")
    position, number = 4, 0
    while position < len(data):
        if len(data) - position < _PIECE_HEAD.size:
            _refuse_tokenizer("it ends in the middle of a piece")
        score, length = _PIECE_HEAD.unpack_from(data, position)
        position += _PIECE_HEAD.size
        if length > min(len(data) - position, MAX_PIECE_BYTES):
            _refuse_tokenizer(f"its piece {number} claims {length} bytes")
        if not math.isfinite(score):
            _refuse_tokenizer(f"the score of its piece {number} is no number")
        raw = data[position : position + length]
        position += length
        yield _text(number, raw), score
        number += 1


def _text(number: int, raw: bytes) -> str:
    """How GGUF writes a piece. tokenizer.py has written blanks for "▁", and BOS and EOS with newlines around them."""
    if number < _N_SPECIAL:
        return ("<unk>", "<s>", "</s>")[number]
    if not raw:
        return f"<empty {number}>"
    try:
        return raw.decode().replace(" ", "▁")
    except UnicodeDecodeError:
        _refuse_tokenizer(f"its piece {number} is not UTF-8")


def _metadata(header: Checkpoint, vocabulary: Sequence[tuple[str, float]]) -> dict[str, Value]:
    types = [_UNKNOWN_TYPE, _CONTROL_TYPE, _CONTROL_TYPE]
    for text, _ in vocabulary[_N_SPECIAL:]:
        if _BYTE.fullmatch(text.encode()):
            types.append(_BYTE_TYPE)
        else:
            types.append(_CONTROL_TYPE if text.startswith("<empty ") else _NORMAL_TYPE)
    return {
        "general.type": "model",
        "general.file_type": 0,  # all F32
        "llama.context_length": header.context_length,
        "llama.embedding_length": header.dim,
        "llama.block_count": header.n_layers,
        "llama.feed_forward_length": header.hidden_dim,
        "llama.attention.head_count": header.n_heads,
        "llama.attention.head_count_kv": header.n_kv_heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": header.head_dim,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": header.vocab_size,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [text for text, _ in vocabulary],
        "tokenizer.ggml.scores": [score for _, score in vocabulary],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.unknown_token_id": UNKNOWN,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        # run.c's `generate` ends where the model begins the next text; the stories have no other end
        "tokenizer.ggml.eot_token_id": BOS,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.add_space_prefix": True,
    }


# ---- places of the weights -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """One tensor in a checkpoint. `group_size` above 0: int8 values and then their scales. No name: not needed."""

    name: str
    shape: tuple[int, ...]
    offset: int
    group_size: int = 0

    @property
    def n_values(self) -> int:
        return math.prod(self.shape)

    @property
    def end(self) -> int:
        if self.group_size:
            return self.offset + self.n_values + self.n_values // self.group_size * 4
        return self.offset + self.n_values * 4


def _places(header: Checkpoint) -> list[_Place]:
    """Every tensor, in the file's order. All layers of one kind come together before the next kind."""
    dim, hidden, kv_dim = header.dim, header.hidden_dim, header.n_kv_heads * header.head_dim
    embedding = ("token_embd.weight", (header.vocab_size, dim))
    classifier = [] if header.shared else [("output.weight", (header.vocab_size, dim))]
    attention_norm, ffn_norm = ("attn_norm", (dim,)), ("ffn_norm", (dim,))
    attention = [
        ("attn_q", (dim, dim)),
        ("attn_k", (kv_dim, dim)),
        ("attn_v", (kv_dim, dim)),
        ("attn_output", (dim, dim)),
    ]
    ffn = [("ffn_gate", (hidden, dim)), ("ffn_down", (dim, hidden)), ("ffn_up", (hidden, dim))]

    def layers(*kinds: tuple[str, tuple[int, ...]]) -> list[tuple[str, tuple[int, ...]]]:
        return [
            (f"blk.{layer}.{name}.weight", shape)
            for name, shape in kinds
            for layer in range(header.n_layers)
        ]

    norm: tuple[str, tuple[int, ...]] = ("output_norm.weight", (dim,))
    if header.version == 0:
        angles = (header.context_length, header.head_dim)  # freqs_cos and freqs_sin: computed anew
        order = [embedding, *layers(attention_norm, *attention, ffn_norm, *ffn), norm]
        order += [("", angles), *classifier]
        floats = len(order)
        offset = _SEVEN.size
    else:
        order = [*layers(attention_norm, ffn_norm), norm]
        floats = len(order)
        order += [embedding, *layers(*attention, *ffn), *classifier]
        offset = _HEADER_BYTES
    places = []
    for index, (name, shape) in enumerate(order):
        places.append(_Place(name, shape, offset, header.group_size if index >= floats else 0))
        offset = places[-1].end
    return places


def _weight(file: BinaryIO, place: _Place) -> Weight:
    if place.group_size:
        return Weight(place.name, place.shape, "F32", lambda: _dequantized(file, place))
    n_bytes = place.n_values * 4
    return Weight(place.name, place.shape, "F32", lambda: pieces_of(file, place.offset, n_bytes))


def _dequantized(file: BinaryIO, place: _Place) -> Iterator[bytes]:
    import numpy as np

    group, n_groups = place.group_size, place.n_values // place.group_size
    scales_at = place.offset + place.n_values
    step = max(PIECE // (4 * group), 1)
    for first in range(0, n_groups, step):
        count = min(step, n_groups - first)
        values = read_at(file, place.offset + first * group, count * group)
        scales = read_at(file, scales_at + first * 4, count * 4)
        groups = np.frombuffer(values, np.int8).reshape(count, group).astype(np.float32)
        yield (groups * np.frombuffer(scales, "<f4")[:, None]).astype("<f4").tobytes()


# ---- checks --------------------------------------------------------------------------------------------------------------

_OTHER = ("get it again, or a GGUF file, if it is no llama2.c checkpoint",)


def _versioned(head: bytes) -> Checkpoint:
    if len(head) < _HEADER_BYTES:
        _refuse("it ends in the middle of its header")
    _, version, dim, hidden, layers, heads, kv_heads, vocab, context, shared, group = (
        _VERSIONED.unpack_from(head)
    )
    if version not in (1, 2):
        _refuse(f"it has version {version}", "export it in version 0, 1 or 2")
    if shared > 1:
        _refuse("whether its classifier is shared is neither 0 nor 1")
    if version == 2 and group < 1:
        _refuse(f"its group size is {group}")
    sizes = dim, hidden, layers, heads, kv_heads, vocab, context
    return Checkpoint(version, *sizes, bool(shared), group if version == 2 else 0)


def _check(header: Checkpoint, *, known: bool) -> None:
    """Raise unless the sizes fit each other and llama.cpp. Without a magic number (`known`), it may be any other file."""
    sizes = (
        *(header.dim, header.hidden_dim, header.n_layers, header.n_heads, header.n_kv_heads),
        *(header.vocab_size, header.context_length),
    )
    way_out = () if known else _OTHER
    if min(sizes) < 1 or header.n_layers > MAX_LAYERS or header.context_length > MAX_CONTEXT:
        _refuse("its first numbers are no sizes of a model", *way_out)
    if header.dim % header.n_heads or header.n_heads % header.n_kv_heads or header.head_dim % 2:
        _refuse("its heads do not divide its dimensions", *way_out)
    if header.group_size and (
        header.dim % header.group_size or header.hidden_dim % header.group_size
    ):
        _refuse(f"its group size {header.group_size} does not divide its dimensions")


def _beside(checkpoint: Path, header: Checkpoint) -> Path:
    for name in (f"tok{header.vocab_size}.bin", "tokenizer.bin"):
        if (path := checkpoint.with_name(name)).is_file():
            return path
    raise InvalidModel(
        f"the checkpoint {checkpoint.name!r} comes without its tokenizer,"
        f" put the tokenizer.bin with {header.vocab_size} pieces beside it"
    )


def _size(path: Path, what: str) -> int:
    try:
        status = path.stat()
    except OSError as error:
        _unreadable(error, what)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device may never return
        raise InvalidModel(f"the {what} is not a regular file, put the file itself in its place")
    return status.st_size


def _opened(path: Path, what: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        _unreadable(error, what)


def _unreadable(error: OSError, what: str) -> NoReturn:
    raise InvalidModel(
        f"cannot read the {what} ({reason(error)}), make it readable or get it again"
    ) from error


def _refuse(why: str, way_out: str = "it is damaged or cut off, get it again") -> NoReturn:
    raise InvalidModel(f"the checkpoint cannot be used: {why}; {way_out}")


def _refuse_tokenizer(why: str) -> NoReturn:
    raise InvalidModel(
        f"the checkpoint's tokenizer cannot be used: {why}; get the tokenizer.bin that belongs to it"
    )

"""llama2.c's checkpoints: what llama.cpp computes from the GGUF is what numpy computes from the checkpoint."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.engine.llama import Model
from ollamapy.errors import InvalidModel, StoreError
from ollamapy.formats.gguf import read_header
from ollamapy.formats.llama2c import Checkpoint, convert, read_checkpoint, read_tokenizer
from tests.plans import plan
from tests.reference import Shape, llama_logits, transformer

Array = npt.NDArray[np.float32]

DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT, GROUP = 64, 96, 2, 8, 4, 300, 128, 32
KV_DIM = DIM // HEADS * KV_HEADS
WORDS = [
    " ",
    *"abcdefghijklmnopqrstu",
    " a",
    "ab",
    " ab",
    "bc",
    "abc",
    "é",
    "  ",
    "st",
    "tu",
    "stu",
]
SHAPES = {
    "wq": (DIM, DIM), "wk": (KV_DIM, DIM), "wv": (KV_DIM, DIM), "wo": (DIM, DIM),
    "w1": (HIDDEN, DIM), "w2": (DIM, HIDDEN), "w3": (HIDDEN, DIM),
}  # fmt: skip
HUGGING_FACE = {
    "rms_att": "input_layernorm", "rms_ffn": "post_attention_layernorm",
    "wq": "self_attn.q_proj", "wk": "self_attn.k_proj", "wv": "self_attn.v_proj", "wo": "self_attn.o_proj",
    "w1": "mlp.gate_proj", "w2": "mlp.down_proj", "w3": "mlp.up_proj",
}  # fmt: skip


def tokenizer_bytes(n: int = VOCAB) -> bytes:
    """A tokenizer.bin as tokenizer.py writes it."""
    pieces = [
        b"<unk>",
        b"\n<s>\n",
        b"\n</s>\n",
        *(f"<0x{byte:02X}>".encode() for byte in range(256)),
    ]
    pieces += [word.encode() for word in WORDS][: n - len(pieces)]
    pieces += [f"w{index}".encode() for index in range(n - len(pieces))]
    data = struct.pack("<I", max(map(len, pieces)))
    for index, piece in enumerate(pieces):
        score = 0.0 if index < 259 else -float(index)
        data += struct.pack("<fI", score, len(piece)) + piece
    return data


@dataclass(frozen=True)
class Made:
    """A checkpoint's bytes and the weights that it stands for, by the names of :func:`transformer`."""

    data: bytes
    weights: dict[str, Array]


def made(version: int, shared: bool, seed: int = 0) -> Made:
    """A random checkpoint of one of the three formats, written after export.py."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> Array:
        return rng.standard_normal(shape, np.float32) * np.float32(1.5 / math.sqrt(shape[-1]))

    def norms(count: int) -> list[Array]:
        return [1 + 0.1 * rng.standard_normal(DIM).astype(np.float32) for _ in range(count)]

    parts = {"rms_att": norms(LAYERS), "rms_ffn": norms(LAYERS), "rms_final": norms(1)}
    parts["embedding"] = [random(VOCAB, DIM) * 8]
    parts |= {name: [random(*shape) for _ in range(LAYERS)] for name, shape in SHAPES.items()}
    parts["wcls"] = [] if shared else [random(VOCAB, DIM) * 2]
    seven = [DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT]
    rotations = np.zeros(CONTEXT * DIM // HEADS, np.float32)

    if version == 0:
        seven[5] = VOCAB if shared else -VOCAB
        order = ["embedding", "rms_att", "wq", "wk", "wv", "wo", "rms_ffn", "w1", "w2", "w3"]
        arrays = [array for name in [*order, "rms_final"] for array in parts[name]]
        arrays += [rotations, *parts["wcls"]]
        data = struct.pack("<7i", *seven) + b"".join(array.tobytes() for array in arrays)
    else:
        group = (GROUP,) if version == 2 else ()
        head = struct.pack(f"<Ii7iB{'i' * len(group)}", 0x616B3432, version, *seven, shared, *group)
        data = head.ljust(256, b"\0")
        for name in ("rms_att", "rms_ffn", "rms_final"):
            data += b"".join(array.tobytes() for array in parts[name])
        for name in ("embedding", *SHAPES, "wcls"):
            for index, array in enumerate(parts[name]):
                if version == 1:
                    data += array.tobytes()
                else:
                    parts[name][index], packed = quantized(array)
                    data += packed
    weights = {"embed_tokens": parts["embedding"][0], "norm": parts["rms_final"][0]}
    if not shared:
        weights["lm_head"] = parts["wcls"][0]
    for ours, theirs in HUGGING_FACE.items():
        weights |= {f"layers.{i}.{theirs}": array for i, array in enumerate(parts[ours])}
    return Made(data, weights)


def quantized(array: Array) -> tuple[Array, bytes]:
    """What export.py's quantize_q80 makes of an array: the numbers that remain, and the bytes in the file."""
    groups = array.reshape(-1, GROUP)
    scales = (np.abs(groups).max(1) / 127).astype(np.float32)
    values = np.round(groups / scales[:, None]).astype(np.int8)
    kept = (values.astype(np.float32) * scales[:, None]).reshape(array.shape)
    return kept, values.tobytes() + scales.tobytes()


def written(folder: Path, checkpoint: bytes, tokenizer: bytes | None = None) -> Path:
    (folder / "tokenizer.bin").write_bytes(tokenizer_bytes() if tokenizer is None else tokenizer)
    (folder / "stories.bin").write_bytes(checkpoint)
    return folder / "stories.bin"


@pytest.mark.llama
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "unshared"])
@pytest.mark.parametrize("version", [0, 1, 2])
def test_llama_cpp_computes_what_the_checkpoint_says(
    tmp_path: Path, version: int, shared: bool
) -> None:
    checkpoint = made(version, shared)
    told: list[tuple[int, int]] = []
    target = tmp_path / "model.gguf"
    convert(
        written(tmp_path, checkpoint.data), None, target, progress=lambda *done: told.append(done)
    )

    tokens = [1, 270, 15, 299, 0, 270, 261, 44, 2, 288]
    shape = Shape(HEADS, KV_HEADS, DIM // HEADS, neighbours=True)
    expected = transformer(shape, checkpoint.weights, tokens)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(llama_logits(target, tokens), expected, atol=2e-4)

    header = read_header(target)
    assert header.architecture == "llama" and header.file_type_name == "F32"
    assert (header.context_length, header.vocab_size) == (CONTEXT, VOCAB)
    assert told[-1][0] == told[-1][1] == sum(tensor.n_bytes for tensor in header.tensors)
    assert told == sorted(told)


def encoded(text: str, pieces: list[tuple[bytes, float]]) -> list[int]:
    """run.c's `encode`: characters or their bytes, then again and again the best pair that makes a piece."""
    ids = {piece: index for index, (piece, _) in enumerate(pieces)}
    tokens = [1, *([ids[b" "]] if text else [])]
    for character in text:
        raw = character.encode()
        tokens += [ids[raw]] if raw in ids else [byte + 3 for byte in raw]
    while True:
        best: tuple[float, int, int] | None = None
        for at, (left, right) in enumerate(zip(tokens, tokens[1:], strict=False)):
            found = ids.get(pieces[left][0] + pieces[right][0])
            if found is not None and (best is None or pieces[found][1] > best[0]):
                best = pieces[found][1], at, found
        if best is None:
            return tokens
        tokens[best[1] : best[1] + 2] = [best[2]]


def parsed(tokenizer: bytes) -> Iterator[tuple[bytes, float]]:
    at = 4
    while at < len(tokenizer):
        score, length = struct.unpack_from("<fI", tokenizer, at)
        yield tokenizer[at + 8 : at + 8 + length], score
        at += 8 + length


@pytest.mark.llama
def test_llama_cpp_cuts_texts_as_run_c_does(tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    convert(written(tmp_path, made(0, True).data), None, target)
    model = Model(plan(target, n_ctx=64, n_slots=1, n_batch=8, threads=1))
    pieces = list(parsed(tokenizer_bytes()))
    for text in ("abc ab", "stu", "é 🙂", "a  b", "x\ny", ""):
        assert model.tokenize(text) == encoded(text, pieces), text
    assert model.detokenize(model.tokenize("abc stu é")[1:]).strip() == "abc stu é"
    assert model.ends(1) and model.ends(2), "a story ends where the next one begins"
    model.close()


@pytest.mark.parametrize("name", ["tokenizer.bin", "tok300.bin"])
def test_the_tokenizer_beside_the_checkpoint_is_found(tmp_path: Path, name: str) -> None:
    checkpoint = written(tmp_path, made(0, True).data)
    (tmp_path / "tokenizer.bin").rename(tmp_path / name)
    convert(checkpoint, None, tmp_path / "model.gguf")
    assert read_header(tmp_path / "model.gguf").vocab_size == VOCAB
    (tmp_path / name).unlink()
    with pytest.raises(InvalidModel, match=r"tokenizer\.bin with 300 pieces"):
        convert(checkpoint, None, tmp_path / "other.gguf")


def test_the_header_says_what_it_is(tmp_path: Path) -> None:
    for version in (0, 1, 2):
        path = written(tmp_path, made(version, False).data)
        assert read_checkpoint(path) == Checkpoint(
            *(version, DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT, False),
            group_size=GROUP if version == 2 else 0,
        )


def seven(**changes: int) -> bytes:
    names = ("dim", "hidden", "layers", "heads", "kv_heads", "vocab", "context")
    values = dict(zip(names, (DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT), strict=True))
    return struct.pack("<7i", *(values | changes).values())


def versioned(version: int, group: int = GROUP, shared: int = 1) -> bytes:
    head = struct.pack("<Ii", 0x616B3432, version) + seven() + struct.pack("<Bi", shared, group)
    return head.ljust(256, b"\0")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (b"x" * 27, "too short"),
        (b"GGUF" + bytes(500), "no sizes"),
        (b"<!DOCTYPE html>" + b" " * 300, "no sizes|heads|bytes and its sizes"),
        (made(0, True).data[:-1], "bytes and its sizes make"),
        (made(0, True).data + b"\0", "bytes and its sizes make"),
        (made(2, False).data[:-4], "bytes and its sizes make"),
        (seven(dim=0), "no sizes"),
        (seven(dim=-64), "no sizes"),
        (seven(heads=7), "heads"),
        (seven(kv_heads=3), "heads"),
        (seven(heads=64, kv_heads=64), "heads"),
        (seven(layers=2**31 - 1), "no sizes"),
        (seven(vocab=-(2**31)), "bytes and its sizes make"),
        (seven(dim=2**30, vocab=2**31 - 1), "bytes and its sizes make"),
        (seven(context=2**31 - 1), "no sizes"),
        (versioned(1)[:100], "middle of its header"),
        (versioned(3), "version 3"),
        (versioned(1, shared=7), "shared"),
        (versioned(2, group=0), "group size"),
        (versioned(2, group=48), "group size"),
    ],
)
def test_a_bad_checkpoint_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        convert(written(tmp_path, data), None, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def piece(score: float, text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<fI", score, len(text) if length is None else length) + text


GOOD = tokenizer_bytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (GOOD[:-1], "claims"),
        (GOOD[:-5], "claims|middle"),
        (GOOD + b"\0", "more pieces|middle"),
        (GOOD + piece(0, b"zz"), "more pieces"),
        (tokenizer_bytes(299), "299 pieces"),
        (GOOD[:4] + piece(0, b"x", 2**32 - 1), "claims 4294967295"),
        (tokenizer_bytes(299) + piece(0, b"abc"), "twice"),
        (tokenizer_bytes(299) + piece(0, b"\xff"), "not UTF-8"),
        (tokenizer_bytes(299) + piece(math.nan, b"zz"), "no number"),
        (GOOD.replace(b"<0x41>", b"<0xZZ>"), "no piece for the byte <0x41>"),
    ],
)
def test_a_bad_tokenizer_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        convert(written(tmp_path, made(0, True).data, data), None, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=400), magic=st.booleans())
def test_random_bytes_are_an_error_with_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.bin"
    path.write_bytes((struct.pack("<I", 0x616B3432) if magic else b"") + data)
    for read in (read_checkpoint, lambda path: read_tokenizer(path, 300)):
        with pytest.raises(InvalidModel) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.bin", Path("/dev/zero")):
        with pytest.raises(InvalidModel):
            read_checkpoint(path)


def test_nothing_half_made_stays(tmp_path: Path) -> None:
    """The target cannot be written; the one who is told of progress gives up."""
    checkpoint = written(tmp_path, made(0, True).data)
    with pytest.raises(StoreError, match="cannot write"):
        convert(checkpoint, None, tmp_path / "absent" / "model.gguf")

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, None, tmp_path / "model.gguf", progress=give_up)
    assert not (tmp_path / "model.gguf").exists()

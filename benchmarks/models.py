"""Make the models of the benchmarks: real GGUF files with random, reproducible weights, in seconds.

    15m    the shape of llama2.c's stories15M: 6 layers, 288 wide, 6 heads, 768 hidden, f32
    1b     a 1.1-billion-parameter Llama: 22 layers, 2048 wide, 32 heads, 4 KV heads, 5632 hidden, Q4_0

Both have a vocabulary of 32,000 tokens: special tokens, the 256 bytes, and made-up words. Their answers have no meaning, and
end-of-sequence is unlikely, so that an answer has as many tokens as the request allows. Q4_0 blocks are written directly: 32
weights are one f16 scale and 16 bytes of two 4-bit numbers (ggml's block_q4_0), without an f32 copy of a billion weights.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

N_VOCAB = 32_000
SYLLABLES = tuple("ba ke li mo ra zu ti vo se nu da fi go pe hu".split())
"""Each is a consonant and a vowel, so that no two letters of neighbouring syllables are one: the tokenizer joins the pair with
the lowest id first, and such a pair would split a word."""

RECIPE = 2
"""Increase it when the models change: their files stay in a folder after the benchmark."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama model; ``quantized``: Q4_0 matrices, else f32."""

    n_layers: int
    n_embd: int
    n_heads: int
    n_heads_kv: int
    n_ff: int
    n_ctx: int
    quantized: bool


SHAPES = {
    "15m": Shape(6, 288, 6, 6, 768, 2048, False),
    "1b": Shape(22, 2048, 32, 4, 5632, 8192, True),
}


def vocabulary() -> list[str]:
    """Token texts: special tokens, bytes, and those that make each word of two syllables one token.

    SentencePiece builds a token from two smaller ones, so letters, syllables and words without a space are included; longer
    words fill the rest, and no text is tokenized to them.
    """
    letters = sorted(set("".join(SYLLABLES)))
    bare = [a + b for a, b in itertools.product(SYLLABLES, repeat=2)]
    needed = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    needed += [*SYLLABLES, *bare, *("▁" + word for word in bare)]
    longer = (
        "▁" + "".join(parts) for n in (3, 4) for parts in itertools.product(SYLLABLES, repeat=n)
    )
    return [*needed, *itertools.islice(longer, N_VOCAB - len(needed))]


def make(name: str, path: Path, seed: int = 0) -> Path:
    """Write the model ``name`` to ``path``, if it does not exist."""
    if path.exists():
        return path
    shape, rng = SHAPES[name], np.random.default_rng(seed)
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, "llama")
    writer.add_name(f"bench-{name}")
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads_kv)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(2 if shape.quantized else 0)
    tokens = vocabulary()
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(N_VOCAB)])
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (N_VOCAB - 259)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)

    n_kv = shape.n_embd // shape.n_heads * shape.n_heads_kv

    def matrix(tensor: str, rows: int, columns: int) -> None:
        if shape.quantized:
            data = q4_0(rng, rows, columns)
            writer.add_tensor(tensor, data, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        else:
            values = rng.standard_normal((rows, columns), np.float32)
            writer.add_tensor(tensor, values * np.float32(columns**-0.5))

    def norm(tensor: str) -> None:
        writer.add_tensor(tensor, np.ones(shape.n_embd, np.float32))

    matrix("token_embd.weight", N_VOCAB, shape.n_embd)
    for layer in range(shape.n_layers):
        norm(f"blk.{layer}.attn_norm.weight")
        matrix(f"blk.{layer}.attn_q.weight", shape.n_embd, shape.n_embd)
        matrix(f"blk.{layer}.attn_k.weight", n_kv, shape.n_embd)
        matrix(f"blk.{layer}.attn_v.weight", n_kv, shape.n_embd)
        matrix(f"blk.{layer}.attn_output.weight", shape.n_embd, shape.n_embd)
        norm(f"blk.{layer}.ffn_norm.weight")
        matrix(f"blk.{layer}.ffn_gate.weight", shape.n_ff, shape.n_embd)
        matrix(f"blk.{layer}.ffn_up.weight", shape.n_ff, shape.n_embd)
        matrix(f"blk.{layer}.ffn_down.weight", shape.n_embd, shape.n_ff)
    norm("output_norm.weight")
    matrix("output.weight", N_VOCAB, shape.n_embd)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path


def q4_0(rng: np.random.Generator, rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Random Q4_0 rows: (rows, columns / 32 * 18) bytes; 4-bit numbers less 8, times a scale for unit variance a row."""
    blocks = rows * columns // 32
    data = np.empty((blocks, 18), np.uint8)
    # 4-bit numbers are uniform over -8..7: standard deviation 4.6
    data[:, :2] = np.frombuffer(np.float16(columns**-0.5 / 4.6).tobytes(), np.uint8)
    data[:, 2:] = rng.integers(0, 256, (blocks, 16), np.uint8)
    return data.reshape(rows, columns // 32 * 18)


def install(store: Path, name: str, path: Path) -> None:
    """Put a model file into an Ollama-layout store as ``bench-<name>``; the blob is a link, nothing is copied."""
    digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
    blobs = store / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    blob = blobs / f"sha256-{digest}"
    if not blob.exists():
        blob.symlink_to(path.resolve())
    config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
    config_digest = hashlib.sha256(config).hexdigest()
    (blobs / f"sha256-{config_digest}").write_bytes(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{config_digest}",
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": f"sha256:{digest}",
                "size": path.stat().st_size,
            }
        ],
    }
    folder = store / "manifests/registry.ollama.ai/library" / f"bench-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest").write_text(json.dumps(manifest) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "store",
        type=Path,
        help="the models directory in which bench-15m and bench-1b are installed",
    )
    arguments = parser.parse_args()
    files = arguments.store / "bench"
    files.mkdir(parents=True, exist_ok=True)
    for each in SHAPES:
        install(arguments.store, each, make(each, files / f"bench-{each}.gguf"))

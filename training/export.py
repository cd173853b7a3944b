"""Write a checkpoint as a Q8_0 GGUF, as llama2.c files, and as the package's read-only store.

    python -m training.export                 # build/model.pt -> build/tinystories.{gguf,bin}, build/tokenizer.bin
    python -m training.export --publish       # and ollamapy/builtin: blobs and manifest, as Ollama lays them out

The same checkpoint gives the same bytes. The weights need no reordering: training rotates neighbouring pairs,
which is what llama2.c and GGUF's `llama` do (only weights in Hugging Face's order are permuted).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
import torch

BUILD = Path(__file__).parent / "build"
STORE = Path(__file__).parent.parent / "ollamapy" / "builtin"
NAME = "registry.ollama.ai/library/tinystories/latest"
LICENSE = """\
CC0 1.0 Universal

The tinystories model that comes with ollamapy was trained only on stories that a program made from a grammar
written for it. To the extent possible under law, its authors have waived all copyright and related or neighbouring
rights to the model. You may copy, change, share and use it, also for money, without asking.

https://creativecommons.org/publicdomain/zero/1.0/legalcode
"""
# Ollama's defaults (temperature 0.8, top_k 40, top_p 0.9) suit the model; min_p keeps rare slips out.
PARAMETERS = {"min_p": 0.1}
NORMS = {"attention_norm": "attn_norm", "ffn_norm": "ffn_norm"}
MATRICES = {
    "wq": "attn_q", "wk": "attn_k", "wv": "attn_v", "wo": "attn_output", "w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up",
}  # fmt: skip

Weights = dict[str, np.ndarray]


def load(path: Path) -> tuple[dict[str, int], Weights]:
    """The shape and the float32 weights of a checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    return checkpoint["shape"], {
        name: w.float().numpy() for name, w in checkpoint["weights"].items()
    }


def pieces(
    tokenizer: sentencepiece.SentencePieceProcessor,
) -> list[tuple[str, float, gguf.TokenType]]:
    """Each token's text, score and type, in the order of their numbers."""
    rows = []
    for token in range(tokenizer.vocab_size()):
        kind = gguf.TokenType.NORMAL
        if tokenizer.is_unknown(token):
            kind = gguf.TokenType.UNKNOWN
        elif tokenizer.is_control(token):
            kind = gguf.TokenType.CONTROL
        elif tokenizer.is_byte(token):
            kind = gguf.TokenType.BYTE
        rows.append((tokenizer.id_to_piece(token), tokenizer.get_score(token), kind))
    return rows


def write_gguf(
    path: Path,
    shape: dict[str, int],
    weights: Weights,
    tokens: list[tuple[str, float, gguf.TokenType]],
) -> None:
    """GGUF: matrices in Q8_0, norms in F32, no `output.weight` (the embedding serves as output)."""
    count = sum(w.size for w in weights.values())
    head = shape["dim"] // shape["heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name("TinyStories")
    writer.add_basename("tinystories")
    writer.add_size_label(f"{count / 1e6:.0f}M")
    writer.add_author("the ollamapy authors")
    writer.add_description("Children's stories, trained on the stories of a grammar.")
    writer.add_license("cc0-1.0")
    writer.add_languages(["en"])
    writer.add_tags(["text-generation", "story"])
    writer.add_uint64("general.parameter_count", count)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape["layers"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["dim"])
    writer.add_feed_forward_length(shape["hidden"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(shape["vocabulary"])
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    # A chat with it is one text that goes on: ollamapy joins the messages. Others know nothing of this key.
    writer.add_bool("ollamapy.join_messages", True)

    def matrix(name: str, weight: np.ndarray) -> None:
        packed = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    matrix("token_embd.weight", weights["embedding.weight"])
    for layer in range(shape["layers"]):
        for ours, theirs in NORMS.items():
            writer.add_tensor(
                f"blk.{layer}.{theirs}.weight", weights[f"layers.{layer}.{ours}.weight"]
            )
        for ours, theirs in MATRICES.items():
            matrix(f"blk.{layer}.{theirs}.weight", weights[f"layers.{layer}.{ours}.weight"])
    writer.add_tensor("output_norm.weight", weights["norm.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama2c(path: Path, shape: dict[str, int], weights: Weights) -> None:
    """llama2.c's first format: seven int32, then float32 in `run.c`'s order. A positive vocabulary: shared output."""
    layers = range(shape["layers"])
    head = shape["dim"] // shape["heads"]
    frequencies = 10000.0 ** (-np.arange(0, head, 2, dtype=np.float32) / head)
    angles = np.outer(np.arange(shape["context"], dtype=np.float32), frequencies)
    with path.open("wb") as file:
        keys = ("dim", "hidden", "layers", "heads", "kv_heads", "vocabulary", "context")
        file.write(struct.pack("<7i", *(shape[key] for key in keys)))
        order = [weights["embedding.weight"]]
        for name in ("attention_norm", "wq", "wk", "wv", "wo", "ffn_norm", "w1", "w2", "w3"):
            order += [weights[f"layers.{layer}.{name}.weight"] for layer in layers]
        for array in [*order, weights["norm.weight"], np.cos(angles), np.sin(angles)]:
            file.write(array.astype("<f4").tobytes())


def write_llama2c_tokenizer(path: Path, tokens: list[tuple[str, float, gguf.TokenType]]) -> None:
    """llama2.c's tokenizer.bin: the longest piece, then score, length and bytes of each."""
    special = {1: "\n<s>\n", 2: "\n</s>\n"}
    texts = [
        special.get(n, text.replace("▁", " ")).encode() for n, (text, _, _) in enumerate(tokens)
    ]
    with path.open("wb") as file:
        file.write(struct.pack("<I", max(len(text) for text in texts)))
        for text, (_, score, _) in zip(texts, tokens, strict=True):
            file.write(struct.pack("<fI", score, len(text)) + text)


def human(count: int) -> str:
    """A parameter count as Ollama writes it: 3049920 -> `3.05M`."""
    return f"{count / 1e6:.0f}M" if count % 1_000_000 == 0 else f"{count / 1e6:.2f}M"


def blob(store: Path, content: bytes, media_type: str) -> dict[str, str | int]:
    """Write content under its digest; its entry in a manifest."""
    digest = hashlib.sha256(content).hexdigest()
    path = store / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def compact(value: object) -> bytes:
    """JSON as Go's encoder writes it: no spaces, a newline at the end."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def publish(store: Path, model: bytes, shape: dict[str, int], count: int) -> None:
    """Make the store anew beside its place, then move it there: the manifest never names a blob that is not whole."""
    fresh = store.with_name(store.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    image = "application/vnd.ollama.image."
    layers = [
        blob(fresh, model, image + "model"),
        blob(fresh, LICENSE.encode(), image + "license"),
        blob(fresh, compact(PARAMETERS), image + "params"),
    ]
    config = {
        "model_format": "gguf", "model_family": "llama", "model_families": ["llama"], "model_type": human(count),
        "file_type": "Q8_0", "context_length": shape["context"], "embedding_length": shape["dim"],
        "base_name": "tinystories", "architecture": "amd64", "os": "linux",
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": blob(fresh, compact(config), "application/vnd.docker.container.image.v1+json"),
        "layers": layers,
    }
    path = fresh / "manifests" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(compact(manifest))
    shutil.rmtree(store, ignore_errors=True)
    os.replace(fresh, store)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=BUILD / "model.pt")
    parser.add_argument("--tokenizer", type=Path, default=BUILD / "tokenizer.model")
    parser.add_argument("--out", type=Path, default=BUILD)
    parser.add_argument("--publish", action="store_true", help="replace ollamapy/builtin")
    arguments = parser.parse_args()
    shape, weights = load(arguments.checkpoint)
    tokens = pieces(sentencepiece.SentencePieceProcessor(model_file=str(arguments.tokenizer)))
    model = arguments.out / "tinystories.gguf"
    write_gguf(model, shape, weights, tokens)
    write_llama2c(arguments.out / "tinystories.bin", shape, weights)
    write_llama2c_tokenizer(arguments.out / "tokenizer.bin", tokens)
    print(f"{model}: {model.stat().st_size:,} bytes")
    if arguments.publish:
        publish(STORE, model.read_bytes(), shape, sum(w.size for w in weights.values()))
        print(f"{STORE}: {sum(p.stat().st_size for p in STORE.rglob('*') if p.is_file()):,} bytes")


if __name__ == "__main__":
    main()

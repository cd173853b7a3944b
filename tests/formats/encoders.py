"""A BERT of random weights as Hugging Face's programs save it, and the vectors of any BERT's folder, computed with numpy."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.formats.folders import Array, byte_alphabet, write_safetensors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "a", "cat", "dog", "the", "sat", "on", "mat", "##s", ",", *"bcefghij"]
WIDTH, HIDDEN, HEADS, LAYERS, CONTEXT = 32, 64, 4, 2, 64

CONFIG = {
    "architectures": ["BertModel"],
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": HIDDEN,
    "hidden_act": "gelu",
    "max_position_embeddings": CONTEXT,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
TOKENIZER = {
    "added_tokens": [{"id": i, "content": t, "special": True} for i, t in enumerate(SPECIAL)],
    "normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None},
    "model": {"type": "WordPiece", "vocab": {text: number for number, text in enumerate(WORDS)}},
}


def make(
    folder: Path,
    *,
    pooling: str = "mean_tokens",
    rows: int = len(WORDS),
    token_types: float = 1.0,
    **config: Any,
) -> Path:
    """A model's folder; `pooling` is what sentence-transformers calls it, "" for a folder that says nothing of it."""
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (rows, WIDTH),
        "embeddings.position_embeddings.weight": (CONTEXT, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        "pooler.dense.weight": (WIDTH, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        norms += [at + "attention.output.LayerNorm", at + "output.LayerNorm"]
        for name, rows, columns in (
            *((f"attention.self.{part}", WIDTH, WIDTH) for part in ("query", "key", "value")),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", HIDDEN, WIDTH),
            ("output.dense", WIDTH, HIDDEN),
        ):
            shapes |= {f"{at}{name}.weight": (rows, columns), f"{at}{name}.bias": (rows,)}
    tensors = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    tensors["embeddings.token_type_embeddings.weight"] *= token_types
    for norm in norms:
        tensors[f"{norm}.weight"] = rng.normal(1, 0.1, WIDTH)
        tensors[f"{norm}.bias"] = rng.normal(0, 0.1, WIDTH)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    if pooling:
        (folder / "1_Pooling").mkdir()
        modes = {f"pooling_mode_{each}": each == pooling for each in ("mean_tokens", "cls_token")}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder


SENTENCE_PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁a",
    "▁cat",
    "▁sat",
    "s",
    *"abcdefghijklm",
]


def make_xlm(folder: Path) -> Path:
    """An XLM-RoBERTa: the same weights, where positions begin behind that of padding, with a Unigram tokenizer."""
    make(folder, architectures=["XLMRobertaModel"], pad_token_id=1)
    pieces = [[text, 0.0 if n < 4 else -float(n)] for n, text in enumerate(SENTENCE_PIECES)]
    pieces += [[f"x{n}", -100.0] for n in range(len(WORDS) - len(pieces))]
    special = [{"id": n, "content": SENTENCE_PIECES[n], "special": True} for n in range(4)]
    model = {"type": "Unigram", "vocab": pieces, "unk_id": 3}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": special, "model": model}))
    return folder


def make_nomic(folder: Path) -> Path:
    """A Nomic Embed: rotated positions, a gate, and no biases but the norms'."""
    make(folder)
    rng = np.random.default_rng(1)
    tensors = {"emb_ln.weight": rng.normal(1, 0.1, WIDTH), "emb_ln.bias": rng.normal(0, 0.1, WIDTH)}
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    for layer in range(LAYERS):
        at = f"encoder.layers.{layer}."
        shapes |= {
            f"{at}attn.Wqkv.weight": (3 * WIDTH, WIDTH),
            f"{at}attn.out_proj.weight": (WIDTH, WIDTH),
            f"{at}mlp.fc11.weight": (HIDDEN, WIDTH),
            f"{at}mlp.fc12.weight": (HIDDEN, WIDTH),
            f"{at}mlp.fc2.weight": (WIDTH, HIDDEN),
        }
        for norm in (f"{at}norm1", f"{at}norm2"):
            tensors[f"{norm}.weight"] = rng.normal(1, 0.1, WIDTH)
            tensors[f"{norm}.bias"] = rng.normal(0, 0.1, WIDTH)
    tensors |= {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "architectures": ["NomicBertModel"],
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_inner": HIDDEN,
        "n_positions": 8192,
        "type_vocab_size": 2,
        "layer_norm_epsilon": 1e-12,
        "activation_function": "swiglu",
        "rotary_emb_base": 1000,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


_DISTIL = (
    (r"encoder\.layer\.", "transformer.layer."),
    (r"attention\.self\.(q|k|v)(uery|ey|alue)\.", r"attention.\1_lin."),
    (r"attention\.output\.dense\.", "attention.out_lin."),
    (r"attention\.output\.LayerNorm\.", "sa_layer_norm."),
    (r"intermediate\.dense\.", "ffn.lin1."),
    (r"(\d)\.output\.dense\.", r"\1.ffn.lin2."),
    (r"(\d)\.output\.LayerNorm\.", r"\1.output_layer_norm."),
)
"""BERT's names of tensors and DistilBERT's, to be replaced one after the other."""


def make_distil(folder: Path, like: Path) -> Path:
    """A DistilBERT that computes what the BERT in the folder `like` does, whose token types are nought."""
    make(like, token_types=0.0)
    make(folder)
    tensors = {}
    for name, tensor in tensors_of(like).items():
        for pattern, replacement in _DISTIL:
            name = re.sub(pattern, replacement, name)
        if not name.startswith("pooler.") and "token_type" not in name:
            tensors[f"distilbert.{name}"] = tensor
    tensors["vocab_transform.bias"] = np.zeros(WIDTH)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {
        "architectures": ["DistilBertForMaskedLM"],
        "dim": WIDTH,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "hidden_dim": HIDDEN,
        "activation": "gelu",
        "max_position_embeddings": CONTEXT,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_byte_pairs(folder: Path, special: list[str]) -> list[str]:
    """A tokenizer of the kind BPE, with a few merges; its texts by number."""
    merges = ["c a", "ca t", "Ġ cat", "Ġ s", "a t", "Ġs at"]
    texts = [*special, *byte_alphabet(), *(merge.replace(" ", "") for merge in merges)]
    tokenizer = {
        "added_tokens": [{"id": n, "content": t, "special": True} for n, t in enumerate(special)],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": {t: n for n, t in enumerate(texts)}, "merges": merges},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return texts


N_BYTE_PAIRS = 5 + 256 + 6  # special tokens, bytes, merges


def make_roberta(folder: Path) -> list[str]:
    """A RoBERTa: BERT's weights, positions behind that of padding, byte pairs; the tokenizer's texts."""
    make(folder, rows=N_BYTE_PAIRS, architectures=["RobertaModel"], pad_token_id=1)
    return write_byte_pairs(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])


def make_modern(folder: Path, **config: Any) -> list[str]:
    """A ModernBERT of four layers, two of which see two tokens to each side; the tokenizer's texts."""
    make(folder, rows=N_BYTE_PAIRS)
    rng = np.random.default_rng(2)
    shapes = {"embeddings.tok_embeddings.weight": (N_BYTE_PAIRS, WIDTH)}
    norms = ["embeddings.norm", "final_norm"]
    for layer in range(4):
        at = f"layers.{layer}."
        norms += [at + "mlp_norm"] + ([at + "attn_norm"] if layer else [])
        shapes |= {
            f"{at}attn.Wqkv.weight": (3 * WIDTH, WIDTH),
            f"{at}attn.Wo.weight": (WIDTH, WIDTH),
            f"{at}mlp.Wi.weight": (2 * HIDDEN, WIDTH),
            f"{at}mlp.Wo.weight": (WIDTH, HIDDEN),
        }
    tensors = {name: rng.normal(0, 0.3, shape) for name, shape in shapes.items()}
    tensors |= {f"{norm}.weight": rng.normal(1, 0.1, WIDTH) for norm in norms}
    write_safetensors(folder / "model.safetensors", {f"model.{n}": t for n, t in tensors.items()})
    given = {
        "architectures": ["ModernBertForMaskedLM"],
        "hidden_size": WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": HEADS,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": CONTEXT,
        "norm_eps": 1e-5,
        "hidden_activation": "gelu",
        "global_rope_theta": 160_000.0,
        "local_rope_theta": 10_000.0,
        "local_attention": 4,
        "global_attn_every_n_layers": 3,
    }
    (folder / "config.json").write_text(json.dumps(given | config))
    return write_byte_pairs(folder, ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"])


def tensors_of(folder: Path) -> dict[str, Array]:
    """The tensors in F32 of a folder."""
    raw = (folder / "model.safetensors").read_bytes()
    [length] = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    found: dict[str, Array] = {}
    for name, each in header.items():
        if each["dtype"] == "F32":
            begin, end = (8 + length + offset for offset in each["data_offsets"])
            found[name] = np.frombuffer(raw[begin:end], "<f4").reshape(each["shape"])
    return found


class Reference:
    """The vectors of a folder's model, for weights in F32."""

    def __init__(self, folder: Path) -> None:
        self._w = tensors_of(folder)
        self._config = json.loads((folder / "config.json").read_text())
        self._vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]

    def tokens(self, text: str) -> list[int]:
        """The numbers of a text's pieces, the longest first, between [CLS] and [SEP]."""
        found = ["[CLS]"]
        for word in re.findall(r"\w+|[^\w\s]", text.lower()):
            begin = 0
            while begin < len(word):
                mark = "##" if begin else ""
                ends = range(len(word), begin, -1)
                end = next(e for e in ends if mark + word[begin:e] in self._vocab)
                found.append(mark + word[begin:end])
                begin = end
        return [self._vocab[each] for each in (*found, "[SEP]")]

    def vector(self, text: str, *, mean: bool = True) -> Array:
        """The text's vector, of length 1."""
        return self.vector_of(self.tokens(text), mean=mean)

    def vector_of(self, ids: list[int], *, first: int = 0, mean: bool = True) -> Array:
        """The vector of tokens, the first of which is at the position `first`."""
        table = "embeddings.{}_embeddings.weight".format
        x = self._w[table("word")][ids] + self._w[table("position")][first : first + len(ids)]
        x = self._norm(x + self._w[table("token_type")][0], "embeddings.LayerNorm")
        for layer in range(self._config["num_hidden_layers"]):
            at = f"encoder.layer.{layer}."
            attended = self._attention(x, at + "attention.self.")
            attended = self._linear(attended, at + "attention.output.dense")
            x = self._norm(x + attended, at + "attention.output.LayerNorm")
            inner = self._linear(x, at + "intermediate.dense")
            inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
            x = self._norm(x + self._linear(inner, at + "output.dense"), at + "output.LayerNorm")
        pooled = x.mean(0) if mean else x[0]
        return np.asarray(pooled / np.linalg.norm(pooled))

    def nomic_vector(self, text: str) -> Array:
        """The text's vector by a Nomic Embed."""
        ids = self.tokens(text)
        x = self._w["embeddings.word_embeddings.weight"][ids]
        x = self._norm(x + self._w["embeddings.token_type_embeddings.weight"][0], "emb_ln")
        for layer in range(self._config["n_layer"]):
            at = f"encoder.layers.{layer}."
            q, k, v = np.split(x @ self._w[at + "attn.Wqkv.weight"].T, 3, axis=-1)
            heads = self._config["n_head"]
            q, k, v = (each.reshape(len(x), heads, -1).swapaxes(0, 1) for each in (q, k, v))
            q, k = self._rotated(q), self._rotated(k)
            x = self._norm(
                x + self._mixed(q, k, v) @ self._w[at + "attn.out_proj.weight"].T, at + "norm1"
            )
            gate = x @ self._w[at + "mlp.fc12.weight"].T
            inner = x @ self._w[at + "mlp.fc11.weight"].T * gate / (1 + np.exp(-gate))
            x = self._norm(x + inner @ self._w[at + "mlp.fc2.weight"].T, at + "norm2")
        pooled = x.mean(0)
        return np.asarray(pooled / np.linalg.norm(pooled))

    def modern_vector(self, ids: list[int]) -> Array:
        """The vector of tokens by a ModernBERT."""
        w = {name.removeprefix("model."): tensor for name, tensor in self._w.items()}
        config, n = self._config, len(ids)
        distance = np.abs(np.arange(n)[:, None] - np.arange(n))

        def norm(x: Array, name: str) -> Array:
            centred = x - x.mean(-1, keepdims=True)
            return np.asarray(centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w[name])

        x = norm(w["embeddings.tok_embeddings.weight"][ids], "embeddings.norm.weight")
        for layer in range(config["num_hidden_layers"]):
            at = f"layers.{layer}."
            dense = layer % config["global_attn_every_n_layers"] == 0
            base = config["global_rope_theta" if dense else "local_rope_theta"]
            seen = distance <= (n if dense else config["local_attention"] // 2)
            inner = norm(x, at + "attn_norm.weight") if layer else x
            q, k, v = (
                each.reshape(n, HEADS, -1).swapaxes(0, 1)
                for each in np.split(inner @ w[at + "attn.Wqkv.weight"].T, 3, axis=-1)
            )
            mixed = self._mixed(self._rotated(q, base), self._rotated(k, base), v, seen)
            x = x + mixed @ w[at + "attn.Wo.weight"].T
            value, gate = np.split(
                norm(x, at + "mlp_norm.weight") @ w[at + "mlp.Wi.weight"].T, 2, -1
            )
            value = value * 0.5 * (1 + np.vectorize(math.erf)(value / math.sqrt(2)))
            x = x + (value * gate) @ w[at + "mlp.Wo.weight"].T
        pooled = norm(x, "final_norm.weight").mean(0)
        return np.asarray(pooled / np.linalg.norm(pooled))

    def _rotated(self, x: Array, base: float = 0) -> Array:
        half = x.shape[-1] // 2
        frequencies = (base or self._config["rotary_emb_base"]) ** (-np.arange(half) / half)
        angles = np.arange(x.shape[1])[:, None] * frequencies
        left, right = x[..., :half], x[..., half:]
        return np.concatenate(
            [
                left * np.cos(angles) - right * np.sin(angles),
                right * np.cos(angles) + left * np.sin(angles),
            ],
            axis=-1,
        )

    def _attention(self, x: Array, at: str) -> Array:
        heads = self._config["num_attention_heads"]
        q, k, v = (
            self._linear(x, at + part).reshape(len(x), heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        return self._mixed(q, k, v)

    def _mixed(self, q: Array, k: Array, v: Array, seen: Array | bool = True) -> Array:
        scores = np.where(seen, q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.asarray((weights @ v).swapaxes(0, 1).reshape(q.shape[1], -1))

    def _linear(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self._w[name + ".weight"].T + self._w[name + ".bias"])

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(
            x.var(-1, keepdims=True) + self._config.get("layer_norm_eps", 1e-12)
        )
        return np.asarray(scaled * self._w[name + ".weight"] + self._w[name + ".bias"])
